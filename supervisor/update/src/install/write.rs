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
use super::reuse::{Index, each_block, is_in_place};

/// How much may be on its way to the device.
const ON_ITS_WAY: u64 = 8 << 20;
/// What is sent on its way together.
const RUN: u64 = 1 << 20;
/// Bytes between the one who verifies and the one who writes.
const WAITING: u64 = 4 << 20;

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
        let chunk = bundle
            .upcoming()
            .map_or(BLOCK as u64, |chunk| chunk.blocks * BLOCK as u64);
        let (send, receive) = sync_channel((WAITING / chunk).max(1) as usize);
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
    while let Some(chunk) = bundle.upcoming() {
        let offset = chunk.first_block * BLOCK as u64;
        let bytes = chunk.blocks * BLOCK as u64;
        let tree = bundle.tree();
        let piece = if is_in_place(&chunk, tree, target) {
            bundle.skip()?;
            report.add_reused(bytes);
            continue;
        } else if let Some(there) = index.assemble(&chunk, tree, &running.root) {
            bundle.skip()?;
            report.add_reused(bytes);
            there
        } else {
            let fetched = bundle.read()?.to_vec();
            report.add(bytes);
            fetched
        };
        if send.send((offset, piece)).is_err() {
            // The writer says why.
            return Ok(());
        }
    }
    Ok(())
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
    let (root, verity) = (&target.root, &target.verity);
    let levels = tree.area().get(BLOCK..).unwrap_or_default();
    verity.write(levels, BLOCK as u64)?;
    verity.sync()?;
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
