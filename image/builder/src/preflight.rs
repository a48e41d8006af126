//! What must hold before anything is begun: root, programs, disk space.

use crate::error::{Error, IoContext, Result};
use crate::project::Project;
use std::fs;
use std::path::Path;

/// What a build from nothing needs at most, measured: tools tree 0.6, packages 0.3, base 0.7, Cargo 1.7, release 0.8, root
/// 1.3, image and parts 2.5 GiB.
const FROM_NOTHING_GIB: f64 = 9.0;
/// What a build needs when the caches are there.
const WARM_GIB: f64 = 4.0;

const PROGRAMS: [&str; 6] = [
    "cargo",
    "mmdebstrap",
    "python3",
    "apt-get",
    "dpkg-deb",
    "unshare",
];

pub fn check(project: &Project) -> Result<()> {
    if !nix::unistd::geteuid().is_root() {
        return Err(Error::NotRoot);
    }
    check_programs(&PROGRAMS, &std::env::var_os("PATH").unwrap_or_default())?;
    let warm = project.tools().exists() && project.base().exists();
    let needed = if warm { WARM_GIB } else { FROM_NOTHING_GIB };
    for folder in [project.build(), project.cache.clone()] {
        fs::create_dir_all(&folder).during("create folder", &folder)?;
        check_space(&folder, needed)?;
    }
    Ok(())
}

fn check_programs(programs: &[&str], path: &std::ffi::OsStr) -> Result<()> {
    for program in programs {
        if !std::env::split_paths(path).any(|folder| folder.join(program).is_file()) {
            return Err(Error::ProgramMissing {
                program: (*program).to_owned(),
            });
        }
    }
    Ok(())
}

/// Refuses a folder whose file system has less than `needed_gib` free for root.
pub fn check_space(folder: &Path, needed_gib: f64) -> Result<()> {
    let data = nix::sys::statvfs::statvfs(folder)
        .map_err(std::io::Error::from)
        .during("read the free space of", folder)?;
    #[allow(clippy::cast_precision_loss)] // a figure for people
    let free_gib =
        (data.blocks_available() as f64) * (data.fragment_size() as f64) / f64::from(1 << 30);
    if free_gib < needed_gib {
        return Err(Error::DiskSpace {
            path: folder.to_owned(),
            free_gib,
            needed_gib,
        });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn too_little_space_is_told_with_both_figures() {
        let text = check_space(Path::new("/"), 1e9).unwrap_err().to_string();
        assert!(
            text.contains("GiB free and 1000000000.0 GiB are needed"),
            "{text}"
        );
        assert!(text.contains("ATALAYA_CACHE="), "{text}");
        check_space(Path::new("/"), 0.0).unwrap();
    }

    #[test]
    fn a_missing_program_is_named() {
        let error = check_programs(&["cargo-of-nowhere"], "/bin".as_ref()).unwrap_err();
        assert!(error.to_string().contains("cargo-of-nowhere"));
        check_programs(&["sh"], "/bin".as_ref()).unwrap();
    }
}
