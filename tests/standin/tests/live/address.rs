//! The client's address in the audit: the connection's own, or the proxy's word for it where the setting names the header.

use crate::machine::{Machine, PASSWORD, Server, agent};
use serde_json::json;

/// Logs in with these headers: the addresses of the newest audits and what they were about.
fn logged_in(machine: &Machine, headers: &[(&str, &str)]) -> Vec<(String, String)> {
    let mut request = agent().post(format!("{}/api/v4/users/login", machine.address()));
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let body = json!({"login_id": "admin", "password": PASSWORD});
    let answer = request.send_json(&body).unwrap();
    let token = answer.headers()["token"].to_str().unwrap().to_owned();
    let (status, audits) = machine.get(&token, "/users/me/audits");
    assert_eq!(status, 200, "{audits}");
    let text = |value: &serde_json::Value| value.as_str().unwrap().to_owned();
    let audits = audits.as_array().unwrap();
    audits
        .iter()
        .map(|audit| (text(&audit["ip_address"]), text(&audit["extra_info"])))
        .collect()
}

fn start(machine: &Machine, proxy_header: &str) -> Server {
    let server = machine.start_with(&[("MM_SERVICESETTINGS_TRUSTEDPROXYIPHEADER", proxy_header)]);
    machine.admin();
    server
}

#[test]
fn a_proxys_word_counts_only_where_the_setting_names_its_header() {
    let machine = Machine::new();
    let said = [("x-forwarded-for", "198.51.100.7, 10.0.0.1")];
    let server = start(&machine, "");
    assert_eq!(logged_in(&machine, &said)[0].0, "127.0.0.1");
    server.stop();
    let server = start(&machine, "X-Forwarded-For");
    assert_eq!(logged_in(&machine, &[])[0].0, "127.0.0.1");
    let audits = logged_in(&machine, &said);
    // As the real server: the first entry counts, which is why the edge overwrites the header.
    assert!(audits[..2].iter().all(|audit| audit.0 == "198.51.100.7"));
    assert!(
        audits
            .iter()
            .any(|audit| audit.1 == "attempt - login_id=admin")
    );
    assert!(audits.iter().any(|audit| audit.1.starts_with("success")));
    server.stop();
}
