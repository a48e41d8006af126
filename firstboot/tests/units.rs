//! The unit files of this folder's programs: readable, without a missing unit, in the order that first boot needs.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // a test: whatever is not as expected fails it

use std::path::Path;

use atalaya_core::graph::Graph;
use atalaya_core::unit::{Unit, parse_unit};

/// Every unit of the production image.
fn units() -> Vec<Unit> {
    let overlays = Path::new(env!("CARGO_MANIFEST_DIR")).join("../overlays");
    let mut units = Vec::new();
    for overlay in std::fs::read_dir(overlays).unwrap() {
        let overlay = overlay.unwrap();
        let Ok(files) = std::fs::read_dir(overlay.path().join("usr/lib/atalaya/units")) else {
            continue;
        };
        if overlay.file_name() == "test" {
            continue;
        }
        for file in files {
            let path = file.unwrap().path();
            let name = path.file_stem().unwrap().to_str().unwrap();
            let text = std::fs::read_to_string(&path).unwrap();
            units.push(parse_unit(name, &path.display().to_string(), &text).unwrap());
        }
    }
    units
}

#[test]
fn first_boot_goes_in_this_order() {
    let units = units();
    let graph = Graph::plan(&units).unwrap();
    let place = |name: &str| {
        graph
            .order()
            .iter()
            .position(|n| n == name)
            .unwrap_or_else(|| panic!("no unit {name}"))
    };
    for chain in [
        [
            "udev-trigger",
            "seed",
            "config-render",
            "postgres",
            "version-gate",
            "mattermost",
            "first-administrator",
            "first-login",
        ]
        .as_slice(),
        &["pg-upgrade", "initdb", "postgres"],
        &["site-render", "edge", "probe"],
        &["networkd", "site-render", "mattermost"],
    ] {
        for pair in chain.windows(2) {
            assert!(place(pair[0]) < place(pair[1]), "{pair:?}");
        }
    }
}

/// Nobody but Mattermost's own user sees the accounts' secrets.
#[test]
fn nobody_gets_more_than_needed() {
    let units = units();
    let unit = |name: &str| units.iter().find(|u| u.name == name).unwrap();
    for name in [
        "config-render",
        "site-render",
        "pg-upgrade",
        "initdb",
        "version-gate",
        "first-administrator",
        "first-login",
        "probe",
    ] {
        let sandbox = &unit(name).sandbox;
        assert!(
            !sandbox.privileged && !sandbox.devices && sandbox.capabilities.is_empty(),
            "{name}"
        );
        let calls = ["pg-upgrade", "initdb"].contains(&name);
        assert_eq!(sandbox.shell, calls, "{name}");
    }
    for unit in &units {
        let sees = unit
            .sandbox
            .data
            .iter()
            .chain(&unit.sandbox.data_read)
            .any(|mount| mount.source.to_string().starts_with("data:state/firstboot"));
        assert!(
            !sees || ["first-administrator", "first-login"].contains(&unit.name.as_str()),
            "{}",
            unit.name
        );
    }
}

/// Whatever goes wrong in a unit stays in it.
#[test]
fn every_unit_is_limited_and_nobody_is_privileged() {
    for unit in units() {
        let (name, limits) = (&unit.name, &unit.resources);
        assert!(!unit.sandbox.privileged, "{name}");
        assert!(limits.memory_max.is_some(), "{name}");
        assert!(limits.tasks_max.is_some(), "{name}");
        assert!(limits.cpu_weight.is_some(), "{name}");
        assert!(limits.io_weight.is_some(), "{name}");
        // Out of memory a backend dies and the server recovers.
        assert_eq!(limits.memory_oom_group, name != "postgres", "{name}");
        let locks = ["postgres", "initdb", "pg-upgrade"].contains(&name.as_str());
        assert_eq!(unit.sandbox.machine_ipc, locks, "{name}");
        let root = [
            "udevd",
            "udev-trigger",
            "seed",
            "update-copy",
            "update-drop",
            "update-esp",
            "update-install",
            "update-look",
        ]
        .contains(&name.as_str());
        assert_eq!(unit.user == "root", root, "{name}");
    }
}

/// What `seed` hands over is what the edge is given, and nobody else.
#[test]
fn the_edge_alone_gets_the_configuration_s_secrets() {
    let secrets = atalaya_firstboot::places::Places::at(Path::new("/")).edge_secrets();
    let holders: Vec<String> = units()
        .into_iter()
        .filter(|unit| {
            let mut given = unit.credentials.iter();
            given.any(|credential| Path::new(&credential.source) == secrets)
        })
        .map(|unit| unit.name)
        .collect();
    assert_eq!(holders, ["edge"]);
}
