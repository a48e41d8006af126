//! DNS-01 by signed updates to a real name server, which the authority asks too.

use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::path::Path;

use atalaya_edge::settings::{Challenge, Dns};
use atalaya_edge::tls::acme::Step;
use hickory_proto::op::{Message, OpCode, Query, ResponseCode};
use hickory_proto::rr::{Name, RData, RecordType};

use crate::machine::{PATIENCE, Running, Setup, own_address, tools};
use crate::place::{HOUR, NAME, Place, at, reason};

const KEY: &str = "YXRhbGF5YS10c2lnLWtleS1mb3ItdGhlLXRlc3RzLi4=";
const OTHER_KEY: &str = "YW5vdGhlci1rZXktdGhhdC1pcy1ub3Qta25vd24uLi4=";

/// Serves `example.test` and `acme.test`; only `updated` takes updates, and only with the key.
fn knot(ip: Ipv4Addr, dir: &Path, updated: &str, delegation: &str) -> (Running, SocketAddr) {
    let address = SocketAddr::from((ip, 5353));
    let mut zones = String::new();
    for zone in ["example.test", "acme.test"] {
        let file = dir.join(format!("{zone}.zone"));
        let more = if zone == "example.test" {
            delegation
        } else {
            ""
        };
        let text = format!(
            "$ORIGIN {zone}.\n$TTL 60\n@ SOA localhost. admin 1 60 60 3600 0\n@ NS localhost.\nchat A {ip}\n{more}\n"
        );
        atalaya_sys::durable::write(&file, text.as_bytes(), 0o644, None).unwrap();
        zones += &format!("  - domain: {zone}\n    file: {}\n", file.display());
        if zone == updated {
            zones += "    acl: updates\n";
        }
    }
    let settings = format!(
        "server:\n    rundir: {dir}\n    listen: {ip}@5353\nlog:\n  - target: stderr\n    any: info\n\
         database:\n    storage: {dir}/db\n\
         key:\n  - id: atalaya\n    algorithm: hmac-sha512\n    secret: {KEY}\n\
         acl:\n  - id: updates\n    key: atalaya\n    action: update\nzone:\n{zones}",
        dir = dir.display()
    );
    std::fs::create_dir(dir.join("db")).unwrap();
    let file = dir.join("knot.conf");
    atalaya_sys::durable::write(&file, settings.as_bytes(), 0o600, None).unwrap();
    let mut command = tools().command("knotd").unwrap();
    command.arg("-c").arg(file);
    (
        Running::start(command, dir.join("knot.log"), address),
        address,
    )
}

async fn place(updated: &str, delegation: &str) -> (Place, Running, SocketAddr, tempfile::TempDir) {
    let dir = tempfile::tempdir().unwrap();
    let ip = own_address();
    let (server, dns) = knot(ip, dir.path(), updated, delegation);
    let mut place = Place::new(Setup {
        dns: Some(resolver(ip, dns)),
        ..Setup::default()
    })
    .await;
    place.wanted.acme.challenges = vec![Challenge::Dns];
    place.wanted.acme.dns = Some(Dns {
        server: dns,
        zone: None,
        key_name: "atalaya".to_owned(),
        key_algorithm: "hmac-sha512".to_owned(),
    });
    place.wanted.secrets.dns_key = Some(KEY.to_owned());
    (place, server, dns, dir)
}

/// One question over UDP.
fn ask(server: SocketAddr, question: &Message) -> Message {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket.send_to(&question.to_vec().unwrap(), server).unwrap();
    let mut answer = [0; 4096];
    let length = socket.recv(&mut answer).unwrap();
    Message::from_vec(&answer[..length]).unwrap()
}

fn query(name: &Name, kind: RecordType) -> Message {
    let mut question = Message::query();
    question.add_query(Query::query(name.clone(), kind));
    question
}

/// Whether there is a TXT record by that name.
fn has_text(server: SocketAddr, name: &str) -> bool {
    let answer = ask(
        server,
        &query(&Name::from_ascii(name).unwrap(), RecordType::TXT),
    );
    let known = [ResponseCode::NoError, ResponseCode::NXDomain];
    assert!(known.contains(&answer.response_code), "{answer:?}");
    !answer.answers.is_empty()
}

/// What authorities ask: a resolver, which follows a CNAME from zone to zone, as a zone's own server need not.
fn resolver(ip: Ipv4Addr, server: SocketAddr) -> SocketAddr {
    let socket = UdpSocket::bind((ip, 5300)).unwrap();
    let address = socket.local_addr().unwrap();
    std::thread::spawn(move || {
        let mut bytes = [0; 4096];
        while let Ok((length, client)) = socket.recv_from(&mut bytes) {
            let asked = Message::from_vec(&bytes[..length]).unwrap();
            let (mut name, kind) = (
                asked.queries[0].name().clone(),
                asked.queries[0].query_type(),
            );
            let mut answer = Message::response(asked.id, OpCode::Query);
            answer.add_queries(asked.queries.clone());
            for _ in 0..8 {
                let part = ask(server, &query(&name, kind));
                answer.add_answers(part.answers.clone());
                match part.answers.last().map(|record| &record.data) {
                    Some(RData::CNAME(target)) => name = target.0.clone(),
                    _ => break,
                }
            }
            socket.send_to(&answer.to_vec().unwrap(), client).unwrap();
        }
    });
    address
}

#[tokio::test]
async fn a_signed_update_proves_a_name_that_nobody_outside_can_reach() {
    let (mut place, server, dns, _dir) = place("example.test", "").await;
    // Two names that prove themselves by the same record, one of them a wildcard.
    place.wanted.names = vec![NAME.to_owned(), format!("*.{NAME}")];
    let step = place.open().step(at(0)).await;
    assert_eq!(step, Step::Issued, "{}", server.log());
    assert!(
        !has_text(dns, &format!("_acme-challenge.{NAME}.")),
        "{}",
        server.log()
    );
}

#[tokio::test]
async fn a_delegated_challenge_is_placed_in_the_zone_that_it_leads_to() {
    let delegation = "_acme-challenge.chat CNAME elsewhere\nelsewhere CNAME chat-proof.acme.test.";
    let (place, server, dns, _dir) = place("acme.test", delegation).await;
    let step = place.open().step(at(0)).await;
    assert_eq!(step, Step::Issued, "{}", server.log());
    assert!(!has_text(dns, "chat-proof.acme.test."));
}

#[tokio::test]
async fn a_server_that_refuses_the_update_is_named_and_the_key_is_not() {
    let (mut place, _server, dns, _dir) = place("example.test", "").await;
    place.wanted.secrets.dns_key = Some(OTHER_KEY.to_owned());
    let told = reason(place.open().step(at(0)).await);
    let owner = format!("_acme-challenge.{NAME}");
    for part in [&dns.to_string(), &owner, "refuses", "TSIG"] {
        assert!(told.contains(part), "{told}");
    }
    assert!(!told.contains(OTHER_KEY), "{told}");
    // A zone that the name is not in.
    place.wanted.secrets.dns_key = Some(KEY.to_owned());
    place.wanted.acme.dns.as_mut().unwrap().zone = Some("acme.test".to_owned());
    let told = reason(place.open().step(at(HOUR)).await);
    assert!(told.contains("names no zone"), "{told}");
}
