//! What is a valid `appliance.toml`, and what the refusal of an invalid one says.

use proptest::prelude::*;

use super::*;

mod documented;
mod edge;
mod tls;

fn stored(text: &str) -> Appliance {
    parse_stored(text.as_bytes()).unwrap().appliance
}

fn refusal(text: &str) -> String {
    parse_seed(text.as_bytes()).unwrap_err().to_string()
}

#[test]
fn an_empty_file_is_the_defaults() {
    let appliance = stored("");
    assert_eq!(appliance, Appliance::default());
    assert_eq!(appliance.hostname.as_str(), "atalaya");
    assert_eq!(appliance.administrator.username.as_str(), "admin");
    assert_eq!(appliance.administrator.email.as_str(), "admin@localhost");
    assert_eq!(appliance.site.address, None);
}

#[test]
fn a_whole_seed_is_read_and_kept_without_its_password() {
    let seed = parse_seed(
        b"hostname = \"chat\"\n[site]\naddress = \"https://Chat.Example.com:8443\"\n\
          [administrator]\nusername = \"root1\"\nemail = \"root@example.com\"\npassword = \"Secret-Words-1\"\n",
    )
    .unwrap();
    assert_eq!(
        seed.appliance.site.address.as_ref().unwrap().to_string(),
        "https://chat.example.com:8443"
    );
    assert_eq!(seed.password.as_ref().unwrap().expose(), "Secret-Words-1");
    let text = seed.appliance.to_toml();
    assert!(!text.contains("Secret-Words-1"));
    assert_eq!(stored(&text), seed.appliance);
    assert!(!format!("{seed:?}").contains("Secret-Words-1"));
}

#[test]
fn the_kept_file_with_a_password_is_refused() {
    let error = parse_stored(b"[administrator]\npassword = \"Secret-Words-1\"\n")
        .unwrap_err()
        .to_string();
    assert_eq!(
        error,
        "line 2: administrator.password: a password is never kept in this file; allowed: only in a seed, for the first boot"
    );
}

#[test]
fn every_mistake_is_named_with_key_line_value_and_what_is_allowed() {
    let text = "hostname = \"Chat\"\ncolour = \"blue\"\n\n[site]\naddress = \"http://chat.example.com\"\nport = 1\n\n\
                [administrator]\nusername = 7\nemail = \"nobody\"\npassword = \"short\"\n";
    assert_eq!(
        refusal(text),
        "line 1: hostname = \"Chat\": holds an upper-case letter; allowed: 1 to 63 of a-z, 0-9 and \"-\", not beginning or ending with \"-\" (example: \"atalaya\")\n\
         line 2: colour: there is no such key here; allowed: hostname, [site], [administrator], [tls], [edge], [update]\n\
         line 5: site.address = \"http://chat.example.com\": is not https; allowed: https://HOST or https://HOST:PORT, nothing after it (example: \"https://chat.example.com\")\n\
         line 6: site.port: there is no such key here; allowed: address, names\n\
         line 9: administrator.username = 7: is not a string; allowed: 3 to 22 of a-z, 0-9, \".\", \"-\" and \"_\", beginning with a letter (example: \"admin\")\n\
         line 10: administrator.email = \"nobody\": has no \"@\"; allowed: NAME@HOST in lower case, at most 128 bytes (example: \"admin@example.com\")\n\
         line 11: administrator.password: is shorter than 8 bytes; allowed: 8 to 72 bytes, no control characters (example: \"three unrelated words\")"
    );
}

#[test]
fn no_refusal_repeats_a_password() {
    let secret = "Hunter2-Hunter2";
    for text in [
        format!("[administrator]\npassword = {secret}\n"),
        format!("[administrator]\npassword = \"{secret}\\q\"\n"),
        format!("[administrator]\npassword = \"{secret}\n"),
        format!("[administrator]\npasswort = \"{secret}\"\n"),
        format!("administrator = \"{secret}\"\n"),
        format!("[administrator]\npassword = \"{secret}\\n\"\n"),
        format!("[administrator]\npassword = [\"{secret}\"]\n"),
        format!("[administrator]\npassword = \"{secret}\"\npassword = \"{secret}\"\n"),
        format!("[site]\npassword = \"{secret}\"\n"),
        format!("[tls.acme.dns]\nkey = \"{secret}\"\n"),
        format!("[tls.acme.dns]\nserver = \"192.0.2.53\"\nkey_name = \"k:{secret}\"\n"),
        format!("[tls.acme.external_account]\nhmac = \"{secret}\"\n"),
        format!("[tls.acme.external_account]\nkey_id = \"{secret} {secret}\"\n"),
        format!("[tls.acme.external_account]\nhmac = [\"{secret}\"]\n"),
        format!("[tls.acme]\nexternal_account = \"{secret}\"\n"),
        format!("[tls.acme]\ndirectory = \"https://me:{secret}@ca.example.com/\"\n"),
        format!("[tls.static]\nkey = \"{secret}\"\n"),
        format!("[tls.static]\ncertificate = \"\"\"{secret}\"\"\"\n"),
        format!("[tls]\nstatic = \"{secret}\"\n"),
    ] {
        let refusal = refusal(&text);
        assert!(!refusal.contains("Hunter2"), "{refusal}");
    }
}

#[test]
fn what_is_not_a_text_file_is_refused_in_one_sentence() {
    assert!(refusal("hostname = \n").starts_with("line 1: this is not TOML: "));
    assert!(
        refusal("hostname = \"a\"\nhostname = \"b\"\n")
            .starts_with("line 2: this is not TOML: duplicate key")
    );
    let binary = parse_seed(b"hostname = \"a\"\n\xff\xfe\x00")
        .unwrap_err()
        .to_string();
    assert!(
        binary.starts_with("line 2: a byte is not UTF-8"),
        "{binary}"
    );
    let large = parse_seed(&vec![b'#'; MAX_BYTES + 1])
        .unwrap_err()
        .to_string();
    assert_eq!(large, "the file is too large; allowed: at most 65536 bytes");
    assert_eq!(
        parse_stored(b"\xef\xbb\xbfhostname = \"a\"\n")
            .unwrap()
            .appliance
            .hostname
            .as_str(),
        "a"
    );
}

#[test]
fn host_names() {
    let longest = "a".repeat(63);
    for good in ["a", "atalaya", "chat-2", "0", longest.as_str()] {
        assert!(Hostname::parse(good).is_ok(), "{good}");
    }
    let too_long = "a".repeat(64);
    for bad in [
        "",
        "-a",
        "a-",
        "a.b",
        "A",
        "a_b",
        "a b",
        "a\n",
        "ä",
        too_long.as_str(),
    ] {
        assert!(Hostname::parse(bad).is_err(), "{bad:?}");
    }
}

#[test]
fn site_addresses() {
    for (text, kept) in [
        ("https://localhost:8443", "https://localhost:8443"),
        ("https://chat.example.com", "https://chat.example.com"),
        ("HTTPS://CHAT.example.com:443", "https://chat.example.com"),
        ("https://10.0.2.15", "https://10.0.2.15"),
        ("https://[2001:DB8::1]:9", "https://[2001:db8::1]:9"),
        ("https://[fd00::1]", "https://[fd00::1]"),
    ] {
        assert_eq!(SiteAddress::parse(text).unwrap().to_string(), kept);
    }
    for bad in [
        "",
        "chat.example.com",
        "http://chat.example.com",
        "https://",
        "https://:8443",
        "https://chat.example.com/",
        "https://chat.example.com/mattermost",
        "https://chat.example.com?x",
        "https://chat.example.com#x",
        "https://user@chat.example.com",
        "https://chat.example.com:0",
        "https://chat.example.com:08443",
        "https://chat.example.com:65536",
        "https://chat.example.com:",
        "https://chat.example.com:+1",
        "https://chat..example.com",
        "https://chat.example.com.",
        "https://chat_1.example.com",
        "https://1.2.3",
        "https://1.2.3.256",
        "https://0.0.0.0",
        "https://224.0.0.1",
        "https://[::]",
        "https://2001:db8::1",
        "https://[2001:db8::1",
        "https://[2001:db8::1]x",
        "https://chat.example.com\n",
        "https://chat example.com",
    ] {
        assert!(SiteAddress::parse(bad).is_err(), "{bad:?}");
    }
}

#[test]
fn how_long_a_migration_is_waited_for() {
    let read = |text: &str| stored(text).update.migration_patience_seconds;
    assert_eq!(read(""), 900);
    assert_eq!(read("update.migration_patience_seconds = 7200"), 7200);
    for bad in ["59", "86_401", "\"1h\"", "-60"] {
        let refusal = refusal(&format!("[update]\nmigration_patience_seconds = {bad}\n"));
        assert!(
            refusal.starts_with("line 2: update.migration_patience_seconds")
                && refusal.ends_with("; allowed: 60 to 86400"),
            "{refusal}"
        );
    }
}

#[test]
fn user_names_and_addresses() {
    for good in ["admin", "a.b-c_1", "aaa"] {
        assert!(Username::parse(good).is_ok(), "{good}");
    }
    for bad in [
        "",
        "ab",
        "1admin",
        "Admin",
        "ad min",
        "all",
        "system",
        "atalaya-probe",
        "aaaaaaaaaaaaaaaaaaaaaaa",
    ] {
        assert!(Username::parse(bad).is_err(), "{bad:?}");
    }
    for good in ["admin@localhost", "a.b+c@example.com"] {
        assert!(Email::parse(good).is_ok(), "{good}");
    }
    for bad in [
        "", "@x", "a@", "a", "A@x", "a b@x", "a..b@x", ".a@x", "a@x..y", "\"a\"@x", "<a@x>",
        "a@x\n", "a@b@c",
    ] {
        assert!(Email::parse(bad).is_err(), "{bad:?}");
    }
}

proptest! {
    #[test]
    fn no_input_makes_the_reader_panic(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        drop(parse_seed(&bytes));
    }

    #[test]
    fn no_text_makes_the_reader_panic(text in "(hostname|\\[update\\]|migration_patience_seconds|\\[tls\\]|\\[tls.acme\\]|\\[edge.limits\\]|mode|terms_agreed|true|headers|site.names|\\*\\.a\\.b|\\[site\\]|address|\\[administrator\\]|password|=|\"|'|\\.|\n| |[a-z{}\\[\\]#,\\\\0-9]){0,40}") {
        match parse_seed(text.as_bytes()) {
            Ok(Seed { appliance, secrets, .. }) => {
                prop_assert_eq!(parse_public(appliance.to_toml().as_bytes()).unwrap(), appliance.clone());
                let kept = Stored { appliance, secrets };
                prop_assert_eq!(parse_stored(kept.to_toml().as_bytes()).unwrap(), kept);
            }
            Err(Invalid(problems)) => prop_assert!(!problems.is_empty()),
        }
    }

    #[test]
    fn what_is_accepted_survives_writing_and_reading(
        hostname in "[a-z0-9]([a-z0-9-]{0,20}[a-z0-9])?",
        host in "[a-z]([a-z0-9-]{0,10}[a-z])?(\\.[a-z]{2,5}){0,3}",
        port in 1u16..,
        username in "[a-z][a-z0-9._-]{7,21}",
        email in "[a-z!#$%&'*+/=?^_`{|}~-]{1,20}@[a-z]{1,9}(\\.[a-z]{2,3})?",
    ) {
        let text = format!("hostname = '{hostname}'\nsite.address = 'https://{host}:{port}'\n\
            administrator.username = '{username}'\nadministrator.email = \"{email}\"\n");
        let read = stored(&text);
        prop_assert_eq!(stored(&read.to_toml()), read.clone());
        prop_assert_eq!(read.hostname.as_str(), hostname);
    }
}
