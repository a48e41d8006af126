//! `[edge]`: what browsers are told, who may come in, and how much of everything. Values only.

use ipnet::IpNet;

use super::words::words;

/// `[edge]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Edge {
    pub csp: Csp,
    /// Seconds that a browser remembers to come by https only; 0: it is not told to. Never sent under the internal
    /// authority.
    pub hsts_seconds: u64,
    pub hsts_include_subdomains: bool,
    pub hsts_preload: bool,
    pub referrer_policy: ReferrerPolicy,
    /// None: the edge's own list.
    pub permissions_policy: Option<String>,
    /// Whose pages may show the site in a frame, beside its own.
    pub frame_ancestors: Vec<String>,
    /// The largest file that may be uploaded, in MiB.
    pub upload_mib: u64,
    /// Load balancers whose word about the client's address is believed.
    pub trusted_proxies: Vec<IpNet>,
    /// Those speak the PROXY protocol before TLS.
    pub proxy_protocol: bool,
    pub allow: Allow,
    pub login: Login,
    pub limits: Limits,
}

words! {
    /// `edge.csp`: what is added to the server's Content-Security-Policy.
    #[derive(Default)]
    pub enum Csp {
        #[default]
        Default = "default",
        Strict = "strict",
        Off = "off",
    }
}

words! {
    /// `edge.referrer_policy`. Those that tell another site the path are missing: a path can name a team and a channel.
    #[derive(Default)]
    pub enum ReferrerPolicy {
        #[default]
        NoReferrer = "no-referrer",
        SameOrigin = "same-origin",
        StrictOrigin = "strict-origin",
        StrictOriginWhenCrossOrigin = "strict-origin-when-cross-origin",
        Origin = "origin",
        OriginWhenCrossOrigin = "origin-when-cross-origin",
    }
}

/// `[edge.allow]`. An empty list lets everybody in, but `metrics`, which then lets nobody in.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Allow {
    pub site: Vec<IpNet>,
    /// Administrators' calls.
    pub administrators: Vec<IpNet>,
    /// The appliance's own console.
    pub console: Vec<IpNet>,
    pub metrics: Vec<IpNet>,
}

/// `[edge.login]`: failed log-ins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Login {
    /// Of one address for one log-in id. An account has two, a name and an e-mail address, and Mattermost locks it after ten.
    pub failures_per_account: u64,
    /// Of one address for all: 300 people may sit behind it.
    pub failures_per_address: u64,
    pub window_seconds: u64,
}

/// `[edge.limits]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Held at once, both ports together.
    pub connections: u64,
    /// Of one client address (one /64 for IPv6).
    pub connections_per_client: u64,
    /// Headers of one request, and their bytes.
    pub headers: u64,
    pub header_bytes: u64,
    /// Seconds for a TLS handshake, for a request's headers, and for an idle HTTP/1.1 connection.
    pub header_seconds: u64,
    /// Seconds without a byte after which a body is given up.
    pub body_idle_seconds: u64,
    /// Seconds that open requests get when the edge is stopped.
    pub drain_seconds: u64,
}

impl Default for Edge {
    fn default() -> Self {
        Self {
            csp: Csp::Default,
            hsts_seconds: 86_400,
            hsts_include_subdomains: false,
            hsts_preload: false,
            referrer_policy: ReferrerPolicy::default(),
            permissions_policy: None,
            frame_ancestors: Vec::new(),
            upload_mib: 100,
            trusted_proxies: Vec::new(),
            proxy_protocol: false,
            allow: Allow::default(),
            login: Login::default(),
            limits: Limits::default(),
        }
    }
}

impl Default for Login {
    fn default() -> Self {
        Self {
            failures_per_account: 4,
            failures_per_address: 100,
            window_seconds: 600,
        }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 8192,
            connections_per_client: 2048,
            headers: 100,
            header_bytes: 32 * 1024,
            header_seconds: 20,
            body_idle_seconds: 120,
            drain_seconds: 10,
        }
    }
}
