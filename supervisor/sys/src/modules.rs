//! Loading kernel modules straight from Debian's .ko.xz files.

use crate::{Context, Result};
use nix::errno::Errno;
use nix::kmod::{ModuleInitFlags, finit_module};
use std::fs::File;
use std::path::Path;

/// `MODULE_INIT_COMPRESSED_FILE` of linux/module.h: the kernel unpacks the file itself.
const COMPRESSED: u32 = 4;

/// The operation in an error of the module itself (and not of opening its file).
pub const LOAD: &str = "load module";

/// Loads one module file, unpacked by the kernel if its name says so. Already loaded is no error.
///
/// # Errors
/// The module's own: `ENODEV` is the usual answer of a driver without its hardware.
pub fn load(path: &Path, parameters: &std::ffi::CStr) -> Result<()> {
    let file = File::open(path).context("open module", path.display())?;
    let compressed = path.extension().is_some_and(|extension| extension != "ko");
    let flags = if compressed { COMPRESSED } else { 0 };
    match finit_module(&file, parameters, ModuleInitFlags::from_bits_retain(flags)) {
        Ok(()) | Err(Errno::EEXIST) => Ok(()),
        Err(errno) => Err(errno).context(LOAD, path.display()),
    }
}
