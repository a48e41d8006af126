//! The supervisor: carries out what `atalaya_core::system` decides. One task owns all state (`supervisor`); everything
//! else sends it messages. Nothing here decides what a unit does next.

pub mod address;
pub mod api;
pub mod clock;
pub mod console;
pub mod link;
pub mod listen;
pub mod logs;
pub mod maintenance;
pub mod notify;
pub mod options;
pub mod panics;
pub mod readiness;
pub mod release;
pub mod run;
pub mod sandbox;
pub mod space;
pub mod status;
pub mod supervisor;
pub mod units;
pub mod update;
pub mod upstream;
pub mod usage;
pub mod watched;
