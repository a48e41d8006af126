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

    /// Whether the running slot seems to have block `number` of the new system.
    fn knows(&self, tree: &Tree, number: u64) -> bool {
        let Some(wanted) = tree.leaf(number).map(prefix) else {
            return false;
        };
        let search = self
            .blocks
            .binary_search_by_key(&wanted, |(prefix, _)| *prefix);
        search.is_ok()
    }

    /// All blocks of a chunk, if the running slot really has them.
    pub fn assemble(&self, chunk: &Chunk, tree: &Tree, running: &Device) -> Option<Vec<u8>> {
        let mut bytes = Vec::with_capacity(usize::try_from(chunk.blocks).ok()? * BLOCK);
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

/// Where a chunk is to come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// It is in place.
    Target,
    Running,
    Bundle,
}

/// For every chunk of `chunk_blocks` blocks.
pub fn plan(tree: &Tree, chunk_blocks: u64, index: &Index, target: &Device) -> Vec<Origin> {
    let mut in_place = InPlace::new();
    let mut origins = Vec::new();
    let mut first = 0;
    while first < tree.blocks() {
        let end = tree.blocks().min(first + chunk_blocks);
        origins.push(if in_place.holds(tree, first..end, target) {
            Origin::Target
        } else if (first..end).all(|number| index.knows(tree, number)) {
            Origin::Running
        } else {
            Origin::Bundle
        });
        first = end;
    }
    origins
}

/// How many of these chunks belong together for whoever has to ask for them: up to the last one from the bundle before a gap that is worth
/// asking again.
pub fn together(origins: &[Origin], gap: usize) -> usize {
    let mut last = 0;
    for (number, origin) in origins.iter().enumerate() {
        if *origin == Origin::Bundle {
            last = number + 1;
        } else if number >= last + gap {
            break;
        }
    }
    last
}

/// Finds what an attempt has written that was cut off. It begins at the front, and what was still on its way when the power went is a few MiB:
/// behind more than that which is not there, nothing is looked for.
struct InPlace {
    missing: u64,
}

impl InPlace {
    const PATIENCE: u64 = (16 << 20) / BLOCK as u64;

    fn new() -> Self {
        Self { missing: 0 }
    }

    fn holds(&mut self, tree: &Tree, blocks: std::ops::Range<u64>, target: &Device) -> bool {
        if self.missing >= Self::PATIENCE {
            return false;
        }
        let length = blocks.end - blocks.start;
        let mut block = [0; BLOCK];
        let holds = blocks.into_iter().all(|number| {
            target.read(&mut block, number * BLOCK as u64).is_ok() && tree.matches(number, &block)
        });
        self.missing = if holds { 0 } else { self.missing + length };
        holds
    }
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

#[cfg(test)]
mod tests {
    use super::Origin::{Bundle, Running, Target};
    use super::together;

    #[test]
    fn chunks_are_asked_for_together_across_gaps_that_are_not_worth_a_question() {
        for (origins, gap, expected) in [
            (&[][..], 2, 0),
            (&[Bundle], 2, 1),
            (&[Bundle, Bundle, Running], 2, 2),
            (&[Bundle, Running, Bundle, Target, Target, Bundle], 1, 3),
            (&[Bundle, Running, Bundle, Target, Target, Bundle], 2, 6),
            (&[Bundle, Running, Running, Running, Bundle], 2, 1),
        ] {
            assert_eq!(together(origins, gap), expected, "{origins:?}, {gap}");
        }
    }
}
