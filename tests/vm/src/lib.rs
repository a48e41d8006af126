//! Runs the image in QEMU: for `make run`, for the tests of the whole and for the figures.
//!
//! A [`Machine`] is a description; [`Machine::start`] gives a [`Vm`], which owns the QEMU process and everything that
//! belongs to it. Dropping the `Vm` ends the process (by its pid) and removes its temporary files.
//!
//! ```no_run
//! use std::time::Duration;
//! use atalaya_vm::{Machine, ToolsTree};
//!
//! let tools = ToolsTree::at("cache/tools")?;
//! let vm = Machine::new(tools, "run/disk.raw").https_port(8443).start()?;
//! vm.wait_status("the page to be served", Duration::from_secs(180), |status| status.admit)?;
//! vm.press_power_button()?;
//! vm.wait_exit("power off", Duration::from_secs(60))?;
//! # Ok::<(), atalaya_vm::VmError>(())
//! ```
//!
//! Every wait is for a state that the machine reports (its status port, QMP, the agent), never for time to pass, and
//! every deadline that passes says what was waited for and shows the last console lines.
//!
//! This crate decides nothing about the product: it must not know what an image is made of, and it changes no disk.

mod accel;
mod agent;
mod arguments;
mod console;
mod disk;
mod error;
mod machine;
mod packets;
mod ports;
mod process;
mod qmp;
mod replay;
mod status;
mod tools;
mod vm;

pub use accel::{Accel, AccelChoice, detect_accel};
pub use agent::{Agent, Output};
pub use atalaya_agent as agent_protocol;
pub use console::Console;
pub use disk::{Disk, DiskServer};
pub use error::VmError;
pub use machine::{Cache, Machine};
pub use packets::Packets;
pub use ports::{free_port, port_is_free};
pub use process::Exit;
pub use qmp::{Qmp, QmpEvent};
pub use replay::{CrashDisk, Cut, Dice, LogEntry, WriteLog};
pub use status::{Boot, Ca, Event, Recorded, Snapshot, Status, Unit, UnitState};
pub use tools::ToolsTree;
pub use vm::Vm;
