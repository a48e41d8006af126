//! How large anything in a bundle may be, and whether a manifest keeps to it. No bundle makes its reader hold more than [`MEMORY`]: what is
//! held is held within these limits, whatever the bundle says.

use semver::Version;

use crate::hex;
use crate::manifest::{FORMAT, Manifest, Part};
use crate::refusal::Refusal;
use crate::verity::{BLOCK, Tree};

/// `manifest.json`
pub const MANIFEST: u64 = 64 << 10;
/// `keysets.json`
pub const KEY_SETS: u64 = 512 << 10;
/// `signatures.json`
pub const SIGNATURES: u64 = 16 << 10;
/// `uki.efi`
pub const UKI: u64 = 192 << 20;
/// `loader.efi`
pub const LOADER: u64 = 16 << 20;
/// A slot: 2 GiB.
pub const ROOT_BLOCKS: u64 = (2 << 30) / BLOCK as u64;
/// 4 MiB before compression.
pub const CHUNK_BLOCKS: u32 = 1024;
/// Sets in `keysets.json`.
pub const SETS: usize = 128;
/// Keys in a set.
pub const KEYS: usize = 16;
/// Of any text in the manifest, in bytes.
pub const TEXT: usize = 128;
/// Versions in `forbidden_from`.
pub const FORBIDDEN: usize = 256;
/// What a reader holds at most: the tree of a whole slot, the table of its chunks, one chunk before and after compression, and the small files.
pub const MEMORY: u64 = 32 << 20;

/// The numbers of a manifest that keeps to the limits, as numbers.
#[derive(Debug, Clone)]
pub(crate) struct Sizes {
    pub uki: Expected,
    pub loader: Expected,
    pub verity: Expected,
    pub chunks: Expected,
    pub root_hash: [u8; 32],
    pub blocks: u64,
    pub chunk_blocks: u64,
}

#[derive(Debug, Clone, Copy)]
pub(crate) struct Expected {
    pub bytes: u64,
    pub sha256: [u8; 32],
}

impl Sizes {
    /// Blocks of the chunk with that index; none behind the last.
    pub fn blocks_of(&self, index: u64) -> u64 {
        let first = index.saturating_mul(self.chunk_blocks);
        self.blocks.saturating_sub(first).min(self.chunk_blocks)
    }
}

/// Everything about a manifest that holds on any machine.
pub(crate) fn check(manifest: &Manifest) -> Result<Sizes, Refusal> {
    let wrong = |field: &'static str, problem: &'static str| Refusal::Field { field, problem };
    if manifest.format != FORMAT {
        return Err(Refusal::Format {
            found: manifest.format,
        });
    }
    for (field, text) in [
        ("product", &manifest.product),
        ("kind", &manifest.kind),
        ("architecture", &manifest.architecture),
        ("version", &manifest.version),
        ("build", &manifest.build),
        ("built", &manifest.built),
        ("minimum_from", &manifest.minimum_from),
        ("mattermost.version", &manifest.mattermost.version),
        ("postgresql", &manifest.postgresql),
    ] {
        if text.is_empty() || !printable(text) {
            return Err(wrong(field, "is empty, too long, or not plain text"));
        }
    }
    for (field, text) in [
        ("version", &manifest.version),
        ("minimum_from", &manifest.minimum_from),
    ] {
        version(text).ok_or(wrong(field, "is not a semantic version"))?;
    }
    let forbidden = &manifest.forbidden_from;
    if forbidden.len() > FORBIDDEN || !forbidden.iter().all(|text| version(text).is_some()) {
        return Err(wrong("forbidden_from", "is not a short list of versions"));
    }
    if manifest.postgresql_from.len() > FORBIDDEN {
        return Err(wrong("postgresql_from", "is not a short list of versions"));
    }
    let root = &manifest.root;
    if !(2..=ROOT_BLOCKS).contains(&root.blocks) {
        return Err(wrong("root.blocks", "fits no slot"));
    }
    if !(1..=CHUNK_BLOCKS).contains(&root.chunk_blocks) {
        return Err(wrong("root.chunk_blocks", "is no size for a chunk"));
    }
    let sizes = Sizes {
        uki: expected("uki", &manifest.uki, 1..=UKI)?,
        loader: expected("loader", &manifest.loader, 1..=LOADER)?,
        verity: {
            let bytes = Tree::area_bytes(root.blocks);
            expected("verity", &manifest.verity, bytes..=bytes)?
        },
        chunks: {
            let bytes = 4 * root.blocks.div_ceil(u64::from(root.chunk_blocks));
            expected("root.chunks", &root.chunks, bytes..=bytes)?
        },
        root_hash: hex::decode(&manifest.root_hash)
            .ok_or(wrong("root_hash", "is not 64 hexadecimal digits"))?,
        blocks: root.blocks,
        chunk_blocks: u64::from(root.chunk_blocks),
    };
    Ok(sizes)
}

fn expected(
    field: &'static str,
    part: &Part,
    allowed: std::ops::RangeInclusive<u64>,
) -> Result<Expected, Refusal> {
    let wrong = |problem| Refusal::Field { field, problem };
    if !allowed.contains(&part.bytes) {
        return Err(wrong("has an impossible size"));
    }
    let sha256 = hex::decode(&part.sha256).ok_or(wrong("has no SHA-256 of 64 digits"))?;
    Ok(Expected {
        bytes: part.bytes,
        sha256,
    })
}

/// A semantic version without build metadata, which would not be compared.
pub(crate) fn version(text: &str) -> Option<Version> {
    if !printable(text) {
        return None;
    }
    Version::parse(text)
        .ok()
        .filter(|version| version.build.is_empty())
}

/// It is shown on a terminal, and nothing that a terminal would obey may be in it.
fn printable(text: &str) -> bool {
    text.len() <= TEXT && text.bytes().all(|byte| (b' '..=b'~').contains(&byte))
}

/// Whether a chunk of so many blocks can have so many bytes in a bundle: what does not become smaller is stored as it is.
pub(crate) fn plausible(stored: u32, blocks: u64) -> bool {
    (1..=blocks * BLOCK as u64).contains(&u64::from(stored))
}
