//! PID 1 runs from memory: its program is copied into a memory file and executed from there.
//!
//! The kernel may drop the pages of a program that lies on a disk and read them again when they are needed. A disk that no
//! longer answers would then stop PID 1 at the next step it takes for the first time, on the way out above all, and
//! every child that it starts from its own program. Locking the pages of the file on disk would keep all of them, used or
//! not.

use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::unistd::fexecve;
use std::ffi::CString;
use std::fs::File;
use std::io;
use std::os::unix::ffi::OsStrExt;

/// Tells the program that it is the copy.
const MARK: &str = "ATALAYA_RESIDENT";
/// MFD_EXEC of linux/memfd.h (6.3): it is to be executed.
const EXECUTABLE: MFdFlags = MFdFlags::from_bits_retain(0x10);

/// Executes the copy of `program`, with this process's arguments and environment; returns in the copy.
///
/// # Errors
/// It could not be done: PID 1 goes on from the disk, which is no worse than usual.
pub fn ensure(program: &str) -> io::Result<()> {
    if std::env::var_os(MARK).is_some() {
        return Ok(());
    }
    let copy = memfd_create(c"atalaya-init", MFdFlags::MFD_CLOEXEC | EXECUTABLE)
        .or_else(|_| memfd_create(c"atalaya-init", MFdFlags::MFD_CLOEXEC))?;
    let mut copy = File::from(copy);
    io::copy(&mut File::open(program)?, &mut copy)?;
    let arguments: Vec<CString> = std::env::args_os()
        .map(|word| CString::new(word.as_bytes()))
        .collect::<Result<_, _>>()?;
    let mut environment = vec![CString::new(format!("{MARK}=1"))?];
    for (name, value) in std::env::vars_os() {
        let pair = [name.as_bytes(), b"=", value.as_bytes()].concat();
        environment.push(CString::new(pair)?);
    }
    fexecve(&copy, &arguments, &environment)?;
    Ok(())
}
