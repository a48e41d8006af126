//! A user of the server: what a chat client does, through the TLS edge, with nothing trusted but the appliance's CA.

use std::io::Read;
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConnection, StreamOwned};
use serde_json::{Value, json};
use ureq::http::Uri;
use ureq::tls::{Certificate, RootCerts, TlsConfig, TlsProvider};
use ureq::unversioned::resolver::{ResolvedSocketAddrs, Resolver};
use ureq::unversioned::transport::{DefaultConnector, NextTimeout};

/// Long enough for an emulated machine that is starting half its units at the same time.
const ANSWER_LIMIT: Duration = Duration::from_secs(30);

/// A client, perhaps logged in.
#[derive(Debug, Clone)]
pub struct Client {
    agent: ureq::Agent,
    base: String,
    plain_base: String,
    host: String,
    https_port: u16,
    ca_pem: String,
    token: Option<String>,
}

/// A server's answer, whatever its status.
#[derive(Debug, Clone)]
pub struct Answer {
    /// HTTP status.
    pub status: u16,
    /// Headers, names in lower case.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: Vec<u8>,
}

impl Answer {
    /// The value of a header.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(known, _)| known == name)
            .map(|(_, value)| value.as_str())
    }

    /// The body as JSON; refused when the status is not what was expected.
    pub fn json(&self, expected: u16) -> anyhow::Result<Value> {
        ensure!(
            self.status == expected,
            "status {} instead of {expected}: {}",
            self.status,
            self.text()
        );
        serde_json::from_slice(&self.body).with_context(|| format!("no JSON: {}", self.text()))
    }

    /// The body as text.
    #[must_use]
    pub fn whole_text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The beginning of the body as text.
    #[must_use]
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body)
            .chars()
            .take(500)
            .collect()
    }
}

impl Client {
    /// A client of the machine behind these ports of 127.0.0.1.
    pub fn new(https_port: u16, http_port: u16, ca_pem: &str) -> anyhow::Result<Client> {
        let mut client = Client::of_site(
            &format!("https://localhost:{https_port}"),
            https_port,
            http_port,
            ca_pem,
        )?;
        client.plain_base = format!("http://localhost:{http_port}");
        Ok(client)
    }

    /// A client that believes the machine behind these ports of 127.0.0.1 to be the site (`https://host[:port]`).
    pub fn of_site(
        site: &str,
        https_port: u16,
        http_port: u16,
        ca_pem: &str,
    ) -> anyhow::Result<Client> {
        let address: Uri = site.parse().context("the site is no address")?;
        let host = address.host().context("the site has no host")?.to_owned();
        let ca = Certificate::from_pem(ca_pem.as_bytes()).context("the CA is no certificate")?;
        let tls = TlsConfig::builder()
            .provider(TlsProvider::Rustls)
            .root_certs(RootCerts::Specific(Arc::new(vec![ca])))
            .unversioned_rustls_crypto_provider(Arc::new(
                rustls::crypto::aws_lc_rs::default_provider(),
            ))
            .build();
        let config = ureq::Agent::config_builder()
            .tls_config(tls)
            .http_status_as_error(false)
            .max_redirects(0)
            .max_redirects_will_error(false)
            .ip_family(ureq::config::IpFamily::Ipv4Only)
            .timeout_global(Some(ANSWER_LIMIT))
            // A connection that the edge closed by restarting must not count as an answer of the new one.
            .max_idle_age(Duration::from_secs(1))
            .proxy(None)
            .build();
        let ports = Ports {
            https: https_port,
            http: http_port,
        };
        Ok(Client {
            agent: ureq::Agent::with_parts(config, DefaultConnector::default(), ports),
            base: site.to_owned(),
            plain_base: format!("http://{host}"),
            host,
            https_port,
            ca_pem: ca_pem.to_owned(),
            token: None,
        })
    }

    /// The address.
    #[must_use]
    pub fn base(&self) -> &str {
        &self.base
    }

    /// The CA that it trusts.
    #[must_use]
    pub fn ca_pem(&self) -> &str {
        &self.ca_pem
    }

    /// The session's token.
    #[must_use]
    pub fn token(&self) -> Option<&str> {
        self.token.as_deref()
    }

    /// GET.
    pub fn get(&self, path: &str) -> anyhow::Result<Answer> {
        self.read(
            path,
            self.with_token(self.agent.get(format!("{}{path}", self.base)))
                .call(),
        )
    }

    /// GET from port 80.
    pub fn get_plain(&self, path: &str) -> anyhow::Result<Answer> {
        self.read(
            path,
            self.agent.get(format!("{}{path}", self.plain_base)).call(),
        )
    }

    /// POST of bytes.
    pub fn post(&self, path: &str, content_type: &str, body: &[u8]) -> anyhow::Result<Answer> {
        let request = self.with_token(self.agent.post(format!("{}{path}", self.base)));
        self.read(
            path,
            request.header("Content-Type", content_type).send(body),
        )
    }

    /// POST of JSON.
    pub fn post_json(&self, path: &str, body: &Value) -> anyhow::Result<Answer> {
        self.post(path, "application/json", body.to_string().as_bytes())
    }

    fn with_token<B>(&self, request: ureq::RequestBuilder<B>) -> ureq::RequestBuilder<B> {
        match &self.token {
            Some(token) => request.header("Authorization", format!("Bearer {token}")),
            None => request,
        }
    }

    fn read(
        &self,
        what: &str,
        answer: Result<ureq::http::Response<ureq::Body>, ureq::Error>,
    ) -> anyhow::Result<Answer> {
        let mut answer = answer.with_context(|| format!("no answer to {what}"))?;
        let header = |(name, value): (&ureq::http::HeaderName, &ureq::http::HeaderValue)| {
            (
                name.as_str().to_owned(),
                String::from_utf8_lossy(value.as_bytes()).into_owned(),
            )
        };
        let headers = answer.headers().iter().map(header).collect();
        let mut body = Vec::new();
        answer
            .body_mut()
            .as_reader()
            .read_to_end(&mut body)
            .context("the answer broke off")?;
        Ok(Answer {
            status: answer.status().as_u16(),
            headers,
            body,
        })
    }

    /// Tries to log in.
    pub fn try_log_in(&self, user: &str, password: &str) -> anyhow::Result<Answer> {
        self.post_json(
            "/api/v4/users/login",
            &json!({"login_id": user, "password": password}),
        )
    }

    /// Logs in; later calls carry the session.
    pub fn log_in(&mut self, user: &str, password: &str) -> anyhow::Result<()> {
        let answer = self.try_log_in(user, password)?;
        answer.json(200).context("failed to log in")?;
        self.token = Some(
            answer
                .header("token")
                .context("the log-in gave no token")?
                .to_owned(),
        );
        Ok(())
    }

    /// Makes a team and a channel in it; gives the channel's id.
    pub fn make_channel(&self, name: &str) -> anyhow::Result<String> {
        let team = json!({"name": name, "display_name": name, "type": "O"});
        let team = id(&self
            .post_json("/api/v4/teams", &team)?
            .json(201)
            .context("failed to make a team")?)?;
        let channel = json!({"team_id": team, "name": name, "display_name": name, "type": "O"});
        id(&self
            .post_json("/api/v4/channels", &channel)?
            .json(201)
            .context("failed to make a channel")?)
    }

    /// Posts; gives the post's id.
    pub fn make_post(
        &self,
        channel: &str,
        message: &str,
        files: &[&str],
    ) -> anyhow::Result<String> {
        let post = json!({"channel_id": channel, "message": message, "file_ids": files});
        id(&self
            .post_json("/api/v4/posts", &post)?
            .json(201)
            .context("failed to post")?)
    }

    /// Uploads a file; gives its id.
    pub fn upload(&self, channel: &str, name: &str, content: &[u8]) -> anyhow::Result<String> {
        let path = format!("/api/v4/files?channel_id={channel}&filename={name}");
        let answer = self
            .post(&path, "application/octet-stream", content)?
            .json(201)
            .context("failed to upload")?;
        id(answer.pointer("/file_infos/0").unwrap_or(&Value::Null))
    }

    /// Downloads a file.
    pub fn download(&self, file: &str) -> anyhow::Result<Vec<u8>> {
        let answer = self.get(&format!("/api/v4/files/{file}"))?;
        ensure!(
            answer.status == 200,
            "status {} for a download: {}",
            answer.status,
            answer.text()
        );
        Ok(answer.body)
    }

    /// The texts of all posts of a channel.
    pub fn messages(&self, channel: &str) -> anyhow::Result<Vec<String>> {
        let mut messages = Vec::new();
        for page in 0.. {
            let path = format!("/api/v4/channels/{channel}/posts?page={page}&per_page=200");
            let list = self
                .get(&path)?
                .json(200)
                .context("failed to read the channel")?;
            let posts = list
                .get("posts")
                .and_then(Value::as_object)
                .context("no posts in the answer")?;
            if posts.is_empty() {
                break;
            }
            let texts = posts
                .values()
                .filter_map(|post| post.get("message")?.as_str());
            messages.extend(texts.map(str::to_owned));
            if posts.len() < 200 {
                break;
            }
        }
        Ok(messages)
    }

    /// The certificate that the edge shows, checked against the CA.
    pub fn server_certificate(&self) -> anyhow::Result<Vec<u8>> {
        match self.connect()?.conn.peer_certificates() {
            Some([leaf, ..]) => Ok(leaf.to_vec()),
            _ => bail!("the edge showed no certificate"),
        }
    }

    /// A connection of its own, for bytes that no well-behaved client sends in this way. It speaks HTTP/1.1.
    pub fn connect(&self) -> anyhow::Result<Connection> {
        let mut roots = rustls::RootCertStore::empty();
        roots.add(
            CertificateDer::from_pem_slice(self.ca_pem.as_bytes())
                .context("the CA is no certificate")?,
        )?;
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut config = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        let name = ServerName::try_from(self.host.clone())?;
        let mut connection = ClientConnection::new(Arc::new(config), name)?;
        let mut stream =
            TcpStream::connect(("127.0.0.1", self.https_port)).context("failed to connect")?;
        stream.set_read_timeout(Some(ANSWER_LIMIT))?;
        while connection.is_handshaking() {
            connection
                .complete_io(&mut stream)
                .context("the TLS handshake failed")?;
        }
        Ok(StreamOwned::new(connection, stream))
    }
}

/// A TLS connection to the edge.
pub type Connection = StreamOwned<ClientConnection, TcpStream>;

/// Whatever is asked for is on this host, behind these ports.
#[derive(Debug)]
struct Ports {
    https: u16,
    http: u16,
}

impl Resolver for Ports {
    fn resolve(
        &self,
        uri: &Uri,
        _config: &ureq::config::Config,
        _timeout: NextTimeout,
    ) -> Result<ResolvedSocketAddrs, ureq::Error> {
        let port = match uri.scheme_str() {
            Some("https") => self.https,
            _ => self.http,
        };
        let mut addresses = self.empty();
        addresses.push(SocketAddr::from((Ipv4Addr::LOCALHOST, port)));
        Ok(addresses)
    }
}

fn id(value: &Value) -> anyhow::Result<String> {
    Ok(value
        .get("id")
        .and_then(Value::as_str)
        .with_context(|| format!("no id in {value}"))?
        .to_owned())
}
