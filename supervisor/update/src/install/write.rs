//! Fills the other slot: the root's blocks as they come, then the tree, then, when all of it was read back, the superblock that makes it valid.

use std::collections::VecDeque;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use atalaya_bundle::verity::BLOCK;
use atalaya_bundle::{Root, Source, Tree};
use atalaya_core::update::task::Step;
use atalaya_sys::pages;

use super::failure::Failure;
use super::partitions::{Device, Partitions};
use super::progress::Report;
use super::reuse::{Index, Origin, each_block, plan, together};
use super::source;

/// How much may be on its way to the device.
const ON_ITS_WAY: u64 = 8 << 20;
/// What is sent on its way together.
const RUN: u64 = 1 << 20;
/// What is written at once.
const BATCH: usize = 256 << 10;
/// Batches between the one who verifies and the one who writes. A large chunk is a batch by itself.
const WAITING: usize = 2;

/// Bytes and where they go.
type Piece = (u64, Vec<u8>);

/// Writes every block that is not in place. When it returns they are durable; nothing else of the slot was changed.
///
/// # Errors
/// The bundle is refused or ends, or the slot cannot be written.
pub fn root<S: Source>(
    bundle: &mut Root<S>,
    running: &Partitions,
    index: &Index,
    target: &Device,
    report: &mut Report,
) -> Result<(), Failure> {
    std::thread::scope(|scope| {
        let (send, receive) = sync_channel(WAITING);
        let writer = scope.spawn(move || write_pieces(target, &receive));
        let fed = feed(bundle, running, index, target, &send, report);
        drop(send);
        // A writer that failed is why the feeding ended.
        match writer.join() {
            Ok(written) => written?,
            Err(panic) => std::panic::resume_unwind(panic),
        }
        fed
    })?;
    running.root.forget(0, 0);
    target.sync()
}

fn feed<S: Source>(
    bundle: &mut Root<S>,
    running: &Partitions,
    index: &Index,
    target: &Device,
    send: &SyncSender<Piece>,
    report: &mut Report,
) -> Result<(), Failure> {
    let chunk_blocks = u64::from(bundle.head().manifest.root.chunk_blocks);
    let origins = plan(bundle.tree(), chunk_blocks, index, target);
    let gap = source::GAP / (chunk_blocks * BLOCK as u64);
    let gap = usize::try_from(gap).unwrap_or(usize::MAX);
    let mut announced = 0;
    let mut batch = Batch::new(send);
    for (number, origin) in origins.iter().enumerate() {
        let Some(chunk) = bundle.upcoming() else {
            break;
        };
        let offset = chunk.first_block * BLOCK as u64;
        let bytes = chunk.blocks * BLOCK as u64;
        let there = match origin {
            Origin::Target => {
                bundle.skip()?;
                report.add_reused(bytes);
                continue;
            }
            Origin::Running => index.assemble(&chunk, bundle.tree(), &running.root),
            Origin::Bundle => None,
        };
        let was_taken = if let Some(there) = there {
            bundle.skip()?;
            report.add_reused(bytes);
            batch.add(offset, &there)
        } else {
            if number >= announced {
                let count = together(origins.get(number..).unwrap_or_default(), gap).max(1);
                bundle.announce(count);
                announced = number + count;
            }
            report.add(bytes);
            batch.add(offset, bundle.read()?)
        };
        if !was_taken {
            // The writer says why.
            return Ok(());
        }
    }
    batch.send();
    Ok(())
}

/// Chunks that lie side by side go to the writer together.
struct Batch<'s> {
    send: &'s SyncSender<Piece>,
    offset: u64,
    bytes: Vec<u8>,
}

impl<'s> Batch<'s> {
    fn new(send: &'s SyncSender<Piece>) -> Self {
        Self {
            send,
            offset: 0,
            bytes: Vec::new(),
        }
    }

    /// False: nobody writes any more.
    fn add(&mut self, offset: u64, bytes: &[u8]) -> bool {
        let continues = self.offset + self.bytes.len() as u64 == offset;
        if (!continues || self.bytes.len() >= BATCH) && !self.send() {
            return false;
        }
        if self.bytes.is_empty() {
            self.offset = offset;
            self.bytes.reserve(BATCH);
        }
        self.bytes.extend_from_slice(bytes);
        true
    }

    fn send(&mut self) -> bool {
        let bytes = std::mem::take(&mut self.bytes);
        bytes.is_empty() || self.send.send((self.offset, bytes)).is_ok()
    }
}

/// Little of it stays in memory, and the device is never left with more than it can take in at the end.
fn write_pieces(target: &Device, pieces: &Receiver<Piece>) -> Result<(), Failure> {
    let mut way = Way {
        target,
        run: (0, 0),
        out: VecDeque::new(),
        bytes: 0,
    };
    for (offset, bytes) in pieces {
        target.write(&bytes, offset)?;
        way.add(offset, bytes.len() as u64)?;
    }
    Ok(())
}

/// What has been written and is not with the device yet: (offset, length).
struct Way<'t> {
    target: &'t Device,
    /// Written last, and not sent out yet.
    run: (u64, u64),
    out: VecDeque<(u64, u64)>,
    bytes: u64,
}

impl Way<'_> {
    fn add(&mut self, offset: u64, length: u64) -> Result<(), Failure> {
        let (start, so_far) = self.run;
        if start + so_far == offset && so_far < RUN {
            self.run.1 += length;
            return Ok(());
        }
        self.run = (offset, length);
        if so_far > 0 {
            pages::start_writing(&self.target.file, &self.target.path, start, so_far)
                .map_err(|error| self.failed(error))?;
            self.out.push_back((start, so_far));
            self.bytes += so_far;
        }
        while self.bytes > ON_ITS_WAY
            && let Some((start, length)) = self.out.pop_front()
        {
            pages::finish_writing(&self.target.file, &self.target.path, start, length)
                .map_err(|error| self.failed(error))?;
            self.target.forget(start, length);
            self.bytes -= length;
        }
        Ok(())
    }

    fn failed(&self, error: atalaya_sys::Error) -> Failure {
        Failure::slot("write to", &self.target.path, error.source)
    }
}

/// Writes the tree, all but the superblock, and reads the whole slot back from the device.
///
/// # Errors
/// The slot cannot be written or read, or holds something else.
pub fn tree_and_compare(
    tree: &Tree,
    target: &Partitions,
    report: &mut Report,
) -> Result<(), Failure> {
    let verity = &target.verity;
    let levels = tree.area().get(BLOCK..).unwrap_or_default();
    verity.write(levels, BLOCK as u64)?;
    verity.sync()?;
    read_back(tree, target, report)
}

fn read_back(tree: &Tree, target: &Partitions, report: &mut Report) -> Result<(), Failure> {
    let (root, verity) = (&target.root, &target.verity);
    root.forget(0, 0);
    verity.forget(0, 0);
    report.begin(Step::Compare, tree.blocks() * BLOCK as u64);
    let differs = |path: &std::path::Path, block| Failure::ReadBack {
        path: path.to_owned(),
        block,
    };
    each_block(root, tree.blocks(), |number, block| {
        if !tree.matches(number, block) {
            return Err(differs(&root.path, number));
        }
        report.add(block.len() as u64);
        Ok(())
    })?;
    let blocks = (tree.area().len() / BLOCK) as u64;
    each_block(verity, blocks, |number, block| {
        let at = number as usize * BLOCK;
        let wanted = tree.area().get(at..at + BLOCK);
        if number > 0 && wanted != Some(block) {
            return Err(differs(&verity.path, number));
        }
        Ok(())
    })
}

/// Makes the slot valid: from here on stage 1 finds it by its root hash.
///
/// # Errors
/// It cannot be written, or was not.
pub fn superblock(superblock: &[u8; BLOCK], verity: &Device) -> Result<(), Failure> {
    verity.write(superblock, 0)?;
    verity.sync()?;
    verity.forget(0, BLOCK as u64);
    let mut read = [0; BLOCK];
    verity.read(&mut read, 0)?;
    if read != *superblock {
        return Err(Failure::ReadBack {
            path: verity.path.clone(),
            block: 0,
        });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::install::source::Meter;
    use atalaya_bundle::sample;
    use std::io::Write as _;
    use std::path::PathBuf;

    /// A slot that holds this root, its tree, and as much behind both as if it were larger.
    fn slot(folder: &tempfile::TempDir, root: &[u8], tree: &Tree) -> Partitions {
        let lay = |name: &str, content: &[u8]| -> PathBuf {
            let path = folder.path().join(name);
            let mut file = std::fs::File::create(&path).unwrap();
            file.write_all(content).unwrap();
            file.write_all(&[0xee; 8192]).unwrap();
            path
        };
        let (root, verity) = (lay("root", root), lay("verity", tree.area()));
        let slot = Partitions::open(&root, &verity, true).unwrap();
        slot.invalidate().unwrap();
        slot
    }

    /// What the comparison says of a slot in which one byte of `part` was changed after it was written.
    fn compared(part: &str, at: u64) -> Result<(), Failure> {
        let folder = tempfile::tempdir().unwrap();
        let root = sample::root(40, "new");
        let tree = sample::tree(&root, "salt");
        let slot = slot(&folder, &root, &tree);
        let device = if part == "root" {
            &slot.root
        } else {
            &slot.verity
        };
        device.write(&[0xaa], at).unwrap();
        let mut report = Report::new(folder.path().join("progress.json"), Meter::default());
        read_back(&tree, &slot, &mut report)
    }

    #[test]
    fn a_slot_that_holds_something_else_is_found_out() {
        compared("root", 40 * 4096).unwrap();
        for (part, at, number) in [
            ("root", 39 * 4096 + 7, 39),
            ("root", 0, 0),
            ("verity", 5000, 1),
        ] {
            match compared(part, at) {
                Err(Failure::ReadBack { path, block }) => {
                    assert!(path.ends_with(part) && block == number, "{part} {at}");
                }
                other => panic!("{part} {at}: {other:?}"),
            }
        }
    }

    #[test]
    fn only_the_superblock_makes_a_slot_valid() {
        let folder = tempfile::tempdir().unwrap();
        let root = sample::root(40, "new");
        let tree = sample::tree(&root, "salt");
        let slot = slot(&folder, &root, &tree);
        let mut report = Report::new(folder.path().join("progress.json"), Meter::default());
        tree_and_compare(&tree, &slot, &mut report).unwrap();
        assert!(slot.tree().is_none());
        // Nobody gets that far with a slot that holds something else.
        slot.root.write(&[0xaa], 7).unwrap();
        let differs = tree_and_compare(&tree, &slot, &mut report);
        assert!(matches!(differs, Err(Failure::ReadBack { block: 0, .. })));
        slot.root.write(&root[..8], 0).unwrap();
        tree_and_compare(&tree, &slot, &mut report).unwrap();
        superblock(tree.area().first_chunk().unwrap(), &slot.verity).unwrap();
        assert_eq!(slot.tree().unwrap().root_hash(), tree.root_hash());
    }
}
