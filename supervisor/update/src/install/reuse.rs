//! Blocks of the new system that the machine has already: in the running slot, wherever they lie there, or in the other one at their place,
//! from an attempt that was interrupted. Nothing is believed: a block counts if it hashes to the new tree's leaf.

use atalaya_bundle::verity::BLOCK;
use atalaya_bundle::{Chunk, Tree};

use super::failure::Failure;
use super::partitions::{Device, Partitions};

/// Where in the running slot blocks of a digest lie.
#[derive(Debug)]
pub struct Index {
    /// The first 8 bytes of a digest and the block's number, in order; 8 MiB for a slot of 2 GiB.
    blocks: Vec<(u64, u32)>,
}

impl Index {
    /// Of the running slot's blocks, by digests with the salt of `new`.
    ///
    /// # Errors
    /// The slot cannot be read. One without a tree has no blocks to offer.
    pub fn of(running: &Partitions, new: &Tree) -> Result<Self, Failure> {
        let Some(tree) = running.tree() else {
            return Ok(Self { blocks: Vec::new() });
        };
        let same_salt = tree.digest(b"") == new.digest(b"");
        let mut blocks = Vec::with_capacity(usize::try_from(tree.blocks()).unwrap_or(0));
        if same_salt {
            // Its own leaves are the digests.
            for number in 0..tree.blocks() {
                blocks.extend(tree.leaf(number).and_then(|leaf| entry(leaf, number)));
            }
        } else {
            each_block(&running.root, tree.blocks(), |number, block| {
                blocks.extend(entry(&new.digest(block), number));
                Ok(())
            })?;
        }
        blocks.sort_unstable();
        Ok(Self { blocks })
    }

    /// All blocks of a chunk, if the running slot has them.
    pub fn assemble(&self, chunk: &Chunk, tree: &Tree, running: &Device) -> Option<Vec<u8>> {
        // Most chunks that are not there whole begin with a block that is not there.
        let mut bytes = Vec::new();
        for number in chunk.first_block..chunk.first_block + chunk.blocks {
            let leaf = tree.leaf(number)?;
            let block = self.find(leaf, tree, number, running)?;
            bytes.extend_from_slice(&block);
        }
        Some(bytes)
    }

    fn find(
        &self,
        leaf: &[u8; 32],
        tree: &Tree,
        number: u64,
        running: &Device,
    ) -> Option<[u8; BLOCK]> {
        let wanted = prefix(leaf);
        let first = self.blocks.partition_point(|(prefix, _)| *prefix < wanted);
        let candidates = self.blocks.get(first..)?.iter();
        candidates
            .take_while(|(prefix, _)| *prefix == wanted)
            .find_map(|(_, there)| {
                let mut block = [0; BLOCK];
                let offset = u64::from(*there) * BLOCK as u64;
                running.read(&mut block, offset).ok()?;
                tree.matches(number, &block).then_some(block)
            })
    }
}

/// Whether the target holds this chunk already. Only what begins right is read on.
pub fn is_in_place(chunk: &Chunk, tree: &Tree, target: &Device) -> bool {
    let mut block = [0; BLOCK];
    (chunk.first_block..chunk.first_block + chunk.blocks).all(|number| {
        target.read(&mut block, number * BLOCK as u64).is_ok() && tree.matches(number, &block)
    })
}

/// Reads the first `blocks` blocks from the device, in order, and leaves none of them in memory.
///
/// # Errors
/// They cannot be read, or `see` says so.
pub fn each_block(
    device: &Device,
    blocks: u64,
    mut see: impl FnMut(u64, &[u8]) -> Result<(), Failure>,
) -> Result<(), Failure> {
    const AT_ONCE: u64 = 256;
    let mut bytes = vec![0; AT_ONCE as usize * BLOCK];
    let mut number = 0;
    while number < blocks {
        let count = AT_ONCE.min(blocks - number);
        let piece = &mut bytes[..count as usize * BLOCK];
        let offset = number * BLOCK as u64;
        device.read(piece, offset)?;
        device.forget(offset, piece.len() as u64);
        for (number, block) in (number..).zip(piece.chunks_exact(BLOCK)) {
            see(number, block)?;
        }
        number += count;
    }
    Ok(())
}

fn entry(digest: &[u8; 32], number: u64) -> Option<(u64, u32)> {
    Some((prefix(digest), u32::try_from(number).ok()?))
}

fn prefix(digest: &[u8; 32]) -> u64 {
    let (first, _) = digest.split_at(8);
    first
        .iter()
        .fold(0, |value, byte| value << 8 | u64::from(*byte))
}
