//! The state directory: ca.key, ca.crt, leaf.key, leaf.crt, and the published copy of ca.crt. Decides what a damaged file means. A key of
//! the authority that is there but cannot be used is never replaced: every device that trusts it would have to be told again.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use atalaya_sys::durable;
use rustls::pki_types::UnixTime;
use rustls::sign::CertifiedKey;

use super::internal::{self as certificate, Authority, CertificateError, LeafPem, Subject};

/// The authority and where its files are.
pub struct Store {
    state_dir: PathBuf,
    authority: Authority,
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
        "the key of the internal certificate authority, {path}, cannot be used; messages and files are not touched, but no page can be \
         served. Restore the file from a backup. Only if there is none: remove ca.key and ca.crt there, after which a new authority is \
         made and every device must trust it again"
    )]
    AuthorityKey {
        path: PathBuf,
        source: CertificateError,
    },
    #[error(
        "the internal certificate authority's certificate is there but its key {path} is missing; messages and files are not touched, but \
         no page can be served. Restore the file from a backup. Only if there is none: remove ca.crt too, after which a new authority is \
         made and every device must trust it again"
    )]
    AuthorityKeyMissing { path: PathBuf },
    #[error(
        "{path} does not belong to the authority's key beside it; messages and files are not touched, but no page can be served. Put back \
         the pair of files that belongs together, or remove ca.crt, after which it is made again from the key"
    )]
    AuthorityMismatch { path: PathBuf },
    #[error(transparent)]
    Certificate(#[from] CertificateError),
}

impl Store {
    /// Reads the authority, or makes it on the first start of all. Returns what was done beside reading, for the log.
    pub fn open(
        state_dir: &Path,
        now: UnixTime,
    ) -> Result<(Self, Option<&'static str>), StoreError> {
        let key_path = state_dir.join("ca.key");
        let certificate_path = state_dir.join("ca.crt");
        let key = read(&key_path)?;
        let certificate = read(&certificate_path)?;
        let (authority, done) = match (key, certificate) {
            (None, None) => {
                let key = certificate::make_key()?;
                let authority = certificate::make_authority(&key, now)?;
                // The key first: a certificate without its key would be an authority that is lost for good.
                write(&key_path, key.as_bytes(), 0o600)?;
                write(&certificate_path, authority.pem.as_bytes(), 0o644)?;
                (authority, Some("made the internal certificate authority"))
            }
            (None, Some(_)) => return Err(StoreError::AuthorityKeyMissing { path: key_path }),
            (Some(key), certificate) => {
                let read = match certificate
                    .as_deref()
                    .map(|pem| certificate::read_authority(pem, &key))
                {
                    Some(Err(CertificateError::NotACertificate)) | None => None,
                    Some(Ok(authority)) => Some(authority),
                    Some(Err(CertificateError::Mismatch)) => {
                        return Err(StoreError::AuthorityMismatch {
                            path: certificate_path,
                        });
                    }
                    Some(Err(source)) => {
                        return Err(StoreError::AuthorityKey {
                            path: key_path,
                            source,
                        });
                    }
                };
                match read {
                    Some(authority) => (authority, None),
                    None => {
                        let authority =
                            certificate::make_authority(&key, now).map_err(|source| {
                                StoreError::AuthorityKey {
                                    path: key_path,
                                    source,
                                }
                            })?;
                        write(&certificate_path, authority.pem.as_bytes(), 0o644)?;
                        (
                            authority,
                            Some(
                                "ca.crt was missing or damaged: made it again from ca.key; devices that trust it need nothing",
                            ),
                        )
                    }
                }
            }
        };
        Ok((
            Self {
                state_dir: state_dir.to_owned(),
                authority,
            },
            done,
        ))
    }

    /// The authority's certificate, PEM.
    pub fn authority_pem(&self) -> &str {
        &self.authority.pem
    }

    /// Writes the authority's certificate where other units and people find it.
    pub fn publish(&self, public_dir: &Path) -> Result<(), StoreError> {
        write(
            &public_dir.join("ca.crt"),
            self.authority.pem.as_bytes(),
            0o644,
        )
    }

    /// The server certificate to serve now, made anew where needed, and why it was.
    pub fn leaf(
        &self,
        subject: &Subject,
        now: UnixTime,
    ) -> Result<(Arc<CertifiedKey>, Option<certificate::Remake>), StoreError> {
        let key_path = self.state_dir.join("leaf.key");
        let certificate_path = self.state_dir.join("leaf.crt");
        // Damage to the leaf costs nothing, so a file that is not text counts as missing.
        let stored = match (read(&key_path)?, read(&certificate_path)?) {
            (Some(key), Some(certificate)) => Some(LeafPem { certificate, key }),
            _ => None,
        };
        let why = match certificate::assess_leaf(stored.as_ref(), &self.authority.der, subject, now)
        {
            Ok(certified) => return Ok((certified, None)),
            Err(why) => why,
        };
        let leaf = certificate::make_leaf(&self.authority, subject, now)?;
        write(&key_path, leaf.key.as_bytes(), 0o600)?;
        write(&certificate_path, leaf.certificate.as_bytes(), 0o644)?;
        let certified = certificate::assess_leaf(Some(&leaf), &self.authority.der, subject, now)
            .map_err(|error| StoreError::Write {
                path: certificate_path,
                source: Box::new(error),
            })?;
        Ok((certified, Some(why)))
    }
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
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;
    use std::time::Duration;

    fn now() -> UnixTime {
        UnixTime::since_unix_epoch(Duration::from_secs(1_800_000_000))
    }

    fn subject() -> Subject {
        Subject {
            names: ["localhost".to_owned()].into(),
            addresses: ["127.0.0.1".parse().unwrap()].into(),
        }
    }

    fn put(path: &Path, bytes: &[u8]) {
        durable::write(path, bytes, 0o600, None).unwrap();
    }

    #[test]
    fn first_start_makes_all_four_files_and_the_next_start_none() {
        let dir = tempfile::tempdir().unwrap();
        let (store, done) = Store::open(dir.path(), now()).unwrap();
        assert!(done.is_some());
        let (first, why) = store.leaf(&subject(), now()).unwrap();
        assert_eq!(why, Some(certificate::Remake::Missing));
        for (name, mode) in [
            ("ca.key", 0o600),
            ("ca.crt", 0o644),
            ("leaf.key", 0o600),
            ("leaf.crt", 0o644),
        ] {
            assert_eq!(
                fs::metadata(dir.path().join(name))
                    .unwrap()
                    .permissions()
                    .mode()
                    & 0o777,
                mode,
                "{name}"
            );
        }
        let (again, done) = Store::open(dir.path(), now()).unwrap();
        assert!(done.is_none());
        let (second, why) = again.leaf(&subject(), now()).unwrap();
        assert_eq!(why, None);
        assert_eq!(first.cert, second.cert);
        assert_eq!(store.authority_pem(), again.authority_pem());
    }

    #[test]
    fn a_damaged_authority_key_is_refused_and_left_as_it_is() {
        for damage in [
            &b""[..],
            b"-----BEGIN PRIVATE KEY-----\nAAAA",
            b"\xff\xfe\x00",
        ] {
            let dir = tempfile::tempdir().unwrap();
            Store::open(dir.path(), now()).unwrap();
            put(&dir.path().join("ca.key"), damage);
            let error = Store::open(dir.path(), now()).err().unwrap();
            assert!(matches!(error, StoreError::AuthorityKey { .. }), "{error}");
            let text = error.to_string();
            for part in [
                "ca.key",
                "messages and files are not touched",
                "every device must trust it again",
            ] {
                assert!(text.contains(part), "{text}");
            }
            assert_eq!(fs::read(dir.path().join("ca.key")).unwrap(), damage);
            // Not even when the certificate is gone too.
            fs::remove_file(dir.path().join("ca.crt")).unwrap();
            assert!(matches!(
                Store::open(dir.path(), now()),
                Err(StoreError::AuthorityKey { .. })
            ));
        }
    }

    #[test]
    fn a_missing_authority_key_is_not_made_anew_beside_its_certificate() {
        let dir = tempfile::tempdir().unwrap();
        Store::open(dir.path(), now()).unwrap();
        fs::remove_file(dir.path().join("ca.key")).unwrap();
        assert!(matches!(
            Store::open(dir.path(), now()),
            Err(StoreError::AuthorityKeyMissing { .. })
        ));
        assert!(!dir.path().join("ca.key").exists());
    }

    #[test]
    fn a_first_start_that_was_cut_short_is_finished() {
        let dir = tempfile::tempdir().unwrap();
        put(
            &dir.path().join("ca.key"),
            certificate::make_key().unwrap().as_bytes(),
        );
        let (store, done) = Store::open(dir.path(), now()).unwrap();
        assert!(done.is_some());
        assert!(store.leaf(&subject(), now()).is_ok());
    }

    #[test]
    fn a_torn_authority_certificate_is_made_again_and_the_leaf_kept() {
        let dir = tempfile::tempdir().unwrap();
        let (store, _) = Store::open(dir.path(), now()).unwrap();
        let (leaf, _) = store.leaf(&subject(), now()).unwrap();
        put(
            &dir.path().join("ca.crt"),
            &store.authority_pem().as_bytes()[..100],
        );
        let (again, done) = Store::open(dir.path(), now()).unwrap();
        assert!(done.is_some());
        let (kept, why) = again.leaf(&subject(), now()).unwrap();
        assert_eq!(why, None);
        assert_eq!(leaf.cert, kept.cert);
    }

    #[test]
    fn an_authority_of_another_machine_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let other = tempfile::tempdir().unwrap();
        Store::open(dir.path(), now()).unwrap();
        let (stranger, _) = Store::open(other.path(), now()).unwrap();
        put(
            &dir.path().join("ca.crt"),
            stranger.authority_pem().as_bytes(),
        );
        assert!(matches!(
            Store::open(dir.path(), now()),
            Err(StoreError::AuthorityMismatch { .. })
        ));
    }

    #[test]
    fn a_torn_leaf_is_replaced() {
        for name in ["leaf.key", "leaf.crt"] {
            let dir = tempfile::tempdir().unwrap();
            let (store, _) = Store::open(dir.path(), now()).unwrap();
            let (leaf, _) = store.leaf(&subject(), now()).unwrap();
            put(&dir.path().join(name), b"\x00\x00");
            let (made, why) = store.leaf(&subject(), now()).unwrap();
            assert!(
                matches!(why, Some(certificate::Remake::Unreadable(_))),
                "{name}: {why:?}"
            );
            assert_ne!(leaf.cert, made.cert);
            assert_eq!(store.leaf(&subject(), now()).unwrap().1, None);
        }
    }
}
