//! Carries out the steps of a plan below a mounted partition. Each is on the disk when it returns; what the steps promise of a power cut holds by
//! the order of the syncs here: a name goes to the disk before the content that it had is freed, so files stay open until then.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};

use atalaya_core::update::esp::Step;
use atalaya_sys::{Context, Error, fat, pages};
use sha2::{Digest, Sha256};

use super::failure::Failure;
use super::keep::Store;
use super::listing::{digest, hex};

const PIECE: usize = 1 << 20;
/// So much at most is lost to nobody's use when a cut hits a file that is being written: its table is on the disk up to there.
const SYNC_EVERY: u64 = 4 << 20;

/// # Errors
/// The partition is then in one of the states that the plan allows for; planning again from a new listing goes on.
pub fn act(top: &Path, step: &Step, store: &Store) -> Result<(), Failure> {
    match step {
        Step::Write { path, sha256 } => {
            let path = top.join(path);
            let written = write(&path, sha256, store);
            if written.is_err() {
                drop(fs::remove_file(&path));
            }
            written
        }
        Step::Rename { from, to } => {
            let (from, to) = (top.join(from), top.join(to));
            fat::rename_new(&from, &to)?;
            Ok(fat::sync(parent(&to))?)
        }
        Step::Replace { from, to, other } => {
            replace(&top.join(from), &top.join(to), &paths(top, other))
        }
        Step::Remove { paths: names } => remove(&paths(top, names)),
    }
}

/// For the log.
pub fn describe(step: &Step) -> String {
    match step {
        Step::Write { path, .. } => format!("{path} is written"),
        Step::Rename { from, to } => format!("{from} becomes {to}"),
        Step::Replace { from, to, .. } => format!("{from} takes the place of {to}"),
        Step::Remove { paths } => format!("{} removed", paths.join(", ")),
    }
}

fn write(path: &Path, sha256: &str, store: &Store) -> Result<(), Failure> {
    let source_path = store.path_of(sha256);
    let source = File::open(&source_path).context("open", source_path.display())?;
    fs::create_dir_all(parent(path)).context("make", parent(path).display())?;
    let name = path.display();
    // Not through create_new's default mode alone: the loader counts by renaming, which FAT's read-only mark forbids.
    let file = File::options()
        .write(true)
        .create_new(true)
        .open(path)
        .context("create", &name)?;
    if copy(&source, &source_path, &file, path)? != sha256 {
        return Err(Failure::Damaged(source_path));
    }
    file.sync_all().context("sync", &name)?;
    pages::forget(&file, path, 0, 0)?;
    fat::sync(parent(path))?;
    let file = File::open(path).context("open", &name)?;
    if digest(&file).context("read back", &name)? != sha256 {
        return Err(Failure::ReadBack(name.to_string()));
    }
    Ok(())
}

/// The digest of what was copied.
fn copy(
    mut source: &File,
    source_path: &Path,
    mut file: &File,
    path: &Path,
) -> Result<String, Error> {
    let mut hash = Sha256::new();
    let mut bytes = vec![0; PIECE];
    let (mut written, mut synced) = (0u64, 0u64);
    loop {
        let count = source
            .read(&mut bytes)
            .context("read", source_path.display())?;
        if count == 0 {
            return Ok(hex(&hash.finalize()));
        }
        hash.update(&bytes[..count]);
        file.write_all(&bytes[..count])
            .context("write", path.display())?;
        written += count as u64;
        if synced == 0 || written - synced >= SYNC_EVERY {
            file.sync_all().context("sync", path.display())?;
            synced = written;
        }
    }
}

fn replace(from: &Path, to: &Path, other: &[PathBuf]) -> Result<(), Failure> {
    let held = File::open(to).context("open", to.display())?;
    fs::rename(from, to).context(
        "rename",
        format_args!("{} to {}", from.display(), to.display()),
    )?;
    fat::sync(parent(to))?;
    remove(other)?;
    drop(held);
    Ok(fat::sync(parent(to))?)
}

fn remove(paths: &[PathBuf]) -> Result<(), Failure> {
    let held = paths
        .iter()
        .map(|path| File::open(path).context("open", path.display()))
        .collect::<Result<Vec<_>, _>>()?;
    for path in paths {
        fs::remove_file(path).context("remove", path.display())?;
    }
    sync_parents(paths)?;
    drop(held);
    sync_parents(paths)
}

fn sync_parents(paths: &[PathBuf]) -> Result<(), Failure> {
    let mut parents: Vec<&Path> = paths.iter().map(|path| parent(path)).collect();
    parents.sort();
    parents.dedup();
    Ok(parents.into_iter().try_for_each(fat::sync)?)
}

fn paths(top: &Path, names: &[String]) -> Vec<PathBuf> {
    names.iter().map(|name| top.join(name)).collect()
}

fn parent(path: &Path) -> &Path {
    path.parent().unwrap_or(path)
}
