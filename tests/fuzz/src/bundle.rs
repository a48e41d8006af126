//! Update bundles. The first byte says what the rest is: a whole bundle, an entry of a good one, or what stands somewhere in one. Behind the
//! signatures nothing would ever be reached, so the entries that a signature covers are signed, as if whoever made them had the keys.

use std::sync::OnceLock;

use atalaya_bundle::inspect::inspect;
use atalaya_bundle::keys::{
    KeySet, KeySets, Purpose, Signatures, SignedKeySet, SigningKey, TrustFile,
};
use atalaya_bundle::sample;
use atalaya_bundle::verity::BLOCK;
use atalaya_bundle::{Error, Manifest, Reader, Stream, Trust};
use sha2::{Digest, Sha256};

/// Of the root: one block a chunk.
const BLOCKS: usize = 17;

struct Good {
    trust: Trust,
    key: SigningKey,
    root: Vec<u8>,
    manifest: Manifest,
    entries: Vec<(String, Vec<u8>)>,
}

/// Whatever comes: it is refused with a reason that a terminal can show, or only the signed root's blocks were given out.
pub fn bundle(bytes: &[u8]) {
    let Some((what, rest)) = bytes.split_first() else {
        return;
    };
    let good = good();
    let bundle = match what {
        b'w' => rest.to_vec(),
        b'm' => good.with("manifest.json", rest),
        b'k' => good.with("keysets.json", rest),
        b's' => good.with("signatures.json", rest),
        b'u' => good.signed("uki.efi", rest, |manifest, bytes, sha256| {
            (manifest.uki.bytes, manifest.uki.sha256) = (bytes, sha256);
        }),
        // In whole blocks, else its size would be refused.
        b'v' => {
            let mut area = rest.to_vec();
            area.resize(2 * BLOCK, 0);
            good.signed("verity", &area, |manifest, _, sha256| {
                manifest.verity.sha256 = sha256
            })
        }
        b't' => {
            let mut table = rest.to_vec();
            table.resize(4 * BLOCKS, 0);
            good.signed("chunks", &table, |manifest, _, sha256| {
                manifest.root.chunks.sha256 = sha256
            })
        }
        b'c' => good.chunk(rest),
        _ => {
            let mut bundle = good.bytes(&good.entries);
            let at = rest
                .iter()
                .take(3)
                .fold(0, |at, byte| at << 8 | usize::from(*byte))
                % bundle.len();
            for (to, from) in bundle.iter_mut().skip(at).zip(rest.iter().skip(3)) {
                *to = *from;
            }
            bundle
        }
    };
    let outcome = read(good, &bundle);
    if let Err(Error::Refused(refusal)) = &outcome {
        let told = refusal.told();
        assert!(!told.what.contains(char::is_control), "{told:?}");
        assert!(!told.next.is_empty() && told.code.is_ascii(), "{told:?}");
    }
    // What is read without trust is at least understood or refused.
    drop(inspect(Stream(&bundle[..]), None, None));
}

fn read(good: &Good, bundle: &[u8]) -> Result<(), Error> {
    let mut reader = Reader::open(Stream(bundle), &good.trust)?
        .files(Some(&mut std::io::sink()), Some(&mut std::io::sink()))?;
    while let Some(chunk) = reader.upcoming() {
        let at = chunk.first_block as usize * BLOCK;
        let blocks = reader.read()?;
        let expected = good.root.get(at..at + blocks.len());
        assert!(expected == Some(blocks), "a block that is not the root's");
    }
    reader.finish().map(drop)
}

impl Good {
    fn bytes(&self, entries: &[(String, Vec<u8>)]) -> Vec<u8> {
        let mut bytes = Vec::new();
        for (name, content) in entries {
            let mut header = tar::Header::new_ustar();
            header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
            header.set_entry_type(tar::EntryType::Regular);
            header.set_mode(0o644);
            header.set_uid(0);
            header.set_gid(0);
            header.set_size(content.len() as u64);
            header.set_cksum();
            bytes.extend(header.as_bytes());
            bytes.extend(content);
            bytes.resize(bytes.len().next_multiple_of(512), 0);
        }
        bytes.resize(bytes.len() + 1024, 0);
        bytes
    }

    /// The good bundle with another content of an entry; a manifest is signed.
    fn with(&self, entry: &str, content: &[u8]) -> Vec<u8> {
        let mut entries = self.entries.clone();
        replace(&mut entries, entry, content);
        if entry == "manifest.json" {
            replace(&mut entries, "signatures.json", &self.sign(content));
        }
        self.bytes(&entries)
    }

    /// And what the manifest says of it.
    fn signed(
        &self,
        entry: &str,
        content: &[u8],
        change: impl FnOnce(&mut Manifest, u64, String),
    ) -> Vec<u8> {
        let mut entries = self.entries.clone();
        let mut manifest = self.manifest.clone();
        let sha256 = Sha256::digest(content)
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        change(&mut manifest, content.len() as u64, sha256);
        let manifest = serde_json::to_vec(&manifest).expect("a manifest is JSON");
        replace(&mut entries, entry, content);
        replace(&mut entries, "signatures.json", &self.sign(&manifest));
        replace(&mut entries, "manifest.json", &manifest);
        self.bytes(&entries)
    }

    /// Another first chunk, of the length that the table says.
    fn chunk(&self, content: &[u8]) -> Vec<u8> {
        let content = if content.is_empty() { &[0] } else { content };
        let entry = |name| self.entries.iter().find(|(found, _)| found == name);
        let (Some((_, table)), Some((_, root))) = (entry("chunks"), entry("root")) else {
            return Vec::new();
        };
        let length = table
            .first_chunk()
            .map_or(0, |length| u32::from_le_bytes(*length)) as usize;
        let root = [content, &root[length..]].concat();
        let table = [&(content.len() as u32).to_le_bytes(), &table[4..]].concat();
        let mut good = Self {
            trust: self.trust.clone(),
            key: SigningKey::from_seed(&Sha256::digest("fuzz").into()),
            root: Vec::new(),
            manifest: self.manifest.clone(),
            entries: self.entries.clone(),
        };
        replace(&mut good.entries, "root", &root);
        good.signed("chunks", &table, |manifest, _, sha256| {
            manifest.root.chunks.sha256 = sha256
        })
    }

    fn sign(&self, manifest: &[u8]) -> Vec<u8> {
        let signatures = Signatures {
            signatures: vec![self.key.sign_manifest(manifest)],
        };
        serde_json::to_vec(&signatures).expect("signatures are JSON")
    }
}

fn replace(entries: &mut [(String, Vec<u8>)], name: &str, content: &[u8]) {
    for (_, held) in entries.iter_mut().filter(|(found, _)| found == name) {
        *held = content.to_vec();
    }
}

/// Signed by one key, because signatures are what takes most of the time.
fn good() -> &'static Good {
    static GOOD: OnceLock<Good> = OnceLock::new();
    GOOD.get_or_init(|| {
        let folder = tempfile::tempdir().expect("a folder");
        let key = SigningKey::from_seed(&Sha256::digest("fuzz").into());
        let set = KeySet::new(1, 1, vec![key.public()]).expect("a set");
        let signatures = vec![key.sign_set(&set)];
        let sets = vec![SignedKeySet { set, signatures }];
        let trust = TrustFile {
            purpose: Purpose::Development,
            sets: sets.clone(),
        };
        let root = sample::root(BLOCKS, "fuzz");
        let mut prepared = sample::prepared(folder.path(), &root, sample::description("1.0.0", 1));
        let signatures = Signatures {
            signatures: vec![key.sign_manifest(prepared.manifest_bytes())],
        };
        let mut bytes = Vec::new();
        prepared
            .write(&KeySets { sets }, &signatures, &mut bytes)
            .expect("a bundle");
        let mut archive = tar::Archive::new(&bytes[..]);
        let entries = archive.entries().expect("entries").map(|entry| {
            let mut entry = entry.expect("an entry");
            let mut content = Vec::new();
            std::io::Read::read_to_end(&mut entry, &mut content).expect("its content");
            (entry.path().expect("a name").display().to_string(), content)
        });
        Good {
            trust: Trust::new(trust, None).expect("a chain"),
            entries: entries.collect(),
            manifest: prepared.manifest().clone(),
            key,
            root,
        }
    })
}
