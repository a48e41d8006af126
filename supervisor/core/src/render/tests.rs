//! Golden files for one machine, and what holds for all machines.

use proptest::prelude::*;

use super::*;
use crate::appliance::parse_public;
use crate::release::{Kind, MattermostRelease};

fn facts(memory_bytes: u64, cpus: u32, addresses: &[&str]) -> Facts {
    let addresses: Vec<IpAddr> = addresses.iter().map(|a| a.parse().unwrap()).collect();
    let found_site = choose_address(&addresses).map(SiteAddress::of_address);
    Facts {
        memory_bytes,
        cpus,
        addresses,
        found_site,
        release: Release {
            product: "atalaya".into(),
            version: "0.1.0-standin".into(),
            build: "abc".into(),
            built: "2026-11-22T00:00:00Z".into(),
            mattermost: MattermostRelease {
                version: "11.7.9".into(),
                kind: Kind::Standin,
                source: String::new(),
                sha256: String::new(),
            },
            postgresql: "17.6".into(),
            epoch: 1,
        },
    }
}

fn appliance(text: &str) -> Appliance {
    parse_public(text.as_bytes()).unwrap()
}

/// A 4 GiB virtual machine in QEMU's user network, with the site address that `make run` gives.
#[test]
fn the_files_of_a_usual_machine() {
    let rendered = render(
        &appliance("[site]\naddress = \"https://localhost:8443\"\n"),
        &facts(4_012_000_000, 2, &["10.0.2.15", "fec0::5054:ff:fe12:3456"]),
    );
    let golden = [
        ("postgresql.conf", include_str!("golden/postgresql.conf")),
        ("pg_hba.conf", include_str!("golden/pg_hba.conf")),
        ("pg_ident.conf", include_str!("golden/pg_ident.conf")),
        ("chrony.conf", include_str!("golden/chrony.conf")),
        ("mattermost.env", include_str!("golden/mattermost.env")),
        ("edge.toml", include_str!("golden/edge.toml")),
    ];
    let files = rendered
        .machine_files()
        .into_iter()
        .chain(rendered.site_files());
    for ((name, text), (golden_name, expected)) in files.zip(golden) {
        assert_eq!(name, golden_name);
        assert_eq!(text, expected, "{name}");
    }
}

/// Every key that there is, none with its default.
#[test]
fn the_edge_s_files_of_a_machine_with_everything_configured() {
    let seed =
        crate::appliance::parse_seed(include_bytes!("../appliance/tests/whole.toml")).unwrap();
    let rendered = render(&seed.appliance, &facts(1 << 32, 2, &["10.0.2.15"]));
    assert_eq!(
        rendered.edge_toml,
        include_str!("golden/whole-edge.toml"),
        "edge.toml"
    );
    assert_eq!(
        edge_secrets(&seed.secrets),
        include_str!("golden/whole-edge-secrets.toml"),
        "edge-secrets.toml"
    );
    for line in [
        "MM_FILESETTINGS_MAXFILESIZE=262144000",
        "MM_SERVICESETTINGS_FRAMEANCESTORS=https://portal.example.com https://*.example.org:8443",
        "MM_IMAGEPROXYSETTINGS_ENABLE=true",
        "MM_IMAGEPROXYSETTINGS_IMAGEPROXYTYPE=local",
    ] {
        assert!(rendered.mattermost_env.lines().any(|l| l == line), "{line}");
    }
}

/// No rendered file is read by one unit alone, so none may hold a secret.
#[test]
fn no_secret_is_in_a_rendered_file() {
    let seed =
        crate::appliance::parse_seed(include_bytes!("../appliance/tests/whole.toml")).unwrap();
    let rendered = render(&seed.appliance, &facts(1 << 32, 2, &["10.0.2.15"]));
    let secrets = [
        seed.password,
        seed.secrets.static_key,
        seed.secrets.external_account_hmac,
        seed.secrets.dns_key,
    ];
    for secret in secrets.map(Option::unwrap) {
        let files = rendered.machine_files();
        for (name, text) in files.into_iter().chain(rendered.site_files()) {
            assert!(!text.contains(secret.expose().trim()), "{name}");
        }
    }
}

#[test]
fn without_a_site_address_the_first_ipv4_address_is_it() {
    let facts = facts(1 << 32, 2, &["2001:db8::7", "192.0.2.7", "192.0.2.8"]);
    assert_eq!(
        site_address(&Appliance::default(), &facts)
            .unwrap()
            .to_string(),
        "https://192.0.2.7"
    );
    let only_six = super::tests::facts(1 << 32, 2, &["2001:db8::7"]);
    assert_eq!(
        site_address(&Appliance::default(), &only_six)
            .unwrap()
            .to_string(),
        "https://[2001:db8::7]"
    );
    let none = super::tests::facts(1 << 32, 2, &[]);
    assert_eq!(site_address(&Appliance::default(), &none), None);
    let rendered = render(&Appliance::default(), &none);
    assert!(!rendered.edge_toml.contains("site_address"));
    assert!(
        rendered
            .mattermost_env
            .contains("_SITEURL=https://atalaya\n")
    );
}

#[test]
fn the_certificate_has_every_name_and_address_once() {
    let edge = |text: &str, addresses: &[&str]| {
        let rendered = render(&appliance(text), &facts(1 << 32, 2, addresses));
        let table: toml::Table = rendered.edge_toml.parse().unwrap();
        (table["names"].to_string(), table["addresses"].to_string())
    };
    assert_eq!(
        edge(
            "hostname = \"chat\"\nsite.address = \"https://chat.example.com\"\n",
            &["192.0.2.7", "192.0.2.7"]
        ),
        (
            "[\"chat.example.com\", \"chat\", \"localhost\"]".to_owned(),
            "[\"127.0.0.1\", \"192.0.2.7\", \"::1\"]".to_owned()
        )
    );
    assert_eq!(
        edge(
            "hostname = \"localhost\"\nsite.address = \"https://198.51.100.1\"\n",
            &[]
        ),
        (
            "[\"localhost\"]".to_owned(),
            "[\"127.0.0.1\", \"198.51.100.1\", \"::1\"]".to_owned()
        )
    );
}

#[test]
fn addresses_that_no_other_machine_can_use_do_not_count() {
    for (address, reachable) in [
        ("127.0.0.1", false),
        ("169.254.1.1", false),
        ("0.0.0.0", false),
        ("::1", false),
        ("fe80::1", false),
        ("10.0.2.15", true),
        ("192.0.2.1", true),
        ("fd00::1", true),
        ("2001:db8::1", true),
    ] {
        assert_eq!(
            is_reachable(&address.parse().unwrap()),
            reachable,
            "{address}"
        );
    }
}

/// Every key that the appliance owns is set, and none twice.
#[test]
fn the_environment_has_each_key_once() {
    let rendered = render(&Appliance::default(), &facts(1 << 32, 2, &["192.0.2.7"]));
    let keys: Vec<&str> = rendered
        .mattermost_env
        .lines()
        .map(|l| l.split_once('=').unwrap().0)
        .collect();
    let unique: BTreeSet<&str> = keys.iter().copied().collect();
    assert_eq!(keys.len(), unique.len());
    assert!(unique.iter().all(|k| {
        k.bytes()
            .all(|b| b.is_ascii_uppercase() || b.is_ascii_digit() || b == b'_')
    }));
}

proptest! {
    #[test]
    fn sizes_fit_any_machine(memory in 0u64..(1 << 45), cpus in 0u32..5000) {
        let s = Sizes::of(memory, cpus);
        let mib = (memory >> 20).max(512);
        prop_assert!(s.max_open_conns < s.max_connections);
        prop_assert!(s.max_idle_conns <= s.max_open_conns);
        prop_assert!(s.shared_buffers * 4 <= mib, "{s:?}");
        // About 4 GiB and less: at most a fifth.
        prop_assert!(mib > 5000 || s.shared_buffers * 5 <= mib, "{s:?}");
        prop_assert!(s.shared_buffers + 4 * s.maintenance_work_mem <= mib / 2, "{s:?}");
        prop_assert!(s.parallel_workers >= 1);
    }

    #[test]
    fn more_memory_never_means_less(memory in 0u64..(1 << 40), more in 0u64..(1 << 40)) {
        let (small, large) = (Sizes::of(memory, 2), Sizes::of(memory + more, 2));
        prop_assert!(small.shared_buffers <= large.shared_buffers);
        prop_assert!(small.work_mem <= large.work_mem);
        prop_assert!(small.max_connections <= large.max_connections);
    }

    #[test]
    fn the_edge_s_file_is_toml_and_the_site_s_name_is_in_the_certificate(
        hostname in "[a-z]([a-z0-9-]{0,20}[a-z0-9])?",
        host in "[a-z]([a-z0-9-]{0,10}[a-z0-9])?\\.[a-z]{2,5}",
        port in 1u16..,
        v4 in any::<u32>(),
    ) {
        let text = format!("hostname = '{hostname}'\nsite.address = 'https://{host}:{port}'\n");
        let address = std::net::Ipv4Addr::from(v4).to_string();
        let rendered = render(&appliance(&text), &facts(1 << 32, 2, &[&address]));
        let table: toml::Table = rendered.edge_toml.parse().unwrap();
        prop_assert_eq!(table["names"][0].as_str(), Some(host.as_str()));
        prop_assert!(table["addresses"].as_array().unwrap().iter().any(|a| a.as_str() == Some(address.as_str())));
        let site = table["site_address"].as_str().unwrap().to_owned();
        let in_env = format!("MM_SERVICESETTINGS_SITEURL={site}\n");
        prop_assert!(rendered.mattermost_env.contains(&in_env));
    }
}
