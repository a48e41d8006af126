//! What an administrator is told whose wish cannot be carried out: what, what it means for the data, and what to do next.

use super::event::Phase;
use crate::update::record::{Kept, Record};
use crate::update::task::Refusal;

fn refusal(code: &str, what: String, next: &str) -> Refusal {
    Refusal {
        code: code.to_owned(),
        what,
        data: "Nothing was changed.".to_owned(),
        next: next.to_owned(),
    }
}

/// What each phase is doing, in words.
pub const fn doing(phase: Phase) -> &'static str {
    match phase {
        Phase::Rest => "nothing is under way",
        Phase::Finding | Phase::Healing => "the boot partition is being compared with the record",
        Phase::Installing => "a version is being written",
        Phase::Baseline => "the running version is being probed",
        Phase::Beforehand => "uploads are being copied",
        Phase::Closing => "the services are being stopped for an update",
        Phase::Copying => "the data are being copied",
        Phase::Arming | Phase::Disarming => "the boot partition is being written",
        Phase::Leaving => "the machine is restarting",
        Phase::Recounting
        | Phase::CopyingAnew
        | Phase::Starting
        | Phase::Probing
        | Phase::Blessing => "a new version is on trial",
        Phase::GivingUp => "this version is giving way to the former one",
        Phase::Looking | Phase::TakingBack | Phase::Returning => {
            "the former version is taking over again"
        }
        Phase::Stranded => "this version has no data of its own",
    }
}

pub fn busy(phase: Phase) -> Refusal {
    refusal(
        "busy",
        format!("{}, and one thing is done at a time", capital(doing(phase))),
        "Wait until it has ended: `atalaya update status` shows it.",
    )
}

pub fn nothing_to_arm() -> Refusal {
    refusal(
        "nothing_staged",
        "No new version is in place".to_owned(),
        "Install one: `atalaya update install FILE`.",
    )
}

pub fn nothing_to_cancel() -> Refusal {
    refusal(
        "nothing_under_way",
        "No update is under way".to_owned(),
        "`atalaya update status` shows what was last.",
    )
}

pub fn too_late(phase: Phase) -> Refusal {
    refusal(
        "too_late",
        format!("{}: this can no longer be cancelled", capital(doing(phase))),
        "Wait for its end. If the new version does not pass its trial, the former one comes back by itself with all data.",
    )
}

pub fn nothing_kept() -> Refusal {
    refusal(
        "nothing_kept",
        "No former version is kept: there was no update since the installation, or its data were dropped to make space, or its place was taken \
         by a newer update"
            .to_owned(),
        "Install the wanted version as an update: `atalaya update install FILE --allow-downgrade`.",
    )
}

pub fn slot_is_not_kept(kept: &Kept) -> Refusal {
    refusal(
        "slot",
        format!(
            "Version {} is not in the other slot any more, or cannot be read there",
            kept.installed.image.version
        ),
        "Install the wanted version as an update: `atalaya update install FILE --allow-downgrade`.",
    )
}

pub fn below_floor(record: &Record, kept: &Kept) -> Refusal {
    refusal(
        "epoch",
        format!(
            "Version {} is of epoch {}, and since version {} was opened nothing below epoch {} may run: it has a fault that must not come back",
            kept.installed.image.version,
            kept.installed.image.epoch,
            record.good.image.version,
            record.epoch_floor
        ),
        "Install a newer version instead.",
    )
}

fn capital(text: &str) -> String {
    let mut characters = text.chars();
    let first = characters.next().map(|c| c.to_ascii_uppercase());
    first.into_iter().chain(characters).collect()
}
