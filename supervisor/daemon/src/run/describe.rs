//! What a unit's sandbox is, for people and for the tests that compare it with /proc. Says what a start would do; does
//! nothing.

use atalaya_core::unit::Unit;
use atalaya_sys::cgroup::Cgroup;
use atalaya_sys::host::{landlock_abi, memory_total};
use serde_json::{Value, json};

use super::{cpu_max, spec_for, weighs_io};
use crate::options::Options;
use crate::sandbox::{LandlockRules, Spec, Tcp, WANTED_ABI, limits, syscalls};

/// The sandbox of a unit as its next start makes it; an `error` where it could not start.
pub fn describe(options: &Options, unit: &Unit) -> Value {
    let calls = syscalls::allow(&unit.sandbox.syscalls);
    let (spec, calls) = match spec_for(options, unit, 0).and_then(|spec| Ok((spec, calls?))) {
        Ok(found) => found,
        Err(error) => return json!({ "error": error }),
    };
    let whose = |own: bool| if own { "own" } else { "machine" };
    json!({
        "user": unit.user,
        "uid": spec.uid,
        "gid": spec.gid,
        "groups": unit.groups,
        "privileged": spec.privileged,
        "capabilities": if spec.privileged { json!("all") } else { json!(spec.capabilities) },
        "no_new_privileges": true,
        "namespaces": {
            "mount": "own",
            "ipc": whose(spec.own_ipc),
            "network": whose(!spec.network),
            "pid": "machine",
        },
        "files": files(unit, &spec),
        "system_calls": match &spec.syscalls {
            None => json!("all"),
            Some(numbers) => json!({
                "count": numbers.len(),
                "groups": calls.groups,
                "single": calls.single,
                "others": "EPERM",
            }),
        },
        "landlock": landlock(spec.landlock.as_ref()),
        "credentials": spec.credentials.as_ref().map(|given| json!({
            "directory": given.directory,
            "files": given.files.iter().map(|(name, _)| name).collect::<Vec<_>>(),
        })),
        "listen": unit.listen.iter().map(|socket| &socket.name).collect::<Vec<_>>(),
        "limits": limits_of(options, unit, &spec),
    })
}

fn files(unit: &Unit, spec: &Spec) -> Value {
    let mounts = spec.mounts.iter().map(|mount| {
        json!({
            "path": mount.path,
            "source": mount.source,
            "write": !mount.read_only,
            "execute": mount.exec,
        })
    });
    if spec.privileged {
        return json!({ "root": "the machine's", "shell": unit.sandbox.shell });
    }
    json!({
        "root": "read-only",
        "private": if spec.devices { json!(["/tmp"]) } else { json!(["/tmp", "/dev", "/dev/shm"]) },
        "proc": if spec.all_processes { "all processes" } else { "own user's processes only" },
        "hidden": spec.hide,
        "writable": spec.writable,
        "data": mounts.collect::<Vec<_>>(),
        "shell": unit.sandbox.shell,
    })
}

fn landlock(rules: Option<&LandlockRules>) -> Value {
    let Some(rules) = rules else {
        return json!("none");
    };
    let abi = landlock_abi();
    let mut scope = vec!["abstract sockets"];
    if rules.scope_signals {
        scope.push("signals");
    }
    json!({
        "status": match abi {
            Some(abi) if abi >= WANTED_ABI => "fully enforced",
            Some(_) => "partially enforced",
            None => "not enforced",
        },
        "kernel_abi": abi,
        "wanted_abi": WANTED_ABI,
        "read_and_execute": ["/"],
        "write": rules.write,
        "tcp": match rules.tcp {
            Tcp::Any => "bind and connect",
            Tcp::ConnectOnly => "connect",
            Tcp::None => "none",
        },
        "only_within_the_unit": scope,
    })
}

/// As they stand in the cgroup's files and in /proc/PID/limits; `null` is no limit.
fn limits_of(options: &Options, unit: &Unit, spec: &Spec) -> Value {
    let resources = &unit.resources;
    let total = memory_total().unwrap_or(u64::MAX);
    let units = Cgroup::at(options.cgroup.join("units"));
    let weighed = !units.path().exists() || weighs_io(&units);
    let rlimits = limits(&spec.rlimits).map(|(limit, soft, hard)| {
        let number = |value: u64| (value != u64::MAX).then_some(value);
        let name = format!("{limit:?}").to_lowercase();
        (name, json!([number(soft), number(hard)]))
    });
    json!({
        "memory_max": resources.memory_max.map(|limit| limit.bytes(total)),
        "memory_oom_group": resources.memory_oom_group,
        "pids_max": resources.tasks_max,
        "cpu_weight": resources.cpu_weight,
        "cpu_max": resources.cpu_percent.map(cpu_max),
        "io_weight": match (resources.io_weight, weighed) {
            (Some(_), false) => json!("this kernel does not share disks by weight"),
            (weight, _) => json!(weight),
        },
        "oom_score_adj": unit.oom_score_adj,
        "umask": unit.umask.to_string(),
        "rlimits": rlimits.collect::<serde_json::Map<_, _>>(),
    })
}
