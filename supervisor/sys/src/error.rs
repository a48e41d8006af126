//! One error for the whole crate: operation, object, source.

use std::fmt::Display;
use std::io;

/// `failed to OPERATION OBJECT`; the kernel's answer is the source.
#[derive(Debug, thiserror::Error)]
#[error("failed to {operation} {object}")]
pub struct Error {
    /// A verb, such as `mount`.
    pub operation: &'static str,
    /// What it was done to, mostly a path.
    pub object: String,
    #[source]
    pub source: io::Error,
}

pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    pub fn new(operation: &'static str, object: impl Display, source: io::Error) -> Self {
        Self {
            operation,
            object: object.to_string(),
            source,
        }
    }

    /// The kernel's error number, 0 where there is none.
    pub fn errno(&self) -> i32 {
        self.source.raw_os_error().unwrap_or(0)
    }

    /// The error and its source on one line, for places that print a single line.
    pub fn chain(&self) -> String {
        format!("{self}: {}", self.source)
    }
}

/// Adds operation and object to an I/O or kernel error.
pub trait Context<T> {
    fn context(self, operation: &'static str, object: impl Display) -> Result<T>;
}

impl<T> Context<T> for io::Result<T> {
    fn context(self, operation: &'static str, object: impl Display) -> Result<T> {
        self.map_err(|source| Error::new(operation, object, source))
    }
}

impl<T> Context<T> for nix::Result<T> {
    fn context(self, operation: &'static str, object: impl Display) -> Result<T> {
        self.map_err(|errno| Error::new(operation, object, errno.into()))
    }
}

/// Turns the -1 of a C call into the thread's errno.
pub(crate) fn check(result: libc::c_long) -> io::Result<libc::c_long> {
    if result < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(result)
    }
}
