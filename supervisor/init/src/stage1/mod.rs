//! Stage 1: from the kernel to the verified root. Runs as /init of the initrd, replaced by PID 1 at its end.
//!
//! It decides which slot to open, by the root hash and nothing else, and never writes to a disk. When a stage fails it
//! says so on the console and restarts the machine: the boot loader counts its tries and takes the other version.

pub mod cmdline;
pub mod slots;
pub mod verity;

mod drivers;
mod switch;

use crate::boot_record::BootRecord;
use crate::console::Console;
use crate::disk::scan;
use crate::failure::{AtStage, Failure, chain};
use crate::machine::early_mounts;
use atalaya_sys::dm::{self, Verity};
use atalaya_sys::host::boottime_ms;
use atalaya_sys::mounts::{self, Flags};
use atalaya_sys::watchdog::Watchdog;
use cmdline::RootHash;
use drivers::Drivers;
use nix::sys::reboot::{RebootMode, reboot};
use slots::Slot;
use std::convert::Infallible;
use std::path::Path;
use std::time::Duration;
pub use switch::PROGRAM;

/// Its presence makes this a stage 1.
pub const MODULES: &str = "/etc/atalaya-stage1/modules";
/// Where the verified root is mounted before the switch.
const SYSROOT: &str = "/sysroot";
/// Names the open watchdog's descriptor for PID 1.
pub const WATCHDOG_ENV: &str = "ATALAYA_WATCHDOG_FD";
/// USB disks need some seconds; a machine without its disk should restart some day.
const DISK_LIMIT_MS: u64 = 60_000;
const WATCHDOG: &str = "/dev/watchdog0";
/// Long enough for anything stage 1 does between two pets.
const WATCHDOG_LIMIT_S: u16 = 60;

/// Boots the verified root; on failure restarts the machine.
pub fn run() -> ! {
    let mut console = Console::new();
    let failure = match boot(&mut console) {
        Ok(never) => match never {},
        Err(failure) => failure,
    };
    console.say("stage 1", &chain(&failure));
    console.say(
        "stage 1",
        "the data on the disk were not touched; the machine restarts in 10 seconds",
    );
    std::thread::sleep(Duration::from_secs(10));
    console.flush();
    loop {
        // Only returns if it did not work.
        let Err(errno) = reboot(RebootMode::RB_AUTOBOOT);
        console.say("stage 1", &format!("failed to restart: {errno}"));
        std::thread::sleep(Duration::from_secs(10));
    }
}

fn boot(console: &mut Console) -> Result<Infallible, Failure> {
    for problem in early_mounts() {
        console.say("stage 1: mounts", &chain(&problem));
    }
    *console = Console::new(); // only now /dev and /sys show all of them
    console.say("stage 1", "starting");
    let mut drivers = Drivers::listed()?;
    let mut watchdog = None;
    let line = std::fs::read_to_string("/proc/cmdline").at("command line")?;
    let root_hash = cmdline::parse_root_hash(&line).at("command line")?;
    let slot = wait_for_slot(console, &root_hash, &mut drivers, &mut watchdog)?;
    if open_root(&slot, &root_hash).is_err() {
        // Perhaps what the root needs stands behind the disks in the list.
        while drivers.load_next(console) {}
        open_root(&slot, &root_hash)?;
    }
    let record = BootRecord {
        disk: slot.disk.clone(),
        slot: slot.letter,
        root_hash: root_hash.as_str().to_owned(),
    };
    std::fs::create_dir_all("/run/atalaya").at("boot record")?;
    record.write().at("boot record")?;
    console.say(
        "stage 1",
        &format!(
            "slot {} of {} is verified, switching",
            slot.letter, slot.disk
        ),
    );
    switch::into(Path::new(SYSROOT), watchdog.as_ref()).at("switch to the root")
}

/// Armed as soon as its driver is there; not to have one is no failure.
fn open_watchdog(console: &mut Console, watchdog: Option<Watchdog>) -> Option<Watchdog> {
    if watchdog.is_some() || !Path::new(WATCHDOG).exists() {
        return watchdog;
    }
    let opened = Watchdog::open(Path::new(WATCHDOG)).and_then(|watchdog| {
        watchdog.set_timeout(WATCHDOG_LIMIT_S)?;
        Ok(watchdog)
    });
    opened
        .map_err(|error| console.say("stage 1: watchdog", &error.chain()))
        .ok()
}

/// Loads drivers until the slot is there. Disks appear when they like; those that never do must not hold the machine for ever.
fn wait_for_slot(
    console: &mut Console,
    root_hash: &RootHash,
    drivers: &mut Drivers,
    watchdog: &mut Option<Watchdog>,
) -> Result<Slot, Failure> {
    let start = boottime_ms();
    let mut told = Vec::new();
    let mut next_word = start + 3_000;
    loop {
        let loading = drivers.load_next(console);
        *watchdog = open_watchdog(console, watchdog.take());
        let mut notes = Vec::new();
        if let Some(slot) = slots::find(&scan::disks(), root_hash, &mut |note| notes.push(note)) {
            return Ok(slot);
        }
        let now = boottime_ms();
        if now >= next_word {
            next_word = now + 10_000;
            let names: Vec<String> = scan::disks().into_iter().map(|disk| disk.name).collect();
            console.say(
                "stage 1: disk",
                &format!(
                    "waiting for the system disk since {} s; disks with a partition table: {}",
                    (now - start) / 1000,
                    if names.is_empty() {
                        "none".to_owned()
                    } else {
                        names.join(", ")
                    }
                ),
            );
            if notes != told {
                notes
                    .iter()
                    .for_each(|note| console.say("stage 1: disk", note));
                told = notes;
            }
        }
        if now - start > DISK_LIMIT_MS {
            return Err(Failure::new(
                "disk",
                "no slot belongs to the root hash of this version",
            ));
        }
        if let Some(watchdog) = watchdog {
            // A watchdog that cannot be petted will restart the machine: nothing better to do.
            drop(watchdog.pet());
        }
        if !loading {
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

fn open_root(slot: &Slot, root_hash: &RootHash) -> Result<(), Failure> {
    let verity = Verity {
        data_device: slot.root.display().to_string(),
        hash_device: slot.verity.display().to_string(),
        data_block_size: slot.superblock.data_block_size,
        hash_block_size: slot.superblock.hash_block_size,
        data_blocks: slot.superblock.data_blocks,
        hash_start: slot.superblock.hash_start(),
        algorithm: "sha256".to_owned(),
        root_hash: root_hash.as_str().to_owned(),
        salt: slot.superblock.salt_hex(),
        // A changed or unreadable block ends in a panic, and by panic= in a restart, never in a served page.
        options: vec![
            "panic_on_corruption".to_owned(),
            "panic_on_error".to_owned(),
        ],
    };
    let (_, minor) = dm::create_verity("root", &verity).at("verity")?;
    let device = format!("/dev/dm-{minor}");
    let root = Path::new(SYSROOT);
    std::fs::create_dir_all(root).at("root")?;
    mounts::mount(
        &device,
        root,
        "erofs",
        Flags::MS_RDONLY | Flags::MS_NODEV | Flags::MS_NOSUID,
        "",
    )
    .at("root")
}
