//! What becomes of a seed, in a directory that stands for the machine.

use super::*;
use atalaya_core::appliance::{Appliance, parse_public};
use base64::Engine;
use std::cell::RefCell;
use std::os::unix::fs::PermissionsExt;

struct Machine {
    root: tempfile::TempDir,
    places: Places,
    said: RefCell<String>,
}

impl Machine {
    fn new() -> Self {
        let root = tempfile::tempdir().unwrap();
        let places = Places::at(root.path());
        Self {
            root,
            places,
            said: RefCell::default(),
        }
    }

    fn put(&self, path: &Path, bytes: &[u8]) {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        durable::write(path, bytes, 0o644, None).unwrap();
    }

    fn boot(&self) {
        self.said.borrow_mut().clear();
        // Memory is empty at each boot.
        drop(std::fs::remove_dir_all(self.root.path().join("run")));
        let say = |line: &str| self.said.borrow_mut().push_str(&format!("{line}\n"));
        run(&self.places, &say).unwrap();
    }

    fn complete_first_boot(&self) {
        self.put(&self.places.first_boot_seen_by_seed(), b"{}");
    }

    fn in_force(&self) -> Appliance {
        parse_public(&std::fs::read(self.places.appliance()).unwrap()).unwrap()
    }

    fn kept(&self) -> Stored {
        parse_stored(&std::fs::read(self.places.stored_appliance()).unwrap()).unwrap()
    }

    fn outcome(&self) -> serde_json::Value {
        serde_json::from_slice(&std::fs::read(self.places.seed_json()).unwrap()).unwrap()
    }

    fn fw_cfg(&self, text: &str) {
        self.put(&self.places.fw_cfg_seed(), text.as_bytes());
    }

    fn smbios(&self, text: &str) {
        let encoded = base64::engine::general_purpose::STANDARD.encode(text);
        let mut table = vec![11, 5, 0, 0, 1];
        table.extend(format!("atalaya.appliance={encoded}").bytes());
        table.extend([0, 0, 127, 4, 0, 0, 0, 0]);
        self.put(&self.places.dmi_table(), &table);
    }
}

const SEED: &str = "hostname = \"seeded\"\n[administrator]\npassword = \"Secret-Words-1\"\n";

#[test]
fn without_a_seed_the_defaults_hold() {
    let machine = Machine::new();
    machine.boot();
    assert_eq!(machine.in_force(), Appliance::default());
    assert_eq!(machine.kept(), Stored::default());
    assert_eq!(
        machine.outcome(),
        serde_json::json!({"source": null, "ok": true, "error": null})
    );
    assert!(!machine.places.seed_password().exists());
}

#[test]
fn the_password_of_a_seed_is_in_memory_only_and_never_said() {
    let machine = Machine::new();
    machine.fw_cfg(SEED);
    machine.boot();
    assert_eq!(machine.in_force().hostname.as_str(), "seeded");
    assert_eq!(
        std::fs::read(machine.places.seed_password()).unwrap(),
        b"Secret-Words-1"
    );
    let mode = std::fs::metadata(machine.places.seed_password())
        .unwrap()
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o400);
    let mode = std::fs::metadata(machine.places.handover())
        .unwrap()
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o700);
    assert!(!machine.said.borrow().contains("Secret-Words-1"));
    for path in [
        machine.places.appliance(),
        machine.places.stored_appliance(),
        machine.places.seed_json(),
    ] {
        assert!(
            !std::fs::read_to_string(path)
                .unwrap()
                .contains("Secret-Words-1")
        );
    }
}

/// Keys that must be kept: root alone can read them, and the edge alone gets them.
#[test]
fn the_other_secrets_of_a_seed_are_kept_for_root_and_handed_to_the_edge_alone() {
    let machine = Machine::new();
    machine.fw_cfg(
        "site.address = \"https://chat.example.com\"\ntls.acme.terms_agreed = true\n\
         [tls.acme.external_account]\nkey_id = \"kid\"\nhmac = \"c2VjcmV0LXNlY3JldC1zZWNyZXQ\"\n",
    );
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    let check = || {
        machine.boot();
        let places = &machine.places;
        let edge = std::fs::read_to_string(places.edge_secrets()).unwrap();
        assert!(
            edge.contains("external_account_hmac = \"c2VjcmV0LXNlY3JldC1zZWNyZXQ\""),
            "{edge}"
        );
        assert_eq!(mode(&places.edge_secrets()), 0o400);
        assert_eq!(mode(places.edge_secrets().parent().unwrap()), 0o700);
        assert_eq!(mode(&places.stored_appliance()), 0o600);
        assert!(machine.kept().secrets.external_account_hmac.is_some());
        let public = std::fs::read_to_string(places.appliance()).unwrap();
        assert!(public.contains("key_id = \"kid\""), "{public}");
        assert!(!public.contains("c2VjcmV0"), "{public}");
        assert!(!machine.said.borrow().contains("c2VjcmV0"));
    };
    check();
    machine.complete_first_boot();
    // From what is kept.
    check();
}

/// The edge's unit names the file as its credential, so it is there also when it has nothing to say.
#[test]
fn without_secrets_the_edge_s_file_is_there_and_empty() {
    let machine = Machine::new();
    machine.boot();
    let text = std::fs::read_to_string(machine.places.edge_secrets()).unwrap();
    assert!(text.parse::<toml::Table>().unwrap().is_empty(), "{text}");
}

/// A power cut before the first boot is complete.
#[test]
fn until_the_first_boot_is_complete_the_seed_is_read_again() {
    let machine = Machine::new();
    machine.fw_cfg(SEED);
    machine.boot();
    machine.boot();
    assert_eq!(machine.in_force().hostname.as_str(), "seeded");
    assert!(machine.places.seed_password().exists());
}

#[test]
fn after_the_first_boot_no_seed_is_looked_at() {
    let machine = Machine::new();
    machine.fw_cfg(SEED);
    machine.boot();
    machine.complete_first_boot();
    machine.fw_cfg("hostname = \"other\"\n[administrator]\npassword = \"Other-Words-1\"\n");
    machine.boot();
    assert_eq!(machine.in_force().hostname.as_str(), "seeded");
    assert!(!machine.places.seed_password().exists());
    assert_eq!(machine.outcome()["source"], serde_json::Value::Null);
}

#[test]
fn a_wrong_seed_is_refused_with_key_and_line_and_the_defaults_hold() {
    let machine = Machine::new();
    machine.fw_cfg("hostname = \"seeded\"\n[site]\naddress = \"http://chat\"\n[administrator]\npassword = \"Secret-Words-1\"\n");
    machine.boot();
    assert_eq!(machine.in_force(), Appliance::default());
    assert!(!machine.places.seed_password().exists());
    let outcome = machine.outcome();
    assert_eq!(outcome["source"], "fw_cfg opt/atalaya/appliance.toml");
    assert_eq!(outcome["ok"], false);
    assert!(
        outcome["error"]
            .as_str()
            .unwrap()
            .starts_with("line 3: site.address = \"http://chat\": is not https")
    );
    assert!(machine.said.borrow().contains("line 3: site.address"));
    assert!(!machine.said.borrow().contains("Secret-Words-1"));
}

/// What was found first counts, so that nobody has to guess which of two seeds was used.
#[test]
fn fw_cfg_is_before_smbios_also_when_it_is_wrong() {
    let machine = Machine::new();
    machine.smbios("hostname = \"by-smbios\"\n");
    machine.boot();
    assert_eq!(machine.in_force().hostname.as_str(), "by-smbios");
    assert_eq!(
        machine.outcome()["source"],
        "SMBIOS type 11 atalaya.appliance"
    );
    machine.fw_cfg("hostname = \"by-fw-cfg\"\n");
    machine.boot();
    assert_eq!(machine.in_force().hostname.as_str(), "by-fw-cfg");
    machine.fw_cfg("hostname = 1\n");
    machine.boot();
    assert_eq!(machine.outcome()["ok"], false);
    // What held before goes on to hold.
    assert_eq!(machine.in_force().hostname.as_str(), "by-fw-cfg");
}

#[test]
fn a_seed_that_is_too_long_binary_or_empty() {
    let machine = Machine::new();
    machine.fw_cfg(&"#".repeat(MAX_BYTES + 10));
    machine.boot();
    assert_eq!(
        machine.outcome()["error"],
        "the file is too large; allowed: at most 65536 bytes"
    );
    machine.put(&machine.places.fw_cfg_seed(), &[0xff, 0xfe, 0x00, 0x01]);
    machine.boot();
    assert!(
        machine.outcome()["error"]
            .as_str()
            .unwrap()
            .contains("not UTF-8")
    );
    machine.fw_cfg("");
    machine.boot();
    assert_eq!(machine.outcome()["ok"], true);
    assert_eq!(machine.in_force(), Appliance::default());
}

#[test]
fn a_damaged_configuration_is_left_as_it_is_and_the_machine_starts() {
    let machine = Machine::new();
    machine.boot();
    machine.complete_first_boot();
    machine.put(&machine.places.stored_appliance(), b"hostname = \n");
    machine.boot();
    assert_eq!(machine.in_force(), Appliance::default());
    assert_eq!(
        std::fs::read(machine.places.stored_appliance()).unwrap(),
        b"hostname = \n"
    );
    assert!(machine.said.borrow().contains("cannot be used"));
}

#[test]
fn the_machine_id_stays_the_same() {
    let machine = Machine::new();
    machine.boot();
    let first = std::fs::read(machine.places.machine_id()).unwrap();
    machine.boot();
    assert_eq!(std::fs::read(machine.places.machine_id()).unwrap(), first);
}
