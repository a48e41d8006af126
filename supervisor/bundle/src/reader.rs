//! A bundle, verified as it comes in. What is not yet bound by a signature is only ever compared: the manifest is not even parsed before enough
//! keys have signed its bytes, and a block of the root is given out only when its digest is the signed tree's.

use std::io::{self, Write};

use zstd::bulk::Decompressor;

use crate::container::{self, Input, Size};
use crate::error::{Error, Result};
use crate::keys::{self, KeySets, PublicKey, Signatures, Trust, What};
use crate::limits::{self, Sizes};
use crate::manifest::{FORMAT, Manifest};
use crate::refusal::Refusal;
use crate::source::Source;
use crate::uki::CommandLine;
use crate::verity::{BLOCK, Tree};

/// What a bundle says of itself, signed by enough keys of a set that this machine trusts or that leads on from one.
#[derive(Debug, Clone)]
pub struct Head {
    pub manifest: Manifest,
    /// To be kept when the bundle is accepted.
    pub key_sets: KeySets,
    /// Of the newest set.
    pub signed_by: Vec<PublicKey>,
}

/// The first three entries, not yet verified.
pub(crate) struct Unverified {
    pub manifest: Vec<u8>,
    pub key_sets: KeySets,
    pub signatures: Signatures,
}

impl Unverified {
    pub fn read<S: Source>(input: &mut Input<S>) -> Result<Self> {
        let manifest = input.small(container::MANIFEST, limits::MANIFEST)?;
        let key_sets = input.small(container::KEY_SETS, limits::KEY_SETS)?;
        let signatures = input.small(container::SIGNATURES, limits::SIGNATURES)?;
        Ok(Self {
            manifest,
            key_sets: parse(container::KEY_SETS, &key_sets)?,
            signatures: parse(container::SIGNATURES, &signatures)?,
        })
    }

    pub fn verify(self, trust: &Trust) -> Result<(Head, Sizes), Refusal> {
        let newest = trust.follow(&self.key_sets)?;
        let message = keys::manifest_message(&self.manifest);
        let signatures = &self.signatures.signatures;
        keys::verify(What::Manifest, &message, signatures, &[newest])?;
        let newest = newest.version;
        let (manifest, sizes) = understand(&self.manifest)?;
        if manifest.key_set != newest {
            return Err(keys::KeyError::Manifest {
                manifest: manifest.key_set,
                newest,
            })?;
        }
        let head = Head {
            manifest,
            signed_by: signatures.iter().map(|signed| signed.key).collect(),
            key_sets: self.key_sets,
        };
        Ok((head, sizes))
    }
}

/// A manifest that keeps to the limits.
pub(crate) fn understand(bytes: &[u8]) -> Result<(Manifest, Sizes), Refusal> {
    #[derive(serde::Deserialize)]
    struct Version {
        format: u32,
    }
    // Of another format only this is known.
    let Version { format } = parse(container::MANIFEST, bytes)?;
    if format != FORMAT {
        return Err(Refusal::Format { found: format });
    }
    let manifest: Manifest = parse(container::MANIFEST, bytes)?;
    let sizes = limits::check(&manifest)?;
    Ok((manifest, sizes))
}

fn parse<T: serde::de::DeserializeOwned>(entry: &'static str, bytes: &[u8]) -> Result<T, Refusal> {
    serde_json::from_slice(bytes).map_err(|error| Refusal::Syntax {
        entry,
        // It may quote what is in the bundle.
        problem: error.to_string().escape_debug().take(300).collect(),
    })
}

/// A bundle whose head is verified. Nothing else of it was read.
pub struct Reader<S> {
    input: Input<S>,
    head: Head,
    sizes: Sizes,
}

impl<S: Source> Reader<S> {
    /// Reads and verifies the manifest, the key sets and the signatures.
    ///
    /// # Errors
    /// They cannot be read, or are refused.
    pub fn open(source: S, trust: &Trust) -> Result<Self> {
        let mut input = Input::new(source);
        let (head, sizes) = Unverified::read(&mut input)?.verify(trust)?;
        Ok(Self { input, head, sizes })
    }

    pub fn head(&self) -> &Head {
        &self.head
    }

    /// Reads the kernel image, the loader, the hash tree and the table of chunks. A file that nobody takes, because it is there already, is
    /// skipped. **What was written counts only when this returns without an error**: a file's digest is known at its end.
    ///
    /// # Errors
    /// They cannot be read or written, or are refused.
    pub fn files(
        self,
        uki: Option<&mut dyn Write>,
        loader: Option<&mut dyn Write>,
    ) -> Result<Root<S>> {
        let Self {
            mut input,
            head,
            sizes,
        } = self;
        match uki {
            Some(to) => {
                let mut line = CommandLine::default();
                let expected = sizes.uki;
                input.known(container::UKI, expected.bytes, &expected.sha256, |piece| {
                    line.feed(piece);
                    to.write_all(piece)
                })?;
                line.verify(&head.manifest.root_hash)?;
            }
            None => input.pass(container::UKI, sizes.uki.bytes)?,
        }
        match loader {
            Some(to) => {
                let expected = sizes.loader;
                let take = |piece: &[u8]| to.write_all(piece);
                input.known(container::LOADER, expected.bytes, &expected.sha256, take)?;
            }
            None => input.pass(container::LOADER, sizes.loader.bytes)?,
        }
        let tree = Tree::parse(held(&mut input, container::VERITY, sizes.verity)?)
            .map_err(Refusal::from)?;
        if *tree.root_hash() != sizes.root_hash || tree.blocks() != sizes.blocks {
            return Err(Refusal::RootHash)?;
        }
        let table = held(&mut input, container::CHUNKS, sizes.chunks)?;
        let lengths: Vec<u32> = table
            .as_chunks()
            .0
            .iter()
            .map(|length| u32::from_le_bytes(*length))
            .collect();
        for (index, length) in (0..).zip(&lengths) {
            if !limits::plausible(*length, sizes.blocks_of(index)) {
                return Err(Refusal::ChunkLength { index })?;
            }
        }
        let total = lengths.iter().map(|length| u64::from(*length)).sum();
        input.enter(container::ROOT, Size::Exactly(total))?;
        let zstd = Decompressor::new().map_err(|source| Error::Read {
            entry: container::ROOT,
            source,
        })?;
        Ok(Root {
            input,
            head,
            sizes,
            tree,
            lengths,
            total,
            next: 0,
            zstd,
            stored: Vec::new(),
            plain: Vec::new(),
        })
    }
}

/// The whole of an entry whose size the limits allow to be held.
fn held<S: Source>(
    input: &mut Input<S>,
    entry: &'static str,
    expected: limits::Expected,
) -> Result<Vec<u8>> {
    let mut content = Vec::with_capacity(expected.bytes as usize);
    input.known(entry, expected.bytes, &expected.sha256, |piece| {
        content.extend_from_slice(piece);
        Ok(())
    })?;
    Ok(content)
}

/// Some blocks of the root that are stored together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Chunk {
    pub first_block: u64,
    pub blocks: u64,
    /// Bytes in the bundle, mostly fewer than the blocks have.
    pub stored: u32,
}

/// The root, chunk after chunk.
pub struct Root<S> {
    input: Input<S>,
    head: Head,
    sizes: Sizes,
    tree: Tree,
    lengths: Vec<u32>,
    total: u64,
    next: u64,
    zstd: Decompressor<'static>,
    stored: Vec<u8>,
    plain: Vec<u8>,
}

impl<S: Source> Root<S> {
    pub fn head(&self) -> &Head {
        &self.head
    }

    /// What the hash partition has to hold, and every block's digest.
    pub fn tree(&self) -> &Tree {
        &self.tree
    }

    /// What the next [`Self::read`] or [`Self::skip`] is about; none behind the last.
    pub fn upcoming(&self) -> Option<Chunk> {
        let length = self.lengths.get(usize::try_from(self.next).ok()?)?;
        Some(Chunk {
            first_block: self.next * self.sizes.chunk_blocks,
            blocks: self.sizes.blocks_of(self.next),
            stored: *length,
        })
    }

    /// Tells the source that so many chunks come next of which the last will be read, so that it can fetch them together.
    pub fn announce(&mut self, chunks: usize) {
        let next = usize::try_from(self.next).unwrap_or(usize::MAX);
        let lengths = self.lengths.iter().skip(next).take(chunks);
        self.input
            .announce(lengths.map(|length| u64::from(*length)).sum());
    }

    /// The next chunk's blocks, each as the tree wants it; nothing behind the last.
    ///
    /// # Errors
    /// It cannot be read, or is refused.
    pub fn read(&mut self) -> Result<&[u8]> {
        let Some(chunk) = self.upcoming() else {
            return Ok(&[]);
        };
        let index = self.next;
        self.stored.resize(chunk.stored as usize, 0);
        self.input.exactly(&mut self.stored, container::ROOT)?;
        self.plain.resize(chunk.blocks as usize * BLOCK, 0);
        if self.stored.len() == self.plain.len() {
            self.plain.copy_from_slice(&self.stored);
        } else {
            unpack(&mut self.zstd, &self.stored, &mut self.plain)
                .ok_or(Refusal::Chunk { index })?;
        }
        let numbers = chunk.first_block..;
        for (number, block) in numbers.zip(self.plain.chunks_exact(BLOCK)) {
            if !self.tree.matches(number, block) {
                return Err(Refusal::Block { block: number })?;
            }
        }
        self.next += 1;
        Ok(&self.plain)
    }

    /// Passes the next chunk over, because its blocks are there already.
    ///
    /// # Errors
    /// The source cannot skip.
    pub fn skip(&mut self) -> Result<()> {
        let Some(chunk) = self.upcoming() else {
            return Ok(());
        };
        self.input.skip(u64::from(chunk.stored), container::ROOT)?;
        self.next += 1;
        Ok(())
    }

    /// Passes over what was not read, and verifies that the bundle ends there.
    ///
    /// # Errors
    /// It does not.
    pub fn finish(mut self) -> Result<S> {
        while self.upcoming().is_some() {
            self.skip()?;
        }
        self.input.leave(container::ROOT, self.total)?;
        self.input.end()
    }
}

/// One frame of zstd, whose header says the very size that is wanted, and nothing behind it. Older formats and frames that hold nothing are
/// turned away before the library would take them.
fn unpack(zstd: &mut Decompressor<'_>, frame: &[u8], plain: &mut [u8]) -> Option<()> {
    use zstd::zstd_safe::{find_frame_compressed_size, get_frame_content_size};
    let whole = frame.starts_with(&[0x28, 0xb5, 0x2f, 0xfd])
        && find_frame_compressed_size(frame) == Ok(frame.len())
        && get_frame_content_size(frame).ok()? == Some(plain.len() as u64);
    if !whole {
        return None;
    }
    let written = zstd.decompress_to_buffer(frame, plain).ok()?;
    (written == plain.len()).then_some(())
}

/// Reads and verifies all of a bundle and keeps nothing.
///
/// # Errors
/// It cannot be read, or is refused.
pub fn verify<S: Source>(source: S, trust: &Trust) -> Result<Head> {
    let reader = Reader::open(source, trust)?;
    let mut root = reader.files(Some(&mut io::sink()), Some(&mut io::sink()))?;
    while root.upcoming().is_some() {
        root.read()?;
    }
    let head = root.head().clone();
    root.finish()?;
    Ok(head)
}
