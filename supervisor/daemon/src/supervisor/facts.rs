//! What is found out by looking, because nobody tells: addresses, the edge's authority, what first boot left in /run.

use std::fs;
use std::path::Path;

use base64::Engine as _;
use sha2::{Digest, Sha256};

/// What is found out by looking.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Facts {
    pub addresses: Vec<String>,
    pub site: Option<String>,
    pub ca: Option<Ca>,
    pub password: Option<String>,
    pub seed: Option<Seed>,
    /// The ordinary user with whom the probe logs in; takes a seat.
    pub probe_user: Option<String>,
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
