//! Reads a dm-verity superblock and says whether the tree behind it belongs to a root hash. Pure.
//!
//! Format: cryptsetup's docs/on-disk-format-verity (version 1) and the kernel's verity.rst: a superblock of 512 bytes in
//! the first hash block, the tree right behind it, its top block first.

use sha2::{Digest, Sha256};

/// What the superblock says, checked for sense.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Superblock {
    pub data_block_size: u32,
    pub hash_block_size: u32,
    pub data_blocks: u64,
    pub salt: Vec<u8>,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum VerityError {
    #[error("no verity superblock")]
    Absent,
    #[error("verity superblock with impossible {0}")]
    Impossible(&'static str),
}

/// How many bytes [`parse`] needs.
pub const SUPERBLOCK: usize = 512;

impl Superblock {
    /// Reads the first [`SUPERBLOCK`] bytes of a hash partition.
    ///
    /// # Errors
    /// Anything but version 1, type 1, SHA-256 and block sizes the kernel takes.
    pub fn parse(bytes: &[u8]) -> Result<Self, VerityError> {
        let field = |offset: usize, length: usize| {
            bytes
                .get(offset..offset + length)
                .ok_or(VerityError::Absent)
        };
        if field(0, 8)? != b"verity\0\0" {
            return Err(VerityError::Absent);
        }
        if number(field(8, 4)?) != 1 || number(field(12, 4)?) != 1 {
            return Err(VerityError::Impossible("version"));
        }
        let algorithm = field(32, 32)?;
        if !algorithm.starts_with(b"sha256\0") {
            return Err(VerityError::Impossible("hash algorithm"));
        }
        let data_block_size = block_size(number(field(64, 4)?))?;
        let hash_block_size = block_size(number(field(68, 4)?))?;
        let data_blocks = number(field(72, 8)?);
        // 2^40 blocks of 4 KiB are 4 EiB: no disk, and no overflow in what follows.
        if !(2..=1 << 40).contains(&data_blocks) {
            return Err(VerityError::Impossible("number of blocks"));
        }
        let salt_length = number(field(80, 2)?) as usize;
        if salt_length > 256 {
            return Err(VerityError::Impossible("salt"));
        }
        Ok(Self {
            data_block_size,
            hash_block_size,
            data_blocks,
            salt: field(88, salt_length)?.to_vec(),
        })
    }

    /// Where the tree, and so its top block, starts: in hash blocks.
    pub fn hash_start(&self) -> u64 {
        1
    }

    /// Bytes of data that the tree covers.
    pub fn data_bytes(&self) -> u64 {
        self.data_blocks * u64::from(self.data_block_size)
    }

    /// Whether `top_block` (one hash block, from [`Self::hash_start`]) hashes to `root_hash`.
    pub fn belongs_to(&self, top_block: &[u8], root_hash: &[u8]) -> bool {
        self.root_hash(top_block) == root_hash
    }

    /// The root hash of the tree with this top block.
    pub fn root_hash(&self, top_block: &[u8]) -> [u8; 32] {
        let mut hash = Sha256::new();
        hash.update(&self.salt);
        hash.update(top_block);
        hash.finalize().into()
    }

    pub fn salt_hex(&self) -> String {
        self.salt.iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

fn block_size(value: u64) -> Result<u32, VerityError> {
    // dm-verity takes powers of two from 512 up to the page size.
    match value {
        512 | 1024 | 2048 | 4096 => Ok(value as u32),
        _ => Err(VerityError::Impossible("block size")),
    }
}

fn number(bytes: &[u8]) -> u64 {
    bytes
        .iter()
        .rev()
        .fold(0, |value, byte| (value << 8) | u64::from(*byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn superblock() -> Vec<u8> {
        let mut bytes = vec![0u8; SUPERBLOCK];
        bytes[..6].copy_from_slice(b"verity");
        bytes[8] = 1;
        bytes[12] = 1;
        bytes[32..38].copy_from_slice(b"sha256");
        bytes[64..68].copy_from_slice(&4096u32.to_le_bytes());
        bytes[68..72].copy_from_slice(&4096u32.to_le_bytes());
        bytes[72..80].copy_from_slice(&1000u64.to_le_bytes());
        bytes[80] = 4;
        bytes[88..92].copy_from_slice(&[1, 2, 3, 4]);
        bytes
    }

    #[test]
    fn a_tree_belongs_to_its_own_root_hash_only() {
        let parsed = Superblock::parse(&superblock()).unwrap();
        assert_eq!(
            (parsed.data_bytes(), parsed.salt_hex().as_str()),
            (4_096_000, "01020304")
        );
        let top = vec![9u8; 4096];
        let mut salted = vec![1, 2, 3, 4];
        salted.extend(&top);
        let root: [u8; 32] = Sha256::digest(&salted).into();
        assert!(parsed.belongs_to(&top, &root));
        assert!(!parsed.belongs_to(&[8u8; 4096], &root));
        assert!(!parsed.belongs_to(&top, &Sha256::digest(&top)));
        assert!(!parsed.belongs_to(&top, &root[..31]));
    }

    #[test]
    fn senseless_superblocks_are_refused() {
        assert_eq!(
            Superblock::parse(&[0; SUPERBLOCK]),
            Err(VerityError::Absent)
        );
        assert_eq!(
            Superblock::parse(&superblock()[..100]),
            Ok(Superblock::parse(&superblock()).unwrap())
        );
        for (offset, value) in [(8, 2), (12, 0), (32, b'x'), (64, 1), (79, 0xff), (81, 2)] {
            let mut bytes = superblock();
            bytes[offset] = value;
            assert!(Superblock::parse(&bytes).is_err(), "offset {offset}");
        }
    }

    proptest::proptest! {
        #[test]
        fn no_content_makes_it_panic(tail in proptest::collection::vec(proptest::num::u8::ANY, 0..500)) {
            let mut bytes = superblock();
            let count = tail.len();
            bytes[12..12 + count].copy_from_slice(&tail);
            if let Ok(parsed) = Superblock::parse(&bytes) {
                let _unused = parsed.data_bytes();
            }
        }
    }
}
