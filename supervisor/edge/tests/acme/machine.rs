//! Servers of the tools tree, each on a loopback address of its own, so that no ports clash whoever else runs tests here.

use std::fs::File;
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::{Duration, Instant};

use atalaya_vm::ToolsTree;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use serde_json::{Value, json};
use tempfile::TempDir;

pub const PATIENCE: Duration = Duration::from_secs(120);

/// 127.x.y.z by this process and a count.
pub fn own_address() -> Ipv4Addr {
    static COUNT: AtomicU8 = AtomicU8::new(1);
    let [.., high, low] = std::process::id().to_be_bytes();
    Ipv4Addr::new(
        127,
        64 + high % 128,
        low,
        COUNT.fetch_add(1, Ordering::Relaxed),
    )
}

pub fn tools() -> ToolsTree {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let cache = std::env::var_os("ATALAYA_CACHE")
        .filter(|path| !path.is_empty())
        .map_or_else(|| PathBuf::from("cache"), PathBuf::from);
    ToolsTree::at(root.join(cache).join("tools"))
        .unwrap_or_else(|error| panic!("no tools tree (`make image` makes it): {error}"))
}

/// Ended when it is dropped.
pub struct Running {
    child: Child,
    log: PathBuf,
}

impl Running {
    pub fn start(mut command: Command, log: PathBuf, port: SocketAddr) -> Self {
        let file = File::create(&log).unwrap();
        let child = command
            .stdin(Stdio::null())
            .stdout(file.try_clone().unwrap())
            .stderr(file)
            .spawn()
            .unwrap();
        let running = Self { child, log };
        let begun = Instant::now();
        while TcpStream::connect(port).is_err() {
            assert!(begun.elapsed() < PATIENCE, "{}", running.log());
            std::thread::yield_now();
        }
        running
    }

    pub fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// An authority for the TLS of test servers.
pub struct TestAuthority {
    issuer: CertifiedIssuer<'static, KeyPair>,
}

impl TestAuthority {
    pub fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        Self { issuer }
    }

    pub fn pem(&self) -> String {
        self.issuer.pem()
    }

    /// Certificate and key, PEM.
    pub fn sign(&self, address: Ipv4Addr) -> (String, String) {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new([address.to_string()]).unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        (certificate.pem(), key.serialize_pem())
    }
}

/// How a Pebble is set up.
pub struct Setup {
    pub environment: Vec<(&'static str, &'static str)>,
    /// Seconds.
    pub life: u64,
    /// Key identifier and HMAC key that every account needs.
    pub external: Option<(&'static str, &'static str)>,
    /// Where it asks for names; without one every proof counts as seen.
    pub dns: Option<SocketAddr>,
    /// Ports at which it looks for proofs.
    pub http: u16,
    pub tls: u16,
}

impl Default for Setup {
    fn default() -> Self {
        Self {
            environment: vec![("PEBBLE_WFE_NONCEREJECT", "0"), ("PEBBLE_AUTHZREUSE", "0")],
            life: 90 * 86_400,
            external: None,
            dns: None,
            http: 5002,
            tls: 5001,
        }
    }
}

/// A running ACME server.
pub struct Pebble {
    _running: Running,
    _dir: TempDir,
    pub address: SocketAddr,
}

impl Pebble {
    pub fn start(authority: &TestAuthority, ip: Ipv4Addr, setup: &Setup) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let (certificate, key) = authority.sign(ip);
        let put = |name: &str, text: &str| {
            let path = dir.path().join(name);
            atalaya_sys::durable::write(&path, text.as_bytes(), 0o600, None).unwrap();
            path
        };
        let address = SocketAddr::from((ip, 14000));
        let mut settings = json!({
            "listenAddress": address,
            "managementListenAddress": "",
            "certificate": put("server.crt", &certificate),
            "privateKey": put("server.key", &key),
            "httpPort": setup.http,
            "tlsPort": setup.tls,
            "ocspResponderURL": "",
            "externalAccountBindingRequired": setup.external.is_some(),
            "retryAfter": { "authz": 1, "order": 1 },
            "certificateValidityPeriod": setup.life,
        });
        if let Some((id, key)) = setup.external {
            settings["externalAccountMACKeys"] = json!({ id: key });
        }
        let settings = put("pebble.json", &json!({ "pebble": settings }).to_string());
        let mut command = tools().command("pebble").unwrap();
        command
            .arg("-strict")
            .arg("-config")
            .arg(settings)
            .env("PEBBLE_VA_NOSLEEP", "1")
            .envs(setup.environment.iter().copied());
        match setup.dns {
            Some(dns) => {
                command.args(["-dnsserver", &dns.to_string()]);
            }
            None => {
                command.env("PEBBLE_VA_ALWAYS_VALID", "1");
            }
        }
        let running = Running::start(command, dir.path().join("log"), address);
        Self {
            _running: running,
            _dir: dir,
            address,
        }
    }

    pub fn directory(&self) -> String {
        format!("https://{}/dir", self.address)
    }
}

/// A DNS server that calls every name `ip`.
pub fn every_name(ip: Ipv4Addr, dir: &Path) -> (Running, SocketAddr) {
    let (dns, management) = (SocketAddr::from((ip, 8053)), SocketAddr::from((ip, 8055)));
    let mut command = tools().command("pebble-challtestsrv").unwrap();
    command
        .args(["-http01", "", "-https01", "", "-tlsalpn01", "", "-doh", ""])
        .args(["-defaultIPv4", &ip.to_string(), "-defaultIPv6", ""])
        .args(["-dns01", &dns.to_string()])
        .args(["-management", &management.to_string()]);
    let running = Running::start(command, dir.join("names.log"), management);
    (running, dns)
}

pub fn read_json(path: &Path) -> Value {
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}
