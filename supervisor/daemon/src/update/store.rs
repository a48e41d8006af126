//! The record on /data: two files, every change in both, the older one first. It blocks for as long as the disk does, so it runs on a thread of
//! its own. What is in it is decided elsewhere.

use std::fs;
use std::io::ErrorKind;
use std::path::Path;

use atalaya_core::update::record::{FILES, Record, choose, encode, places};
use atalaya_sys::durable;

/// Where the newest record lies: its file and its number.
pub type Newest = Option<(usize, u64)>;

/// What was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    pub record: Option<Record>,
    pub newest: Newest,
    /// A file that should be one and is not.
    pub trouble: Option<String>,
}

/// # Errors
/// Files are there and none can be read: which data are the right ones is not known.
pub fn read(directory: &Path) -> Result<Found, String> {
    let [first, second] = FILES.map(|name| read_file(&directory.join(name)));
    let (first, second) = (first?, second?);
    let chosen =
        choose([first.as_deref(), second.as_deref()]).map_err(|error| error.to_string())?;
    Ok(match chosen {
        None => Found {
            record: None,
            newest: None,
            trouble: None,
        },
        Some(chosen) => Found {
            newest: Some((chosen.file, chosen.sequence)),
            trouble: chosen.trouble.map(|trouble| {
                format!("one of the two copies of the update record is no record: {trouble}")
            }),
            record: Some(chosen.record),
        },
    })
}

/// What is there after a writing that has failed.
pub fn read_again(directory: &Path) -> Option<Record> {
    read(directory).ok()?.record
}

fn read_file(path: &Path) -> Result<Option<Vec<u8>>, String> {
    match fs::read(path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(format!("failed to read {}: {error}", path.display())),
    }
}

/// Durable when it returns; tells where the newest lies then.
///
/// # Errors
/// The disk is full or broken. The old record or the new one counts, whole.
pub fn write(directory: &Path, newest: Newest, record: &Record) -> Result<Newest, String> {
    fs::create_dir_all(directory)
        .map_err(|error| format!("failed to make {}: {error}", directory.display()))?;
    let mut written = None;
    for (file, sequence) in places(newest) {
        let bytes = encode(record, sequence).map_err(|error| error.to_string())?;
        let Some(name) = FILES.get(file) else {
            continue;
        };
        durable::write(&directory.join(name), &bytes, 0o600, None)
            .map_err(|error| error.chain())?;
        written = Some((file, sequence));
    }
    Ok(written)
}
