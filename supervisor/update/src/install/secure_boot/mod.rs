//! Whether this machine's firmware would start the new kernel image and loader. With Secure Boot on it starts only what its own lists allow; a
//! system that it refuses would cost three boots and come to nothing, so such an update ends before the other slot is touched. Decides about
//! nothing else: the firmware stays the one that enforces, and a machine without Secure Boot takes what the update keys have signed.
//!
//! Variables and images are read within limits and believed in nothing: [`lists`], [`image`] and [`signature`] only take apart, [`trust`] decides.

pub mod image;
pub mod lists;
pub mod signature;
mod trust;

use std::fs::File;
use std::io::{self, Read};
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::Path;

use image::Layout;
use lists::Lists;

use super::failure::Failure;

/// Where the kernel shows the firmware's variables.
pub const VARIABLES: &str = "/sys/firmware/efi/efivars";
const GLOBAL: &str = "8be4df61-93ca-11d2-aa0d-00e098032b8c";
const DATABASE: &str = "d719b2cb-3d3a-4596-a3bc-dad00e67656f";
/// The kernel puts a variable's attributes before its content.
const ATTRIBUTES: usize = 4;
/// `dbx` has 24 KiB on machines of today.
const VARIABLE: u64 = 1 << 20;

/// Secure Boot is on.
#[derive(Debug)]
pub struct SecureBoot {
    db: Lists,
    dbx: Lists,
}

/// Why firmware would not start an image. Worded to follow "it".
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    #[error("it is not signed, and its digest is not in the firmware's db")]
    Unsigned,
    #[error("it was changed after it was signed")]
    Altered,
    #[error("it is signed by {0}, which no certificate in the firmware's db vouches for")]
    Stranger(String),
    #[error("it, or a certificate behind its signature, is in the firmware's dbx")]
    Revoked,
    #[error("{0}")]
    Unusable(&'static str),
}

impl SecureBoot {
    /// None: it is off, or this machine was not started by UEFI.
    ///
    /// # Errors
    /// It is on or may be, and what it starts cannot be told.
    pub fn read(variables: &Path) -> Result<Option<Self>, Failure> {
        let flag = |name: &'static str| {
            let path = variables.join(format!("{name}-{GLOBAL}"));
            match read(&path, name)?.as_deref() {
                None | Some([0]) => Ok(false),
                Some([1]) => Ok(true),
                Some(_) => Err(unusable(name, "it is neither on nor off")),
            }
        };
        // Without a platform key (setup mode) nothing is enforced.
        if !flag("SecureBoot")? || flag("SetupMode")? {
            return Ok(None);
        }
        let lists = |name: &'static str| {
            let path = variables.join(format!("{name}-{DATABASE}"));
            let content = read(&path, name)?;
            let parse = |bytes: Vec<u8>| Lists::parse(&bytes).map_err(|why| unusable(name, why));
            content.map(parse).transpose()
        };
        let db = lists("db")?.ok_or_else(|| unusable("db", "it is not there"))?;
        let dbx = lists("dbx")?.unwrap_or_default();
        Ok(Some(Self { db, dbx }))
    }

    /// # Errors
    /// The firmware would not start it, or it cannot be read.
    pub fn assess(&self, what: &'static str, path: &Path) -> Result<(), Failure> {
        let failed = |error| Failure::kept("read", path, error);
        let file = File::open(path).map_err(failed)?;
        let length = file.metadata().map_err(failed)?.len();
        let mut head = vec![0; length.min(image::HEAD as u64) as usize];
        file.read_exact_at(&mut head, 0).map_err(failed)?;
        let refused = |problem| Failure::NotStarted { what, problem };
        let layout = Layout::parse(&head, length).map_err(|why| refused(Problem::Unusable(why)))?;
        let digests = digest(&file, &layout.hashed).map_err(failed)?;
        let Range { start, end } = layout.signatures;
        let mut table = vec![0; (end - start) as usize];
        file.read_exact_at(&mut table, start).map_err(failed)?;
        image::signatures(&table)
            .map_err(Problem::Unusable)
            .and_then(|signatures| trust::assess(&digests, &signatures, &self.db, &self.dbx))
            .map_err(refused)
    }
}

fn digest(file: &File, ranges: &[Range<u64>]) -> io::Result<trust::Digests> {
    let mut digesting = trust::Digesting::default();
    let mut piece = vec![0; 64 << 10];
    for range in ranges {
        let mut at = range.start;
        while at < range.end {
            let count = (range.end - at).min(piece.len() as u64);
            let piece = &mut piece[..count as usize];
            file.read_exact_at(piece, at)?;
            digesting.update(piece);
            at += count;
        }
    }
    Ok(digesting.finish())
}

/// A variable's content; none if there is no such variable.
fn read(path: &Path, name: &'static str) -> Result<Option<Vec<u8>>, Failure> {
    let failed = |error: io::Error| unusable(name, &error.to_string());
    let file = match File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        opened => opened.map_err(failed)?,
    };
    let mut bytes = Vec::new();
    file.take(VARIABLE + 1)
        .read_to_end(&mut bytes)
        .map_err(failed)?;
    if bytes.len() as u64 > VARIABLE {
        return Err(unusable(name, "it is too large"));
    }
    match bytes.get(ATTRIBUTES..) {
        Some(content) => Ok(Some(content.to_vec())),
        None => Err(unusable(name, "it is too short")),
    }
}

fn unusable(variable: &'static str, problem: &str) -> Failure {
    Failure::Firmware {
        variable,
        problem: problem.to_owned(),
    }
}
