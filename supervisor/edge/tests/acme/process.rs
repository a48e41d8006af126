//! The edge as a process, with an authority that looks at its ports.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, mpsc};
use std::time::Duration;

use rustls::crypto::aws_lc_rs;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, StreamOwned};
use serde_json::Value;
use tempfile::TempDir;

use crate::anything::Anything;
use crate::machine::{
    PATIENCE, Pebble, Running, Setup, TestAuthority, every_name, own_address, read_json,
};
use crate::place::NAME;

/// Ended when it is dropped.
struct Edge {
    child: Child,
    lines: mpsc::Receiver<Value>,
}

impl Edge {
    fn start(settings: &Path) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_atalaya-edge"))
            .arg(settings)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let (sender, lines) = mpsc::channel();
        let out = BufReader::new(child.stdout.take().unwrap());
        std::thread::spawn(move || {
            for line in out.lines().map_while(Result::ok) {
                if sender
                    .send(serde_json::from_str(&line).unwrap_or_default())
                    .is_err()
                {
                    return;
                }
            }
        });
        Self { child, lines }
    }

    fn wait_log(&self, message: &str) -> Value {
        let mut seen = Vec::new();
        loop {
            match self.lines.recv_timeout(PATIENCE) {
                Ok(line) if line["message"] == message => return line,
                Ok(line) => seen.push(line),
                Err(error) => panic!("{message}: {error}; {seen:?}"),
            }
        }
    }
}

impl Drop for Edge {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

struct Scene {
    ip: Ipv4Addr,
    authority: TestAuthority,
    pebble: Option<Pebble>,
    _names: Running,
    setup: Setup,
    dir: TempDir,
}

impl Scene {
    fn new() -> Self {
        let (authority, dir, ip) = (
            TestAuthority::new(),
            tempfile::tempdir().unwrap(),
            own_address(),
        );
        for sub in ["state", "public"] {
            std::fs::create_dir(dir.path().join(sub)).unwrap();
        }
        let (names, dns) = every_name(ip, dir.path());
        let setup = Setup {
            dns: Some(dns),
            ..Setup::default()
        };
        Self {
            ip,
            authority,
            pebble: None,
            _names: names,
            setup,
            dir,
        }
    }

    fn start_authority(&mut self) {
        self.pebble = Some(Pebble::start(&self.authority, self.ip, &self.setup));
    }

    fn settings(&self, challenges: &str, names: &str) -> PathBuf {
        let (ip, dir) = (self.ip, self.dir.path().display());
        let text = format!(
            "site_address = \"https://{NAME}:5001\"\nnames = [\"localhost\"]\naddresses = [\"127.0.0.1\"]\n\
             listen_https = \"{ip}:5001\"\nlisten_http = \"{ip}:5002\"\nupstream = \"127.0.0.1:9\"\n\
             state_dir = \"{dir}/state\"\npublic_dir = \"{dir}/public\"\nupstream_state = \"{dir}/upstream.json\"\n\
             [tls]\nmode = \"acme\"\n[tls.acme]\nnames = [{names}]\ndirectory = \"https://{ip}:14000/dir\"\n\
             challenges = [{challenges}]\nnot_before = 1700000000\nauthority = '''\n{}'''\n",
            self.authority.pem()
        );
        let path = self.dir.path().join("edge.toml");
        atalaya_sys::durable::write(&path, text.as_bytes(), 0o644, None).unwrap();
        path
    }

    fn report(&self) -> Value {
        read_json(&self.dir.path().join("public/certificate.json"))
    }

    fn connect(&self) -> StreamOwned<ClientConnection, TcpStream> {
        let config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(Anything))
            .with_no_client_auth();
        let tcp = TcpStream::connect(SocketAddr::from((self.ip, 5001))).unwrap();
        tcp.set_read_timeout(Some(PATIENCE)).unwrap();
        let session = ClientConnection::new(Arc::new(config), ServerName::try_from(NAME).unwrap());
        let mut stream = StreamOwned::new(session.unwrap(), tcp);
        while stream.conn.is_handshaking() {
            stream.conn.complete_io(&mut stream.sock).unwrap();
        }
        stream
    }

    /// What a new connection is shown.
    fn served(&self) -> CertificateDer<'static> {
        let stream = self.connect();
        stream.conn.peer_certificates().unwrap()[0]
            .clone()
            .into_owned()
    }
}

/// A request on a connection that stays open.
fn ask(stream: &mut (impl Read + Write)) -> String {
    let request = format!("GET / HTTP/1.1\r\nHost: {NAME}:5001\r\n\r\n");
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = [0; 16];
    stream.read_exact(&mut answer).unwrap();
    String::from_utf8_lossy(&answer).into_owned()
}

#[test]
fn the_internal_certificate_serves_until_http_01_has_brought_one_and_its_connections_stay() {
    let mut scene = Scene::new();
    let settings = scene.settings("\"http-01\"", "\"files.example.test\"");
    let edge = Edge::start(&settings);
    // There is no authority yet.
    let failed = edge.wait_log("failed to get a certificate");
    assert!(
        failed["error"]
            .as_str()
            .unwrap()
            .contains("cannot be reached"),
        "{failed}"
    );
    let report = scene.report();
    assert_eq!(
        (&report["mode"], &report["serving"]),
        (&"acme".into(), &"internal".into())
    );
    let before = scene.served();
    let mut old = scene.connect();
    scene.start_authority();
    // Another choice of the administrator's begins anew at once, without a restart.
    scene.settings("\"http-01\"", "");
    let got = edge.wait_log("got a certificate");
    assert_eq!(got["names"], serde_json::json!([NAME]));
    assert_ne!(scene.served(), before);
    assert!(ask(&mut old).starts_with("HTTP/1.1 "));
    let report = wait_report(&scene, |report| report["serving"] == "acme");
    assert!(report["renewal"]["next_at"].is_i64(), "{report}");
    assert!(report["renewal"]["error"].is_null(), "{report}");
    assert!(
        report["issuer"].as_str().unwrap().contains("Pebble"),
        "{report}"
    );
    // A restart finds it and asks nobody.
    let served = scene.served();
    drop(edge);
    scene.pebble = None;
    let edge = Edge::start(&settings);
    edge.wait_log("listening");
    wait_report(&scene, |report| report["serving"] == "acme");
    assert_eq!(scene.served(), served);
}

#[test]
fn tls_alpn_01_needs_no_port_80() {
    let mut scene = Scene::new();
    scene.setup.http = 9;
    scene.start_authority();
    let edge = Edge::start(&scene.settings("\"tls-alpn-01\"", ""));
    edge.wait_log("got a certificate");
    wait_report(&scene, |report| report["serving"] == "acme");
}

fn wait_report(scene: &Scene, wanted: impl Fn(&Value) -> bool) -> Value {
    let begun = std::time::Instant::now();
    loop {
        let report = scene.report();
        if wanted(&report) {
            return report;
        }
        assert!(begun.elapsed() < PATIENCE, "{report}");
        std::thread::sleep(Duration::from_millis(20));
    }
}
