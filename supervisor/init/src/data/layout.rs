//! Which folders /data has, whose they are, and which of them are bounded. The list is data; applying it creates what is
//! missing and changes nothing that is there.

use atalaya_sys::{Context, Result, xfs};
use std::fs;
use std::io;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::Path;

/// One folder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Folder {
    pub path: &'static str,
    pub mode: u32,
    /// Both user and group (fixed ids of /etc/passwd).
    pub owner: u32,
}

const ROOT: u32 = 0;
const POSTGRES: u32 = 200;
const MATTERMOST: u32 = 201;
const EDGE: u32 = 202;

/// Outside the generations. Those below are reached by units through bind mounts only, so the way there is root's.
const FOLDERS: &[Folder] = &[
    folder("gen", 0o700, ROOT),
    folder("state", 0o700, ROOT),
    folder("identity", 0o700, ROOT),
    folder("logs", 0o700, ROOT),
    folder("update", 0o700, ROOT),
    folder("backups", 0o700, ROOT),
    folder("tmp", 0o700, ROOT),
    folder(TEMPORARY, 0o700, MATTERMOST),
];

/// The first generation. Later ones are copies.
const FIRST_GENERATION: &[Folder] = &[
    folder("gen/1", 0o700, ROOT),
    folder(DATABASE, 0o700, POSTGRES),
    folder("gen/1/mattermost", 0o700, MATTERMOST),
    folder("gen/1/mattermost/files", 0o700, MATTERMOST),
    folder("gen/1/mattermost/plugins", 0o700, MATTERMOST),
    folder("gen/1/mattermost/client-plugins", 0o700, MATTERMOST),
    folder("gen/1/edge", 0o700, EDGE),
];

const DATABASE: &str = "gen/1/postgres";
/// FACTS of XFS: random 8 KiB writes into a reflinked file take 12.6 times the space without it.
const COW_EXTENT: u32 = 8192;
const TEMPORARY: &str = "tmp/mattermost";
const TEMPORARY_PROJECT: u32 = 1;
const TEMPORARY_LIMIT: u64 = 2 << 30;

const fn folder(path: &'static str, mode: u32, owner: u32) -> Folder {
    Folder { path, mode, owner }
}

/// What has to be there, given the names in /data/gen: the first generation only while there is no later one.
pub fn plan(generations: &[String]) -> Vec<Folder> {
    let later = generations
        .iter()
        .any(|name| name != "1" && name.parse::<u64>().is_ok());
    let first: &[Folder] = if later { &[] } else { FIRST_GENERATION };
    FOLDERS.iter().chain(first).copied().collect()
}

/// Creates what is missing below `data`, and sets the limit of the temporary folder (its unit empties it at each start).
pub fn apply(data: &Path, device: &Path) -> Result<()> {
    let generations: Vec<String> = fs::read_dir(data.join("gen"))
        .map(|entries| {
            entries
                .flatten()
                .filter_map(|entry| entry.file_name().into_string().ok())
                .collect()
        })
        .unwrap_or_default();
    for folder in plan(&generations) {
        let path = data.join(folder.path);
        if create(&path, folder)? && folder.path == DATABASE {
            xfs::set_cow_extent_size(&path, COW_EXTENT)?;
        }
    }
    let temporary = data.join(TEMPORARY);
    xfs::set_project(&temporary, TEMPORARY_PROJECT)?;
    xfs::limit_project(device, TEMPORARY_PROJECT, TEMPORARY_LIMIT)?;
    atalaya_sys::durable::sync_directory(data)
}

/// Whether it was created now.
fn create(path: &Path, folder: Folder) -> Result<bool> {
    match fs::create_dir(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Ok(false),
        other => other.context("create", path.display())?,
    }
    fs::set_permissions(path, PermissionsExt::from_mode(folder.mode))
        .context("change the mode of", path.display())?;
    chown(path, Some(folder.owner), Some(folder.owner))
        .context("change the owner of", path.display())?;
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_generation_is_not_made_again_once_there_is_a_later_one() {
        let has_first = |names: &[&str]| {
            let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
            plan(&names).iter().any(|folder| folder.path == DATABASE)
        };
        assert!(has_first(&[]));
        assert!(has_first(&["1"])); // completes one that a power cut left half made
        assert!(!has_first(&["2"]));
        assert!(!has_first(&["1", "12"]));
    }

    #[test]
    fn every_folder_comes_after_its_parent() {
        let all = plan(&[]);
        for (index, folder) in all.iter().enumerate() {
            if let Some((parent, _)) = folder.path.rsplit_once('/') {
                assert!(
                    all[..index].iter().any(|earlier| earlier.path == parent),
                    "{}",
                    folder.path
                );
            }
        }
    }
}
