//! A machine of files: slot A runs one version, slot B holds something old.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};

use atalaya_bundle::sample::{self, Ceremony};
use atalaya_core::update::record::{Image, Slot};
use atalaya_core::update::task::{Install, Outcome, Progress, Refusal, Rules, Source, Staged};
use atalaya_update::install::{Kept, Machine, Partitions, Slots, install};
use tempfile::TempDir;

/// Blocks that fit into a slot.
pub const ROOM: usize = 256;
pub const RUNNING: &str = "0.1.0";
pub const NEW: &str = "0.2.0";

pub struct Ground {
    folder: PathBuf,
    pub ceremony: Ceremony,
    /// Removed with the ground.
    _own: Option<TempDir>,
}

impl Ground {
    /// `salt` of the running slot's hash tree; a bundle's is its version.
    pub fn new(running: &[u8], salt: &str) -> Self {
        let own = tempfile::tempdir().unwrap();
        let mut ground = Self::at(own.path());
        ground._own = Some(own);
        let tree = sample::tree(running, salt);
        ground.lay(
            "root-a",
            &[running, b"what stands behind the file system"].concat(),
        );
        ground.lay("verity-a", tree.area());
        ground.lay("root-b", &vec![0xee; ROOM * 4096]);
        let old = sample::tree(&sample::root(64, "old"), "old");
        let mut verity = old.area().to_vec();
        verity.resize(64 * 4096, 0xee);
        ground.lay("verity-b", &verity);
        let trust = serde_json::to_vec(&ground.ceremony.trust_file(1)).unwrap();
        ground.lay("trust.json", &trust);
        ground
    }

    /// The same from another process.
    pub fn at(folder: &Path) -> Self {
        Self {
            folder: folder.to_owned(),
            ceremony: Ceremony::new(2),
            _own: None,
        }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    pub fn lay(&self, name: &str, content: &[u8]) -> PathBuf {
        let path = self.path(name);
        File::create(&path).unwrap().write_all(content).unwrap();
        path
    }

    pub fn read(&self, name: &str) -> Vec<u8> {
        fs::read(self.path(name)).unwrap()
    }

    /// A bundle of [`NEW`] with this root.
    pub fn bundle(&self, root: &[u8]) -> Vec<u8> {
        let folder = tempfile::tempdir().unwrap();
        sample::bundle(folder.path(), &self.ceremony, NEW, root)
    }

    pub fn machine(&self) -> Machine {
        let slot = |letter: &str, write| {
            let part = |name: &str| self.path(&format!("{name}-{letter}"));
            Partitions::open(&part("root"), &part("verity"), write).unwrap()
        };
        Machine {
            slots: Slots {
                running: slot("a", false),
                target: slot("b", true),
            },
            kept: Kept {
                ukis: self.path("update/uki"),
                loaders: self.path("update/loader"),
                key_sets: self.path("update/keysets.json"),
            },
            trust: self.path("trust.json"),
            progress: self.path("progress.json"),
            medium: self.path("medium"),
            variables: self.path("efivars"),
        }
    }

    pub fn install_from(&self, source: Source, rules: Rules) -> Outcome<Staged> {
        let request = Install {
            source,
            slot: Slot::B,
            rules,
        };
        install(&request, &self.machine(), || Ok(()))
    }

    pub fn install(&self, bundle: &[u8]) -> Outcome<Staged> {
        let path = self.lay("new.atalaya", bundle);
        self.install_from(file(&path), rules())
    }

    /// The root hash that slot B could be started by.
    pub fn valid(&self) -> Option<[u8; 32]> {
        let tree = self.machine().slots.target.tree()?;
        Some(*tree.root_hash())
    }

    pub fn progress(&self) -> Progress {
        serde_json::from_slice(&self.read("progress.json")).unwrap()
    }
}

pub fn file(path: &Path) -> Source {
    Source::File(path.to_str().unwrap().to_owned())
}

pub fn rules() -> Rules {
    Rules {
        running: Image {
            version: RUNNING.to_owned(),
            root_hash: "00".repeat(32),
            epoch: 1,
            uki: String::new(),
        },
        product: "atalaya".to_owned(),
        kind: "standin".to_owned(),
        architecture: "x86_64".to_owned(),
        schema: Some(158),
        postgresql: "17.6".to_owned(),
        epoch_floor: 1,
        key_set: 1,
        quarantine: Vec::new(),
        allow_downgrade: false,
        allow_quarantined: false,
        external_database: false,
        external_backup: None,
    }
}

pub fn done(outcome: Outcome<Staged>) -> Staged {
    match outcome {
        Outcome::Done(staged) => staged,
        Outcome::Refused(refusal) => panic!("refused: {refusal:?}"),
    }
}

pub fn refused(outcome: Outcome<Staged>) -> Refusal {
    match outcome {
        Outcome::Refused(refusal) => refusal,
        Outcome::Done(staged) => panic!("installed: {staged:?}"),
    }
}
