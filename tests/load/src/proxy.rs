//! The edge and the proxies that it is compared with, each in front of the same backend, with the same certificate, two threads or processes
//! that serve, TLS 1.2 and 1.3, HTTP/2, tickets, one log line for each request written to a file, and bodies passed on as they come.

use std::fmt::Write as _;
use std::fs::File;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tempfile::TempDir;

use crate::client::Target;
use crate::usage::Usage;

/// How long one may take to answer first.
const START: Duration = Duration::from_secs(60);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Edge,
    Nginx,
    Haproxy,
}

impl Kind {
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Kind::Edge => "atalaya-edge",
            Kind::Nginx => "nginx",
            Kind::Haproxy => "HAProxy",
        }
    }
}

/// One that runs; ended when dropped.
pub struct Proxy {
    kind: Kind,
    child: Child,
    target: Target,
    folder: TempDir,
}

impl Proxy {
    /// Starts the edge, which makes its certificate by itself.
    ///
    /// # Errors
    /// It does not start, or does not answer in time.
    pub async fn edge(program: &Path, backend: SocketAddr) -> anyhow::Result<Proxy> {
        let (folder, address) = (folder()?, free_port()?);
        let path = |name: &str| folder.path().join(name);
        for name in ["state", "public", "supervisor"] {
            std::fs::create_dir(path(name))?;
        }
        write(
            &path("supervisor/upstream.json"),
            r#"{"admit":true,"postgres_ready":true,"postgres_ready_since_ms":1,"mattermost_ready":true,"mattermost_ready_since_ms":1,"waiting_for":null}"#,
        )?;
        let settings = edge_settings(folder.path(), address, backend);
        write(&path("edge.toml"), &settings)?;
        let child = Command::new(program)
            .arg(path("edge.toml"))
            // As its unit has it.
            .env("MALLOC_ARENA_MAX", "1")
            .stdout(File::create(path("access.log"))?)
            .stdin(Stdio::null())
            .spawn()
            .with_context(|| format!("failed to start {}", program.display()))?;
        Proxy::wait(Kind::Edge, child, folder, address).await
    }

    /// Starts another one, with the certificate of an edge.
    ///
    /// # Errors
    /// As [`Proxy::edge`].
    pub async fn peer(kind: Kind, edge: &Proxy, backend: SocketAddr) -> anyhow::Result<Proxy> {
        let (folder, address) = (folder()?, free_port()?);
        let path = |name: &str| folder.path().join(name);
        // Certificate, authority and key in one file.
        let certificate = std::fs::read_to_string(edge.path("state/server.pem"))
            .context("failed to read the edge's certificate")?;
        write(&path("server.pem"), &certificate)?;
        let mut settings = match kind {
            Kind::Nginx => NGINX.to_owned(),
            Kind::Haproxy => HAPROXY.to_owned(),
            Kind::Edge => anyhow::bail!("the edge is no peer of itself"),
        };
        for (name, value) in [
            ("@DIR@", folder.path().display().to_string()),
            ("@LISTEN@", address.to_string()),
            ("@BACKEND@", backend.to_string()),
        ] {
            settings = settings.replace(name, &value);
        }
        write(&path("settings"), &settings)?;
        let mut command = match kind {
            Kind::Nginx => Command::new("/usr/sbin/nginx"),
            Kind::Haproxy | Kind::Edge => Command::new("/usr/sbin/haproxy"),
        };
        command.arg(if kind == Kind::Nginx { "-c" } else { "-f" });
        let child = command
            .arg(path("settings"))
            .stdout(File::create(path("access.log"))?)
            .stdin(Stdio::null())
            .spawn()
            .with_context(|| {
                format!(
                    "failed to start {}: is it installed (`image/setup bench`)?",
                    kind.name()
                )
            })?;
        Proxy::wait(kind, child, folder, address).await
    }

    async fn wait(
        kind: Kind,
        child: Child,
        folder: TempDir,
        address: SocketAddr,
    ) -> anyhow::Result<Proxy> {
        let mut proxy = Proxy {
            kind,
            child,
            target: Target::new(address)?,
            folder,
        };
        let begun = Instant::now();
        loop {
            let answered = async { proxy.target.http1().await?.get().await }.await;
            let Err(error) = answered else {
                return Ok(proxy);
            };
            let ended = proxy.child.try_wait()?;
            ensure!(ended.is_none(), "{} has ended", kind.name());
            ensure!(
                begun.elapsed() < START,
                "{} does not answer: {error:#}",
                kind.name()
            );
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    #[must_use]
    pub fn kind(&self) -> Kind {
        self.kind
    }

    #[must_use]
    pub fn target(&self) -> &Target {
        &self.target
    }

    /// A file in its folder.
    #[must_use]
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Gives an edge new settings: what it has, and these tables.
    ///
    /// # Errors
    /// They cannot be written.
    pub fn change_edge(&self, backend: SocketAddr, tables: &str) -> anyhow::Result<()> {
        let settings = edge_settings(self.folder.path(), self.target.address(), backend);
        write(&self.path("edge.toml"), &format!("{settings}{tables}"))
    }

    /// # Errors
    /// Its number is none, which the kernel never gives.
    pub fn usage(&self) -> anyhow::Result<Usage> {
        Ok(Usage::of(i32::try_from(self.child.id())?))
    }

    /// # Errors
    /// It has ended.
    pub fn signal(&self, signal: Signal) -> anyhow::Result<()> {
        Ok(kill(
            Pid::from_raw(i32::try_from(self.child.id())?),
            signal,
        )?)
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        // TERM: a master takes its workers along.
        self.signal(Signal::SIGTERM).ok();
        let begun = Instant::now();
        while matches!(self.child.try_wait(), Ok(None)) {
            if begun.elapsed() > Duration::from_secs(15) {
                drop(self.child.kill());
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

/// The versions of the others, for the table's caption.
#[must_use]
pub fn versions() -> String {
    let mut text = String::new();
    for package in ["nginx", "haproxy"] {
        let output = Command::new("dpkg-query")
            .args(["-W", "-f", "${Version}", package])
            .output();
        let version = output.map_or(String::new(), |output| {
            String::from_utf8_lossy(&output.stdout).into_owned()
        });
        let comma = if text.is_empty() { "" } else { ", " };
        write!(text, "{comma}{package} {version}").ok();
    }
    text
}

fn edge_settings(folder: &Path, address: SocketAddr, backend: SocketAddr) -> String {
    format!(
        "site_address = \"https://localhost:{1}\"\nnames = [\"localhost\"]\naddresses = [\"127.0.0.1\"]\nlisten_https = \"{2}\"\n\
         listen_http = \"127.0.0.1:0\"\nupstream = \"{backend}\"\nstate_dir = \"{0}/state\"\npublic_dir = \"{0}/public\"\n\
         upstream_state = \"{0}/supervisor/upstream.json\"\n\
         [limits]\nconnections_per_client = 8192\nbody_bytes = 1073741824\n",
        folder.display(),
        address.port(),
        address
    )
}

fn folder() -> anyhow::Result<TempDir> {
    Ok(tempfile::Builder::new()
        .prefix("atalaya-load-")
        .tempdir_in("/var/tmp")?)
}

/// A port that nobody listens on at the moment.
fn free_port() -> anyhow::Result<SocketAddr> {
    let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
    Ok(listener.local_addr()?)
}

fn write(path: &Path, text: &str) -> anyhow::Result<()> {
    atalaya_sys::durable::write(path, text.as_bytes(), 0o600, None)?;
    Ok(())
}

/// As the vendor's guide has it, with a log of the same fields as ours.
const NGINX: &str = r#"user root;
worker_processes 2;
daemon off;
pid @DIR@/pid;
error_log stderr warn;
events { worker_connections 8192; }
http {
    log_format json escape=json '{"event":"request","id":"$request_id","client":"$remote_addr","method":"$request_method","path":"$uri",'
        '"protocol":"$server_protocol","status":$status,"ms":$request_time,"bytes_in":$request_length,"bytes_out":$bytes_sent}';
    access_log @DIR@/access.log json;
    client_max_body_size 1g;
    client_body_temp_path @DIR@/body;
    proxy_temp_path @DIR@/proxy;
    fastcgi_temp_path @DIR@/fastcgi;
    uwsgi_temp_path @DIR@/uwsgi;
    scgi_temp_path @DIR@/scgi;
    server_tokens off;
    keepalive_requests 1000000000;
    keepalive_timeout 300s;
    proxy_request_buffering off;
    proxy_max_temp_file_size 0;
    upstream mattermost { server @BACKEND@; keepalive 128; keepalive_requests 1000000000; }
    server {
        listen @LISTEN@ ssl http2 backlog=1024;
        ssl_certificate @DIR@/server.pem;
        ssl_certificate_key @DIR@/server.pem;
        ssl_protocols TLSv1.2 TLSv1.3;
        ssl_session_tickets on;
        add_header Strict-Transport-Security "max-age=86400" always;
        add_header X-Content-Type-Options nosniff always;
        add_header Referrer-Policy no-referrer always;
        add_header Content-Security-Policy "object-src 'none'; base-uri 'self'" always;
        proxy_hide_header Permissions-Policy;
        proxy_hide_header X-Content-Type-Options;
        proxy_hide_header Referrer-Policy;
        add_header Permissions-Policy "accelerometer=(), geolocation=(), gyroscope=(), hid=(), magnetometer=(), midi=(), payment=(), usb=()" always;
        proxy_http_version 1.1;
        proxy_set_header Host $http_host;
        proxy_set_header X-Real-IP $remote_addr;
        proxy_set_header X-Forwarded-For $remote_addr;
        proxy_set_header X-Forwarded-Proto $scheme;
        proxy_set_header X-Forwarded-Host $http_host;
        location ~ /api/v[0-9]+/(users/)?websocket$ {
            proxy_pass http://mattermost;
            proxy_set_header Upgrade $http_upgrade;
            proxy_set_header Connection "upgrade";
            proxy_read_timeout 3600s;
        }
        location / {
            proxy_pass http://mattermost;
            proxy_set_header Connection "";
            proxy_read_timeout 600s;
        }
    }
}
"#;

const HAPROXY: &str = r#"global
    nbthread 2
    maxconn 8192
    log stdout format raw local0
    ssl-default-bind-options ssl-min-ver TLSv1.2
defaults
    mode http
    log global
    log-format "{\"event\":\"request\",\"id\":\"%ID\",\"client\":\"%ci\",\"method\":\"%HM\",\"path\":\"%HPO\",\"protocol\":\"%HV\",\"status\":%ST,\"ms\":%Ta,\"bytes_in\":%U,\"bytes_out\":%B}"
    unique-id-format %{+X}o%ci%cp%Ts%rt
    timeout connect 3s
    timeout client 300s
    timeout server 600s
    timeout tunnel 3600s
    option http-keep-alive
frontend site
    bind @LISTEN@ ssl crt @DIR@/server.pem alpn h2,http/1.1 backlog 1024
    http-request set-header X-Real-IP %[src]
    http-request set-header X-Forwarded-For %[src]
    http-request set-header X-Forwarded-Proto https
    http-request set-header X-Forwarded-Host %[req.hdr(Host)]
    http-response set-header Strict-Transport-Security max-age=86400
    http-response set-header X-Content-Type-Options nosniff
    http-response set-header Referrer-Policy no-referrer
    http-response add-header Content-Security-Policy "object-src 'none'; base-uri 'self'"
    http-response set-header Permissions-Policy "accelerometer=(), geolocation=(), gyroscope=(), hid=(), magnetometer=(), midi=(), payment=(), usb=()"
    default_backend mattermost
backend mattermost
    http-reuse always
    server mattermost @BACKEND@ pool-max-conn 128
"#;
