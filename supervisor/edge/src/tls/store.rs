//! The internal authority's files in the state directory: ca.pem (certificate and key, one file, so that they cannot be torn apart),
//! ca-old-N.pem (what it replaced), server.pem (certificate and key of the server), and the published ca.crt. Decides what a damaged file
//! means. A key of the authority that is there but cannot be used is never replaced: every device that trusts it would have to be told.

use std::collections::BTreeSet;
use std::fs;
use std::io::ErrorKind;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use atalaya_sys::durable;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::sign::CertifiedKey;

use super::constraints::Constraints;
use super::internal::{self, Authority, CertificateError, Leaf, Remake, Subject};
use super::report::fingerprint;

/// The authority and where its files are.
pub struct Store {
    state_dir: PathBuf,
    authority: Authority,
    replaces: Option<String>,
}

/// What it took to have an authority.
#[derive(Debug, PartialEq, Eq)]
pub enum Opened {
    Found,
    Made,
    /// From its key; devices know the constraints of the lost certificate.
    MadeAgain,
    /// These are not within what the former one may sign for: every device must trust the new one.
    Replaced {
        outside: Vec<String>,
    },
}

/// The server's certificate.
pub struct Signed {
    pub certified: Arc<CertifiedKey>,
    /// Why it was made now; None: it was there.
    pub why: Option<Remake>,
    /// It serves although it could not be kept: the next start makes another.
    pub unsaved: Option<StoreError>,
}

#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    #[error("failed to read {path}")]
    Read {
        path: PathBuf,
        source: std::io::Error,
    },
    #[error("failed to write {path}")]
    Write {
        path: PathBuf,
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    #[error(
        "the internal certificate authority, {path}, cannot be used; messages and files are not touched, but browsers warn of the \
         certificate that serves instead. Restore the file from a backup. Only if there is none: remove it, after which a new authority is \
         made and every device must trust it again"
    )]
    Authority {
        path: PathBuf,
        source: CertificateError,
    },
    #[error(transparent)]
    Certificate(#[from] CertificateError),
}

impl Store {
    /// Reads the authority; makes it on the first start of all, and where `names` or the site's own address are outside what it may sign for.
    pub fn open(
        state_dir: &Path,
        names: &BTreeSet<String>,
        site: Option<IpAddr>,
        now: UnixTime,
    ) -> Result<(Self, Opened), StoreError> {
        let path = state_dir.join("ca.pem");
        let wanted = Constraints::of(names, site);
        let damaged = |source| StoreError::Authority {
            path: path.clone(),
            source,
        };
        let (authority, opened) = match read(&path)? {
            None => {
                let authority = make(&path, &wanted, now)?;
                (authority, Opened::Made)
            }
            Some(pem) => match internal::read_authority(&pem, &pem) {
                Ok(authority) => match authority.constraints.outside(names, site) {
                    outside if outside.is_empty() => (authority, Opened::Found),
                    outside => {
                        keep_aside(state_dir, &pem)?;
                        let authority = make(&path, &wanted, now)?;
                        (authority, Opened::Replaced { outside })
                    }
                },
                Err(CertificateError::NotACertificate) => {
                    let authority =
                        internal::make_authority(&pem, &wanted, now).map_err(damaged)?;
                    // All of what is there goes on, the key as it stands.
                    write(
                        &path,
                        (authority.pem.clone() + key_of(&pem)).as_bytes(),
                        0o600,
                    )?;
                    (authority, Opened::MadeAgain)
                }
                Err(source) => return Err(damaged(source)),
            },
        };
        let replaces = newest_kept(state_dir).and_then(|(_, pem)| {
            let der = CertificateDer::from_pem_slice(pem.as_bytes()).ok()?;
            Some(fingerprint(&der))
        });
        Ok((
            Self {
                state_dir: state_dir.to_owned(),
                authority,
                replaces,
            },
            opened,
        ))
    }

    pub fn authority(&self) -> &Authority {
        &self.authority
    }

    /// The fingerprint of the authority that this one came after.
    pub fn replaces(&self) -> Option<&str> {
        self.replaces.as_deref()
    }

    /// Writes the authority's certificate where other units and people find it.
    pub fn publish(&self, public_dir: &Path) -> Result<(), StoreError> {
        write(
            &public_dir.join("ca.crt"),
            self.authority.pem.as_bytes(),
            0o644,
        )
    }

    /// The server certificate to serve now, made anew where needed.
    pub fn leaf(&self, wanted: &Subject, now: UnixTime) -> Result<Signed, StoreError> {
        let path = self.state_dir.join("server.pem");
        let subject = self.authority.constraints.narrow(wanted);
        // Damage to it costs nothing: a file that cannot be read counts as missing.
        let stored = read(&path).ok().flatten().map(|pem| Leaf { pem });
        let assess = |leaf| internal::assess_leaf(leaf, &self.authority.der, &subject, now);
        let why = match assess(stored.as_ref()) {
            Ok(certified) => {
                return Ok(Signed {
                    certified,
                    why: None,
                    unsaved: None,
                });
            }
            Err(why) => why,
        };
        let leaf = internal::make_leaf(&self.authority, &subject, now)?;
        let certified =
            assess(Some(&leaf)).map_err(|why| CertificateError::Unusable(why.to_string()))?;
        Ok(Signed {
            certified,
            why: Some(why),
            unsaved: write(&path, leaf.pem.as_bytes(), 0o600).err(),
        })
    }
}

fn make(path: &Path, constraints: &Constraints, now: UnixTime) -> Result<Authority, StoreError> {
    let key = internal::make_key()?;
    let authority = internal::make_authority(&key, constraints, now)?;
    write(path, (authority.pem.clone() + &key).as_bytes(), 0o600)?;
    Ok(authority)
}

/// Before the authority is replaced: who must go back finds it.
fn keep_aside(state_dir: &Path, pem: &str) -> Result<(), StoreError> {
    let number = match newest_kept(state_dir) {
        // A power cut came between this step and the next.
        Some((_, kept)) if kept == pem => return Ok(()),
        Some((number, _)) => number + 1,
        None => 1,
    };
    let path = state_dir.join(format!("ca-old-{number}.pem"));
    write(&path, pem.as_bytes(), 0o600)
}

fn newest_kept(state_dir: &Path) -> Option<(u32, String)> {
    let number = fs::read_dir(state_dir)
        .ok()?
        .filter_map(|entry| {
            let name = entry.ok()?.file_name();
            let number = name.to_str()?.strip_prefix("ca-old-")?;
            number.strip_suffix(".pem")?.parse::<u32>().ok()
        })
        .max()?;
    let pem = read(&state_dir.join(format!("ca-old-{number}.pem")));
    Some((number, pem.ok().flatten().unwrap_or_default()))
}

/// From the key on: the certificate comes first in the file.
fn key_of(pem: &str) -> &str {
    const KEY: &str = "-----BEGIN PRIVATE KEY-----";
    pem.find(KEY).map_or(pem, |at| &pem[at..])
}

/// A file's text; None if it is not there. Bytes that are not UTF-8 become a text that no parser takes: damage is judged in one place.
fn read(path: &Path) -> Result<Option<String>, StoreError> {
    match fs::read(path) {
        Ok(bytes) => Ok(Some(String::from_utf8_lossy(&bytes).into_owned())),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(source) => Err(StoreError::Read {
            path: path.to_owned(),
            source,
        }),
    }
}

fn write(path: &Path, bytes: &[u8], mode: u32) -> Result<(), StoreError> {
    durable::write(path, bytes, mode, None).map_err(|source| StoreError::Write {
        path: path.to_owned(),
        source: Box::new(source),
    })
}

#[cfg(test)]
mod tests;
