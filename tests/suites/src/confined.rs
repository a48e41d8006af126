//! Whether a running unit is as confined as its file says: reads /proc and the cgroup, compares, and says every difference.
//! Knows nothing of how a machine is reached: the caller gives it a way to read a file there.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use atalaya_core::unit::{MemoryMax, Unit, parse_unit};

/// Numbers of linux/capability.h for the capabilities that shipped units have.
const CAPABILITIES: [(&str, u32); 14] = [
    ("CAP_CHOWN", 0),
    ("CAP_DAC_OVERRIDE", 1),
    ("CAP_FOWNER", 3),
    ("CAP_NET_BIND_SERVICE", 10),
    ("CAP_NET_BROADCAST", 11),
    ("CAP_NET_ADMIN", 12),
    ("CAP_NET_RAW", 13),
    ("CAP_SYS_MODULE", 16),
    ("CAP_SYS_RAWIO", 17),
    ("CAP_SYS_CHROOT", 18),
    ("CAP_SYS_PTRACE", 19),
    ("CAP_SYS_ADMIN", 21),
    ("CAP_SYS_TIME", 25),
    ("CAP_MKNOD", 27),
];

/// What there is to compare with.
#[derive(Clone, Copy, Debug)]
pub struct Machine<'a> {
    /// The image's /etc/passwd.
    pub passwd: &'a str,
    /// Identities of PID 1's namespaces, by name (`ipc`, `mnt`, `net`, `pid`).
    pub namespaces: &'a BTreeMap<String, String>,
    /// Bytes.
    pub memory: u64,
}

/// All that runs and is shipped, read from the overlays' unit files; the tests' own agent is not.
///
/// # Errors
/// A file cannot be read or is not valid.
pub fn shipped(project: &Path) -> anyhow::Result<Vec<Unit>> {
    let mut units = Vec::new();
    for overlay in fs::read_dir(project.join("overlays"))? {
        let overlay = overlay?;
        let directory = overlay.path().join("usr/lib/atalaya/units");
        if overlay.file_name() == "test" || !directory.is_dir() {
            continue;
        }
        for file in fs::read_dir(directory)? {
            let path = file?.path();
            let name = path.file_stem().unwrap_or_default().to_string_lossy();
            let text = fs::read_to_string(&path)?;
            units.push(parse_unit(&name, &path.to_string_lossy(), &text)?);
        }
    }
    Ok(units)
}

/// A unit's main process and how to read of it: file below /proc/PID, and the target of a link there.
pub struct Process<'a> {
    pub file: &'a dyn Fn(&str) -> anyhow::Result<String>,
    pub link: &'a dyn Fn(&str) -> anyhow::Result<String>,
    /// A file of its cgroup; an error where the kernel has none such.
    pub cgroup: &'a dyn Fn(&str) -> anyhow::Result<String>,
}

/// Every difference between what is declared and what is; none is the aim.
///
/// # Errors
/// Something cannot be read.
pub fn compare(
    unit: &Unit,
    machine: Machine<'_>,
    process: &Process<'_>,
) -> anyhow::Result<Vec<String>> {
    let mut found = Differences::default();
    let status = (process.file)("status")?;
    compare_rights(unit, machine, &status, &mut found);
    for (name, own) in [
        ("mnt", true),
        ("ipc", !unit.sandbox.machine_ipc),
        ("net", !unit.sandbox.network),
        ("pid", false),
        ("user", false),
    ] {
        let is = (process.link)(&format!("ns/{name}"))?;
        let machines = machine.namespaces.get(name).is_some_and(|id| *id == is);
        found.note(&format!("namespace {name} of its own"), own, !machines);
    }
    compare_mounts(unit, &(process.file)("mountinfo")?, &mut found);
    compare_limits(unit, process, &mut found)?;
    compare_cgroup(unit, machine, process, &mut found);
    Ok(found.0)
}

#[derive(Default)]
struct Differences(Vec<String>);

impl Differences {
    fn note<T: PartialEq + std::fmt::Debug>(&mut self, what: &str, declared: T, is: T) {
        if declared != is {
            self.0
                .push(format!("{what}: declared {declared:?}, is {is:?}"));
        }
    }
}

fn compare_rights(unit: &Unit, machine: Machine<'_>, status: &str, found: &mut Differences) {
    let field = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name));
        let words = line.unwrap_or_default().split_whitespace();
        words.map(str::to_owned).collect::<Vec<_>>()
    };
    let user = machine.passwd.lines().find_map(|line| {
        let mut fields = line.split(':');
        let ids = (fields.next() == Some(&unit.user)).then(|| (fields.nth(1), fields.next()));
        ids.map(|(uid, gid)| (uid.unwrap_or_default(), gid.unwrap_or_default()))
    });
    let (uid, gid) = user.unwrap_or_default();
    let (uid, gid) = (uid.to_owned(), gid.to_owned());
    found.note("user ids", vec![uid; 4], field("Uid:"));
    found.note("group ids", vec![gid; 4], field("Gid:"));
    if unit.groups.is_empty() {
        found.note("more groups", Vec::new(), field("Groups:"));
    }
    let bits = unit.sandbox.capabilities.iter().map(|capability| {
        let known = CAPABILITIES.iter().find(|(name, _)| *name == capability.0);
        known.map_or(0, |(_, bit)| 1_u64 << bit)
    });
    let set = format!("{:016x}", bits.sum::<u64>());
    for name in ["CapEff:", "CapPrm:", "CapBnd:", "CapInh:", "CapAmb:"] {
        found.note(name, vec![set.clone()], field(name));
    }
    found.note("NoNewPrivs", vec!["1".to_owned()], field("NoNewPrivs:"));
    found.note("Seccomp", vec!["2".to_owned()], field("Seccomp:"));
    let filters = field("Seccomp_filters:")
        .first()
        .and_then(|count| count.parse().ok());
    found.note("two filters at least", true, filters.unwrap_or(0) >= 2);
}

/// Mount points with their options; of several on one point the last is on top.
fn compare_mounts(unit: &Unit, mountinfo: &str, found: &mut Differences) {
    let mut mounts: BTreeMap<&str, (Vec<&str>, &str)> = BTreeMap::new();
    for line in mountinfo.lines() {
        let fields: Vec<&str> = line.split(' ').collect();
        let kind = line.split(" - ").nth(1).unwrap_or_default();
        if let (Some(point), Some(options)) = (fields.get(4), fields.get(5)) {
            mounts.insert(point, (options.split(',').collect(), kind));
        }
    }
    let has = |point: &str, option: &str| {
        mounts
            .get(point)
            .is_some_and(|(options, _)| options.contains(&option))
    };
    let writable: Vec<&str> = unit
        .runtime_directories
        .iter()
        .map(|directory| directory.path.as_str())
        .chain(unit.sandbox.writable.iter().map(String::as_str))
        .chain(unit.sandbox.data.iter().map(|mount| mount.path.as_str()))
        .chain(["/tmp", "/proc"])
        .collect();
    for point in &writable {
        found.note(&format!("{point} is writable"), true, has(point, "rw"));
    }
    let open = mounts.iter().filter(|(point, (options, _))| {
        let own = writable.contains(point) || point.starts_with("/dev/");
        options.contains(&"rw") && !own
    });
    let open: Vec<&str> = open.map(|(point, _)| *point).collect();
    found.note("writable besides", Vec::new(), open);
    let invisible = mounts
        .get("/proc")
        .is_some_and(|(_, kind)| kind.contains("hidepid=invisible"));
    found.note("/proc hides others", !unit.sandbox.all_processes, invisible);
    let private = mounts
        .get("/dev")
        .is_some_and(|(_, kind)| kind.starts_with("tmpfs"));
    found.note("private /dev", !unit.sandbox.devices, private);
    found.note("private /tmp", true, has("/tmp", "noexec"));
    for mount in unit.sandbox.data.iter().chain(&unit.sandbox.data_read) {
        let may = unit.sandbox.exec_paths.contains(&mount.path);
        found.note(
            &format!("{} is executable", mount.path),
            may,
            !has(&mount.path, "noexec"),
        );
        found.note(
            &format!("{} without setuid", mount.path),
            true,
            has(&mount.path, "nosuid"),
        );
    }
    found.note(
        "/data is hidden",
        true,
        has("/data", "ro") && has("/data", "noexec"),
    );
}

fn compare_limits(
    unit: &Unit,
    process: &Process<'_>,
    found: &mut Differences,
) -> anyhow::Result<()> {
    let limits = (process.file)("limits")?;
    let hard = |name: &str| {
        let line = limits.lines().find_map(|line| line.strip_prefix(name));
        let mut words = line.unwrap_or_default().split_whitespace();
        words.nth(1).unwrap_or_default().to_owned()
    };
    let nofile = unit
        .rlimits
        .iter()
        .find(|(limit, _)| format!("{limit:?}") == "Nofile");
    let nofile = nofile.map_or(524_288, |(_, value)| *value);
    // The soft one is the program's to change.
    found.note("open files", nofile.to_string(), hard("Max open files"));
    found.note("core files", "0".to_owned(), hard("Max core file size"));
    let adjusted = (process.file)("oom_score_adj")?;
    found.note(
        "oom_score_adj",
        unit.oom_score_adj.to_string(),
        adjusted.trim().to_owned(),
    );
    Ok(())
}

fn compare_cgroup(
    unit: &Unit,
    machine: Machine<'_>,
    process: &Process<'_>,
    found: &mut Differences,
) {
    let resources = &unit.resources;
    let mut compare = |file: &str, declared: Option<String>| {
        let is = (process.cgroup)(file).map(|text| text.trim().to_owned());
        if let Some(declared) = declared {
            found.note(file, declared, is.unwrap_or_else(|error| error.to_string()));
        }
    };
    // The kernel counts in pages.
    let pages = |limit: MemoryMax| (limit.bytes(machine.memory) / 4096 * 4096).to_string();
    compare("memory.max", resources.memory_max.map(pages));
    compare(
        "memory.oom.group",
        Some(u8::from(resources.memory_oom_group).to_string()),
    );
    compare(
        "pids.max",
        resources.tasks_max.map(|tasks| tasks.to_string()),
    );
    compare(
        "cpu.weight",
        resources.cpu_weight.map(|weight| weight.to_string()),
    );
    let share = |percent: u32| format!("{} 100000", u64::from(percent) * 1000);
    compare("cpu.max", resources.cpu_percent.map(share));
    // Not every kernel shares disks by weight.
    if (process.cgroup)("io.weight").is_ok() {
        compare(
            "io.weight",
            resources
                .io_weight
                .map(|weight| format!("default {weight}")),
        );
    }
}
