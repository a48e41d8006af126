//! What must hold of a unit file beyond its syntax. Each refusal names the key, so that `parse` can find its line.

use super::schema::{Kind, ReadyKind, RestartPolicy, Unit};
use super::values::SignalName;

/// A value that cannot be, with what is allowed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// From the top of the file: ["ready", "address"].
    pub key: Vec<&'static str>,
    pub message: String,
}

fn refuse<T>(key: &[&'static str], message: impl Into<String>) -> Result<T, Refused> {
    Err(Refused {
        key: key.to_vec(),
        message: message.into(),
    })
}

pub(super) fn check_unit(unit: &Unit) -> Result<(), Refused> {
    check_program(unit)?;
    check_ready(unit)?;
    check_ends(unit)?;
    check_sandbox(unit)
}

fn is_absolute(path: &str) -> bool {
    path.starts_with('/') && !path.contains('\0') && !path.split('/').any(|part| part == "..")
}

fn check_program(unit: &Unit) -> Result<(), Refused> {
    match unit.exec.first() {
        Some(program) if is_absolute(program) => {}
        Some(_) | None => {
            return refuse(
                &["exec"],
                "the first entry must be the absolute path of a program",
            );
        }
    }
    if unit.exec.iter().any(|argument| argument.contains('\0')) {
        return refuse(&["exec"], "an argument cannot contain NUL");
    }
    if !is_absolute(&unit.directory) {
        return refuse(&["directory"], "must be an absolute path");
    }
    if unit
        .environment_file
        .as_deref()
        .is_some_and(|path| !is_absolute(path))
    {
        return refuse(&["environment_file"], "must be an absolute path");
    }
    let is_key = |key: &String| !key.is_empty() && !key.contains(['=', '\0']);
    if !unit
        .environment
        .iter()
        .all(|(key, value)| is_key(key) && !value.contains('\0'))
    {
        return refuse(
            &["environment"],
            "a name cannot be empty or contain '=', and neither may contain NUL",
        );
    }
    if !(-1000..=1000).contains(&unit.oom_score_adj) {
        return refuse(&["oom_score_adj"], "allowed are -1000 to 1000");
    }
    let below_run = |path: &str| is_absolute(path) && path.starts_with("/run/") && path.len() > 5;
    if unit
        .runtime_directories
        .iter()
        .any(|directory| !below_run(&directory.path))
    {
        return refuse(&["runtime_directories"], "each path must be below /run");
    }
    for (key, names) in [("requires", &unit.requires), ("after", &unit.after)] {
        if let Some(name) = names.iter().find(|name| !super::is_valid_name(name)) {
            return refuse(&[key], format!("{name:?} cannot be a unit's name"));
        }
    }
    Ok(())
}

fn check_ready(unit: &Unit) -> Result<(), Refused> {
    let ready = &unit.ready;
    if unit.kind == Kind::Oneshot && ready.kind != ReadyKind::Started {
        return refuse(
            &["ready", "kind"],
            "a one-shot is ready when it is done: leave the kind out",
        );
    }
    if !(10..=60_000).contains(&ready.interval_ms) {
        return refuse(&["ready", "interval_ms"], "allowed are 10 to 60000");
    }
    if !(10..=600_000).contains(&ready.watch_interval_ms) {
        return refuse(&["ready", "watch_interval_ms"], "allowed are 10 to 600000");
    }
    let is_address = |text: &str| text.parse::<std::net::SocketAddr>().is_ok();
    match (ready.kind, &ready.address) {
        (ReadyKind::Tcp, Some(address)) if is_address(address) => {}
        (ReadyKind::Tcp, _) => {
            return refuse(
                &["ready", "address"],
                "kind tcp needs an IP address and a port such as \"127.0.0.1:8065\"",
            );
        }
        (_, Some(_)) => return refuse(&["ready", "address"], "only kind tcp has an address"),
        (_, None) => {}
    }
    let authority = |url: &str| {
        url.strip_prefix("http://")
            .and_then(|rest| rest.split('/').next().map(str::to_owned))
    };
    match (ready.kind, &ready.url) {
        (ReadyKind::Http, Some(url)) if authority(url).is_some_and(|host| is_address(&host)) => {}
        (ReadyKind::Http, _) => {
            return refuse(
                &["ready", "url"],
                "kind http needs one such as \"http://127.0.0.1:8065/path\"",
            );
        }
        (_, Some(_)) => return refuse(&["ready", "url"], "only kind http has a url"),
        (_, None) => {}
    }
    match (ready.kind, ready.command.first()) {
        (ReadyKind::Exec, Some(program)) if is_absolute(program) => Ok(()),
        (ReadyKind::Exec, _) => refuse(
            &["ready", "command"],
            "kind exec needs the absolute path of a program",
        ),
        (_, Some(_)) => refuse(&["ready", "command"], "only kind exec has a command"),
        (_, None) => Ok(()),
    }
}

fn check_ends(unit: &Unit) -> Result<(), Refused> {
    if unit.stop.signal == SignalName::Kill {
        return refuse(
            &["stop", "signal"],
            "KILL comes last by itself: name the signal that asks first",
        );
    }
    if !(1..=3600).contains(&unit.stop.timeout_s) {
        return refuse(&["stop", "timeout_s"], "allowed are 1 to 3600");
    }
    if !(1..=3600).contains(&unit.stop.then_timeout_s) {
        return refuse(&["stop", "then_timeout_s"], "allowed are 1 to 3600");
    }
    let restart = &unit.restart;
    if restart.min_ms != 0 && !(10..=3_600_000).contains(&restart.min_ms) {
        return refuse(
            &["restart", "min_ms"],
            "allowed are 0 (no pause) and 10 to 3600000",
        );
    }
    if !(restart.min_ms..=3_600_000).contains(&restart.max_ms) {
        return refuse(&["restart", "max_ms"], "allowed are min_ms to 3600000");
    }
    if !(1..=1000).contains(&restart.limit) {
        return refuse(&["restart", "limit"], "allowed are 1 to 1000");
    }
    if !(1..=86_400).contains(&restart.window_s) {
        return refuse(&["restart", "window_s"], "allowed are 1 to 86400");
    }
    if unit.kind == Kind::Oneshot && restart.policy == RestartPolicy::Always {
        return refuse(
            &["restart", "policy"],
            "a one-shot ends by itself: allowed are on-failure and never",
        );
    }
    Ok(())
}

fn check_sandbox(unit: &Unit) -> Result<(), Refused> {
    if unit
        .resources
        .cpu_weight
        .is_some_and(|weight| !(1..=10_000).contains(&weight))
    {
        return refuse(&["resources", "cpu_weight"], "allowed are 1 to 10000");
    }
    if unit.resources.tasks_max == Some(0) {
        return refuse(&["resources", "tasks_max"], "must be at least 1");
    }
    let sandbox = &unit.sandbox;
    for (key, mounts) in [("data", &sandbox.data), ("data_read", &sandbox.data_read)] {
        if mounts
            .iter()
            .any(|mount| !is_absolute(&mount.path) || mount.path.len() < 2)
        {
            return refuse(
                &["sandbox", key],
                "each path must be absolute and not the root",
            );
        }
    }
    let mut mounts = sandbox.data.iter().chain(&sandbox.data_read);
    if let Some(path) = sandbox
        .exec_paths
        .iter()
        .find(|path| !mounts.clone().any(|mount| mount.path == **path))
    {
        return refuse(
            &["sandbox", "exec_paths"],
            format!("{path:?} is not the path of one of the unit's mounts"),
        );
    }
    if mounts.any(|mount| mount.path == "/proc" || mount.path == "/dev") {
        return refuse(&["sandbox", "data"], "/proc and /dev cannot be covered");
    }
    Ok(())
}
