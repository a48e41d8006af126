//! Makes a bundle of the parts of an image. The same parts give the same bytes. Signs nothing: signatures come in, from machines that are not
//! this one, and may be put into a bundle that was written without them.

use std::fs::File;
use std::io::{self, Read, Seek, Write};
use std::path::{Path, PathBuf};
use std::thread;

use serde::Serialize;
use sha2::{Digest, Sha256};
use zstd::bulk::Compressor;

use crate::container::{self, Input, TRAILER, header, padding};
use crate::error::Error;
use crate::hex;
use crate::keys::{KeySets, Signatures};
use crate::limits::{self, Sizes};
use crate::manifest::{FORMAT, Manifest, Mattermost, Part};
use crate::reader::{self, Unverified};
use crate::refusal::Refusal;
use crate::source::Stream;
use crate::uki::CommandLine;
use crate::verity::{BLOCK, Tree};

/// Blocks of a chunk. Larger ones are compressed a little better, but of those one changed block makes all be fetched (docs/bundle.md has the
/// measurement).
pub const CHUNK_BLOCKS: u32 = 1;
/// Of zstd: what is left to compress after erofs is little, and is read many times.
pub const LEVEL: i32 = 19;

/// Blocks that are compressed side by side: 8 MiB.
const BATCH_BLOCKS: usize = 2048;

/// What the manifest says beside what follows from the parts.
#[derive(Debug, Clone)]
pub struct Description {
    pub product: String,
    pub kind: String,
    pub architecture: String,
    pub version: String,
    pub build: String,
    pub built: String,
    pub epoch: u64,
    pub key_set: u32,
    pub minimum_from: String,
    pub forbidden_from: Vec<String>,
    pub mattermost: Mattermost,
    pub postgresql: String,
    pub postgresql_from: Vec<u32>,
}

/// Files that an image is made of. Of `root` and `verity` what stands behind the file system and the tree is left out.
#[derive(Debug, Clone)]
pub struct Parts {
    pub root: PathBuf,
    pub verity: PathBuf,
    pub uki: PathBuf,
    pub loader: PathBuf,
}

#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    #[error("failed to {operation} {object}")]
    Io {
        operation: &'static str,
        object: String,
        #[source]
        source: io::Error,
    },
    /// The parts do not belong together, or the description is no good.
    #[error("these parts make no bundle")]
    Parts(#[from] Refusal),
    /// What has to be signed is no bundle.
    #[error(transparent)]
    Bundle(#[from] Error),
}

type Result<T> = std::result::Result<T, WriteError>;

/// Everything but the signatures.
#[derive(Debug)]
pub struct Prepared {
    manifest: Manifest,
    text: Vec<u8>,
    parts: Parts,
    tree: Tree,
    table: Vec<u8>,
    /// The compressed chunks.
    root: File,
    root_bytes: u64,
}

impl Prepared {
    /// Compresses the root to `scratch`, an empty file, and checks that the parts belong together. `advance` hears how many bytes of the root are
    /// done.
    ///
    /// # Errors
    /// A file cannot be read or written, or the parts do not belong together.
    pub fn new(
        parts: Parts,
        description: Description,
        scratch: File,
        mut advance: impl FnMut(u64),
    ) -> Result<Self> {
        let tree = read_tree(&parts.verity)?;
        let mut root = scratch;
        let lengths = compress(&parts.root, &tree, &mut root, &mut advance)?;
        let table: Vec<u8> = lengths
            .iter()
            .flat_map(|length| length.to_le_bytes())
            .collect();
        let root_bytes = lengths.iter().map(|length| u64::from(*length)).sum();
        let root_hash = hex::encode(tree.root_hash());
        let manifest = Manifest {
            format: FORMAT,
            product: description.product,
            kind: description.kind,
            architecture: description.architecture,
            version: description.version,
            build: description.build,
            built: description.built,
            epoch: description.epoch,
            key_set: description.key_set,
            minimum_from: description.minimum_from,
            forbidden_from: description.forbidden_from,
            mattermost: description.mattermost,
            postgresql: description.postgresql,
            postgresql_from: description.postgresql_from,
            root: crate::manifest::Root {
                blocks: tree.blocks(),
                chunk_blocks: CHUNK_BLOCKS,
                chunks: part(&table),
            },
            verity: part(tree.area()),
            uki: kernel_image(&parts.uki, &root_hash)?,
            loader: file(&parts.loader, |_| {})?,
            root_hash,
        };
        let text =
            json(&manifest).map_err(|error| io_error("write", "the manifest")(error.into()))?;
        let _: (Manifest, Sizes) = reader::understand(&text)?;
        Ok(Self {
            manifest,
            text,
            parts,
            tree,
            table,
            root,
            root_bytes,
        })
    }

    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// The bytes that are signed ([`crate::keys::SigningKey::sign_manifest`]).
    pub fn manifest_bytes(&self) -> &[u8] {
        &self.text
    }

    /// Writes the bundle. Whether the signatures suffice is not looked at: [`reader::verify`] does that.
    ///
    /// # Errors
    /// A part cannot be read, or is another one by now; or `to` cannot be written.
    pub fn write(
        &mut self,
        key_sets: &KeySets,
        signatures: &Signatures,
        to: &mut impl Write,
    ) -> Result<()> {
        write_head(&self.text, key_sets, signatures, to)?;
        for (name, path, part) in [
            (container::UKI, &self.parts.uki, &self.manifest.uki),
            (container::LOADER, &self.parts.loader, &self.manifest.loader),
        ] {
            put(to, &header(name, part.bytes))?;
            let mut written = Ok(());
            let again = file(path, |piece| {
                if written.is_ok() {
                    written = put(to, piece);
                }
            })?;
            written?;
            if again != *part {
                return Err(Refusal::Digest { entry: name })?;
            }
            put(to, &[0; 512][..padding(part.bytes)])?;
        }
        put_entry(container::VERITY, self.tree.area(), to)?;
        put_entry(container::CHUNKS, &self.table, to)?;
        put(to, &header(container::ROOT, self.root_bytes))?;
        self.root
            .rewind()
            .and_then(|()| io::copy(&mut (&self.root).take(self.root_bytes), to))
            .map_err(io_error("write", "the bundle"))?;
        put(to, &[0; 512][..padding(self.root_bytes)])?;
        put(to, &TRAILER)
    }
}

/// The bundle `from` with other signatures and key sets, for signatures that were made elsewhere meanwhile. Nothing else is looked at.
///
/// # Errors
/// `from` does not begin like a bundle or cannot be read, or `to` cannot be written.
pub fn put_signatures(
    from: impl Read,
    key_sets: &KeySets,
    signatures: &Signatures,
    to: &mut impl Write,
) -> Result<()> {
    let mut input = Input::new(Stream(from));
    let head = Unverified::read(&mut input)?;
    write_head(&head.manifest, key_sets, signatures, to)?;
    let Stream(mut rest) = input.into_source();
    io::copy(&mut rest, to)
        .map(drop)
        .map_err(io_error("copy", "the bundle"))
}

/// JSON as it stands in a bundle: indented, for people, with a newline at its end.
pub(crate) fn json(value: &impl Serialize) -> serde_json::Result<Vec<u8>> {
    let mut text = serde_json::to_vec_pretty(value)?;
    text.push(b'\n');
    Ok(text)
}

fn write_head(
    manifest: &[u8],
    key_sets: &KeySets,
    signatures: &Signatures,
    to: &mut impl Write,
) -> Result<()> {
    let failed = |error: serde_json::Error| io_error("write", "the signatures")(error.into());
    put_entry(container::MANIFEST, manifest, to)?;
    put_entry(container::KEY_SETS, &json(key_sets).map_err(failed)?, to)?;
    put_entry(
        container::SIGNATURES,
        &json(signatures).map_err(failed)?,
        to,
    )
}

fn put_entry(name: &str, content: &[u8], to: &mut impl Write) -> Result<()> {
    let bytes = content.len() as u64;
    put(to, &header(name, bytes))?;
    put(to, content)?;
    put(to, &[0; 512][..padding(bytes)])
}

fn put(to: &mut impl Write, bytes: &[u8]) -> Result<()> {
    to.write_all(bytes).map_err(io_error("write", "the bundle"))
}

fn io_error(
    operation: &'static str,
    object: impl ToString,
) -> impl FnOnce(io::Error) -> WriteError {
    let object = object.to_string();
    move |source| WriteError::Io {
        operation,
        object,
        source,
    }
}

fn open(path: &Path) -> Result<File> {
    File::open(path).map_err(io_error("open", path.display()))
}

fn part(content: &[u8]) -> Part {
    Part {
        bytes: content.len() as u64,
        sha256: hex::encode(&Sha256::digest(content)),
    }
}

/// Size and digest of a file, of which `see` gets every piece.
fn file(path: &Path, mut see: impl FnMut(&[u8])) -> Result<Part> {
    let mut file = open(path)?;
    let mut hash = Sha256::new();
    let mut piece = vec![0; 1 << 20];
    let mut bytes = 0;
    loop {
        let count = file
            .read(&mut piece)
            .map_err(io_error("read", path.display()))?;
        if count == 0 {
            break;
        }
        let piece = &piece[..count];
        hash.update(piece);
        see(piece);
        bytes += count as u64;
    }
    Ok(Part {
        bytes,
        sha256: hex::encode(&hash.finalize()),
    })
}

fn kernel_image(path: &Path, root_hash: &str) -> Result<Part> {
    let mut line = CommandLine::default();
    let part = file(path, |piece| line.feed(piece))?;
    line.verify(root_hash)?;
    Ok(part)
}

/// The hash area at the beginning of a file.
fn read_tree(path: &Path) -> Result<Tree> {
    let most = Tree::area_bytes(limits::ROOT_BLOCKS);
    let mut area = Vec::new();
    open(path)?
        .take(most)
        .read_to_end(&mut area)
        .map_err(io_error("read", path.display()))?;
    let blocks = Tree::blocks_in(&area).map_err(Refusal::from)?;
    let bytes = usize::try_from(Tree::area_bytes(blocks)).unwrap_or(usize::MAX);
    area.truncate(bytes);
    Ok(Tree::parse(area).map_err(Refusal::from)?)
}

/// Compresses the root chunk by chunk, on all processors, in order. Returns the chunks' lengths.
fn compress(
    path: &Path,
    tree: &Tree,
    to: &mut File,
    advance: &mut dyn FnMut(u64),
) -> Result<Vec<u32>> {
    let chunk = CHUNK_BLOCKS as usize * BLOCK;
    let batch = BATCH_BLOCKS * BLOCK / chunk * chunk;
    let total = tree.blocks() * BLOCK as u64;
    let mut root = open(path)?.take(total);
    let mut lengths = Vec::new();
    let mut block = 0;
    let mut done = 0;
    while done < total {
        let mut plain = Vec::with_capacity(batch);
        (&mut root)
            .take(batch as u64)
            .read_to_end(&mut plain)
            .map_err(io_error("read", path.display()))?;
        let numbers = block..;
        for (number, bytes) in numbers.zip(plain.chunks(BLOCK)) {
            if !tree.matches(number, bytes) {
                return Err(Refusal::Block { block: number }.into());
            }
        }
        if plain.is_empty() {
            return Err(Refusal::Block { block }.into());
        }
        block += plain.len().div_ceil(BLOCK) as u64;
        let workers = thread::available_parallelism().map_or(1, usize::from);
        let share = plain.len().div_ceil(chunk).div_ceil(workers) * chunk;
        let compressed: Vec<io::Result<Vec<Vec<u8>>>> = thread::scope(|scope| {
            let running: Vec<_> = plain
                .chunks(share)
                .map(|part| scope.spawn(move || compress_chunks(part, chunk)))
                .collect();
            running
                .into_iter()
                .map(|worker| {
                    worker
                        .join()
                        .unwrap_or_else(|_| Err(io::ErrorKind::Other.into()))
                })
                .collect()
        });
        for frames in compressed {
            for frame in frames.map_err(io_error("compress", path.display()))? {
                to.write_all(&frame)
                    .map_err(io_error("write", "the compressed root"))?;
                lengths.push(frame.len() as u32);
            }
        }
        done += plain.len() as u64;
        advance(done);
    }
    Ok(lengths)
}

fn compress_chunks(plain: &[u8], chunk: usize) -> io::Result<Vec<Vec<u8>>> {
    let mut zstd = Compressor::new(LEVEL)?;
    plain
        .chunks(chunk)
        .map(|chunk| {
            let frame = zstd.compress(chunk)?;
            // What does not become smaller is stored as it is.
            Ok(if frame.len() < chunk.len() {
                frame
            } else {
                chunk.to_vec()
            })
        })
        .collect()
}
