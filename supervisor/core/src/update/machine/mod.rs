//! The course of an update: what happens comes in as an [`Event`] with the time, and out come the new record, what this boot is waiting for
//! ([`Phase`]), and what is to be done, in order. Does nothing itself. docs/update-states.md has every phase with every event.
//!
//! ```text
//!  the running version                                            the new one, after the reboot
//!  Rest -> Installing -> Baseline -> Beforehand                   Recounting? -> CopyingAnew? -> Starting -> Probing -> Blessing -> Healing -> Rest
//!            Staged      |           -> Closing -> Copying        Trial                                             Blessed, Opened
//!                        |              -> Arming -> Leaving      any failure -> GivingUp -> Leaving
//!                        |                 Armed
//!          any failure before Armed: Failed, users in again       the former version, when it is started again
//!                                                                 Looking? -> TakingBack -> Returning -> Rest       (RolledBack)
//! ```
//! The stage in the record survives power cuts, the phase does not: after a reboot [`super::assess`] says from the record and from what was
//! booted where to begin ([`boot`]). A restart of atalayad loses neither: the driver keeps the [`Run`] in /run, and [`resume`] goes on with it.
//!
//! What the driver promises. Effects are carried out in their order. `WriteRecord` comes first in a list, and is durable before anything else is
//! done. If it fails, the rest of the list is dropped, the run stays as it was, the record is read again from the disk, which may have it all the
//! same, and [`Event::Unrecorded`] follows. Then the run is kept, then the other effects follow, then it is kept with `done`. Of each unit one run at a time: what is started
//! while an earlier run has not ended waits for that, and only the last start is answered.

mod answers;
mod asks;
mod boot;
mod course;
mod event;
mod forward;
mod refusals;
mod requests;
mod resume;
mod step;
mod trial;

pub use asks::KEEP_S;
pub use boot::boot;
pub use event::{Effect, Event, Failure, Notice, Phase, Run, Step, Work};
pub use refusals::doing;
pub use requests::{needed_ukis, rules};
pub use resume::resume;
pub use step::step;
