//! Extended attributes of an open file.

use crate::error::check;
use crate::{Context, Result};
use std::ffi::{CStr, CString};
use std::fmt::Display;
use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;

/// All of them; none where the file system has no such thing. `name` is told in an error.
pub fn names(file: &File, name: impl Display) -> Result<Vec<CString>> {
    let list = |buffer: &mut [u8]| {
        // SAFETY: the kernel writes at most the buffer's length.
        unsafe { libc::flistxattr(file.as_raw_fd(), buffer.as_mut_ptr().cast(), buffer.len()) }
    };
    match whole(list) {
        Err(error) if error.raw_os_error() == Some(libc::EOPNOTSUPP) => Ok(Vec::new()),
        Err(error) => Err(error).context("list the attributes of", name),
        Ok(text) => Ok(text
            .split_inclusive(|byte| *byte == 0)
            .filter_map(|one| CStr::from_bytes_with_nul(one).ok())
            .map(CStr::to_owned)
            .collect()),
    }
}

/// One's value.
pub fn value(file: &File, attribute: &CStr, name: impl Display) -> Result<Vec<u8>> {
    let read = |buffer: &mut [u8]| {
        // SAFETY: the attribute's name is zero-terminated, and the kernel writes at most the buffer's length.
        unsafe {
            libc::fgetxattr(
                file.as_raw_fd(),
                attribute.as_ptr(),
                buffer.as_mut_ptr().cast(),
                buffer.len(),
            )
        }
    };
    whole(read).context("read an attribute of", name)
}

/// Gives it a value, whether it was there or not.
pub fn set(file: &File, attribute: &CStr, value: &[u8], name: impl Display) -> Result<()> {
    // SAFETY: the attribute's name is zero-terminated, and the kernel reads the value's length.
    let result = unsafe {
        libc::fsetxattr(
            file.as_raw_fd(),
            attribute.as_ptr(),
            value.as_ptr().cast(),
            value.len(),
            0,
        )
    };
    check(result.into()).context("write an attribute of", name)?;
    Ok(())
}

/// Most answers are short; a longer one has 64 KiB at most (linux/limits.h).
fn whole(read: impl Fn(&mut [u8]) -> libc::ssize_t) -> io::Result<Vec<u8>> {
    let mut short = [0; 256];
    match check(read(&mut short) as libc::c_long) {
        Err(error) if error.raw_os_error() == Some(libc::ERANGE) => {}
        Err(error) => return Err(error),
        Ok(length) => return Ok(short[..usize::try_from(length).unwrap_or_default()].to_vec()),
    }
    let mut long = vec![0; 64 * 1024];
    let length = check(read(&mut long) as libc::c_long)?;
    long.truncate(usize::try_from(length).unwrap_or_default());
    Ok(long)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_written_is_listed_and_read_back() {
        let file = tempfile::tempfile().unwrap();
        let (short, long) = (c"user.short", c"user.long");
        set(&file, short, b"1", "a file").unwrap();
        set(&file, long, &[9; 1000], "a file").unwrap();
        let mut all = names(&file, "a file").unwrap();
        all.retain(|name| name.to_bytes().starts_with(b"user."));
        all.sort();
        assert_eq!(all, [long.to_owned(), short.to_owned()]);
        assert_eq!(value(&file, short, "a file").unwrap(), b"1");
        assert_eq!(value(&file, long, "a file").unwrap(), [9; 1000]);
        assert_eq!(
            value(&file, c"user.none", "a file").unwrap_err().errno(),
            libc::ENODATA
        );
    }
}
