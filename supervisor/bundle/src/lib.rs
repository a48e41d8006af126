//! The update bundle: what it holds, who signed it, and reading it in one pass without trusting a byte of it. Writes no slot, asks no network:
//! bytes come from a [`Source`], verified ones go to whoever asked. The format is docs/bundle.md, byte by byte.
//!
//! Reading goes in two steps, so that nothing is written before the machine's rules were asked: [`Reader::open`] verifies who signed the
//! bundle, [`policy::assess`] says whether this machine takes it, and [`Reader::files`] goes on to the files and the root's chunks.

mod container;
pub mod error;
mod hex;
pub mod inspect;
pub mod keys;
pub mod limits;
pub mod manifest;
pub mod policy;
pub mod reader;
pub mod refusal;
pub mod sample;
pub mod source;
mod uki;
pub mod verity;
pub mod writer;

pub use error::{Error, Result};
pub use keys::{KeySets, Trust};
pub use manifest::Manifest;
pub use reader::{Chunk, Head, Reader, Root};
pub use refusal::Refusal;
pub use source::{Seekable, Source, Stream};
pub use verity::Tree;
