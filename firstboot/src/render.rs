//! `render`: collects the machine's facts and writes the files that the units read.
//!
//! What they say is decided in core. Here is decided how long to wait for a first address, when no site address is
//! configured.

use std::io;
use std::net::IpAddr;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use atalaya_core::appliance::{Appliance, Invalid, SiteAddress, parse_public};
use atalaya_core::release::Release;
use atalaya_core::render::{Facts, choose_address, render, site_address};

use crate::machine;
use crate::places::Places;

#[derive(Debug, thiserror::Error)]
pub enum RenderError {
    #[error("failed to read {}", path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error("{} is not valid", path.display())]
    Configuration { path: PathBuf, source: Invalid },
    #[error("{} is not a release description", path.display())]
    Release {
        path: PathBuf,
        source: serde_json::Error,
    },
    #[error("{} is not a list of addresses", path.display())]
    HeldNetwork {
        path: PathBuf,
        source: serde_json::Error,
    },
    #[error("failed to ask the kernel for {what}")]
    Machine {
        what: &'static str,
        source: nix::Error,
    },
    #[error("failed to make the directory {}", path.display())]
    Directory { path: PathBuf, source: io::Error },
    #[error(transparent)]
    System(#[from] atalaya_sys::Error),
}

/// Writes the files of `/run/atalaya/conf` that need no network, each 0644 and the caller's: none holds a secret.
///
/// # Errors
/// What could not be read or written. Files already written stay; the next run replaces them.
pub fn machine(places: &Places) -> Result<(), RenderError> {
    let appliance = read_appliance(places)?;
    let rendered = render(&appliance, &facts(places, Vec::new(), None)?);
    make_directory(&places.chrony_sources())?;
    write(places, &rendered.machine_files())
}

/// Writes the others. Without a configured site address it waits for a first address of the machine. While the network is held back, in the
/// trial of an update, the addresses that the machine had before stand in for its own: users are to find it there again.
///
/// # Errors
/// As [`machine`].
pub fn site(places: &Places, wait: Duration, say: &dyn Fn(&str)) -> Result<(), RenderError> {
    let appliance = read_appliance(places)?;
    let held = read_held_network(places)?;
    let wait = if held.is_some() { Duration::ZERO } else { wait };
    let look = || held.clone().map_or_else(addresses, Ok);
    let found_site = match &appliance.site.address {
        Some(_) => None,
        None => wait_for_address(wait, look, say)?.map(SiteAddress::of_address),
    };
    let facts = facts(places, look()?, found_site)?;
    match site_address(&appliance, &facts) {
        Some(address) => say(&format!("site address {address}")),
        None => say(&format!(
            "no address after {} s: going on without one; restart the machine when the network is there",
            wait.as_secs()
        )),
    }
    write(places, &render(&appliance, &facts).site_files())
}

fn facts(
    places: &Places,
    addresses: Vec<IpAddr>,
    found_site: Option<SiteAddress>,
) -> Result<Facts, RenderError> {
    Ok(Facts {
        memory_bytes: atalaya_sys::host::memory_total()?,
        cpus: machine::cpus(),
        addresses,
        found_site,
        release: read_release(places)?,
    })
}

fn write(places: &Places, files: &[(&str, &str)]) -> Result<(), RenderError> {
    let directory = places.rendered();
    make_directory(&directory)?;
    for (name, text) in files {
        atalaya_sys::durable::write(&directory.join(name), text.as_bytes(), 0o644, None)?;
    }
    Ok(())
}

fn addresses() -> Result<Vec<IpAddr>, RenderError> {
    machine::addresses().map_err(|source| RenderError::Machine {
        what: "its addresses",
        source,
    })
}

/// The addresses from before, if the network is held back.
fn read_held_network(places: &Places) -> Result<Option<Vec<IpAddr>>, RenderError> {
    #[derive(serde::Deserialize)]
    struct Held {
        addresses: Vec<IpAddr>,
    }
    let path = places.held_network();
    let bytes = match std::fs::read(&path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(RenderError::Read { path, source }),
    };
    serde_json::from_slice::<Held>(&bytes)
        .map(|held| Some(held.addresses))
        .map_err(|source| RenderError::HeldNetwork { path, source })
}

/// The configuration that `seed` put in force for this boot.
///
/// # Errors
/// It is not there or not valid.
pub fn read_appliance(places: &Places) -> Result<Appliance, RenderError> {
    let path = places.appliance();
    let bytes = std::fs::read(&path).map_err(|source| RenderError::Read {
        path: path.clone(),
        source,
    })?;
    parse_public(&bytes).map_err(|source| RenderError::Configuration { path, source })
}

/// What this image holds.
///
/// # Errors
/// It is not there or not valid.
pub fn read_release(places: &Places) -> Result<Release, RenderError> {
    let path = places.release_json();
    let bytes = std::fs::read(&path).map_err(|source| RenderError::Read {
        path: path.clone(),
        source,
    })?;
    serde_json::from_slice(&bytes).map_err(|source| RenderError::Release { path, source })
}

fn make_directory(path: &Path) -> Result<(), RenderError> {
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o755)
        .create(path)
        .map_err(|source| RenderError::Directory {
            path: path.to_owned(),
            source,
        })
}

/// Waits until the machine has an address. IPv4 usually comes a little after IPv6, so a machine that only has the latter
/// gets some more seconds.
fn wait_for_address(
    limit: Duration,
    addresses: impl Fn() -> Result<Vec<IpAddr>, RenderError>,
    say: &dyn Fn(&str),
) -> Result<Option<IpAddr>, RenderError> {
    const LOOK: Duration = Duration::from_millis(200);
    const TELL: Duration = Duration::from_secs(5);
    const FOR_IPV4: Duration = Duration::from_secs(5);
    let start = Instant::now();
    let mut told = Duration::ZERO;
    let mut first_seen = None;
    loop {
        let now = start.elapsed();
        let best = choose_address(&addresses()?);
        match best {
            Some(IpAddr::V4(_)) => return Ok(best),
            Some(IpAddr::V6(_)) if now >= *first_seen.get_or_insert(now) + FOR_IPV4 => {
                return Ok(best);
            }
            Some(IpAddr::V6(_)) | None => {}
        }
        if now >= limit {
            return Ok(best);
        }
        if now >= told + TELL {
            told = now;
            say(&format!(
                "waiting for a first address ({} s of at most {} s)",
                now.as_secs(),
                limit.as_secs()
            ));
        }
        std::thread::sleep(LOOK.min(limit - now));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;

    fn waited(limit: u64, answers: &[&[&str]]) -> Option<IpAddr> {
        let asked = Cell::new(0);
        let look = || {
            let i = asked.get().min(answers.len() - 1);
            asked.set(i + 1);
            Ok(answers[i].iter().map(|a| a.parse().unwrap()).collect())
        };
        wait_for_address(Duration::from_millis(limit), look, &|_| {}).unwrap()
    }

    #[test]
    fn the_first_ipv4_address_ends_the_wait() {
        assert_eq!(
            waited(60_000, &[&["10.0.2.15"]]),
            Some("10.0.2.15".parse().unwrap())
        );
        assert_eq!(
            waited(
                60_000,
                &[&[], &["2001:db8::1"], &["2001:db8::1", "10.0.2.15"]]
            ),
            Some("10.0.2.15".parse().unwrap())
        );
    }

    #[test]
    fn the_wait_is_bounded_and_takes_what_is_there() {
        assert_eq!(waited(1, &[&[]]), None);
        assert_eq!(
            waited(1, &[&["2001:db8::1"]]),
            Some("2001:db8::1".parse().unwrap())
        );
    }

    #[test]
    fn while_the_network_is_held_back_the_addresses_from_before_stand_in_for_it() {
        let root = machine_with("");
        let places = Places::at(root.path());
        std::fs::create_dir_all(root.path().join("run/atalaya/update")).unwrap();
        put(
            &places.held_network(),
            r#"{"addresses":["203.0.113.7"],"interfaces":["eth0"]}"#,
        );
        machine(&places).unwrap();
        // It would wait for an hour; and this machine's own addresses are others.
        site(&places, Duration::from_secs(3600), &|_| {}).unwrap();
        let edge = std::fs::read_to_string(places.rendered().join("edge.toml")).unwrap();
        assert!(
            edge.contains("site_address = \"https://203.0.113.7\"\n"),
            "{edge}"
        );
        put(&places.held_network(), "{");
        assert!(site(&places, Duration::ZERO, &|_| {}).is_err());
    }

    fn put(path: &Path, text: &str) {
        atalaya_sys::durable::write(path, text.as_bytes(), 0o644, None).unwrap();
    }

    fn machine_with(appliance: &str) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        let places = Places::at(root.path());
        for directory in ["usr/lib/atalaya", "run/atalaya"] {
            std::fs::create_dir_all(root.path().join(directory)).unwrap();
        }
        put(
            &places.release_json(),
            r#"{"product":"atalaya","version":"0.1.0","build":"b","built":"2026-11-22T00:00:00Z",
                "mattermost":{"version":"11.7.9","kind":"official"},"postgresql":"17.6"}"#,
        );
        put(&places.appliance(), appliance);
        root
    }

    #[test]
    fn a_configured_site_address_needs_no_network_and_every_file_is_written() {
        let root = machine_with("[site]\naddress = \"https://chat.example.com\"\n");
        let places = Places::at(root.path());
        for _ in 0..2 {
            machine(&places).unwrap();
            site(&places, Duration::ZERO, &|_| {}).unwrap();
        }
        let mut names: Vec<String> = std::fs::read_dir(places.rendered())
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        let expected = [
            "chrony.conf",
            "edge.toml",
            "mattermost.env",
            "pg_hba.conf",
            "pg_ident.conf",
            "postgresql.conf",
        ];
        assert_eq!(names, expected);
        let edge = std::fs::read_to_string(places.rendered().join("edge.toml")).unwrap();
        assert!(
            edge.contains("site_address = \"https://chat.example.com\"\n"),
            "{edge}"
        );
    }
}
