//! When nobody can sign for a machine's keys any more: a disk image is written over its system, as docs/keys.md says, and
//! its data stay.

use std::fs;
use std::process::Command;

use anyhow::{Context, ensure};
use atalaya_suites::disk::{copy_grown, partitions};
use atalaya_suites::updating::{last_update, version_of};
use atalaya_vm::Disk;

use crate::{DISK, GIB, Update, switch_off};

const MIB: u64 = 1 << 20;
/// As in docs/keys.md.
const COMMAND: &str =
    "dd if=atalaya.raw of=/dev/DISK bs=1M skip=1 seek=1 count=4736 conv=notrunc,fsync";
const END: u64 = 4737 * MIB;

pub fn an_image_written_over_the_system_keeps_the_data(of: &mut Update) -> anyhow::Result<()> {
    let image = of.two.disk()?;
    for one in partitions(&image)? {
        ensure!(
            one.start >= MIB && one.start + one.length <= END,
            "{one:?} of the image is not copied whole"
        );
    }
    let disk = of.appliance.directory().join("anew.raw");
    copy_grown(&of.base, &disk, DISK * GIB)?;
    let data = partitions(&disk)?.into_iter().map(|one| one.start).max();
    ensure!(data >= Some(END), "the data begin at {data:?}");

    let documented = fs::read_to_string(of.place.root().join("docs/keys.md"))?;
    ensure!(
        documented.contains(COMMAND),
        "docs/keys.md says another command"
    );
    let words = COMMAND
        .replace("atalaya.raw", &image.display().to_string())
        .replace("/dev/DISK", &disk.display().to_string());
    let (program, arguments) = words.split_once(' ').context("no command")?;
    let done = Command::new(program).args(arguments.split(' ')).output()?;
    ensure!(
        done.status.success(),
        "{}",
        String::from_utf8_lossy(&done.stderr)
    );

    let vm = of.boot(Disk::new(&disk))?;
    let client = of.wait_version(&vm, &of.two, 2)?;
    of.check_kept(&client)?;
    let last = last_update(&vm)?;
    ensure!(
        last["from"] == version_of(&of.one)? && last["to"] == version_of(&of.two)?,
        "the history ends with {last}"
    );
    switch_off(&vm)?;
    Ok(fs::remove_file(disk)?)
}
