//! Writes `appliance.toml`: what is not as by default, in the order of its documentation. Decides nothing.

use std::fmt::Display;

use super::edge::{Allow, Edge, Limits, Login};
use super::tls::{Acme, Challenge, KeyAlgorithm, Secrets, Tls};
use super::{Appliance, Secret, Update};

const HEAD: &str = "# What this machine is. Read at every boot; everything else is made from it.\n";

pub(super) fn text(appliance: &Appliance, secrets: Option<&Secrets>) -> String {
    let none = Secrets::default();
    let secrets = secrets.unwrap_or(&none);
    let Appliance {
        hostname,
        site,
        administrator,
        tls,
        edge,
        update,
    } = appliance;
    let mut out = HEAD.to_owned();
    out.push_str(&format!("hostname = {}\n", quoted(hostname)));
    Section::new(&mut out, "site")
        .optional("address", site.address.as_ref())
        .list("names", &site.names);
    Section::new(&mut out, "administrator")
        .line("username", &quoted(&administrator.username))
        .line("email", &quoted(&administrator.email));
    write_tls(&mut out, tls, secrets);
    write_edge(&mut out, edge);
    let Update {
        migration_patience_seconds,
    } = update;
    let default = Update::default();
    Section::new(&mut out, "update").other(
        "migration_patience_seconds",
        migration_patience_seconds,
        &default.migration_patience_seconds,
    );
    out
}

fn write_tls(out: &mut String, tls: &Tls, secrets: &Secrets) {
    let Tls {
        mode,
        acme,
        certificate,
    } = tls;
    Section::new(out, "tls").optional("mode", mode.map(|mode| mode.as_str()).as_ref());
    let Acme {
        terms_agreed,
        directory,
        contact,
        authority,
        challenges,
        profile,
        external_account,
        dns,
    } = acme;
    let default = Acme::default();
    Section::new(out, "tls.acme")
        .other("terms_agreed", terms_agreed, &default.terms_agreed)
        .other_text("directory", directory, &default.directory)
        .list("contact", contact)
        .optional("authority", authority.as_ref())
        .maybe(
            "challenges",
            challenges
                .as_ref()
                .map(|c| list(c.iter().copied().map(Challenge::as_str))),
        )
        .optional("profile", profile.as_ref());
    Section::new(out, "tls.acme.external_account")
        .optional("key_id", external_account.as_ref())
        .secret("hmac", secrets.external_account_hmac.as_ref());
    if let Some(dns) = dns {
        let algorithm = (dns.key_algorithm != KeyAlgorithm::default())
            .then(|| quoted(dns.key_algorithm.as_str()));
        Section::new(out, "tls.acme.dns")
            .line("server", &quoted(dns.server))
            .optional("zone", dns.zone.as_ref())
            .line("key_name", &quoted(&dns.key_name))
            .maybe("key_algorithm", algorithm)
            .secret("key", secrets.dns_key.as_ref());
    }
    Section::new(out, "tls.static")
        .optional("certificate", certificate.as_ref())
        .secret("key", secrets.static_key.as_ref());
}

fn write_edge(out: &mut String, edge: &Edge) {
    let Edge {
        csp,
        hsts_seconds,
        hsts_include_subdomains,
        hsts_preload,
        referrer_policy,
        permissions_policy,
        frame_ancestors,
        upload_mib,
        trusted_proxies,
        proxy_protocol,
        allow,
        login,
        limits,
    } = edge;
    let default = Edge::default();
    Section::new(out, "edge")
        .other_text("csp", csp.as_str(), default.csp.as_str())
        .other("hsts_seconds", hsts_seconds, &default.hsts_seconds)
        .other(
            "hsts_include_subdomains",
            hsts_include_subdomains,
            &default.hsts_include_subdomains,
        )
        .other("hsts_preload", hsts_preload, &default.hsts_preload)
        .other_text("referrer_policy", referrer_policy, &default.referrer_policy)
        .optional("permissions_policy", permissions_policy.as_ref())
        .list("frame_ancestors", frame_ancestors)
        .other("upload_mib", upload_mib, &default.upload_mib)
        .list("trusted_proxies", trusted_proxies)
        .other("proxy_protocol", proxy_protocol, &default.proxy_protocol);
    let Allow {
        site,
        administrators,
        console,
        metrics,
    } = allow;
    Section::new(out, "edge.allow")
        .list("site", site)
        .list("administrators", administrators)
        .list("console", console)
        .list("metrics", metrics);
    let Login {
        failures_per_account,
        failures_per_address,
        window_seconds,
    } = login;
    Section::new(out, "edge.login")
        .other(
            "failures_per_account",
            failures_per_account,
            &default.login.failures_per_account,
        )
        .other(
            "failures_per_address",
            failures_per_address,
            &default.login.failures_per_address,
        )
        .other(
            "window_seconds",
            window_seconds,
            &default.login.window_seconds,
        );
    let Limits {
        connections,
        connections_per_client,
        headers,
        header_bytes,
        header_seconds,
        body_idle_seconds,
        drain_seconds,
    } = limits;
    let default = Limits::default();
    Section::new(out, "edge.limits")
        .other("connections", connections, &default.connections)
        .other(
            "connections_per_client",
            connections_per_client,
            &default.connections_per_client,
        )
        .other("headers", headers, &default.headers)
        .other("header_bytes", header_bytes, &default.header_bytes)
        .other("header_seconds", header_seconds, &default.header_seconds)
        .other(
            "body_idle_seconds",
            body_idle_seconds,
            &default.body_idle_seconds,
        )
        .other("drain_seconds", drain_seconds, &default.drain_seconds);
}

/// A table whose header is written with its first line.
struct Section<'o> {
    out: &'o mut String,
    name: &'static str,
    begun: bool,
}

impl<'o> Section<'o> {
    fn new(out: &'o mut String, name: &'static str) -> Self {
        Self {
            out,
            name,
            begun: false,
        }
    }

    fn line(mut self, key: &str, value: &str) -> Self {
        if !self.begun {
            self.out.push_str(&format!("\n[{}]\n", self.name));
            self.begun = true;
        }
        self.out.push_str(&format!("{key} = {value}\n"));
        self
    }

    fn maybe(self, key: &str, value: Option<String>) -> Self {
        match value {
            Some(value) => self.line(key, &value),
            None => self,
        }
    }

    fn optional<T: Display>(self, key: &str, value: Option<&T>) -> Self {
        self.maybe(key, value.map(quoted))
    }

    fn secret(self, key: &str, value: Option<&Secret>) -> Self {
        self.maybe(key, value.map(|secret| quoted(secret.expose())))
    }

    /// A number or a flag.
    fn other<T: Display + PartialEq>(self, key: &str, value: &T, default: &T) -> Self {
        let text = (value != default).then(|| value.to_string());
        self.maybe(key, text)
    }

    fn other_text(self, key: &str, value: &str, default: &str) -> Self {
        let text = (value != default).then(|| quoted(value));
        self.maybe(key, text)
    }

    fn list<T: Display>(self, key: &str, items: &[T]) -> Self {
        let text = (!items.is_empty()).then(|| list(items));
        self.maybe(key, text)
    }
}

/// A TOML string. Only PEM has several lines; it holds neither quotes nor backslashes.
pub(crate) fn quoted(value: impl Display) -> String {
    let text = value.to_string();
    if text.contains('\n') {
        format!("\"\"\"\n{text}\"\"\"")
    } else {
        format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
    }
}

/// A TOML list of strings, in one line.
pub(crate) fn list<T: Display>(items: impl IntoIterator<Item = T>) -> String {
    let items: Vec<String> = items.into_iter().map(quoted).collect();
    format!("[{}]", items.join(", "))
}
