//! Small bundles for tests, here and in the crates that read bundles. Nothing that ships uses it.
#![allow(
    clippy::expect_used,
    reason = "a sample that cannot be made fails its test"
)]

use std::io::{Seek, Write};

use sha2::{Digest, Sha256};

use crate::hex;
use crate::keys::{
    KeySet, KeySets, Purpose, Signatures, SignedKeySet, SigningKey, Trust, TrustFile,
};
use crate::manifest::Mattermost;
use crate::verity::{BLOCK, Tree};
use crate::writer::{Description, Parts, Prepared};

/// Keys of a ceremony: three of which two have to sign.
pub struct Ceremony {
    /// Of each set, the first is set 1.
    pub keys: Vec<Vec<SigningKey>>,
    pub sets: KeySets,
}

impl Ceremony {
    pub const THRESHOLD: u32 = 2;

    /// So many sets, each of other keys.
    pub fn new(sets: u32) -> Self {
        Self::of("ours", sets)
    }

    /// Another name, other keys.
    pub fn of(name: &str, sets: u32) -> Self {
        let mut ceremony = Self {
            keys: Vec::new(),
            sets: KeySets { sets: Vec::new() },
        };
        for version in 1..=sets {
            let keys: Vec<SigningKey> = (0..3)
                .map(|key| signing_key(&format!("{name} {version} {key}")))
                .collect();
            let public = keys.iter().map(SigningKey::public).collect();
            let set = KeySet::new(version, Self::THRESHOLD, public).expect("a set");
            let former = ceremony.keys.last().into_iter().flatten().take(2);
            let mut signatures: Vec<_> = former
                .chain(keys.iter().take(2))
                .map(|key| key.sign_set(&set))
                .collect();
            signatures.sort_unstable_by_key(|signed| signed.key);
            ceremony.sets.sets.push(SignedKeySet { set, signatures });
            ceremony.keys.push(keys);
        }
        ceremony
    }

    /// Of the newest set's first keys, so many.
    pub fn sign(&self, manifest: &[u8], count: usize) -> Signatures {
        let newest = self.keys.last().into_iter().flatten().take(count);
        let mut signatures: Vec<_> = newest.map(|key| key.sign_manifest(manifest)).collect();
        signatures.sort_unstable_by_key(|signed| signed.key);
        Signatures { signatures }
    }

    /// An image that knows the first so many sets.
    pub fn trust_file(&self, sets: usize) -> TrustFile {
        TrustFile {
            purpose: Purpose::Development,
            sets: self.sets.sets[..sets].to_vec(),
        }
    }

    pub fn trust(&self, sets: usize) -> Trust {
        Trust::new(self.trust_file(sets), None).expect("the sets are a chain")
    }
}

/// A key that everybody can make again.
pub fn signing_key(name: &str) -> SigningKey {
    SigningKey::from_seed(&Sha256::digest(name).into())
}

/// A root of so many blocks: every fourth the same as in any other, the rest of this seed, every fifth of no pattern at all.
pub fn root(blocks: usize, seed: &str) -> Vec<u8> {
    (0..blocks)
        .flat_map(|block| {
            let seed = if block % 4 == 0 { "" } else { seed };
            let line = hex::encode(&Sha256::digest(format!("{seed} {block}")));
            if block % 5 == 0 {
                (0..BLOCK / 32)
                    .flat_map(|part| Sha256::digest(format!("{line} {part}")))
                    .collect()
            } else {
                line.into_bytes().repeat(BLOCK / 64)
            }
        })
        .collect()
}

pub fn tree(root: &[u8], salt: &str) -> Tree {
    Tree::build(root, salt.as_bytes(), [7; 16]).expect("a tree")
}

/// What a bundle says that is made of these parts.
pub fn description(version: &str, key_set: u32) -> Description {
    Description {
        product: "atalaya".to_owned(),
        kind: "standin".to_owned(),
        architecture: "x86_64".to_owned(),
        version: version.to_owned(),
        build: "0123456789ab".to_owned(),
        built: "2026-01-01T00:00:00Z".to_owned(),
        epoch: 1,
        key_set,
        minimum_from: "0.1.0-standin".to_owned(),
        forbidden_from: Vec::new(),
        mattermost: Mattermost {
            version: "11.7.9".to_owned(),
            schema: 158,
        },
        postgresql: "17.6".to_owned(),
        postgresql_from: Vec::new(),
    }
}

/// Lays the parts of an image with this root into `folder`.
pub fn parts(folder: &std::path::Path, root: &[u8], tree: &Tree) -> Parts {
    let line = format!("quiet roothash={}", hex::encode(tree.root_hash()));
    let lay = |name: &str, content: &[u8]| {
        let path = folder.join(name);
        let mut file = std::fs::File::create(&path).expect("a file");
        file.write_all(content).expect("a file with content");
        path
    };
    Parts {
        root: lay("root", root),
        verity: lay("verity", tree.area()),
        uki: lay("uki", &kernel_image(&line, 5000)),
        loader: lay("loader", b"MZ a boot loader"),
    }
}

/// The parts of a bundle, made ready to be signed.
pub fn prepared(folder: &std::path::Path, root: &[u8], description: Description) -> Prepared {
    let tree = tree(root, &description.version);
    let parts = parts(folder, root, &tree);
    prepared_of(folder, parts, description)
}

/// The same of other parts.
pub fn prepared_of(folder: &std::path::Path, parts: Parts, description: Description) -> Prepared {
    let scratch = std::fs::File::options()
        .read(true)
        .write(true)
        .create(true)
        .truncate(true)
        .open(folder.join("scratch"))
        .expect("a file");
    Prepared::new(parts, description, scratch, |_| {}).expect("parts that belong together")
}

/// A whole bundle of `version`, signed by two keys of the ceremony's newest set.
pub fn bundle(
    folder: &std::path::Path,
    ceremony: &Ceremony,
    version: &str,
    root: &[u8],
) -> Vec<u8> {
    let newest = ceremony.keys.len() as u32;
    signed(
        ceremony,
        prepared(folder, root, description(version, newest)),
    )
}

/// A whole bundle of these, signed by two keys of the ceremony's newest set.
pub fn signed(ceremony: &Ceremony, mut prepared: Prepared) -> Vec<u8> {
    let signatures = ceremony.sign(prepared.manifest_bytes(), 2);
    let mut bundle = std::io::Cursor::new(Vec::new());
    prepared
        .write(&ceremony.sets, &signatures, &mut bundle)
        .expect("a bundle");
    bundle.rewind().expect("a cursor");
    bundle.into_inner()
}

/// As little of a PE file as has a command line, so many bytes behind its headers.
pub fn kernel_image(command_line: &str, before: usize) -> Vec<u8> {
    let mut image = vec![0; 0x200 + before];
    let mut put = |at: usize, bytes: &[u8]| image[at..at + bytes.len()].copy_from_slice(bytes);
    let size = command_line.len() as u32;
    put(0, b"MZ");
    put(0x3c, &0x40_u32.to_le_bytes());
    put(0x40, b"PE\0\0\x64\x86\x02\0");
    put(0x40 + 20, &0xf0_u16.to_le_bytes());
    let table = 0x40 + 24 + 0xf0;
    put(table, b".osrel\0\0");
    put(table + 40, b".cmdline");
    put(table + 48, &size.to_le_bytes());
    put(table + 56, &size.next_multiple_of(512).to_le_bytes());
    put(table + 60, &(0x200 + before as u32).to_le_bytes());
    image.extend_from_slice(command_line.as_bytes());
    image.resize(image.len().next_multiple_of(512), 0);
    image
}
