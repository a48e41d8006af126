//! A public certificate authority for a machine under test: Pebble, which speaks ACME as Let's Encrypt does, and a DNS server of its kin that
//! calls every name 127.0.0.1. Both run on this host; the machine reaches them as QEMU's user network shows the host, and they reach the
//! machine by its forwarded ports.

use std::fs;
use std::net::{Ipv4Addr, TcpStream};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use atalaya_vm::{ToolsTree, free_port};
use rcgen::{BasicConstraints, CertificateParams, Issuer, KeyPair};
use serde_json::json;
use tempfile::TempDir;
use ureq::tls::{Certificate, RootCerts, TlsConfig, TlsProvider};

use crate::story::eventually;

/// The host, as a machine on QEMU's user network sees it.
const HOST: &str = "10.0.2.2";
const START_LIMIT: Duration = Duration::from_secs(60);

/// A running authority. Dropping it ends it.
#[derive(Debug)]
pub struct Authority {
    // Before the directory, so that they are gone before their files are.
    _pebble: Running,
    _names: Running,
    port: u16,
    management: u16,
    own_ca: String,
    directory: TempDir,
}

impl Authority {
    /// Starts one that proves names at these ports of 127.0.0.1.
    pub fn start(tools: &ToolsTree, https_port: u16, http_port: u16) -> anyhow::Result<Authority> {
        let directory = tempfile::Builder::new()
            .prefix("atalaya-authority-")
            .tempdir()?;
        let place = directory.path();
        let (port, management) = (free_port()?, free_port()?);
        let (names, names_management) = (free_port()?, free_port()?);
        let own_ca = make_certificate(place)?;
        let settings = json!({"pebble": {
            "listenAddress": format!("127.0.0.1:{port}"),
            "managementListenAddress": format!("127.0.0.1:{management}"),
            "certificate": place.join("server.crt"),
            "privateKey": place.join("server.key"),
            "httpPort": http_port,
            "tlsPort": https_port,
            "ocspResponderURL": "",
            "externalAccountBindingRequired": false,
        }});
        let settings_file = place.join("pebble.json");
        write(&settings_file, &settings.to_string())?;

        let mut command = tools.command("pebble-challtestsrv")?;
        command
            .args(["-defaultIPv4", "127.0.0.1", "-defaultIPv6", ""])
            .args(["-http01", "", "-https01", "", "-tlsalpn01", "", "-doh", ""])
            .args(["-dns01", &format!("127.0.0.1:{names}")])
            .args(["-management", &format!("127.0.0.1:{names_management}")]);
        let names_server = Running::start(command, place.join("names.log"))?;
        names_server.wait_port(names_management)?;

        let mut command = tools.command("pebble")?;
        command
            .arg("-config")
            .arg(&settings_file)
            .args(["-dnsserver", &format!("127.0.0.1:{names}")])
            // It would wait up to 15 s before each look at a name.
            .env("PEBBLE_VA_NOSLEEP", "1");
        let pebble = Running::start(command, place.join("pebble.log"))?;
        pebble.wait_port(port)?;
        Ok(Authority {
            _pebble: pebble,
            _names: names_server,
            port,
            management,
            own_ca,
            directory,
        })
    }

    /// The lines of a seed that send a machine here.
    #[must_use]
    pub fn seed(&self) -> String {
        format!(
            "tls.acme.directory = \"https://{HOST}:{}/dir\"\ntls.acme.authority = \"\"\"\n{}\"\"\"\n",
            self.port, self.own_ca
        )
    }

    /// What its customers' visitors trust, PEM.
    pub fn root_pem(&self) -> anyhow::Result<String> {
        let ca = Certificate::from_pem(self.own_ca.as_bytes())?;
        let tls = TlsConfig::builder()
            .provider(TlsProvider::Rustls)
            .root_certs(RootCerts::Specific(Arc::new(vec![ca])))
            .unversioned_rustls_crypto_provider(Arc::new(
                rustls::crypto::aws_lc_rs::default_provider(),
            ))
            .build();
        let agent = ureq::Agent::config_builder()
            .tls_config(tls)
            .timeout_global(Some(START_LIMIT))
            .build()
            .new_agent();
        let address = format!("https://127.0.0.1:{}/roots/0", self.management);
        let mut answer = agent.get(&address).call().context("no root certificate")?;
        Ok(answer.body_mut().read_to_string()?)
    }

    /// What it says of its work: orders, proofs, certificates.
    #[must_use]
    pub fn log(&self) -> String {
        fs::read_to_string(self.directory.path().join("pebble.log")).unwrap_or_default()
    }
}

/// A certificate for its own TLS, by an authority that is told to the machine.
fn make_certificate(place: &Path) -> anyhow::Result<String> {
    let mut ca = CertificateParams::new(Vec::new())?;
    ca.is_ca = rcgen::IsCa::Ca(BasicConstraints::Unconstrained);
    let ca_key = KeyPair::generate()?;
    let ca_certificate = ca.self_signed(&ca_key)?;
    let key = KeyPair::generate()?;
    let names = [HOST.to_owned(), Ipv4Addr::LOCALHOST.to_string()];
    let own = CertificateParams::new(names)?.signed_by(&key, &Issuer::new(ca, ca_key))?;
    write(&place.join("server.crt"), &own.pem())?;
    write(&place.join("server.key"), &key.serialize_pem())?;
    Ok(ca_certificate.pem())
}

fn write(path: &Path, text: &str) -> anyhow::Result<()> {
    use std::io::Write;
    let mut options = fs::OpenOptions::new();
    let mut file = options
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)?;
    Ok(file.write_all(text.as_bytes())?)
}

/// A server of this host, ended when it is dropped.
#[derive(Debug)]
struct Running {
    child: Child,
    log: PathBuf,
}

impl Running {
    fn start(mut command: Command, log: PathBuf) -> anyhow::Result<Running> {
        let file = fs::File::create(&log)?;
        let child = command
            .stdin(Stdio::null())
            .stdout(file.try_clone()?)
            .stderr(file)
            .spawn()
            .with_context(|| format!("failed to start {command:?}"))?;
        Ok(Running { child, log })
    }

    fn wait_port(&self, port: u16) -> anyhow::Result<()> {
        eventually("a server to listen", START_LIMIT, || {
            Ok(TcpStream::connect((Ipv4Addr::LOCALHOST, port)).ok())
        })
        .map(drop)
        .with_context(|| fs::read_to_string(&self.log).unwrap_or_default())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}
