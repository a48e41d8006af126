//! A dm-verity hash area: a superblock and the tree behind it. Its leaves are the digests of the root's blocks, so it is also the list by which
//! each block is checked before it is written, and by which blocks that are already there are recognised.
//!
//! Format: cryptsetup's on-disk-format-verity (version 1, type 1): digest = SHA-256(salt, block); 128 digests in a block of 4 KiB; the
//! superblock in the first block, then the levels of the tree, the top one first. Other block sizes and algorithms are refused.

use sha2::{Digest, Sha256};

/// Bytes of a block, of data and of hashes.
pub const BLOCK: usize = 4096;
const DIGEST: usize = 32;
const FAN_OUT: u64 = (BLOCK / DIGEST) as u64;
const SALT_AT: usize = 88;
const SALT_MOST: usize = 256;

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TreeError {
    #[error("it has no superblock")]
    NoSuperblock,
    #[error("its superblock has an impossible {0}")]
    Superblock(&'static str),
    #[error("its size does not fit its number of blocks")]
    Size,
    #[error("its levels do not fit together")]
    Levels,
}

/// A hash area of which every level fits the one above it.
#[derive(Debug, Clone)]
pub struct Tree {
    area: Vec<u8>,
    blocks: u64,
    /// Where the leaves begin in `area`.
    leaves: usize,
    salted: Sha256,
    root_hash: [u8; DIGEST],
}

impl Tree {
    /// Bytes of a hash area for so many blocks of data, superblock and all.
    pub fn area_bytes(blocks: u64) -> u64 {
        (1 + levels(blocks).iter().sum::<u64>()) * BLOCK as u64
    }

    /// How many blocks of data the superblock at the beginning of `area` speaks of.
    ///
    /// # Errors
    /// There is none.
    pub fn blocks_in(area: &[u8]) -> Result<u64, TreeError> {
        superblock(area).map(|(blocks, _)| blocks)
    }

    /// # Errors
    /// It is not a hash area, or not one of exactly this size.
    pub fn parse(area: Vec<u8>) -> Result<Self, TreeError> {
        let (blocks, salt) = superblock(&area)?;
        if area.len() as u64 != Self::area_bytes(blocks) {
            return Err(TreeError::Size);
        }
        let salted = Sha256::new().chain_update(salt);
        let digest =
            |block: &[u8]| -> [u8; DIGEST] { salted.clone().chain_update(block).finalize().into() };
        let top = area.get(BLOCK..2 * BLOCK).ok_or(TreeError::Size)?;
        let root_hash = digest(top);
        // Every block below the top one is the child of a digest above it, in the same order.
        let mut parents = BLOCK;
        let mut leaves = BLOCK;
        let sizes = levels(blocks);
        for (above, below) in sizes.iter().zip(sizes.iter().skip(1)) {
            let children = parents + *above as usize * BLOCK;
            let digests = area.get(parents..children).ok_or(TreeError::Levels)?;
            let end = children + *below as usize * BLOCK;
            let level = area.get(children..end).ok_or(TreeError::Levels)?;
            let fits = level
                .chunks_exact(BLOCK)
                .zip(digests.chunks_exact(DIGEST))
                .all(|(block, expected)| digest(block) == *expected);
            if !fits {
                return Err(TreeError::Levels);
            }
            (parents, leaves) = (children, children);
        }
        Ok(Self {
            area,
            blocks,
            leaves,
            salted,
            root_hash,
        })
    }

    /// The tree of `data`, whole blocks, as `veritysetup format` makes it.
    ///
    /// # Errors
    /// There are no blocks, or the salt is too long.
    pub fn build(data: &[u8], salt: &[u8], uuid: [u8; 16]) -> Result<Self, TreeError> {
        if !data.len().is_multiple_of(BLOCK) {
            return Err(TreeError::Size);
        }
        let salted = Sha256::new().chain_update(salt);
        Self::from_leaves(&digests(data, &salted), salt, uuid)
    }

    /// The same, from the blocks' digests.
    ///
    /// # Errors
    /// There are no blocks, or the salt is too long.
    pub fn from_leaves(
        leaves: &[[u8; DIGEST]],
        salt: &[u8],
        uuid: [u8; 16],
    ) -> Result<Self, TreeError> {
        let blocks = leaves.len() as u64;
        let salted = Sha256::new().chain_update(salt);
        let mut levels = vec![as_level(leaves)];
        while let Some(last) = levels.last().filter(|level| level.len() > BLOCK) {
            levels.push(as_level(&digests(last, &salted)));
        }
        let mut area = superblock_of(blocks, salt, uuid)?;
        levels.iter().rev().for_each(|level| area.extend(level));
        Self::parse(area)
    }

    /// Blocks of data that it covers.
    pub fn blocks(&self) -> u64 {
        self.blocks
    }

    pub fn root_hash(&self) -> &[u8; DIGEST] {
        &self.root_hash
    }

    /// The whole hash area, as it has to stand on the disk.
    pub fn area(&self) -> &[u8] {
        &self.area
    }

    /// What block `number` must hash to.
    pub fn leaf(&self, number: u64) -> Option<&[u8; DIGEST]> {
        if number >= self.blocks {
            return None;
        }
        let at = self.leaves + number as usize * DIGEST;
        self.area.get(at..at + DIGEST)?.try_into().ok()
    }

    /// What a block hashes to with this tree's salt.
    pub fn digest(&self, block: &[u8]) -> [u8; DIGEST] {
        self.salted.clone().chain_update(block).finalize().into()
    }

    /// Whether `block` is block `number`.
    pub fn matches(&self, number: u64, block: &[u8]) -> bool {
        self.leaf(number) == Some(&self.digest(block))
    }
}

/// Blocks of each level, the top one first.
fn levels(blocks: u64) -> Vec<u64> {
    let mut sizes = vec![blocks.div_ceil(FAN_OUT).max(1)];
    while let Some(last) = sizes.last().copied().filter(|last| *last > 1) {
        sizes.push(last.div_ceil(FAN_OUT));
    }
    sizes.reverse();
    sizes
}

fn digests(level: &[u8], salted: &Sha256) -> Vec<[u8; DIGEST]> {
    level
        .chunks_exact(BLOCK)
        .map(|block| salted.clone().chain_update(block).finalize().into())
        .collect()
}

fn as_level(digests: &[[u8; DIGEST]]) -> Vec<u8> {
    let mut level = digests.concat();
    level.resize(level.len().next_multiple_of(BLOCK), 0);
    level
}

fn superblock_of(blocks: u64, salt: &[u8], uuid: [u8; 16]) -> Result<Vec<u8>, TreeError> {
    let salt_bytes = u16::try_from(salt.len())
        .ok()
        .filter(|bytes| usize::from(*bytes) <= SALT_MOST)
        .ok_or(TreeError::Superblock("salt"))?;
    let mut block = vec![0; BLOCK];
    for (at, bytes) in [
        (0, &b"verity\0\0"[..]),
        (8, &1_u32.to_le_bytes()),
        (12, &1_u32.to_le_bytes()),
        (16, &uuid),
        (32, b"sha256"),
        (64, &(BLOCK as u32).to_le_bytes()),
        (68, &(BLOCK as u32).to_le_bytes()),
        (72, &blocks.to_le_bytes()),
        (80, &salt_bytes.to_le_bytes()),
        (SALT_AT, salt),
    ] {
        block[at..at + bytes.len()].copy_from_slice(bytes);
    }
    Ok(block)
}

/// The number of blocks and the salt. Everything that means nothing must be zero, so that nothing hides there.
fn superblock(area: &[u8]) -> Result<(u64, &[u8]), TreeError> {
    let block = area.get(..BLOCK).ok_or(TreeError::NoSuperblock)?;
    let number = |at: usize, length: usize| {
        let bytes = &block[at..at + length];
        bytes
            .iter()
            .rev()
            .fold(0_u64, |value, byte| value << 8 | u64::from(*byte))
    };
    if &block[..8] != b"verity\0\0" {
        return Err(TreeError::NoSuperblock);
    }
    let salt_bytes = number(80, 2) as usize;
    let zero = |range: &[u8]| range.iter().all(|byte| *byte == 0);
    for (holds, what) in [
        (number(8, 4) == 1 && number(12, 4) == 1, "version"),
        (
            &block[32..38] == b"sha256" && zero(&block[38..64]),
            "algorithm",
        ),
        (
            number(64, 4) == BLOCK as u64 && number(68, 4) == BLOCK as u64,
            "block size",
        ),
        // 2^32 blocks are 16 TiB: no slot, and no overflow in what follows.
        ((1..=1 << 32).contains(&number(72, 8)), "number of blocks"),
        (salt_bytes <= SALT_MOST, "salt"),
    ] {
        if !holds {
            return Err(TreeError::Superblock(what));
        }
    }
    let salt_end = SALT_AT + salt_bytes;
    if !zero(&block[82..SALT_AT]) || !zero(&block[salt_end..]) {
        return Err(TreeError::Superblock("rest"));
    }
    Ok((number(72, 8), &block[SALT_AT..salt_end]))
}
