//! The XFS of the data partition: is there one, make one where there is nothing, let it fill its partition.

use crate::console::Console;
use crate::disk::scan;
use crate::failure::{AtStage, Failure};
use atalaya_sys::xfs;
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

const MKFS: &str = "/usr/sbin/mkfs.xfs";
/// Under full emulation and on a slow disk, with room to spare.
const MKFS_LIMIT: Duration = Duration::from_secs(300);
/// How much of a partition must be zero to count as never used. File systems and volume managers all leave their mark in
/// it (btrfs latest, at 64 KiB).
const LOOKED_AT: usize = 1 << 20;
/// Less than this is not worth growing for (alignment at the partition's end).
const WORTH_GROWING: u64 = 16 << 20;

/// What a partition holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Content {
    Xfs,
    /// Zeroes, or an XFS whose mkfs was interrupted (power cut on first boot).
    Nothing,
    Foreign,
}

/// Looks at the beginning of a device.
pub fn inspect(device: &Path) -> Result<Content, Failure> {
    let mut bytes = Vec::with_capacity(LOOKED_AT);
    File::open(device)
        .and_then(|file| file.take(LOOKED_AT as u64).read_to_end(&mut bytes))
        .map_err(|error| atalaya_sys::Error::new("read", device.display(), error))
        .at("file system")?;
    Ok(assess(&bytes))
}

/// `sb_inprogress` of fs/xfs/libxfs/xfs_format.h: set by mkfs until it is done.
const IN_PROGRESS: usize = 126;

fn assess(start: &[u8]) -> Content {
    if start.starts_with(b"XFSB") {
        return match start.get(IN_PROGRESS) {
            Some(0) => Content::Xfs,
            _ => Content::Nothing,
        };
    }
    if start.iter().all(|byte| *byte == 0) {
        Content::Nothing
    } else {
        Content::Foreign
    }
}

/// What is written whole or not at all, in bytes. Disks have had sectors of that size for many years, whatever they report; where a block of
/// metadata is torn, the XFS of a machine that lost its power cannot be mounted any more.
const SECTOR: &str = "size=4096";

/// Makes an XFS with reflink. To be called only on [`Content::Nothing`].
pub fn make(device: &Path, console: &mut Console) -> Result<(), Failure> {
    let mut mkfs = Command::new(MKFS);
    // -f: an interrupted mkfs has left its magic; inspect() has looked at the content before.
    mkfs.args([
        "-q",
        "-f",
        "-L",
        "atalaya-data",
        "-s",
        SECTOR,
        "-m",
        "reflink=1,crc=1,bigtime=1",
    ])
    .arg(device);
    run_limited(&mut mkfs, MKFS_LIMIT, console).at("make the file system")
}

/// Grows the mounted file system if its partition has become larger.
pub fn grow(device: &Path, mount_point: &Path, console: &mut Console) -> Result<(), Failure> {
    let name = device
        .file_name()
        .and_then(|name| name.to_str())
        .unwrap_or_default();
    let Some(partition) = scan::size_of(name) else {
        return Ok(());
    };
    let mut start = [0u8; 128];
    File::open(device)
        .and_then(|mut file| file.read_exact(&mut start))
        .at("grow")?;
    let Some((block, blocks, inode_percent)) = geometry(&start) else {
        return Ok(());
    };
    let wanted = partition / block;
    if wanted.saturating_sub(blocks) * block < WORTH_GROWING {
        return Ok(());
    }
    xfs::grow(mount_point, wanted, inode_percent).at("grow")?;
    console.say("data", &format!("grown to {} MiB", partition >> 20));
    Ok(())
}

/// Block size, blocks, and the share of inodes in percent, of an XFS superblock (big-endian).
fn geometry(start: &[u8; 128]) -> Option<(u64, u64, u32)> {
    let block = u32::from_be_bytes(start[4..8].try_into().ok()?);
    let blocks = u64::from_be_bytes(start[8..16].try_into().ok()?);
    (block >= 512).then(|| (u64::from(block), blocks, u32::from(start[127])))
}

/// Runs a helper program with a time limit; its output goes to the console only if it fails.
pub fn run_limited(
    command: &mut Command,
    limit: Duration,
    console: &mut Console,
) -> io::Result<()> {
    let name = command.get_program().to_string_lossy().into_owned();
    let mut output = memory_file()?;
    let mut child = command
        .stdin(Stdio::null())
        .stdout(output.try_clone()?)
        .stderr(output.try_clone()?)
        .env_clear()
        .env("PATH", "/usr/bin:/usr/sbin")
        .spawn()
        .map_err(|error| io::Error::new(error.kind(), format!("{name} does not start: {error}")))?;
    let start = Instant::now();
    let status = loop {
        if let Some(status) = child.try_wait()? {
            break Some(status);
        }
        if start.elapsed() > limit {
            // It may be stuck in the kernel: it is abandoned, not waited for.
            drop(child.kill());
            break None;
        }
        std::thread::sleep(Duration::from_millis(20));
    };
    match status {
        Some(status) if status.success() => return Ok(()),
        _ => show(&mut output, &name, console),
    }
    Err(io::Error::other(match status {
        Some(status) => format!("{name} failed: {status}"),
        None => format!("{name} did not finish within {} s", limit.as_secs()),
    }))
}

fn memory_file() -> io::Result<File> {
    let name = c"helper-output";
    let memory = nix::sys::memfd::memfd_create(name, nix::sys::memfd::MFdFlags::MFD_CLOEXEC)?;
    Ok(File::from(memory))
}

fn show(output: &mut File, name: &str, console: &mut Console) {
    use std::io::Seek;
    let mut text = Vec::new();
    if output
        .rewind()
        .and_then(|()| output.take(8192).read_to_end(&mut text))
        .is_ok()
    {
        for line in String::from_utf8_lossy(&text).lines() {
            let plain: String = line.chars().filter(|letter| !letter.is_control()).collect();
            if !plain.trim().is_empty() {
                console.say(name, &plain);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_zeroes_and_an_interrupted_mkfs_count_as_nothing() {
        let mut bytes = vec![0u8; 4096];
        assert_eq!(assess(&bytes), Content::Nothing);
        bytes[..4].copy_from_slice(b"XFSB");
        assert_eq!(assess(&bytes), Content::Xfs);
        bytes[IN_PROGRESS] = 1;
        assert_eq!(assess(&bytes), Content::Nothing);
        bytes[..4].copy_from_slice(b"LUKS");
        assert_eq!(assess(&bytes), Content::Foreign);
        let mut late = vec![0u8; LOOKED_AT];
        late[0x10040] = b'_';
        assert_eq!(assess(&late), Content::Foreign);
    }

    #[test]
    fn a_helper_that_hangs_is_given_up_and_one_that_fails_is_shown() {
        let mut console = Console::default();
        let error = run_limited(
            Command::new("sleep").arg("1000"),
            Duration::from_millis(50),
            &mut console,
        )
        .unwrap_err();
        assert!(error.to_string().contains("did not finish"));
        let error = run_limited(
            &mut Command::new("false"),
            Duration::from_secs(10),
            &mut console,
        )
        .unwrap_err();
        assert!(error.to_string().contains("failed"));
        run_limited(
            &mut Command::new("true"),
            Duration::from_secs(10),
            &mut console,
        )
        .unwrap();
    }
}
