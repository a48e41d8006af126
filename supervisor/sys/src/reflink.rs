//! Files that share their blocks until one of them is written to.

use crate::{Context, Result};
use std::fmt::Display;
use std::fs::File;
use std::os::fd::AsRawFd;

// `FICLONE` of linux/fs.h: _IOW(0x94, 9, int).
nix::ioctl_write_int!(ficlone, 0x94, 9);

/// Gives `target`, which must be empty, the content of `source`, on the same file system. What was written before is in it, whole, also
/// while others write. `name` is told in an error.
///
/// # Errors
/// `EOPNOTSUPP`: the file system cannot share blocks. `EXDEV`: they are on two.
pub fn clone_file(source: &File, target: &File, name: impl Display) -> Result<()> {
    let number =
        nix::sys::ioctl::ioctl_param_type::try_from(source.as_raw_fd()).unwrap_or_default();
    // SAFETY: the kernel takes the number of an open file and reads no memory.
    unsafe { ficlone(target.as_raw_fd(), number) }.context("share the blocks of", name)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Seek, Write};

    /// Where blocks cannot be shared, the kernel says so after it has understood the question. That they are, is shown in a machine, on
    /// the file system of /data.
    #[test]
    fn a_file_is_shared_or_the_file_system_says_that_it_cannot() {
        let (mut source, mut target) =
            (tempfile::tempfile().unwrap(), tempfile::tempfile().unwrap());
        source.write_all(&[7; 10_000]).unwrap();
        match clone_file(&source, &target, "a test's file") {
            Ok(()) => {
                let mut content = Vec::new();
                target.rewind().unwrap();
                target.read_to_end(&mut content).unwrap();
                assert_eq!(content, [7; 10_000]);
                target.rewind().unwrap();
                target.write_all(b"changed").unwrap();
                source.rewind().unwrap();
                source.read_to_end(&mut content).unwrap();
                assert_eq!(content[10_000..], [7; 10_000]);
            }
            Err(error) => {
                assert_eq!(error.errno(), libc::EOPNOTSUPP, "{}", error.chain());
                assert_eq!(target.metadata().unwrap().len(), 0);
            }
        }
    }
}
