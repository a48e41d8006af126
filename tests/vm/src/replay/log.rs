//! The log that QEMU's `blklogwrites` driver writes: the format of Linux' dm-log-writes (drivers/md/dm-log-writes.c).
//! A superblock in the first sector, then for each request one sector that describes it and the written data.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use super::SECTOR;
use crate::VmError;

const MAGIC: u64 = 0x006a_7366_7773_6872;
const VERSION: u64 = 1;
const FLUSH: u64 = 1;
const FUA: u64 = 2;
const DISCARD: u64 = 4;

/// One request to the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LogEntry {
    /// Where on the disk, in bytes.
    pub offset: u64,
    /// How many bytes.
    pub length: u64,
    /// Where its data lie in the log; none: the range was given up, and reads as zeros.
    pub(super) data: Option<u64>,
    /// What was written before it is on the disk.
    pub flush: bool,
    /// It was answered only when it was on the disk itself.
    pub forced: bool,
}

/// All that was written to a disk, in the order in which it was asked for.
#[derive(Debug, Clone)]
pub struct WriteLog {
    path: PathBuf,
    entries: Vec<LogEntry>,
}

impl WriteLog {
    /// Reads a log. It is complete once the machine is off; of a running machine's, what is in it so far.
    pub fn read(path: &Path) -> Result<WriteLog, VmError> {
        let entries =
            read_entries(path).map_err(VmError::io("read the log", path.display().to_string()))?;
        Ok(WriteLog {
            path: path.to_owned(),
            entries,
        })
    }

    /// How many requests a log holds by now: a mark for a moment in the life of a running machine.
    pub fn count(path: &Path) -> Result<usize, VmError> {
        let count = || -> io::Result<usize> {
            let superblock = read_superblock(&File::open(path)?)?;
            usize::try_from(superblock.entries).map_err(|_| damaged("too many entries"))
        };
        count().map_err(VmError::io("read the log", path.display().to_string()))
    }

    /// The requests.
    #[must_use]
    pub fn entries(&self) -> &[LogEntry] {
        &self.entries
    }

    /// The log's file.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }
}

struct Superblock {
    entries: u64,
    sector: u64,
}

fn damaged(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

fn number(bytes: &[u8]) -> u64 {
    let digits = bytes.iter().rev();
    digits.fold(0, |number, &byte| number << 8 | u64::from(byte))
}

fn read_superblock(file: &File) -> io::Result<Superblock> {
    let mut bytes = [0; 28];
    file.read_exact_at(&mut bytes, 0)?;
    let (magic, version) = (number(&bytes[..8]), number(&bytes[8..16]));
    if magic != MAGIC || version != VERSION {
        return Err(damaged("it does not begin as a log of writes does"));
    }
    let (entries, sector) = (number(&bytes[16..24]), number(&bytes[24..28]));
    if !(SECTOR..=4096).contains(&sector) || !sector.is_power_of_two() {
        return Err(damaged("its sector size is wrong"));
    }
    Ok(Superblock { entries, sector })
}

fn read_entries(path: &Path) -> io::Result<Vec<LogEntry>> {
    let file = File::open(path)?;
    let Superblock { entries, sector } = read_superblock(&file)?;
    let mut list = Vec::new();
    let mut at = sector;
    for _ in 0..entries {
        let mut bytes = [0; 32];
        file.read_exact_at(&mut bytes, at)?;
        at += sector;
        let flags = number(&bytes[16..24]);
        let length = number(&bytes[8..16])
            .checked_mul(sector)
            .filter(|&length| length < 1 << 40)
            .ok_or_else(|| damaged("an entry is too long"))?;
        let given_up = flags & DISCARD != 0;
        list.push(LogEntry {
            offset: number(&bytes[..8]) * sector,
            length,
            data: (!given_up).then_some(at),
            flush: flags & FLUSH != 0,
            forced: flags & FUA != 0,
        });
        if !given_up {
            at += length;
        }
    }
    Ok(list)
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// A log as QEMU writes it: `(sector, flags, data)`; given-up ranges have their length in sectors instead of data.
    pub fn write(entries: &[(u64, u64, Vec<u8>)]) -> tempfile::NamedTempFile {
        let file = tempfile::NamedTempFile::new().unwrap();
        let mut at = SECTOR;
        for (sector, flags, data) in entries {
            let sectors = match flags & DISCARD {
                0 => data.len() as u64 / SECTOR,
                _ => u64::from(data[0]),
            };
            let words = [*sector, sectors, *flags, 0].map(u64::to_le_bytes).concat();
            file.as_file().write_all_at(&words, at).unwrap();
            at += SECTOR;
            if flags & DISCARD == 0 {
                file.as_file().write_all_at(data, at).unwrap();
                at += data.len() as u64;
            }
        }
        let head = [MAGIC, VERSION, entries.len() as u64].map(u64::to_le_bytes);
        file.as_file().write_all_at(&head.concat(), 0).unwrap();
        file.as_file()
            .write_all_at(&512_u32.to_le_bytes(), 24)
            .unwrap();
        // The last entry may end with what describes it.
        file.as_file().set_len(at).unwrap();
        file
    }

    #[test]
    fn requests_are_read_in_their_order() {
        let file = write(&[
            (8, 0, vec![1; 1024]),
            (0, FLUSH, vec![]),
            (4, DISCARD, vec![3]),
            (2, FUA, vec![2; 512]),
        ]);
        let log = WriteLog::read(file.path()).unwrap();
        let [write, flush, discard, forced] = log.entries() else {
            panic!("{:?}", log.entries())
        };
        assert_eq!(
            (write.offset, write.length, write.data),
            (4096, 1024, Some(1024))
        );
        assert!(flush.flush && flush.length == 0 && !write.flush);
        assert_eq!(
            (discard.offset, discard.length, discard.data),
            (2048, 1536, None)
        );
        assert!(forced.forced && forced.data == Some(512 * 7));
        assert_eq!(WriteLog::count(file.path()).unwrap(), 4);
    }

    #[test]
    fn what_is_no_log_is_refused() {
        let file = tempfile::NamedTempFile::new().unwrap();
        assert!(WriteLog::read(file.path()).is_err());
        file.as_file().set_len(4096).unwrap();
        assert!(WriteLog::read(file.path()).is_err());
    }
}
