//! What must hold of a unit file beyond its syntax. Each refusal names the key, so that `parse` can find its line.

mod extras;

use super::schema::{FullDisk, Kind, ReadyKind, RestartPolicy, Unit};
use super::values::{Rlimit, SignalName};

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
    check_limits(unit)?;
    check_ready(unit)?;
    check_ends(unit)?;
    check_sandbox(unit)?;
    extras::check(unit)
}

/// The range of a number. `what` is refused unless `value` is in it.
fn within<T: PartialOrd + std::fmt::Display>(
    key: &[&'static str],
    value: T,
    (min, max): (T, T),
) -> Result<(), Refused> {
    if min <= value && value <= max {
        Ok(())
    } else {
        refuse(key, format!("allowed are {min} to {max}"))
    }
}

/// A program by absolute path, and arguments that can be passed on.
fn is_command(command: &[String]) -> bool {
    command.first().is_some_and(|program| is_absolute(program))
        && !command.iter().any(|argument| argument.contains('\0'))
}

fn is_address(text: &str) -> bool {
    text.parse::<std::net::SocketAddr>().is_ok()
}

/// Plain http to an IP address and a port.
fn is_url(url: &str) -> bool {
    !url.contains(|c: char| c.is_whitespace() || c.is_control())
        && url
            .strip_prefix("http://")
            .and_then(|rest| rest.split('/').next())
            .is_some_and(is_address)
}

fn is_absolute(path: &str) -> bool {
    path.starts_with('/') && !path.contains('\0') && !path.split('/').any(|part| part == "..")
}

fn is_below_run(path: &str) -> bool {
    is_absolute(path)
        && path
            .strip_prefix("/run/")
            .is_some_and(|rest| !rest.is_empty())
}

fn check_program(unit: &Unit) -> Result<(), Refused> {
    if unit.description.trim().is_empty() || unit.description.chars().any(char::is_control) {
        return refuse(&["description"], "must be one line that people can read");
    }
    if !is_command(&unit.exec) {
        return refuse(
            &["exec"],
            "the first entry must be the absolute path of a program, and no argument can contain NUL",
        );
    }
    let is_user = |name: &&String| {
        name.len() <= 32
            && name.starts_with(|c: char| c.is_ascii_lowercase() || c == '_')
            && name
                .chars()
                .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || "_-".contains(c))
    };
    for (key, names) in [
        ("user", std::slice::from_ref(&unit.user)),
        ("groups", &unit.groups),
    ] {
        if let Some(name) = names.iter().find(|name| !is_user(name)) {
            return refuse(
                &[key],
                format!("{name:?} cannot be a name in the image's /etc/passwd or /etc/group"),
            );
        }
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
    if unit
        .runtime_directories
        .iter()
        .any(|directory| !is_below_run(&directory.path))
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

/// What the kernel would refuse at the start, and what would make no sense.
fn check_limits(unit: &Unit) -> Result<(), Refused> {
    within(&["oom_score_adj"], unit.oom_score_adj, (-1000, 1000))?;
    for (limit, value) in &unit.rlimits {
        match limit {
            Rlimit::Nice => within(&["rlimits", "nice"], *value, (0, 40))?,
            Rlimit::Rtprio => within(&["rlimits", "rtprio"], *value, (0, 99))?,
            // The kernel's fs.nr_open; below 16 no program of ours comes up.
            Rlimit::Nofile => within(&["rlimits", "nofile"], *value, (16, 1 << 20))?,
            Rlimit::As
            | Rlimit::Core
            | Rlimit::Cpu
            | Rlimit::Data
            | Rlimit::Fsize
            | Rlimit::Locks
            | Rlimit::Memlock
            | Rlimit::Msgqueue
            | Rlimit::Nproc
            | Rlimit::Rss
            | Rlimit::Rttime
            | Rlimit::Sigpending
            | Rlimit::Stack => {}
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
    within(&["ready", "interval_ms"], ready.interval_ms, (10, 60_000))?;
    let watch_interval_ms = ready.watch_interval_ms;
    within(
        &["ready", "watch_interval_ms"],
        watch_interval_ms,
        (10, 600_000),
    )?;
    within(&["ready", "timeout_s"], ready.timeout_s, (0, 86_400))?;
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
    match (ready.kind, &ready.url) {
        (ReadyKind::Http, Some(url)) if is_url(url) => {}
        (ReadyKind::Http, _) => {
            return refuse(
                &["ready", "url"],
                "kind http needs one such as \"http://127.0.0.1:8065/path\"",
            );
        }
        (_, Some(_)) => return refuse(&["ready", "url"], "only kind http has a url"),
        (_, None) => {}
    }
    match ready.kind {
        ReadyKind::Exec if !is_command(&ready.command) => refuse(
            &["ready", "command"],
            "kind exec needs the absolute path of a program",
        ),
        ReadyKind::Notify if !ready.command.is_empty() && !is_command(&ready.command) => refuse(
            &["ready", "command"],
            "the first entry must be the absolute path of a program",
        ),
        ReadyKind::Tcp | ReadyKind::Http | ReadyKind::Started if !ready.command.is_empty() => {
            refuse(
                &["ready", "command"],
                "only kind exec and kind notify have a command",
            )
        }
        ReadyKind::Exec
        | ReadyKind::Notify
        | ReadyKind::Tcp
        | ReadyKind::Http
        | ReadyKind::Started => Ok(()),
    }
}

fn check_ends(unit: &Unit) -> Result<(), Refused> {
    if unit.stop.signal == SignalName::Kill {
        return refuse(
            &["stop", "signal"],
            "KILL comes last by itself: name the signal that asks first",
        );
    }
    within(&["stop", "timeout_s"], unit.stop.timeout_s, (1, 3600))?;
    let then_timeout_s = unit.stop.then_timeout_s;
    within(&["stop", "then_timeout_s"], then_timeout_s, (1, 3600))?;
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
    within(&["restart", "limit"], restart.limit, (1, 1000))?;
    within(&["restart", "window_s"], restart.window_s, (1, 86_400))?;
    within(&["restart", "healthy_s"], restart.healthy_s, (0, 86_400))?;
    if unit.kind == Kind::Oneshot && restart.policy == RestartPolicy::Always {
        return refuse(
            &["restart", "policy"],
            "a one-shot ends by itself: allowed are on-failure and never",
        );
    }
    Ok(())
}

fn check_sandbox(unit: &Unit) -> Result<(), Refused> {
    let resources = &unit.resources;
    for (key, value, range) in [
        ("cpu_weight", resources.cpu_weight, (1, 10_000)),
        ("io_weight", resources.io_weight, (1, 10_000)),
        ("cpu_percent", resources.cpu_percent, (1, 100_000)),
        // The kernel's limit of pids.
        ("tasks_max", resources.tasks_max, (1, 4_194_304)),
    ] {
        if let Some(value) = value {
            within(&["resources", key], value, range)?;
        }
    }
    let sandbox = &unit.sandbox;
    if unit.on_full_disk != FullDisk::Wait && sandbox.data.is_empty() {
        return refuse(
            &["on_full_disk"],
            "only a unit with sandbox.data can care about room on /data",
        );
    }
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
    // That there is such a call or group is checked by the sandbox, which knows the kernel's list.
    let is_call = |name: &&String| {
        let name = name.strip_prefix('@').unwrap_or(name);
        name.starts_with(|c: char| c.is_ascii_lowercase())
            && name
                .chars()
                .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || "_-".contains(c))
    };
    if let Some(name) = sandbox.syscalls.iter().find(|name| !is_call(name)) {
        return refuse(
            &["sandbox", "syscalls"],
            format!(
                "{name:?} is neither a system call such as \"chroot\" nor a group such as \"@clock\""
            ),
        );
    }
    let may_be_written = |path: &&String| {
        let kernels = |place: &str| **path == place || path.starts_with(&format!("{place}/"));
        is_below_run(path)
            || is_absolute(path) && ["/dev", "/sys", "/proc/sys"].into_iter().any(kernels)
    };
    if let Some(path) = sandbox.writable.iter().find(|path| !may_be_written(path)) {
        return refuse(
            &["sandbox", "writable"],
            format!("{path:?} is not a path below /run, /dev, /sys or /proc/sys"),
        );
    }
    Ok(())
}
