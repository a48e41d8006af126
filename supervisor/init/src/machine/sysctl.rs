//! Kernel settings from /usr/lib/sysctl.d/*.conf: parsing is pure, writing is one loop.

use crate::failure::Failure;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

const FOLDER: &str = "/usr/lib/sysctl.d";

/// One `key = value`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Setting {
    pub path: PathBuf,
    pub value: String,
    /// Written with a leading `-`: its absence is no problem.
    pub optional: bool,
}

/// The settings of one file. Lines that are none are returned as they are.
pub fn parse(text: &str) -> (Vec<Setting>, Vec<String>) {
    let mut settings = Vec::new();
    let mut refused = Vec::new();
    for line in text.lines().map(str::trim) {
        if line.is_empty() || line.starts_with(['#', ';']) {
            continue;
        }
        let parsed = line.split_once('=').and_then(|(key, value)| {
            let key = key.trim();
            let optional = key.starts_with('-');
            Some(Setting {
                path: path(key.trim_start_matches('-'))?,
                value: value.trim().to_owned(),
                optional,
            })
        });
        match parsed {
            Some(setting) => settings.push(setting),
            None => refused.push(line.to_owned()),
        }
    }
    (settings, refused)
}

/// `a.b/c` as sysctl(8) reads it: the first separator tells which one is meant. Nothing outside /proc/sys.
fn path(key: &str) -> Option<PathBuf> {
    let slashes = match key.find(['.', '/']) {
        Some(position) => key.as_bytes().get(position) == Some(&b'/'),
        None => false,
    };
    let relative = if slashes {
        key.to_owned()
    } else {
        key.replace('.', "/")
    };
    let sound = !relative.is_empty()
        && relative
            .split('/')
            .all(|part| !matches!(part, "" | "." | ".."));
    sound.then(|| Path::new("/proc/sys").join(relative))
}

/// Applies all files in the order of their names; returns what did not work.
pub fn apply() -> Vec<Failure> {
    let mut files: Vec<PathBuf> = fs::read_dir(FOLDER)
        .map(|entries| entries.flatten().map(|entry| entry.path()).collect())
        .unwrap_or_default();
    files.retain(|file| {
        file.extension()
            .is_some_and(|extension| extension == "conf")
    });
    files.sort();
    let mut problems = Vec::new();
    for file in files {
        let text = match fs::read_to_string(&file) {
            Ok(text) => text,
            Err(error) => {
                problems.push(Failure::new("read settings", error));
                continue;
            }
        };
        let (settings, refused) = parse(&text);
        problems.extend(
            refused
                .into_iter()
                .map(|line| Failure::new("settings", format!("not understood: {line}"))),
        );
        problems.extend(settings.iter().filter_map(|setting| write(setting).err()));
    }
    problems
}

fn write(setting: &Setting) -> Result<(), Failure> {
    // Never O_CREAT, and one write: /proc/sys takes a value as a whole. printk_devkmsg insists on the newline.
    let outcome = fs::OpenOptions::new()
        .write(true)
        .open(&setting.path)
        .and_then(|mut file| file.write_all(format!("{}\n", setting.value).as_bytes()));
    match outcome {
        Err(error) if !setting.optional => Err(Failure::new(
            "settings",
            atalaya_sys::Error::new("write", setting.path.display(), error),
        )),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_values_and_comments() {
        let (settings, refused) =
            parse("# x\n; y\nkernel.panic = 10\n-net/ipv4/conf/eth0.1/rp_filter=2\nnonsense\n");
        assert_eq!(refused, ["nonsense"]);
        assert_eq!(settings[0].path, Path::new("/proc/sys/kernel/panic"));
        assert_eq!(settings[0].value, "10");
        assert!(!settings[0].optional);
        assert_eq!(
            settings[1].path,
            Path::new("/proc/sys/net/ipv4/conf/eth0.1/rp_filter")
        );
        assert!(settings[1].optional);
    }

    #[test]
    fn no_key_leads_out_of_proc_sys() {
        for key in ["/etc/passwd", "../../etc/x", "a/../../b", "", "."] {
            assert_eq!(path(key), None, "{key}");
        }
    }
}
