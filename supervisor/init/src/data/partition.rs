//! The data partition: found by its label on the disk that the system was started from, made by systemd-repart.

use crate::console::Console;
use crate::data::filesystem::run_limited;
use crate::disk::scan;
use crate::failure::Failure;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

const LABEL: &str = "atalaya-data";
const REPART: &str = "/usr/bin/systemd-repart";
const DEFINITIONS: &str = "--definitions=/usr/lib/atalaya/repart.d";
/// It writes a table and asks the kernel to read it: seconds on any machine.
const REPART_LIMIT: Duration = Duration::from_secs(120);
const NODE_LIMIT: Duration = Duration::from_secs(15);

/// The device of the data partition; `None` if the disk has none.
///
/// # Errors
/// The disk has no readable table, or the kernel shows no device for a partition that is in it.
pub fn find(disk: &str) -> Result<Option<PathBuf>, Failure> {
    let table = scan::disk(disk).ok_or_else(|| {
        Failure::new(
            "partition table",
            format!("/dev/{disk} has no readable partition table"),
        )
    })?;
    let Some(partition) = table
        .partitions
        .iter()
        .find(|partition| partition.label == LABEL)
    else {
        return Ok(None);
    };
    let start = Instant::now();
    loop {
        if let Some(device) = scan::partition_device(disk, partition.number) {
            return Ok(Some(device));
        }
        if start.elapsed() > NODE_LIMIT {
            let text = format!(
                "partition {} of /dev/{disk} has no device",
                partition.number
            );
            return Err(Failure::new("partition", text));
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Makes it in the free space at the end of the disk.
pub fn create(disk: &str, console: &mut Console) -> Result<PathBuf, Failure> {
    let mut repart = Command::new(REPART);
    repart
        .args([
            "--dry-run=no",
            "--empty=refuse",
            "--no-pager",
            "--no-legend",
            DEFINITIONS,
        ])
        .arg(format!("/dev/{disk}"));
    run_limited(&mut repart, REPART_LIMIT, console)
        .map_err(|error| Failure::new("data partition", error))?;
    find(disk)?.ok_or_else(|| {
        Failure::new(
            "data partition",
            format!("{REPART} made none labelled {LABEL}"),
        )
    })
}
