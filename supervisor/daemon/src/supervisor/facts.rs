//! What is found out by looking, because nobody tells: addresses, the edge's authority, what first boot left in /run.

use std::fs;
use std::path::Path;

use base64::Engine as _;
use sha2::{Digest, Sha256};

use super::certificate::{Settings, read_settings};

/// What is found out by looking.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Facts {
    pub addresses: Vec<String>,
    pub site: Option<String>,
    pub ca: Option<Ca>,
    /// certificate.json of the edge, as it stands.
    pub certificate: Option<serde_json::Value>,
    /// What became of the edge's settings.
    pub settings: Settings,
    pub password: Option<String>,
    pub seed: Option<Seed>,
    /// The ordinary user with whom the probe logs in; takes a seat.
    pub probe_user: Option<String>,
}

/// What the machine uses, as its kernel counts it. Shares are for the reader to compute from two answers.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub(super) struct Figures {
    /// Processor time of all processors since power-on, in hundredths of a second: at work, and in all.
    pub cpu_busy: u64,
    pub cpu_all: u64,
    /// Bytes.
    pub memory_total: u64,
    pub memory_available: u64,
}

impl Figures {
    pub(super) fn read() -> Self {
        let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
        let (cpu_busy, cpu_all) = parse_stat(&read("/proc/stat"));
        let memory = read("/proc/meminfo");
        Self {
            cpu_busy,
            cpu_all,
            memory_total: parse_memory(&memory, "MemTotal:"),
            memory_available: parse_memory(&memory, "MemAvailable:"),
        }
    }
}

/// proc_stat(5): user nice system idle iowait irq softirq steal. The others are counted in these.
fn parse_stat(text: &str) -> (u64, u64) {
    let first = text.lines().next().unwrap_or_default();
    let times: Vec<u64> = first
        .split_whitespace()
        .skip(1)
        .take(8)
        .filter_map(|field| field.parse().ok())
        .collect();
    let all: u64 = times.iter().sum();
    let idle: u64 = times.iter().skip(3).take(2).sum();
    (all - idle, all)
}

/// Bytes of one row of /proc/meminfo.
fn parse_memory(text: &str, name: &str) -> u64 {
    text.lines()
        .find_map(|line| line.strip_prefix(name))
        .and_then(|rest| rest.split_whitespace().next())
        .and_then(|number| number.parse::<u64>().ok())
        .unwrap_or(0)
        .saturating_mul(1024)
}

/// What became of the seed at this boot, as first boot wrote it down.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(super) struct Seed {
    source: Option<String>,
    ok: bool,
    pub error: Option<String>,
}

/// The edge's own authority.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Ca {
    pub pem: String,
    /// AB:CD:...
    pub sha256: String,
}

impl Facts {
    /// What people compare by eye before they trust this machine: that of the certificate which serves without an authority, else the
    /// authority's. None where others vouch for it.
    pub(super) fn fingerprint(&self) -> Option<&str> {
        let text = |pointer| self.certificate.as_ref()?.pointer(pointer)?.as_str();
        match text("/serving") {
            Some("throwaway") => text("/sha256"),
            Some("static" | "acme") => None,
            Some(_) | None => self.ca.as_ref().map(|ca| ca.sha256.as_str()),
        }
    }

    pub(super) fn look(run: &Path) -> Self {
        #[derive(serde::Deserialize)]
        struct Edge {
            site_address: Option<String>,
        }
        #[derive(serde::Deserialize)]
        struct Probe {
            username: String,
        }
        let read = |name: &str| fs::read_to_string(run.join(name)).ok();
        let edge = read("conf/edge.toml").and_then(|text| toml::from_str::<Edge>(&text).ok());
        let probe = read("probe/credentials.json");
        let password = read("console/admin-password").map(|text| text.trim().to_owned());
        Self {
            addresses: crate::address::list_addresses()
                .iter()
                .map(ToString::to_string)
                .collect(),
            site: edge.and_then(|edge| edge.site_address),
            ca: fs::read_to_string("/run/atalaya-edge/ca.crt")
                .ok()
                .and_then(read_ca),
            certificate: fs::read_to_string("/run/atalaya-edge/certificate.json")
                .ok()
                .and_then(|text| serde_json::from_str(&text).ok()),
            settings: read_settings(Path::new("/run/atalaya-edge/settings.json")),
            password: password.filter(|text| !text.is_empty()),
            seed: read("seed.json").and_then(|text| serde_json::from_str(&text).ok()),
            probe_user: probe
                .and_then(|text| serde_json::from_str::<Probe>(&text).ok())
                .map(|probe| probe.username),
        }
    }
}

fn read_ca(pem: String) -> Option<Ca> {
    let body = pem
        .split("-----BEGIN CERTIFICATE-----")
        .nth(1)?
        .split("-----END CERTIFICATE-----")
        .next()?;
    let text: String = body.chars().filter(|c| !c.is_whitespace()).collect();
    let der = base64::engine::general_purpose::STANDARD
        .decode(text)
        .ok()?;
    let digest = Sha256::digest(der);
    let sha256 = digest
        .iter()
        .map(|byte| format!("{byte:02X}"))
        .collect::<Vec<_>>()
        .join(":");
    Some(Ca { pem, sha256 })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fingerprint_is_of_what_people_must_compare() {
        let facts = |serving: &str| Facts {
            ca: Some(Ca {
                pem: String::new(),
                sha256: "CA".to_owned(),
            }),
            certificate: Some(serde_json::json!({ "serving": serving, "sha256": "AB" })),
            ..Facts::default()
        };
        for (serving, shown) in [
            ("throwaway", Some("AB")),
            ("internal", Some("CA")),
            ("static", None),
            ("acme", None),
        ] {
            assert_eq!(facts(serving).fingerprint(), shown, "{serving}");
        }
        assert_eq!(Facts::default().fingerprint(), None);
    }

    #[test]
    fn the_kernels_figures_are_read() {
        let stat = "cpu  10 1 5 100 20 2 3 4 0 0\ncpu0 1 1 1 1\n";
        assert_eq!(parse_stat(stat), (25, 145));
        assert_eq!(parse_stat(""), (0, 0));
        let memory = "MemTotal:        2048 kB\nMemFree: 1 kB\nMemAvailable:    1024 kB\n";
        assert_eq!(parse_memory(memory, "MemAvailable:"), 1 << 20);
        assert_eq!(parse_memory("", "MemTotal:"), 0);
    }
}
