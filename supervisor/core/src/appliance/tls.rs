//! `[tls]`: where the site's certificate comes from. Values only; what may stand together is decided in [`super::check`].

use std::net::SocketAddr;

use super::words::words;
use super::{Email, Pem, Secret};

/// `[tls]`
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Tls {
    /// As written; [`Tls::mode`] is what holds.
    pub mode: Option<Mode>,
    pub acme: Acme,
    /// `tls.static.certificate`: the server's certificate first. Its key is among the [`Secrets`].
    pub certificate: Option<Pem>,
}

words! {
    /// `tls.mode`
    pub enum Mode {
        /// The machine's own authority.
        Internal = "internal",
        Acme = "acme",
        Static = "static",
    }
}

/// `[tls.acme]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Acme {
    /// To the authority's terms. Nothing is ordered without it.
    pub terms_agreed: bool,
    /// An https:// address.
    pub directory: String,
    pub contact: Vec<Email>,
    /// Whom to trust for the directory's own TLS; None: the public authorities.
    pub authority: Option<Pem>,
    /// As written; [`Acme::challenges`] is what holds.
    pub challenges: Option<Vec<Challenge>>,
    pub profile: Option<String>,
    /// `tls.acme.external_account.key_id`. Its HMAC key is among the [`Secrets`].
    pub external_account: Option<String>,
    pub dns: Dns,
}

words! {
    /// A way to prove that a name is ours (RFC 8555, 8737).
    pub enum Challenge {
        TlsAlpn = "tls-alpn-01",
        Http = "http-01",
        Dns = "dns-01",
    }
}

/// `[tls.acme.dns]`: a server that takes RFC 2136 updates. The key is among the [`Secrets`]. All of it, or nothing.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Dns {
    pub server: Option<SocketAddr>,
    /// None: the server is asked.
    pub zone: Option<String>,
    pub key_name: Option<String>,
    pub key_algorithm: KeyAlgorithm,
}

words! {
    /// The TSIG algorithms that RFC 8945 asks for and nobody has broken.
    #[derive(Default)]
    pub enum KeyAlgorithm {
        #[default]
        HmacSha256 = "hmac-sha256",
        HmacSha384 = "hmac-sha384",
        HmacSha512 = "hmac-sha512",
    }
}

/// What `appliance.toml` says that only the edge may know.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Secrets {
    /// `tls.static.key`: PEM.
    pub static_key: Option<Secret>,
    /// `tls.acme.external_account.hmac`: base64url without padding.
    pub external_account_hmac: Option<Secret>,
    /// `tls.acme.dns.key`: base64.
    pub dns_key: Option<Secret>,
}

/// Let's Encrypt.
const PUBLIC_DIRECTORY: &str = "https://acme-v02.api.letsencrypt.org/directory";

impl Tls {
    /// What is asked for: as written, or as the tables that are there say.
    #[must_use]
    pub fn mode(&self) -> Mode {
        self.mode.unwrap_or({
            if self.acme.terms_agreed {
                Mode::Acme
            } else if self.certificate.is_some() {
                Mode::Static
            } else {
                Mode::Internal
            }
        })
    }
}

impl Acme {
    /// The ways to prove the names, in the order in which they are tried.
    #[must_use]
    pub fn challenges(&self) -> Vec<Challenge> {
        match &self.challenges {
            Some(written) => written.clone(),
            None if self.dns.server.is_some() => vec![Challenge::Dns],
            None => vec![Challenge::TlsAlpn, Challenge::Http],
        }
    }
}

impl Default for Acme {
    fn default() -> Self {
        Self {
            terms_agreed: false,
            directory: PUBLIC_DIRECTORY.to_owned(),
            contact: Vec::new(),
            authority: None,
            challenges: None,
            profile: None,
            external_account: None,
            dns: Dns::default(),
        }
    }
}
