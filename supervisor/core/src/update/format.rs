//! The bytes in which the record lies on the disk. Frozen: every version reads what every other has written.
//!
//! ```text
//! "ATLYREC1"   8 bytes
//! sequence     u64, little endian: of two valid files the higher one counts
//! length       u32, little endian: of the body
//! body         JSON of a `Record`
//! checksum     SHA-256 of all before, 32 bytes; nothing follows
//! ```
//! There are two files ([`FILES`] in /data/update). Every change is written to both, each whole, the older one first ([`places`]): a power cut
//! leaves the old record or the new one, and afterwards a file that the disk spoils is not the only one that knew.

use sha2::{Digest, Sha256};

use super::record::Record;

pub const FILES: [&str; 2] = ["record-0", "record-1"];

const MAGIC: &[u8; 8] = b"ATLYREC1";
const HEAD: usize = 20;
const CHECKSUM: usize = 32;
/// Far more than a hundred updates and their reasons take. What is longer was not written by us.
const LONGEST: usize = 16 << 20;

/// Why a file is not a record.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    #[error("it has {0} bytes, which no record has")]
    Length(usize),
    #[error("it does not begin as a record does")]
    Magic,
    #[error("its checksum is not that of its content")]
    Checksum,
    #[error("its content is not a record: {0}")]
    Content(String),
}

/// Both files are there or one is, and no record can be read: which data are the right ones is not known.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("no update record can be read: {}", self.words())]
pub struct Unreadable(pub [Option<Error>; 2]);

impl Unreadable {
    fn words(&self) -> String {
        let each = FILES.iter().zip(&self.0);
        let words: Vec<String> = each
            .filter_map(|(name, error)| Some(format!("{name}: {}", error.as_ref()?)))
            .collect();
        words.join("; ")
    }
}

/// What counts, and where it was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chosen {
    pub record: Record,
    pub sequence: u64,
    /// Index in [`FILES`].
    pub file: usize,
    /// What is wrong with the other file, if it is there and cannot be read.
    pub trouble: Option<Error>,
}

/// # Errors
/// The record is longer than a record may be.
pub fn encode(record: &Record, sequence: u64) -> Result<Vec<u8>, Error> {
    let body = serde_json::to_vec(record).map_err(|error| Error::Content(error.to_string()))?;
    let length = HEAD + body.len() + CHECKSUM;
    let counted = u32::try_from(body.len()).map_err(|_| Error::Length(length))?;
    if length > LONGEST {
        return Err(Error::Length(length));
    }
    let mut bytes = Vec::with_capacity(length);
    bytes.extend(MAGIC);
    bytes.extend(sequence.to_le_bytes());
    bytes.extend(counted.to_le_bytes());
    bytes.extend(body);
    let checksum = Sha256::digest(&bytes);
    bytes.extend(checksum);
    Ok(bytes)
}

/// The record and its sequence number.
///
/// # Errors
/// These bytes are not exactly one record.
pub fn decode(bytes: &[u8]) -> Result<(Record, u64), Error> {
    let length = || Error::Length(bytes.len());
    if bytes.len() > LONGEST {
        return Err(length());
    }
    let (content, checksum) = bytes.split_last_chunk::<CHECKSUM>().ok_or_else(length)?;
    let (magic, rest) = content.split_first_chunk::<8>().ok_or_else(length)?;
    if magic != MAGIC {
        return Err(Error::Magic);
    }
    let (sequence, rest) = rest.split_first_chunk::<8>().ok_or_else(length)?;
    let (counted, body) = rest.split_first_chunk::<4>().ok_or_else(length)?;
    if Sha256::digest(content).as_slice() != checksum {
        return Err(Error::Checksum);
    }
    if usize::try_from(u32::from_le_bytes(*counted)) != Ok(body.len()) {
        return Err(length());
    }
    let record = serde_json::from_slice(body).map_err(|error| Error::Content(error.to_string()))?;
    Ok((record, u64::from_le_bytes(*sequence)))
}

/// The newest record of the two files; `None` where neither file is there, which is so before the first boot.
///
/// # Errors
/// Files are there and none can be read.
pub fn choose(files: [Option<&[u8]>; 2]) -> Result<Option<Chosen>, Unreadable> {
    let read = files.map(|file| file.map(decode));
    match read {
        [None, None] => Ok(None),
        [Some(Ok(first)), Some(Ok(second))] => Ok(Some(if first.1 >= second.1 {
            chosen(first, 0, None)
        } else {
            chosen(second, 1, None)
        })),
        [Some(Ok(first)), other] => Ok(Some(chosen(first, 0, failure(other)))),
        [other, Some(Ok(second))] => Ok(Some(chosen(second, 1, failure(other)))),
        [first, second] => Err(Unreadable([failure(first), failure(second)])),
    }
}

fn chosen((record, sequence): (Record, u64), file: usize, trouble: Option<Error>) -> Chosen {
    Chosen {
        record,
        sequence,
        file,
        trouble,
    }
}

fn failure(read: Option<Result<(Record, u64), Error>>) -> Option<Error> {
    read.and_then(Result::err)
}

/// Where a change is written, in this order, each with its sequence number. `newest` is the file and the number of the record that counts.
pub fn places(newest: Option<(usize, u64)>) -> [(usize, u64); 2] {
    let (file, sequence) = newest.unwrap_or((1, 0));
    let (file, other) = if file == 0 { (0, 1) } else { (1, 0) };
    [
        (other, sequence.saturating_add(1)),
        (file, sequence.saturating_add(2)),
    ]
}
