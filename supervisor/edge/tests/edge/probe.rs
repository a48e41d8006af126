//! The door of the appliance's own probe: open while the edge is closed to users, and only for it.

use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::process::Command;

use rustls::pki_types::ServerName;
use rustls::{ClientConnection, StreamOwned};

use crate::client::{exchange, get, tls_config};
use crate::edge::Place;
use crate::upstream::Upstream;

fn knock(place: &Place, request: &str) -> String {
    let config = tls_config(&place.ca_pem(), rustls::DEFAULT_VERSIONS, &["http/1.1"]);
    let name = ServerName::try_from("localhost").unwrap();
    let session = ClientConnection::new(config, name).unwrap();
    let socket = UnixStream::connect(place.path("public/probe.sock")).unwrap();
    exchange(&mut StreamOwned::new(session, socket), request)
}

fn place(upstream: &Upstream) -> Place {
    let mut place = Place::new(upstream.address);
    place.extra = format!(
        "probe_socket = \"{}\"",
        place.path("public/probe.sock").display()
    );
    place
}

const PAGE: &str = "GET /page HTTP/1.1\r\nHost: localhost:8443\r\nConnection: close\r\n\r\n";

#[test]
fn the_probe_goes_through_while_users_see_the_page() {
    let upstream = Upstream::start();
    let place = place(&upstream);
    let edge = place.start();
    assert_eq!(get(edge.https(), &place.ca_pem(), "/page").status, 503);
    let answer = knock(&place, PAGE);
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    // No network is named for the figures, and none is needed here.
    let figures = knock(&place, &PAGE.replace("/page", "/_atalaya/metrics"));
    assert!(figures.contains("atalaya_edge_admitting 0"), "{figures}");
}

#[test]
fn nobody_else_comes_in_by_it_and_no_header_opens_it() {
    let upstream = Upstream::start();
    let place = place(&upstream);
    let edge = place.start();
    for directory in [place.path(""), place.path("public")] {
        std::fs::set_permissions(directory, PermissionsExt::from_mode(0o755)).unwrap();
    }
    let program = "use Socket; socket(my $s, AF_UNIX, SOCK_STREAM, 0) or die; \
                   connect($s, pack_sockaddr_un($ARGV[0])) or die $!; print defined(readline($s)) ? 'said' : 'closed'";
    let output = Command::new("perl")
        .args(["-e", program])
        .arg(place.path("public/probe.sock"))
        .uid(65_534)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert_eq!(said, "closed", "{output:?}");
    edge.wait_log(|line| line["uid"] == 65_534);
    assert!(upstream.seen().is_empty());
}

#[test]
fn a_later_run_takes_the_door_over() {
    let upstream = Upstream::start();
    let place = place(&upstream);
    let first = place.start();
    drop(first);
    let _second = place.start();
    assert!(knock(&place, PAGE).starts_with("HTTP/1.1 200 "));
}
