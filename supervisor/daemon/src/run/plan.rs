//! From a unit's file to what the helper is told: names become numbers, places on /data become paths.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};

use atalaya_core::unit::{CredentialFile, DataMount, DataSource, LivenessKind, Unit};
use nix::unistd::{Group, User};

use super::notify_path;
use crate::options::Options;
use crate::sandbox::{Credentials, LandlockRules, Mount, Spec, Tcp, syscalls};

/// # Errors
/// A user, group or environment file that is not there.
pub fn spec_for(options: &Options, unit: &Unit, run: u32) -> Result<Spec, String> {
    let user = User::from_name(&unit.user)
        .map_err(|error| format!("failed to look up user {}: {error}", unit.user))?
        .ok_or_else(|| format!("there is no user {}", unit.user))?;
    let groups = unit
        .groups
        .iter()
        .map(|name| match Group::from_name(name) {
            Ok(Some(group)) => Ok(group.gid.as_raw()),
            Ok(None) => Err(format!("there is no group {name}")),
            Err(error) => Err(format!("failed to look up group {name}: {error}")),
        })
        .collect::<Result<Vec<u32>, String>>()?;
    let mut environment = environment_of(unit)?;
    let notify = notify_path(options, &unit.name, run);
    environment.insert(
        "NOTIFY_SOCKET".to_owned(),
        notify.to_string_lossy().into_owned(),
    );
    if let Some(liveness) = &unit.liveness
        && liveness.kind == LivenessKind::Watchdog
    {
        let limit = liveness.timeout_ms.saturating_mul(1000);
        environment.insert("WATCHDOG_USEC".to_owned(), limit.to_string());
    }
    let sandbox = &unit.sandbox;
    let mount = |mount: &DataMount, read_only: bool| Mount {
        source: source_of(options, &mount.source)
            .to_string_lossy()
            .into_owned(),
        path: mount.path.clone(),
        read_only,
        exec: sandbox.exec_paths.contains(&mount.path),
    };
    let mut mounts: Vec<Mount> = sandbox
        .data
        .iter()
        .map(|entry| mount(entry, false))
        .chain(sandbox.data_read.iter().map(|entry| mount(entry, true)))
        .collect();
    // One may lie in another.
    mounts.sort_by_key(|mount| depth(&mount.path));
    let writable = writable_of(unit);
    let credentials = credentials_of(options, unit);
    if let Some(given) = &credentials {
        environment.insert("CREDENTIALS_DIRECTORY".to_owned(), given.directory.clone());
    }
    let calls = syscalls::allow(&sandbox.syscalls)?.numbers;
    let confined = !sandbox.privileged;
    Ok(Spec {
        exec: unit.exec.clone(),
        environment,
        directory: unit.directory.clone(),
        umask: unit.umask.0,
        uid: user.uid.as_raw(),
        gid: user.gid.as_raw(),
        groups,
        oom_score_adj: unit.oom_score_adj,
        rlimits: unit.rlimits.clone(),
        capabilities: sandbox
            .capabilities
            .iter()
            .map(ToString::to_string)
            .collect(),
        privileged: sandbox.privileged,
        devices: sandbox.devices,
        syslog: options.run.join("log.sock").to_string_lossy().into_owned(),
        network: sandbox.network,
        own_ipc: confined && !sandbox.machine_ipc,
        all_processes: sandbox.all_processes,
        shell: sandbox
            .shell
            .then(|| options.shell.to_string_lossy().into_owned()),
        hide: options
            .data
            .iter()
            .map(|data| data.to_string_lossy().into_owned())
            .collect(),
        landlock: landlock_of(unit, user.uid.as_raw(), &writable, &mounts),
        mounts,
        writable,
        credentials,
        syscalls: confined.then(|| calls.into_iter().collect()),
        sockets: Vec::new(),
    })
}

fn depth(path: &str) -> usize {
    path.split('/').count()
}

/// What the unit may write of the machine: its runtime directories and the places that it names.
fn writable_of(unit: &Unit) -> Vec<String> {
    let own = unit.runtime_directories.iter().map(|own| &own.path);
    let mut paths: Vec<String> = own.chain(&unit.sandbox.writable).cloned().collect();
    paths.sort_by_key(|path| depth(path));
    paths.dedup();
    paths
}

fn credentials_of(options: &Options, unit: &Unit) -> Option<Credentials> {
    let pair = |file: &CredentialFile| (file.name.clone(), file.source.clone());
    (!unit.credentials.is_empty()).then(|| Credentials {
        directory: credentials_directory(options)
            .to_string_lossy()
            .into_owned(),
        files: unit.credentials.iter().map(pair).collect(),
    })
}

fn credentials_directory(options: &Options) -> PathBuf {
    options.run.join("credentials")
}

/// None for those who mount: the kernel refuses every mount to whoever is under Landlock.
fn landlock_of(
    unit: &Unit,
    uid: u32,
    writable: &[String],
    mounts: &[Mount],
) -> Option<LandlockRules> {
    let sandbox = &unit.sandbox;
    let mounts_itself = sandbox
        .capabilities
        .iter()
        .any(|name| name.0 == "CAP_SYS_ADMIN");
    if sandbox.privileged || mounts_itself {
        return None;
    }
    let mut write = vec!["/tmp".to_owned()];
    if !sandbox.devices {
        write.push("/dev/shm".to_owned());
    }
    write.extend(writable.iter().cloned());
    let own = mounts.iter().filter(|mount| !mount.read_only);
    write.extend(own.map(|mount| mount.path.clone()));
    Some(LandlockRules {
        write,
        // Root's entries are those of every program of root's.
        write_proc: uid != 0,
        tcp: if !sandbox.network {
            Tcp::None
        } else if !unit.listen.is_empty() {
            Tcp::ConnectOnly
        } else {
            Tcp::Any
        },
        // PostgreSQL asks by a signal whether the server of an old lock file lives.
        scope_signals: !sandbox.machine_ipc,
    })
}

fn source_of(options: &Options, source: &DataSource) -> PathBuf {
    let data = options.data.clone().unwrap_or_else(|| "/data".into());
    match source {
        DataSource::Generation(path) => data
            .join("gen")
            // Without one, no unit that uses it is started.
            .join(options.generation.unwrap_or_default().to_string())
            .join(path),
        DataSource::Data(path) => data.join(path),
    }
}

/// A fixed base, the unit's file, the unit's own: the later wins.
///
/// # Errors
/// The environment file cannot be read.
pub fn environment_of(unit: &Unit) -> Result<BTreeMap<String, String>, String> {
    let mut environment: BTreeMap<String, String> = [
        ("PATH", "/usr/bin:/usr/sbin"),
        ("HOME", "/"),
        ("LANG", "C.UTF-8"),
        ("USER", &unit.user),
        ("LOGNAME", &unit.user),
    ]
    .into_iter()
    .map(|(key, value)| (key.to_owned(), value.to_owned()))
    .collect();
    if let Some(path) = &unit.environment_file {
        let text =
            fs::read_to_string(path).map_err(|error| format!("failed to read {path}: {error}"))?;
        for line in text
            .lines()
            .filter(|line| !line.trim_start().starts_with('#'))
        {
            if let Some((key, value)) = line.split_once('=') {
                environment.insert(key.trim().to_owned(), value.to_owned());
            }
        }
    }
    environment.extend(unit.environment.clone());
    Ok(environment)
}

/// Makes the unit's runtime directories (where they are missing: once per boot) and the places on /data that it may make,
/// and empties those that are to start empty.
///
/// # Errors
/// One that cannot be made.
pub fn make_directories(options: &Options, unit: &Unit, spec: &Spec) -> Result<(), String> {
    for directory in &unit.runtime_directories {
        make(Path::new(&directory.path), directory.mode.0, spec)
            .map_err(|error| format!("failed to make {}: {error}", directory.path))?;
    }
    if spec.credentials.is_some() {
        let place = credentials_directory(options);
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o755)
            .create(&place)
            .map_err(|error| format!("failed to make {}: {error}", place.display()))?;
    }
    for mount in unit
        .sandbox
        .data
        .iter()
        .chain(&unit.sandbox.data_read)
        .filter(|mount| mount.create)
    {
        let source = source_of(options, &mount.source);
        make(&source, 0o700, spec)
            .map_err(|error| format!("failed to make {}: {error}", source.display()))?;
    }
    for mount in unit.sandbox.data.iter().filter(|mount| mount.empty) {
        let source = source_of(options, &mount.source);
        empty(&source).map_err(|error| format!("failed to empty {}: {error}", source.display()))?;
    }
    Ok(())
}

/// Links are removed, not followed.
fn empty(directory: &Path) -> io::Result<()> {
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            fs::remove_dir_all(entry.path())?;
        } else {
            fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

/// Those above it belong to root and may be passed by everybody.
fn make(path: &Path, mode: u32, spec: &Spec) -> io::Result<()> {
    if path.is_dir() {
        return Ok(());
    }
    if let Some(above) = path.parent() {
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o755)
            .create(above)?;
    }
    fs::DirBuilder::new().mode(0o700).create(path)?;
    chown(path, Some(spec.uid), Some(spec.gid))?;
    fs::set_permissions(path, fs::Permissions::from_mode(mode))
}
