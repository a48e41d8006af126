//! What goes over a machine's network card, as QEMU captured it (libpcap's file format, written packet by packet).

use std::fs;
use std::path::{Path, PathBuf};

use crate::VmError;

const FILE_HEADER: usize = 24;
const PACKET_HEADER: usize = 16;
/// QEMU's own vendor prefix, which it gives to a machine's card and not to its side of the wire (52:55:0a:00:02:02).
const CARD: [u8; 3] = [0x52, 0x54, 0x00];

/// A capture of a machine that may still run.
#[derive(Debug)]
pub struct Packets {
    path: PathBuf,
}

impl Packets {
    /// The capture in this file; see [`crate::Machine::capture`].
    pub fn at(path: impl Into<PathBuf>) -> Packets {
        Packets { path: path.into() }
    }

    /// How many packets the machine has sent so far. What others sent to it does not count.
    pub fn sent(&self) -> Result<usize, VmError> {
        let content =
            fs::read(&self.path).map_err(VmError::io("read", self.path.display().to_string()))?;
        Ok(count_sent(&content))
    }

    /// The file.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }
}

fn count_sent(capture: &[u8]) -> usize {
    let mut rest = capture.get(FILE_HEADER..).unwrap_or_default();
    let mut sent = 0;
    // The last packet may be on its way into the file.
    while let Some((header, behind)) = rest.split_at_checked(PACKET_HEADER) {
        let length = [header[8], header[9], header[10], header[11]];
        let length = u32::from_ne_bytes(length) as usize;
        let Some((packet, behind)) = behind.split_at_checked(length) else {
            break;
        };
        // An Ethernet frame: to whom, from whom.
        if packet.get(6..9) == Some(&CARD) {
            sent += 1;
        }
        rest = behind;
    }
    sent
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packet(from: [u8; 6]) -> Vec<u8> {
        let mut packet = vec![0; 8];
        packet.extend(60_u32.to_ne_bytes());
        packet.extend(60_u32.to_ne_bytes());
        packet.extend([0xff; 6]);
        packet.extend(from);
        packet.extend([0; 48]);
        packet
    }

    #[test]
    fn only_what_the_machine_sent_counts() {
        let (ours, theirs) = ([0x52, 0x54, 0, 0x12, 0x34, 0x56], [0x52, 0x55, 10, 0, 2, 2]);
        let whole = [vec![0; 24], packet(ours), packet(theirs), packet(ours)].concat();
        assert_eq!(count_sent(&whole), 2);
        assert_eq!(count_sent(&whole[..whole.len() - 1]), 1, "cut short");
        assert_eq!(count_sent(&[]), 0);
    }
}
