//! /data: found, made on the first boot, mounted, laid out. Runs in a child of PID 1, because every step can take long
//! or block on the device.
//!
//! The partition table is only ever written while there is no data partition. A data partition with anything in it that
//! is not XFS is never formatted.

pub mod layout;

mod filesystem;
mod partition;

use crate::boot_record::BootRecord;
use crate::console::Console;
use crate::failure::{AtStage, Failure, chain};
use atalaya_sys::durable;
use atalaya_sys::mounts::{self, Flags};
use filesystem::Content;
use serde_json::{Value, json};
use std::path::Path;

pub const MOUNT_POINT: &str = "/data";
/// How it went, for atalayad.
pub const RECORD: &str = "/run/atalaya/data.json";

/// Prepares /data and records the outcome; the exit status for PID 1.
pub fn run() -> i32 {
    let mut console = Console::new();
    let outcome = prepare(&mut console);
    let record = match &outcome {
        Ok(()) => json!({"version": 1, "state": "ready"}),
        Err(failure) => {
            console.say("data", &chain(failure));
            console.say(
                "data",
                "nothing on the data partition was deleted; units that need it do not start",
            );
            absent(failure.stage, &chain(failure))
        }
    };
    write(&record, &mut console);
    i32::from(outcome.is_err())
}

/// The child that runs this could not: the record is PID 1's to write then.
pub fn record_absence(why: &str, console: &mut Console) {
    write(&absent("preparation", why), console);
}

fn absent(stage: &str, reason: &str) -> Value {
    json!({"version": 1, "state": "absent", "stage": stage, "reason": reason})
}

fn write(record: &Value, console: &mut Console) {
    let text = format!("{record}\n");
    if let Err(error) = durable::write(Path::new(RECORD), text.as_bytes(), 0o644, None) {
        console.say("data", &error.chain());
    }
}

fn prepare(console: &mut Console) -> Result<(), Failure> {
    let boot = BootRecord::read().ok_or_else(|| {
        Failure::new(
            "disk",
            "not started from a disk of this product, so there is no place for data",
        )
    })?;
    let device = match partition::find(&boot.disk)? {
        Some(device) => device,
        None => {
            console.say("data", "first boot: making the data partition");
            partition::create(&boot.disk, console)?
        }
    };
    match filesystem::inspect(&device)? {
        Content::Xfs => {}
        Content::Nothing => {
            console.say(
                "data",
                &format!("making the file system on {}", device.display()),
            );
            filesystem::make(&device, console)?;
        }
        Content::Foreign => {
            let text = format!(
                "{} holds something that is not the data's file system",
                device.display()
            );
            return Err(Failure::new("file system", text));
        }
    }
    // A log to replay can take minutes: then this is the line that says what is waited for.
    console.say("data", &format!("mounting {}", device.display()));
    mounts::mount(
        &device.display().to_string(),
        Path::new(MOUNT_POINT),
        "xfs",
        Flags::MS_NOSUID | Flags::MS_NODEV | Flags::MS_NOATIME,
        "prjquota",
    )
    .at("mount")?;
    // From here on the data are there: what fails is told, but takes nothing away.
    if let Err(failure) = filesystem::grow(&device, Path::new(MOUNT_POINT), console) {
        console.say("data", &chain(&failure));
    }
    layout::apply(Path::new(MOUNT_POINT), &device).at("layout")
}
