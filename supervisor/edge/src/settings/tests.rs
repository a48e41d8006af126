//! What edge.toml may say, and that the appliance's own is understood.

use super::*;

const EXAMPLE: &str = r#"
site_address = "https://localhost:8443"
names = ["localhost", "Atalaya"]
addresses = ["10.0.2.15", "127.0.0.1"]
listen_https = "[::]:443"
listen_http = "[::]:80"
upstream = "127.0.0.1:8065"
state_dir = "/var/lib/atalaya-edge"
public_dir = "/run/atalaya-edge"
upstream_state = "/run/atalaya/public/upstream.json"
standin = false
"#;

#[test]
fn the_rendered_file_is_understood() {
    let settings = parse(EXAMPLE).unwrap();
    assert_eq!(settings.site.unwrap().origin(), "https://localhost:8443");
    assert_eq!(settings.names, ["atalaya", "localhost"]);
    assert_eq!(settings.addresses.len(), 2);
    assert_eq!(settings.limits, Limits::default());
    assert_eq!(settings.tls, Tls::default());
}

/// What the appliance renders with every key set, and with none.
#[test]
fn the_appliance_s_own_files_are_understood() {
    let plain = parse(include_str!("../../../core/src/render/golden/edge.toml")).unwrap();
    assert_eq!(plain.tls.mode, Mode::Internal);
    assert_eq!(plain.headers, Headers::default());
    assert_eq!(plain.access, Access::default());
    assert_eq!(plain.login, Login::default());
    let whole = parse(include_str!(
        "../../../core/src/render/golden/whole-edge.toml"
    ))
    .unwrap();
    assert_eq!(whole.tls.mode, Mode::Acme);
    assert_eq!(whole.tls.acme.challenges, [Challenge::Dns]);
    assert_eq!(whole.tls.acme.external_account.as_deref(), Some("kid-1"));
    assert!(whole.tls.acme.authority.is_some() && whole.tls.acme.dns.is_some());
    assert_eq!(whole.headers.csp, Csp::Strict);
    assert!(whole.access.proxy_protocol);
    assert_eq!(whole.access.trusted_proxies.len(), 2);
    assert_eq!(whole.limits.body_bytes, 251 * 1024 * 1024);
    let secrets: Secrets = toml::from_str(include_str!(
        "../../../core/src/render/golden/whole-edge-secrets.toml"
    ))
    .unwrap();
    assert!(
        secrets
            .static_key
            .is_some_and(|key| key.starts_with("-----BEGIN PRIVATE KEY"))
    );
    assert!(secrets.external_account_hmac.is_some() && secrets.dns_key.is_some());
}

#[test]
fn an_unknown_key_is_refused_by_name() {
    let error = parse(&format!("{EXAMPLE}colour = \"blue\"\n")).unwrap_err();
    let cause = std::error::Error::source(&error).unwrap().to_string();
    assert!(cause.contains("colour"), "{cause}");
    let error = parse(&format!("{EXAMPLE}[limits]\nconections = 5\n")).unwrap_err();
    assert!(
        std::error::Error::source(&error)
            .unwrap()
            .to_string()
            .contains("conections")
    );
}

#[test]
fn a_site_address_is_https_host_and_port_only() {
    assert_eq!(
        Site::parse("https://Chat.Example.org/").unwrap().origin(),
        "https://chat.example.org"
    );
    assert_eq!(
        Site::parse("https://chat.example.org:443")
            .unwrap()
            .origin(),
        "https://chat.example.org"
    );
    assert_eq!(
        Site::parse("https://[fd00::1]:8443").unwrap().origin(),
        "https://[fd00::1]:8443"
    );
    for bad in [
        "http://chat.example.org",
        "https://chat.example.org/chat",
        "https://a@b.example",
        "https://",
        "chat",
        "https://host?x=1",
        "https://host:",
        "https://host:70000",
    ] {
        assert!(Site::parse(bad).is_err(), "{bad}");
    }
}

#[test]
fn the_certificate_always_covers_the_site() {
    let named = parse(&EXAMPLE.replace("localhost:8443", "chat.example.org")).unwrap();
    assert!(named.names.contains(&"chat.example.org".to_owned()));
    let numbered = parse(&EXAMPLE.replace("localhost:8443", "[fd00::7]")).unwrap();
    assert!(numbered.addresses.contains(&"fd00::7".parse().unwrap()));
}

#[test]
fn a_redirect_keeps_path_and_query_and_never_leaves_the_site() {
    let site = Site::parse("https://localhost:8443").unwrap();
    assert_eq!(site.location("/a/b?c=d"), "https://localhost:8443/a/b?c=d");
    assert_eq!(
        site.location("//evil.example/"),
        "https://localhost:8443//evil.example/"
    );
    assert_eq!(site.location("*"), "https://localhost:8443/");
    assert_eq!(site.location(".evil.example"), "https://localhost:8443/");
}
