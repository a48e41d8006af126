//! Bundles taken apart and put together again, and the installation that reads them.

use std::sync::OnceLock;

use atalaya_bundle::keys::{KeySets, Signatures};
use atalaya_bundle::sample::{self, Ceremony};
use atalaya_bundle::{Error, Reader, Refusal, Stream, Trust, policy};
use atalaya_core::update::record::Image;
use atalaya_core::update::task::Rules;
use serde_json::Value;
use sha2::{Digest, Sha256};

pub const BLOCKS: usize = 300;

/// A bundle as a list of entries.
#[derive(Clone)]
pub struct Workpiece {
    pub entries: Vec<(String, Vec<u8>)>,
}

impl Workpiece {
    /// Version 0.2.0, signed by set 2 of [`Ceremony::new`].
    pub fn good() -> Self {
        static GOOD: OnceLock<Workpiece> = OnceLock::new();
        GOOD.get_or_init(Self::make).clone()
    }

    pub fn make() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let root = sample::root(BLOCKS, "0.2.0");
        let bundle = sample::bundle(folder.path(), &Ceremony::new(2), "0.2.0-standin", &root);
        let mut entries = Vec::new();
        for entry in tar::Archive::new(&bundle[..]).entries().unwrap() {
            let mut entry = entry.unwrap();
            let mut content = Vec::new();
            std::io::Read::read_to_end(&mut entry, &mut content).unwrap();
            let name = entry.path().unwrap().to_str().unwrap().to_owned();
            entries.push((name, content));
        }
        let good = Self { entries };
        assert_eq!(
            good.bytes(),
            bundle,
            "the workshop writes as the writer does"
        );
        good
    }

    pub fn entry(&mut self, name: &str) -> &mut Vec<u8> {
        let found = self.entries.iter_mut().find(|(found, _)| found == name);
        &mut found.unwrap().1
    }

    pub fn bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        for (name, content) in &self.entries {
            bytes.extend(header(name, content.len() as u64).as_bytes());
            bytes.extend(content);
            bytes.resize(bytes.len().next_multiple_of(512), 0);
        }
        bytes.resize(bytes.len() + 1024, 0);
        bytes
    }

    /// Where the header of an entry lies.
    pub fn header_at(&self, name: &str) -> usize {
        let before = self.entries.iter().take_while(|(entry, _)| entry != name);
        before
            .map(|(_, content)| 512 + content.len().next_multiple_of(512))
            .sum()
    }

    /// Changes the manifest and signs it again, as somebody could who has the keys.
    pub fn manifest(mut self, change: impl FnOnce(&mut Value)) -> Self {
        let mut manifest: Value = serde_json::from_slice(self.entry("manifest.json")).unwrap();
        change(&mut manifest);
        *self.entry("manifest.json") = serde_json::to_vec(&manifest).unwrap();
        self.sign(&Ceremony::new(2), 2)
    }

    /// Another content of a part, its digest in the manifest, and signed.
    pub fn part(mut self, name: &str, content: Vec<u8>) -> Self {
        let (bytes, sha256) = (content.len(), sha256(&content));
        *self.entry(name) = content;
        self.manifest(|manifest| {
            let part = match name {
                "uki.efi" => &mut manifest["uki"],
                "loader.efi" => &mut manifest["loader"],
                "chunks" => &mut manifest["root"]["chunks"],
                name => &mut manifest[name],
            };
            part["bytes"] = bytes.into();
            part["sha256"] = sha256.into();
        })
    }

    /// Another compressed chunk, with its length in the table, and signed.
    pub fn chunk(mut self, index: usize, change: impl FnOnce(&[u8]) -> Vec<u8>) -> Self {
        let mut table = self.entry("chunks").clone();
        let length =
            |at: usize| u32::from_le_bytes(table[4 * at..4 * at + 4].try_into().unwrap()) as usize;
        let start: usize = (0..index).map(length).sum();
        let end = start + length(index);
        let root = self.entry("root");
        let new = change(&root[start..end]);
        root.splice(start..end, new.iter().copied());
        table[4 * index..4 * index + 4].copy_from_slice(&(new.len() as u32).to_le_bytes());
        self.part("chunks", table)
    }

    pub fn sign(mut self, ceremony: &Ceremony, count: usize) -> Self {
        let signatures = ceremony.sign(self.entry("manifest.json"), count);
        self.signatures(&signatures)
    }

    pub fn signatures(mut self, signatures: &Signatures) -> Self {
        *self.entry("signatures.json") = serde_json::to_vec(signatures).unwrap();
        self
    }

    pub fn key_sets(mut self, sets: &KeySets) -> Self {
        *self.entry("keysets.json") = serde_json::to_vec(sets).unwrap();
        self
    }
}

pub fn header(name: &str, bytes: u64) -> tar::Header {
    let mut header = tar::Header::new_ustar();
    header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
    header.set_entry_type(tar::EntryType::Regular);
    header.set_mode(0o644);
    header.set_uid(0);
    header.set_gid(0);
    header.set_size(bytes);
    header.set_cksum();
    header
}

pub fn sha256(content: &[u8]) -> String {
    let digest = Sha256::digest(content);
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A machine that runs version 0.1.0 and knows the ceremony's first set.
pub fn rules() -> Rules {
    Rules {
        running: Image {
            version: "0.1.0-standin".to_owned(),
            root_hash: "11".repeat(32),
            epoch: 1,
            uki: "22".repeat(32),
        },
        product: "atalaya".to_owned(),
        kind: "standin".to_owned(),
        architecture: "x86_64".to_owned(),
        schema: Some(157),
        postgresql: "17.5".to_owned(),
        epoch_floor: 1,
        key_set: 1,
        quarantine: Vec::new(),
        allow_downgrade: false,
        allow_quarantined: false,
        external_database: false,
        external_backup: None,
    }
}

pub fn trust() -> Trust {
    Ceremony::new(2).trust(1)
}

/// What an installation got out of a bundle.
#[derive(Default)]
pub struct Installed {
    pub uki: Vec<u8>,
    pub loader: Vec<u8>,
    pub root: Vec<u8>,
    pub verity: Vec<u8>,
}

impl Installed {
    pub fn nothing(&self) -> bool {
        self.uki.is_empty() && self.loader.is_empty() && self.root.is_empty()
    }
}

/// Reads a bundle as an installation does, and keeps what it would have written.
pub fn install(bundle: &[u8], trust: &Trust, rules: &Rules) -> (Installed, Result<(), Error>) {
    let mut installed = Installed::default();
    let outcome = read(bundle, trust, rules, &mut installed);
    (installed, outcome)
}

fn read(bundle: &[u8], trust: &Trust, rules: &Rules, to: &mut Installed) -> Result<(), Error> {
    let reader = Reader::open(Stream(bundle), trust)?;
    policy::assess(&reader.head().manifest, rules)?;
    let mut root = reader.files(Some(&mut to.uki), Some(&mut to.loader))?;
    to.verity = root.tree().area().to_vec();
    while root.upcoming().is_some() {
        to.root.extend(root.read()?);
    }
    root.finish()?;
    Ok(())
}

/// Why it is refused; that it is not is a failure.
pub fn refusal(bundle: &[u8]) -> (Installed, Refusal) {
    match install(bundle, &trust(), &rules()) {
        (installed, Err(Error::Refused(refusal))) => (installed, refusal),
        (_, Err(error)) => panic!("not a refusal: {error}"),
        (_, Ok(())) => panic!("was installed"),
    }
}
