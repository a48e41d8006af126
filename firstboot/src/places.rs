//! Where everything is. Tests give another root than `/`.
//!
//! The names below `/var/lib` are bind mounts that the unit files make: the units that use them do not see `/data`.

use std::path::{Path, PathBuf};

/// User `mattermost` of the image, who makes the first administrator.
pub const MATTERMOST: (u32, u32) = (201, 201);

#[derive(Debug, Clone)]
pub struct Places {
    root: PathBuf,
}

macro_rules! places {
    ($($(#[$doc:meta])* $name:ident = $path:literal;)*) => {
        impl Places {
            $($(#[$doc])* #[must_use] pub fn $name(&self) -> PathBuf { self.root.join($path) })*
        }
    };
}

places! {
    /// The image's own description.
    release_json = "usr/lib/atalaya/release.json";
    /// The configuration of the generation in use, with its secrets. Bound from the generation; only `seed` sees it.
    stored_appliance = "var/lib/atalaya-generation/appliance.toml";
    /// Holds the machine's identity; only `seed` sees it.
    identity = "data/identity";
    /// As `seed` sees what `administrator` writes to [`Places::first_boot`].
    first_boot_seen_by_seed = "data/state/firstboot/first-boot.json";

    /// The configuration as it holds at this boot; no secret in it.
    appliance = "run/atalaya/appliance.toml";
    /// The secrets of it that are the edge's: atalayad gives the edge a copy as its credential.
    edge_secrets = "run/atalaya/secrets/edge-secrets.toml";
    /// What became of the seed at this boot.
    seed_json = "run/atalaya/seed.json";
    /// Handed from `seed` to `administrator`.
    handover = "run/atalaya/firstboot";
    /// The seed's password, on its way to Mattermost.
    seed_password = "run/atalaya/firstboot/password";
    /// Where a seed's disk is mounted.
    medium = "run/atalaya/firstboot-medium";
    rendered = "run/atalaya/conf";
    chrony_sources = "run/atalaya/chrony-sources";
    /// In the trial of an update: the addresses from before, because the network is held back.
    held_network = "run/atalaya/update/held-network.json";
    machine_id = "run/atalaya/machine-id";
    etc_machine_id = "etc/machine-id";
    /// For the local consoles: the random password, until it was used.
    console_password = "run/atalaya/console/admin-password";

    /// Bound from `/data/state/firstboot`.
    first_boot = "var/lib/atalaya-firstboot/first-boot.json";
    /// The random password, until it was used.
    admin_password = "var/lib/atalaya-firstboot/admin-password";
    /// What the probe logs in with.
    probe_json = "var/lib/atalaya-firstboot/probe.json";
    /// The same with the site's address: atalayad gives the probe a copy as its credential.
    probe_credentials = "run/atalaya/probe/credentials.json";
    /// The internal authority's certificate, where the edge puts it.
    edge_ca = "run/atalaya-edge/ca.crt";
    probe_socket = "run/atalaya-edge/probe.sock";
    /// Bound from the generation's `release`.
    mattermost_json = "var/lib/atalaya-release/mattermost.json";

    mattermost_program = "opt/mattermost/bin/mattermost";
    mattermost_directory = "opt/mattermost";
    local_socket = "run/mattermost/local.socket";
    postgres_socket_directory = "run/postgresql";

    fw_cfg = "sys/firmware/qemu_fw_cfg";
    fw_cfg_seed = "sys/firmware/qemu_fw_cfg/by_name/opt/atalaya/appliance.toml/raw";
    dmi_table = "sys/firmware/dmi/tables/DMI";
    block_devices = "sys/class/block";
    dev = "dev";
    modprobe = "sbin/modprobe";
}

impl Places {
    #[must_use]
    pub fn at(root: &Path) -> Self {
        Self {
            root: root.to_owned(),
        }
    }

    /// Whether this is the real machine: only there host name and mounts are changed.
    #[must_use]
    pub fn is_real(&self) -> bool {
        self.root == Path::new("/")
    }
}
