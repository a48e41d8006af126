//! What may stand together in `appliance.toml`. Each value is right by itself when it comes here.

use std::collections::BTreeMap;

use super::reader::File;
use super::tls::{Challenge, Dns, Mode, Secrets};
use super::value::network;
use super::{Appliance, Host, Problem};

/// Browsers' preload list takes a site from one year on (hstspreload.org).
const PRELOAD_SECONDS: u64 = 31_536_000;

/// Every contradiction, each at the line of the key that would have to change.
pub(super) fn problems(
    appliance: &Appliance,
    secrets: &Secrets,
    file: File,
    lines: &BTreeMap<String, usize>,
) -> Vec<Problem> {
    let mut check = Check {
        lines,
        problems: Vec::new(),
    };
    check.mode(appliance);
    if appliance.tls.mode() == Mode::Acme {
        check.acme(appliance);
    }
    check.dns(&appliance.tls.acme.dns);
    check.pairs(appliance, secrets, file);
    check.edge(appliance);
    check.problems
}

struct Check<'l> {
    lines: &'l BTreeMap<String, usize>,
    problems: Vec<Problem>,
}

impl Check<'_> {
    /// At the first of the keys that is there.
    fn push(&mut self, keys: &[&str], value: Option<String>, wrong: &str, allowed: &str) {
        let (key, line) = keys
            .iter()
            .find_map(|key| Some((*key, *self.lines.get(*key)?)))
            .unwrap_or_default();
        self.problems.push(Problem {
            key: key.to_owned(),
            line,
            value,
            wrong: wrong.to_owned(),
            allowed: allowed.to_owned(),
        });
    }

    fn mode(&mut self, appliance: &Appliance) {
        let tls = &appliance.tls;
        if tls.mode.is_none() && tls.acme.terms_agreed && tls.certificate.is_some() {
            self.push(
                &["tls.static"],
                None,
                "stands beside tls.acme.terms_agreed = true",
                "one of the two, or tls.mode = \"acme\" or \"static\" to say which holds",
            );
        }
        if tls.mode == Some(Mode::Static) && tls.certificate.is_none() {
            self.push(
                &["tls.mode"],
                Some("\"static\"".to_owned()),
                "there is no certificate",
                "with certificate and key under [tls.static]",
            );
        }
    }

    fn acme(&mut self, appliance: &Appliance) {
        let acme = &appliance.tls.acme;
        let asked = ["tls.mode", "tls.acme.terms_agreed"];
        if !acme.terms_agreed {
            self.push(
                &asked,
                Some("\"acme\"".to_owned()),
                "the authority's terms are not agreed to",
                "with tls.acme.terms_agreed = true, once you have read them (Let's Encrypt: https://letsencrypt.org/repository/)",
            );
        }
        self.site(appliance, &asked);
        let challenges = acme.challenges();
        if appliance.site.names.iter().any(|name| name.is_wildcard())
            && challenges
                .iter()
                .any(|challenge| *challenge != Challenge::Dns)
        {
            self.push(
                &["site.names"],
                None,
                "holds a name with \"*\", which only dns-01 proves",
                "such a name with tls.acme.challenges = [\"dns-01\"] and [tls.acme.dns]",
            );
        }
        if let Some(name) = appliance
            .site
            .names
            .iter()
            .find(|name| !name.as_str().contains('.'))
        {
            self.push(
                &["site.names"],
                Some(format!("\"{name}\"")),
                "no authority gives a certificate for a name without a dot",
                "full names (example: [\"chat.example.org\"]), or tls.mode = \"internal\"",
            );
        }
        if challenges.is_empty() {
            self.push(
                &["tls.acme.challenges"],
                None,
                "is empty",
                "one at least of \"tls-alpn-01\", \"http-01\" and \"dns-01\"",
            );
        }
        if challenges.contains(&Challenge::Dns) && acme.dns.server.is_none() {
            self.push(
                &["tls.acme.challenges"],
                None,
                "holds \"dns-01\", and no DNS server is named",
                "with server, key_name and key under [tls.acme.dns]",
            );
        }
    }

    /// What an authority on the internet gives certificates for.
    fn site(&mut self, appliance: &Appliance, asked: &[&str]) {
        const ALLOWED: &str =
            "a full name (example: \"https://chat.example.com\"), or tls.mode = \"internal\"";
        match appliance.site.address.as_ref() {
            None => self.push(
                asked,
                None,
                "there is no name to get a certificate for",
                "with site.address = \"https://NAME\" (example: \"https://chat.example.com\")",
            ),
            Some(site) => {
                let wrong = match site.host() {
                    Host::Address(_) => {
                        "certificates by ACME are for names, and this is an address"
                    }
                    Host::Name(name) if !name.contains('.') => {
                        "no authority gives a certificate for a name without a dot"
                    }
                    Host::Name(_) => return,
                };
                self.push(
                    &["site.address"],
                    Some(format!("\"{site}\"")),
                    wrong,
                    ALLOWED,
                );
            }
        }
    }

    /// Keys that mean nothing without each other. The public file has no secret, so half of a pair is whole there.
    fn pairs(&mut self, appliance: &Appliance, secrets: &Secrets, file: File) {
        let tls = &appliance.tls;
        let secrets_are_there = file != File::Public;
        let pairs = [
            (
                "tls.static",
                tls.certificate.is_some(),
                secrets.static_key.is_some(),
                ["certificate", "key"],
            ),
            (
                "tls.acme.external_account",
                tls.acme.external_account.is_some(),
                secrets.external_account_hmac.is_some(),
                ["key_id", "hmac"],
            ),
            (
                "tls.acme.dns",
                tls.acme.dns != Dns::default(),
                secrets.dns_key.is_some(),
                ["server, key_name", "key"],
            ),
        ];
        for (table, open, secret, [open_name, secret_name]) in pairs {
            if self.problems.iter().any(|problem| problem.key == table) {
                continue;
            }
            let missing = match (open, secret) {
                (true, false) if secrets_are_there => secret_name,
                (false, true) => open_name,
                (true, true | false) | (false, false) => continue,
            };
            let wrong = format!("has no {missing}");
            let allowed = format!("{open_name} and {secret_name} together");
            self.push(&[table], None, &wrong, &allowed);
        }
    }

    fn dns(&mut self, dns: &Dns) {
        let (missing, allowed) = match (dns.server, &dns.key_name) {
            _ if *dns == Dns::default() => return,
            (None, _) => ("server", network::DNS_SERVER),
            (Some(_), None) => ("key_name", network::KEY_NAME),
            (Some(_), Some(_)) => return,
        };
        self.push(
            &["tls.acme.dns"],
            None,
            &format!("has no {missing}"),
            &format!("{missing} is {allowed}"),
        );
    }

    fn edge(&mut self, appliance: &Appliance) {
        let edge = &appliance.edge;
        if edge.hsts_preload
            && !(edge.hsts_include_subdomains && edge.hsts_seconds >= PRELOAD_SECONDS)
        {
            self.push(
                &["edge.hsts_preload"],
                Some("true".to_owned()),
                "browsers' preload list does not take such a site",
                "with edge.hsts_include_subdomains = true and edge.hsts_seconds = 31536000 or more",
            );
        }
        if edge.proxy_protocol && edge.trusted_proxies.is_empty() {
            self.push(
                &["edge.proxy_protocol"],
                Some("true".to_owned()),
                "nobody is named who may speak it",
                "with the load balancers' addresses in edge.trusted_proxies",
            );
        }
        if edge
            .trusted_proxies
            .iter()
            .any(|proxy| proxy.prefix_len() == 0)
        {
            self.push(
                &["edge.trusted_proxies"],
                None,
                "holds everybody: then any client could say which address it has",
                "the load balancers' own addresses (example: [\"10.0.0.5\"])",
            );
        }
        if edge.login.failures_per_account > edge.login.failures_per_address {
            self.push(
                &[
                    "edge.login.failures_per_address",
                    "edge.login.failures_per_account",
                ],
                None,
                "one account may fail more often than an address for all of them",
                "failures_per_address at least failures_per_account",
            );
        }
    }
}
