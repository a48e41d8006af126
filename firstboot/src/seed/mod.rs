//! `seed`: puts the configuration of this boot in force, and the identity that the machine keeps.
//!
//! Until the first boot is complete a seed is looked for: fw_cfg, then SMBIOS, then a disk labelled `ATALAYA-SEED`; the
//! first one found counts, also if it is wrong. A wrong seed is refused with every mistake named, and what was there
//! before, or the defaults, hold: a seed never stops the machine. The password in it goes to a file in memory and to
//! nowhere else; its other secrets are kept with the configuration, which only this program can read, and what it hands
//! on has none of them, but for the file that the edge alone gets. Cut off at any point, the next boot reads the seed
//! again.

mod disk;
mod identity;
mod smbios;

use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use atalaya_core::appliance::{Invalid, MAX_BYTES, Seed, Stored, parse_seed, parse_stored};
use atalaya_core::render::edge_secrets;
use atalaya_sys::durable;
use serde::Serialize;

use crate::places::{MATTERMOST, Places};
use crate::random::NoRandomness;

const UDEVADM: &str = "/usr/bin/udevadm";

/// Where a seed was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    FwCfg,
    Smbios,
    Disk(PathBuf),
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::FwCfg => f.write_str("fw_cfg opt/atalaya/appliance.toml"),
            Self::Smbios => f.write_str("SMBIOS type 11 atalaya.appliance"),
            Self::Disk(device) => write!(f, "disk ATALAYA-SEED ({})", device.display()),
        }
    }
}

/// `/run/atalaya/seed.json`: what `atalaya status` says about the seed.
#[derive(Debug, PartialEq, Eq, Serialize)]
struct Outcome {
    /// `null`: there was none, or it was not looked for because the first boot is long over.
    source: Option<String>,
    ok: bool,
    error: Option<String>,
}

/// Something that could not be done, as opposed to a seed that is wrong.
#[derive(Debug, thiserror::Error)]
pub enum SeedError {
    #[error("failed to {operation} {}", path.display())]
    File {
        operation: &'static str,
        path: PathBuf,
        source: io::Error,
    },
    #[error(transparent)]
    System(#[from] atalaya_sys::Error),
    #[error(transparent)]
    Random(#[from] NoRandomness),
    #[error("failed to set the host name")]
    Hostname(#[source] nix::Error),
}

/// Why a seed that was found does not count.
#[derive(Debug, thiserror::Error)]
enum Unusable {
    #[error("{0}")]
    Invalid(#[from] Invalid),
    #[error("it cannot be read: {0}")]
    Unreadable(String),
}

/// Runs at every boot.
///
/// # Errors
/// The configuration cannot be put in force. A wrong seed is not an error.
pub fn run(places: &Places, say: &dyn Fn(&str)) -> Result<(), SeedError> {
    make_handover(places)?;
    let id = identity::machine_id(places)?;
    let (configuration, outcome) = if places.first_boot_seen_by_seed().exists() {
        (
            stored(places, say),
            Outcome {
                source: None,
                ok: true,
                error: None,
            },
        )
    } else {
        first_boot(places, say)?
    };
    let Stored { appliance, secrets } = configuration;
    durable::write(
        &places.appliance(),
        appliance.to_toml().as_bytes(),
        0o644,
        None,
    )?;
    let for_the_edge = places.edge_secrets();
    if let Some(directory) = for_the_edge.parent() {
        make_directory(directory, 0o700)?;
    }
    durable::write(
        &for_the_edge,
        edge_secrets(&secrets).as_bytes(),
        0o400,
        None,
    )?;
    durable::write(&places.seed_json(), &json(&outcome), 0o644, None)?;
    durable::write(
        &places.machine_id(),
        format!("{id}\n").as_bytes(),
        0o444,
        None,
    )?;
    if places.is_real() {
        nix::unistd::sethostname(appliance.hostname.as_str()).map_err(SeedError::Hostname)?;
        // Last, because it moves this process into PID 1's mount namespace.
        if let Err(error) = identity::show_to_everybody(places) {
            say(&format!(
                "the machine id is only in {}: {error}",
                places.machine_id().display()
            ));
        }
    }
    say(&format!(
        "host name {}, machine id {id}",
        appliance.hostname
    ));
    Ok(())
}

fn json(outcome: &Outcome) -> Vec<u8> {
    // Strings and booleans: it cannot fail.
    serde_json::to_vec(outcome).unwrap_or_default()
}

fn first_boot(places: &Places, say: &dyn Fn(&str)) -> Result<(Stored, Outcome), SeedError> {
    let Some((source, read)) = find(places, say) else {
        say("no seed: the defaults hold");
        let configuration = stored(places, say);
        keep(places, &configuration)?;
        return Ok((
            configuration,
            Outcome {
                source: None,
                ok: true,
                error: None,
            },
        ));
    };
    match read.and_then(|bytes| Ok(parse_seed(&bytes)?)) {
        Ok(Seed {
            appliance,
            secrets,
            password,
        }) => {
            say(&format!("seed from {source}"));
            // The password first: with the file alone a random one would be made.
            if let Some(password) = password {
                let owner = places.is_real().then_some(MATTERMOST);
                durable::write(
                    &places.seed_password(),
                    password.expose().as_bytes(),
                    0o400,
                    owner,
                )?;
            }
            let configuration = Stored { appliance, secrets };
            keep(places, &configuration)?;
            Ok((
                configuration,
                Outcome {
                    source: Some(source.to_string()),
                    ok: true,
                    error: None,
                },
            ))
        }
        Err(unusable) => {
            say(&format!(
                "the seed from {source} was refused; nothing of it was used and the defaults hold"
            ));
            for line in unusable.to_string().lines() {
                say(&format!("  {line}"));
            }
            say("correct it and start again with an empty data disk, or go on with the defaults");
            let configuration = stored(places, say);
            keep(places, &configuration)?;
            let error = Some(unusable.to_string());
            Ok((
                configuration,
                Outcome {
                    source: Some(source.to_string()),
                    ok: false,
                    error,
                },
            ))
        }
    }
}

/// What is kept on the machine; the defaults where there is nothing yet or nothing that can be read.
fn stored(places: &Places, say: &dyn Fn(&str)) -> Stored {
    let path = places.stored_appliance();
    match std::fs::read(&path) {
        Ok(bytes) => parse_stored(&bytes).unwrap_or_else(|invalid| {
            say(&format!(
                "{} cannot be used; it was left as it is, and the defaults hold",
                path.display()
            ));
            for line in invalid.to_string().lines() {
                say(&format!("  {line}"));
            }
            Stored::default()
        }),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Stored::default(),
        Err(error) => {
            say(&format!(
                "{} cannot be read ({error}), so the defaults hold",
                path.display()
            ));
            Stored::default()
        }
    }
}

fn keep(places: &Places, configuration: &Stored) -> Result<(), SeedError> {
    let path = places.stored_appliance();
    let text = configuration.to_toml();
    if std::fs::read(&path).is_ok_and(|there| there == text.as_bytes()) {
        return Ok(());
    }
    if let Some(directory) = path.parent() {
        make_directory(directory, 0o755)?;
    }
    // It may hold keys.
    Ok(durable::write(&path, text.as_bytes(), 0o600, None)?)
}

type Found = (Source, Result<Vec<u8>, Unusable>);

fn find(places: &Places, say: &dyn Fn(&str)) -> Option<Found> {
    from_fw_cfg(places)
        .or_else(|| from_smbios(places))
        .or_else(|| {
            if places.is_real() {
                wait_for_devices(say);
            }
            disk::find(places, say)
        })
}

/// Every device was announced before this unit started; now all of them are handled, or it takes too long. Only the search
/// for a disk waits for that: a later boot never does.
fn wait_for_devices(say: &dyn Fn(&str)) {
    let status = std::process::Command::new(UDEVADM)
        .args(["settle", "--timeout=90"])
        .status();
    match status {
        Ok(status) if status.success() => {}
        Ok(status) => say(&format!("not every device is ready: udevadm {status}")),
        Err(error) => say(&format!("failed to wait for devices: {error}")),
    }
}

fn from_fw_cfg(places: &Places) -> Option<Found> {
    if places.is_real() && !places.fw_cfg().exists() {
        // Not every kernel announces the device; that there is none is no error.
        drop(
            std::process::Command::new(places.modprobe())
                .args(["-q", "qemu_fw_cfg"])
                .status(),
        );
    }
    let file = match File::open(places.fw_cfg_seed()) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return None,
        Err(error) => return Some((Source::FwCfg, Err(Unusable::Unreadable(error.to_string())))),
    };
    Some((Source::FwCfg, read_limited(file)))
}

fn from_smbios(places: &Places) -> Option<Found> {
    // A machine without SMBIOS has no seed there. Tables have some kilobytes.
    let file = File::open(places.dmi_table()).ok()?;
    let mut table = Vec::new();
    file.take(1024 * 1024).read_to_end(&mut table).ok()?;
    let found = smbios::find_seed(&table)?;
    Some((
        Source::Smbios,
        found.map_err(|error| Unusable::Unreadable(error.to_owned())),
    ))
}

/// One byte more than allowed, so that the reader refuses what is too long.
fn read_limited(from: impl Read) -> Result<Vec<u8>, Unusable> {
    let mut bytes = Vec::new();
    let limit = MAX_BYTES as u64 + 1;
    from.take(limit)
        .read_to_end(&mut bytes)
        .map_err(|error| Unusable::Unreadable(error.to_string()))?;
    // fw_cfg items made by string(…) options of some tools end in NULs.
    while bytes.last() == Some(&0) {
        bytes.pop();
    }
    Ok(bytes)
}

/// The directory through which `administrator`, another user, takes the password and removes it.
fn make_handover(places: &Places) -> Result<(), SeedError> {
    let path = places.handover();
    make_directory(&path, 0o700)?;
    if places.is_real() {
        let (uid, gid) = MATTERMOST;
        std::os::unix::fs::chown(&path, Some(uid), Some(gid)).map_err(|source| {
            SeedError::File {
                operation: "change the owner of",
                path,
                source,
            }
        })?;
    }
    Ok(())
}

fn make_directory(path: &Path, mode: u32) -> Result<(), SeedError> {
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(mode)
        .create(path)
        .map_err(|source| SeedError::File {
            operation: "make the directory",
            path: path.to_owned(),
            source,
        })
}

#[cfg(test)]
mod tests;
