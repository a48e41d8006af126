//! The tables that a unit need not have: sockets, credentials, liveness, reload, handover, timer.

use std::collections::BTreeSet;

use super::{Refused, is_absolute, is_address, is_command, is_url, refuse, within};
use crate::link::MAX_FDS;
use crate::unit::schema::{Kind, Listen, LivenessKind, ReadyKind, Unit};
use crate::unit::values::SignalName;

/// A year, in seconds.
const YEAR_S: u64 = 31_536_000;

pub(super) fn check(unit: &Unit) -> Result<(), Refused> {
    check_listen(&unit.listen)?;
    check_credentials(unit)?;
    check_liveness(unit)?;
    check_reload(unit)?;
    check_handover(unit)?;
    check_timer(unit)
}

fn check_listen(sockets: &[Listen]) -> Result<(), Refused> {
    let key = &["listen"];
    if sockets.len() > MAX_FDS {
        return refuse(key, format!("allowed are {MAX_FDS} sockets at most"));
    }
    let mut names = BTreeSet::new();
    for socket in sockets {
        let name = &socket.name;
        if !crate::unit::is_valid_name(name) || !names.insert(name) {
            return refuse(
                key,
                format!(
                    "{name:?} must be a lower-case letter, then letters, digits and hyphens, and there once"
                ),
            );
        }
        match (&socket.address, &socket.file, &socket.key) {
            (Some(address), None, None) if is_address(address) => {}
            (Some(address), None, None) => {
                return refuse(
                    key,
                    format!("{address:?} is not an IP address and a port such as \"0.0.0.0:443\""),
                );
            }
            (None, Some(file), Some(entry)) if is_absolute(file) && !entry.is_empty() => {}
            (None, Some(_), Some(_)) => {
                return refuse(
                    key,
                    "file must be an absolute path and key must not be empty",
                );
            }
            _ => {
                return refuse(
                    key,
                    format!("{name:?} needs exactly one of address, and file with key"),
                );
            }
        }
    }
    Ok(())
}

fn check_credentials(unit: &Unit) -> Result<(), Refused> {
    let key = &["credentials"];
    let is_file_name = |name: &str| {
        !name.starts_with('.')
            && (1..=64).contains(&name.len())
            && name
                .chars()
                .all(|c| c.is_ascii_alphanumeric() || "._-".contains(c))
    };
    let mut names = BTreeSet::new();
    for credential in &unit.credentials {
        if !is_file_name(&credential.name) || !names.insert(&credential.name) {
            return refuse(
                key,
                format!(
                    "{:?} must be a file's name of letters, digits, dots, hyphens and underscores, and there once",
                    credential.name
                ),
            );
        }
        if !is_absolute(&credential.source) {
            return refuse(key, "source must be an absolute path");
        }
    }
    Ok(())
}

fn check_liveness(unit: &Unit) -> Result<(), Refused> {
    let Some(liveness) = &unit.liveness else {
        return Ok(());
    };
    if unit.kind == Kind::Oneshot {
        return refuse(
            &["liveness"],
            "for services only: a one-shot has the limit ready.timeout_s",
        );
    }
    within(
        &["liveness", "interval_ms"],
        liveness.interval_ms,
        (100, 3_600_000),
    )?;
    within(
        &["liveness", "timeout_ms"],
        liveness.timeout_ms,
        (10, 3_600_000),
    )?;
    within(&["liveness", "threshold"], liveness.threshold, (1, 100))?;
    match (liveness.kind, &liveness.url) {
        (LivenessKind::Http, Some(url)) if is_url(url) => {}
        (LivenessKind::Http, _) => {
            return refuse(
                &["liveness", "url"],
                "kind http needs one such as \"http://127.0.0.1:8065/path\"",
            );
        }
        (LivenessKind::Watchdog | LivenessKind::Exec, Some(_)) => {
            return refuse(&["liveness", "url"], "only kind http has a url");
        }
        (LivenessKind::Watchdog | LivenessKind::Exec, None) => {}
    }
    match liveness.kind {
        LivenessKind::Exec if !is_command(&liveness.command) => refuse(
            &["liveness", "command"],
            "kind exec needs the absolute path of a program",
        ),
        LivenessKind::Watchdog | LivenessKind::Http if !liveness.command.is_empty() => {
            refuse(&["liveness", "command"], "only kind exec has a command")
        }
        LivenessKind::Watchdog | LivenessKind::Http | LivenessKind::Exec => Ok(()),
    }
}

fn check_reload(unit: &Unit) -> Result<(), Refused> {
    let Some(reload) = &unit.reload else {
        return Ok(());
    };
    if unit.kind == Kind::Oneshot {
        return refuse(
            &["reload"],
            "for services only: a one-shot reads its files when it runs",
        );
    }
    if reload.signal.is_some() != reload.command.is_empty() {
        return refuse(&["reload"], "needs exactly one of signal and command");
    }
    if reload.signal == Some(SignalName::Kill) {
        return refuse(&["reload", "signal"], "KILL reloads nothing");
    }
    if !reload.command.is_empty() && !is_command(&reload.command) {
        return refuse(
            &["reload", "command"],
            "the first entry must be the absolute path of a program",
        );
    }
    if reload.notifies.is_some() && reload.signal.is_none() {
        return refuse(
            &["reload", "notifies"],
            "only with a signal: a command is done when it ends",
        );
    }
    within(&["reload", "timeout_s"], reload.timeout_s, (1, 3600))
}

fn check_handover(unit: &Unit) -> Result<(), Refused> {
    let Some(handover) = &unit.handover else {
        return Ok(());
    };
    if unit.kind == Kind::Oneshot {
        return refuse(
            &["handover"],
            "for services only: a one-shot ends by itself",
        );
    }
    if unit.ready.kind != ReadyKind::Notify {
        return refuse(
            &["handover"],
            "needs ready.kind = \"notify\": the successor says MAINPID and READY=1",
        );
    }
    if handover.signal == SignalName::Kill {
        return refuse(&["handover", "signal"], "KILL hands nothing over");
    }
    within(&["handover", "timeout_s"], handover.timeout_s, (1, 3600))
}

fn check_timer(unit: &Unit) -> Result<(), Refused> {
    let Some(timer) = &unit.timer else {
        return Ok(());
    };
    if unit.kind != Kind::Oneshot {
        return refuse(
            &["timer"],
            "for one-shots only: a service runs all the time",
        );
    }
    within(&["timer", "first_s"], timer.first_s, (0, YEAR_S))?;
    within(&["timer", "every_s"], timer.every_s, (1, YEAR_S))?;
    within(&["timer", "spread_s"], timer.spread_s, (0, YEAR_S))
}
