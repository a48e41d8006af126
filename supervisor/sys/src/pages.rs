//! The page cache of one file or device. What is written there goes out early, and what is not read again goes away, so that copying a system
//! neither holds the machine up at its end nor pushes everybody else's pages out.

use std::fs::File;
use std::os::fd::AsRawFd;
use std::path::Path;

use nix::fcntl::{PosixFadviseAdvice, posix_fadvise};

use crate::error::check;
use crate::{Context, Result};

/// Begins to write out what was written to these bytes; waits for nothing.
pub fn start_writing(file: &File, path: &Path, offset: u64, bytes: u64) -> Result<()> {
    write_range(file, path, offset, bytes, libc::SYNC_FILE_RANGE_WRITE)
}

/// Waits until these bytes are with the device. They are durable only after a sync: the device may have a cache of its own.
pub fn finish_writing(file: &File, path: &Path, offset: u64, bytes: u64) -> Result<()> {
    let flags = libc::SYNC_FILE_RANGE_WAIT_BEFORE
        | libc::SYNC_FILE_RANGE_WRITE
        | libc::SYNC_FILE_RANGE_WAIT_AFTER;
    write_range(file, path, offset, bytes, flags)
}

/// Forgets what is cached of these bytes (0: to the end) and was written out: the next read asks the device.
pub fn forget(file: &File, path: &Path, offset: u64, bytes: u64) -> Result<()> {
    let advice = PosixFadviseAdvice::POSIX_FADV_DONTNEED;
    posix_fadvise(file, signed(offset), signed(bytes), advice)
        .context("forget the cached pages of", path.display())
}

fn write_range(
    file: &File,
    path: &Path,
    offset: u64,
    bytes: u64,
    flags: libc::c_uint,
) -> Result<()> {
    // SAFETY: the call takes numbers only, and the descriptor is open for as long as `file` lives.
    let result =
        unsafe { libc::sync_file_range(file.as_raw_fd(), signed(offset), signed(bytes), flags) };
    check(result.into()).context("write out", path.display())?;
    Ok(())
}

fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::FileExt;

    #[test]
    fn what_was_written_is_still_there_when_it_was_forgotten() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        let file = File::options()
            .read(true)
            .write(true)
            .create_new(true)
            .open(&path)
            .unwrap();
        file.write_all_at(&[7; 8192], 0).unwrap();
        start_writing(&file, &path, 0, 4096).unwrap();
        finish_writing(&file, &path, 0, 8192).unwrap();
        forget(&file, &path, 0, 0).unwrap();
        let mut bytes = [0; 8192];
        file.read_exact_at(&mut bytes, 0).unwrap();
        assert_eq!(bytes, [7; 8192]);
    }
}
