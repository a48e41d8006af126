//! The folder `acme` in the state directory: the account, the certificate with its key in one file so that no power cut can part them, and
//! what was tried. Readable by the edge alone. A file that is damaged counts as missing; only what can be asked for anew is in here.

use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use atalaya_core::renewal::Attempts;
use atalaya_sys::durable;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

/// Of all three files.
const VERSION: u32 = 1;

#[derive(Debug, thiserror::Error)]
#[error("failed to write {path}")]
pub struct CacheError {
    path: PathBuf,
    source: Box<dyn std::error::Error + Send + Sync>,
}

/// At one authority; another directory means another account.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Account {
    version: u32,
    pub directory: String,
    /// The External Account Binding's key identifier that it was made with.
    pub external_account: Option<String>,
    /// The account's address at the authority.
    pub id: String,
    /// PKCS #8, DER, base64.
    pub key: String,
}

impl Account {
    pub fn new(
        directory: &str,
        external_account: Option<&str>,
        id: String,
        key_der: &[u8],
    ) -> Self {
        Self {
            version: VERSION,
            directory: directory.to_owned(),
            external_account: external_account.map(str::to_owned),
            id,
            key: super::base64_text(key_der),
        }
    }
}

/// As the authority gave it.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pair {
    version: u32,
    pub directory: String,
    /// PEM.
    pub key: String,
    /// PEM, the server's own first.
    pub chain: String,
}

impl Pair {
    pub fn new(directory: &str, key: String, chain: String) -> Self {
        Self {
            version: VERSION,
            directory: directory.to_owned(),
            key,
            chain,
        }
    }
}

/// What was tried for one set of settings.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    version: u32,
    /// What was asked for and how; other settings begin anew.
    pub wanted: String,
    pub attempts: Attempts,
    /// Why the last one failed.
    pub error: Option<String>,
    /// The index of the next challenge in the settings' list.
    pub challenge: usize,
    /// The authority asked for patience in a way that only the client that reads Retry-After understands.
    pub asked_for_patience: bool,
}

impl Record {
    pub fn new(wanted: &str) -> Self {
        Self {
            version: VERSION,
            wanted: wanted.to_owned(),
            ..Self::default()
        }
    }
}

/// The folder.
#[derive(Debug, Clone)]
pub struct Cache {
    folder: PathBuf,
}

impl Cache {
    pub fn new(state_dir: &Path) -> Self {
        Self {
            folder: state_dir.join("acme"),
        }
    }

    pub fn account(&self) -> Option<Account> {
        self.read("account.json")
            .filter(|account: &Account| account.version == VERSION)
    }

    pub fn write_account(&self, account: &Account) -> Result<(), CacheError> {
        self.write("account.json", account)
    }

    /// The authority knows it no more.
    pub fn forget_account(&self) -> Result<(), CacheError> {
        let path = self.folder.join("account.json");
        durable::remove(&path).map_err(|error| CacheError {
            path,
            source: Box::new(error),
        })
    }

    pub fn pair(&self) -> Option<Pair> {
        self.read("certificate.json")
            .filter(|pair: &Pair| pair.version == VERSION)
    }

    pub fn write_pair(&self, pair: &Pair) -> Result<(), CacheError> {
        self.write("certificate.json", pair)
    }

    pub fn record(&self) -> Option<Record> {
        self.read("attempts.json")
            .filter(|record: &Record| record.version == VERSION)
    }

    pub fn write_record(&self, record: &Record) -> Result<(), CacheError> {
        self.write("attempts.json", record)
    }

    fn read<T: DeserializeOwned>(&self, name: &str) -> Option<T> {
        let text = fs::read(self.folder.join(name)).ok()?;
        serde_json::from_slice(&text).ok()
    }

    fn write(&self, name: &str, value: &impl Serialize) -> Result<(), CacheError> {
        let path = self.folder.join(name);
        let failed = |source: Box<dyn std::error::Error + Send + Sync>| CacheError {
            path: path.clone(),
            source,
        };
        match fs::DirBuilder::new().mode(0o700).create(&self.folder) {
            Err(error) if error.kind() != ErrorKind::AlreadyExists => {
                return Err(failed(Box::new(error)));
            }
            _ => {}
        }
        let text = serde_json::to_vec_pretty(value).map_err(|error| failed(Box::new(error)))?;
        durable::write(&path, &text, 0o600, None).map_err(|error| failed(Box::new(error)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn what_is_written_is_read_again_by_nobody_else() {
        let dir = tempfile::tempdir().unwrap();
        let cache = Cache::new(dir.path());
        assert!(cache.account().is_none() && cache.pair().is_none() && cache.record().is_none());
        let account = Account::new("https://ca.example/dir", Some("kid"), "id".into(), b"der");
        let pair = Pair::new("https://ca.example/dir", "key".into(), "chain".into());
        let record = Record::new("wanted");
        cache.write_account(&account).unwrap();
        cache.write_pair(&pair).unwrap();
        cache.write_record(&record).unwrap();
        assert!(cache.account() == Some(account));
        assert!(cache.pair() == Some(pair));
        assert_eq!(cache.record(), Some(record));
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(&dir.path().join("acme")), 0o700);
        for name in ["account.json", "certificate.json", "attempts.json"] {
            assert_eq!(mode(&dir.path().join("acme").join(name)), 0o600, "{name}");
        }
    }

    #[test]
    fn a_torn_file_counts_as_missing() {
        let dir = tempfile::tempdir().unwrap();
        let cache = Cache::new(dir.path());
        cache
            .write_pair(&Pair::new("d", "key".into(), "chain".into()))
            .unwrap();
        let path = dir.path().join("acme/certificate.json");
        let text = fs::read(&path).unwrap();
        durable::write(&path, &text[..text.len() / 2], 0o600, None).unwrap();
        assert!(cache.pair().is_none());
    }

    /// Files of the first version, as they lie on machines.
    #[test]
    fn files_of_version_1_are_understood() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("acme");
        fs::create_dir(&folder).unwrap();
        let golden = [
            (
                "account.json",
                r#"{"version":1,"directory":"d","external_account":null,"id":"i","key":"a2V5"}"#,
            ),
            (
                "certificate.json",
                r#"{"version":1,"directory":"d","key":"k","chain":"c"}"#,
            ),
            (
                "attempts.json",
                r#"{"version":1,"wanted":"w","attempts":{"last_at":1800000000,"failures":2,"not_until":null},
                    "error":"e","challenge":1,"asked_for_patience":true}"#,
            ),
        ];
        for (name, text) in golden {
            durable::write(&folder.join(name), text.as_bytes(), 0o600, None).unwrap();
        }
        let cache = Cache::new(dir.path());
        assert_eq!(cache.account().unwrap().id, "i");
        assert_eq!(cache.pair().unwrap().chain, "c");
        assert_eq!(cache.record().unwrap().attempts.failures, 2);
    }
}
