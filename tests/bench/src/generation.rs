//! A generation's copy against `cp -a --reflink=always`, on an XFS file system in a file of this machine's disk: as on /data, without the
//! machine around it. Both take turns, on what the kernel has in memory.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use atalaya_core::update::task;
use atalaya_suites::place::Place;
use atalaya_update::copy::{self, Content, Ground};
use atalaya_update::drop;
use tempfile::TempDir;

use crate::progress;
use crate::table::Table;

#[derive(clap::Args)]
pub struct Options {
    /// Numbers of files in the generations that are copied
    #[arg(long, value_delimiter = ',', default_values_t = [10_000, 100_000, 1_000_000])]
    files: Vec<u32>,
}

/// Of each file: one block.
const CONTENT: [u8; 4096] = [b'x'; 4096];
/// Uploads lie in folders of their own, with some files each.
const IN_A_FOLDER: u32 = 4;

pub fn measure(place: &Place, options: &Options) -> anyhow::Result<Vec<Table>> {
    let mut table = Table::new([
        "files",
        "copied, s",
        "cp -a --reflink=always, s",
        "ratio",
        "brought up to date, s",
        "microseconds a file",
        "bytes a file",
        "removed, s",
    ]);
    let bar = progress("generation", options.files.len());
    for files in &options.files {
        let disk = Disk::new(place)?;
        let row = one(&disk, *files)?;
        table.row([
            &files.to_string(),
            &seconds(row.copied),
            &seconds(row.peer),
            &format!("{:.2}", row.copied.as_secs_f64() / row.peer.as_secs_f64()),
            &seconds(row.updated),
            &format!("{:.0}", row.copied.as_secs_f64() * 1e6 / f64::from(*files)),
            &format!("{}", row.bytes / u64::from(*files)),
            &seconds(row.removed),
        ]);
        bar.inc(1);
    }
    bar.finish_and_clear();
    Ok(vec![table])
}

struct Row {
    copied: Duration,
    peer: Duration,
    updated: Duration,
    bytes: u64,
    removed: Duration,
}

fn one(disk: &Disk, files: u32) -> anyhow::Result<Row> {
    let generations = disk.path("gen");
    fill(&generations.join("1/mattermost/files"), files)?;
    disk.settle()?;
    let ground = Ground {
        generations: generations.clone(),
        postgresql: disk.path("none"),
        socket: disk.path("none"),
        content: Content::Shared,
        // Nobody writes meanwhile.
        settled: Duration::ZERO,
    };
    let copy = |beforehand| {
        let request = task::Copy {
            from: 1,
            to: 2,
            beforehand,
        };
        timed(|| Ok(copy::run(&ground, &request, &|_| (), &mut |_| ())?))
    };
    let free = disk.free()?;
    let (copied, _) = copy(true)?;
    disk.settle()?;
    let bytes = free.saturating_sub(disk.free()?);
    let (updated, result) = copy(false)?;
    ensure!(
        result.kept == u64::from(files),
        "{} of {files} files were copied again",
        u64::from(files) - result.kept
    );
    let (peer, ()) = timed(|| {
        run(Command::new("cp")
            .args(["-a", "--reflink=always"])
            .args([generations.join("1"), generations.join("3")]))?;
        disk.settle()
    })?;
    let request = task::Drop {
        generations: vec![2],
    };
    let (removed, _) = timed(|| Ok(drop::run(&generations, &request, &mut |_| (), &mut |_| ())?))?;
    Ok(Row {
        copied,
        peer,
        updated,
        bytes,
        removed,
    })
}

fn fill(folder: &Path, files: u32) -> anyhow::Result<()> {
    for number in 0..files {
        let folder = folder.join(format!(
            "2026{:04}/{}",
            number / 10_000,
            number / IN_A_FOLDER
        ));
        if number % IN_A_FOLDER == 0 {
            fs::create_dir_all(&folder)?;
        }
        File::create(folder.join(number.to_string()))?.write_all(&CONTENT)?;
    }
    Ok(())
}

fn timed<T>(work: impl FnOnce() -> anyhow::Result<T>) -> anyhow::Result<(Duration, T)> {
    let begun = Instant::now();
    let result = work()?;
    Ok((begun.elapsed(), result))
}

/// XFS as init makes it, in a file, mounted for as long as this lives.
struct Disk {
    folder: TempDir,
}

impl Disk {
    fn new(place: &Place) -> anyhow::Result<Disk> {
        let folder = tempfile::Builder::new()
            .prefix("atalaya-bench-")
            .tempdir_in("/var/tmp")?;
        let image = folder.path().join("disk");
        File::create(&image)?.set_len(32 << 30)?;
        run(place.tools()?.command("mkfs.xfs")?.args(["-q"]).arg(&image))?;
        let target = folder.path().join("data");
        fs::create_dir(&target)?;
        run(Command::new("mount")
            .args(["-o", "loop,noatime,nosuid,nodev"])
            .args([&image, &target]))
        .context("this machine's kernel has to mount XFS from a file")?;
        Ok(Disk { folder })
    }

    fn path(&self, path: &str) -> PathBuf {
        self.folder.path().join("data").join(path)
    }

    fn settle(&self) -> anyhow::Result<()> {
        Ok(nix::unistd::syncfs(&File::open(self.path(""))?)?)
    }

    fn free(&self) -> anyhow::Result<u64> {
        let about = nix::sys::statvfs::statvfs(&self.path(""))?;
        Ok(about.blocks_free() * about.fragment_size())
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        if let Err(error) = run(Command::new("umount").arg(self.path(""))) {
            eprintln!("{error:#}");
        }
    }
}

fn run(command: &mut Command) -> anyhow::Result<()> {
    let status = command
        .status()
        .with_context(|| format!("failed to run {:?}", command.get_program()))?;
    ensure!(status.success(), "{command:?} ended with {status}");
    Ok(())
}

fn seconds(time: Duration) -> String {
    format!("{:.2}", time.as_secs_f64())
}
