//! Looks over a finished root before it becomes an image: what must not be in an appliance ends the build.

use crate::error::{Error, IoContext, Result};
use crate::rules::matches;
use std::fs::{self, File};
use std::io::Read;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;

/// Programs that let whoever reaches them run anything: shells, interpreters, package managers, remote shells.
const FORBIDDEN: [&str; 24] = [
    "ash",
    "bash",
    "rbash",
    "dash",
    "ksh*",
    "zsh",
    "busybox",
    "toybox",
    "perl*",
    "python*",
    "awk",
    "gawk",
    "mawk",
    "apt",
    "apt-*",
    "dpkg",
    "dpkg-*",
    "ssh",
    "sshd",
    "ssh-*",
    "su",
    "sudo",
    "gdb",
    "systemctl",
];

/// The one real shell, behind a folder that only root enters.
const SHELL: &str = "/usr/lib/atalaya/private/sh";
/// Runs any command that the host sends; only in the test image.
const AGENT: &str = "atalaya-agent";

/// Where scripts may be: nothing of these folders is run by path.
const DATA: [&str; 1] = ["/opt/mattermost"];

/// Checks the tree at `root`. `test`: whether the tests' agent belongs in it.
pub fn check(root: &Path, test: bool) -> Result<()> {
    let mut found = Vec::new();
    look(root, "", test, &mut found)?;
    let private = root.join("usr/lib/atalaya/private");
    if fs::metadata(&private).is_ok_and(|data| data.permissions().mode() & 0o077 != 0) {
        found.push("the shell's folder is open to others".to_owned());
    }
    if found.is_empty() {
        return Ok(());
    }
    Err(Error::Image {
        problem: format!(
            "its root holds what must not be there: {}",
            found.join("; ")
        ),
    })
}

fn look(folder: &Path, inside: &str, test: bool, found: &mut Vec<String>) -> Result<()> {
    for entry in fs::read_dir(folder).during("list", folder)? {
        let entry = entry.during("list", folder)?;
        let path = entry.path();
        let name = entry.file_name().to_string_lossy().into_owned();
        let place = format!("{inside}/{name}");
        let data = fs::symlink_metadata(&path).during("look at", &path)?;
        if data.is_dir() {
            look(&path, &place, test, found)?;
            continue;
        }
        if name == AGENT && !test {
            found.push(format!("{place} (the tests' agent)"));
        }
        if !data.is_file() {
            continue;
        }
        if data.mode() & 0o6000 != 0 {
            found.push(format!("{place} (setuid)"));
        }
        if data.mode() & 0o111 == 0 || place == SHELL {
            continue;
        }
        if name == "sh" || FORBIDDEN.iter().any(|pattern| matches(pattern, &name)) {
            found.push(format!("{place} (runs anything)"));
        } else if !DATA.iter().any(|data| place.starts_with(data)) && is_script(&path)? {
            found.push(format!("{place} (a script)"));
        }
    }
    Ok(())
}

fn is_script(path: &Path) -> Result<bool> {
    let mut start = Vec::new();
    File::open(path)
        .and_then(|file| file.take(2).read_to_end(&mut start))
        .during("read", path)?;
    Ok(start == b"#!")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn problems(files: &[(&str, u32, &str)], test: bool) -> String {
        let root = tempfile::tempdir().unwrap();
        for (path, mode, content) in files {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            let mut file = File::create(&path).unwrap();
            file.write_all(content.as_bytes()).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(*mode)).unwrap();
        }
        let private = root.path().join("usr/lib/atalaya/private");
        if private.exists() {
            fs::set_permissions(&private, fs::Permissions::from_mode(0o700)).unwrap();
        }
        check(root.path(), test)
            .err()
            .map(|error| error.to_string())
            .unwrap_or_default()
    }

    #[test]
    fn a_plain_root_with_the_hidden_shell_passes() {
        let files = [
            ("usr/bin/atalaya", 0o755, "\x7fELF"),
            ("usr/bin/sh", 0o644, ""),
            ("usr/lib/atalaya/private/sh", 0o755, "\x7fELF"),
            ("usr/share/doc.sh", 0o644, "#!/bin/sh"),
            ("opt/mattermost/x", 0o755, "#!/bin/sh"),
        ];
        assert_eq!(problems(&files, false), "");
    }

    #[test]
    fn shells_interpreters_scripts_and_setuid_end_the_build() {
        for (path, mode, content, why) in [
            ("usr/bin/bash", 0o755, "", "runs anything"),
            ("usr/bin/sh", 0o755, "", "runs anything"),
            ("usr/bin/perl5.40", 0o755, "", "runs anything"),
            ("usr/sbin/dpkg-reconfigure", 0o755, "", "runs anything"),
            ("usr/sbin/fsck.xfs", 0o755, "#!/bin/sh", "a script"),
            ("usr/bin/mount", 0o4755, "", "setuid"),
        ] {
            let text = problems(&[(path, mode, content)], true);
            assert!(text.contains(why), "{path}: {text}");
        }
    }

    #[test]
    fn the_agent_is_in_the_test_image_only() {
        let files = [("usr/lib/atalaya/atalaya-agent", 0o755, "\x7fELF")];
        assert_eq!(problems(&files, true), "");
        assert!(problems(&files, false).contains("the tests' agent"));
    }
}
