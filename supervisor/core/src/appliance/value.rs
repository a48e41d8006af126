//! The values of `appliance.toml`: one type each, which can only hold what is allowed.
//!
//! Decides what a host name, a site address, a user name, an e-mail address and a password are; what is only the edge's
//! stands in the rooms below. It must not know about files, keys or lines: a refusal is one sentence for
//! [`super::reader`] to place.

pub(super) mod network;
pub(super) mod pem;
pub(super) mod web;

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::Secret;

/// One label of RFC 1123: 1 to 63 of a-z, 0-9 and `-`, not at the ends. Upper case is refused, because certificates,
/// DHCP and the browser's address bar would show two spellings of one name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hostname(String);

/// The host part of a site address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Host {
    Name(String),
    Address(IpAddr),
}

/// `https://HOST[:PORT]`, as a browser sends it in `Origin`: lower case, and without the port when it is 443.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SiteAddress {
    host: Host,
    port: u16,
}

/// A Mattermost user name that its web client accepts too: 3 to 22 characters, a letter first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Username(String);

/// An e-mail address that Mattermost accepts: lower case, at most 128 bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Email(String);

/// What is allowed, with an example; shown after every refusal of that value.
pub(super) const HOSTNAME: &str =
    "1 to 63 of a-z, 0-9 and \"-\", not beginning or ending with \"-\" (example: \"atalaya\")";
pub(super) const SITE_ADDRESS: &str =
    "https://HOST or https://HOST:PORT, nothing after it (example: \"https://chat.example.com\")";
pub(super) const USERNAME: &str =
    "3 to 22 of a-z, 0-9, \".\", \"-\" and \"_\", beginning with a letter (example: \"admin\")";
pub(super) const EMAIL: &str =
    "NAME@HOST in lower case, at most 128 bytes (example: \"admin@example.com\")";
pub(super) const PASSWORD: &str =
    "8 to 72 bytes, no control characters (example: \"three unrelated words\")";

/// Mattermost refuses the first four; the last two are the appliance's own.
const TAKEN_USERNAMES: [&str; 6] = [
    "all",
    "channel",
    "matterbot",
    "system",
    "atalaya-probe",
    "atalaya-probe-user",
];

impl Hostname {
    /// # Errors
    /// One sentence that says what is wrong.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        label(text)?;
        Ok(Self(text.to_owned()))
    }

    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Default for Hostname {
    fn default() -> Self {
        Self("atalaya".to_owned())
    }
}

impl SiteAddress {
    /// # Errors
    /// One sentence that says what is wrong.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        let Some((scheme, rest)) = text.split_once("://") else {
            return Err("has no https:// in front");
        };
        if !scheme.eq_ignore_ascii_case("https") {
            return Err("is not https");
        }
        if rest.chars().any(|c| c.is_whitespace() || c.is_control()) {
            return Err("holds a space or a control character");
        }
        if rest.contains('@') {
            return Err("holds a user name");
        }
        if rest.contains(['/', '?', '#', '\\']) {
            return Err("has something after the host");
        }
        let (host, port) = if let Some(inside) = rest.strip_prefix('[') {
            let Some((inside, after)) = inside.split_once(']') else {
                return Err("has a \"[\" without \"]\"");
            };
            let address: Ipv6Addr = inside
                .parse()
                .map_err(|_| "has no valid IPv6 address between \"[\" and \"]\"")?;
            let port = match after {
                "" => None,
                after => Some(
                    after
                        .strip_prefix(':')
                        .ok_or("has something after the host")?,
                ),
            };
            (Host::Address(address.into()), port)
        } else {
            let (host, port) = match rest.split_once(':') {
                Some((_, port)) if port.contains(':') => {
                    return Err("has an IPv6 address without \"[\" and \"]\"");
                }
                Some((host, port)) => (host, Some(port)),
                None => (rest, None),
            };
            (parse_host(host)?, port)
        };
        if let Host::Address(address) = &host
            && (address.is_unspecified() || address.is_multicast())
        {
            return Err("has an address that no browser can reach");
        }
        let port = match port {
            None => 443,
            Some(digits) => parse_port(digits)?,
        };
        Ok(Self { host, port })
    }

    /// The address that a machine without a configured one has.
    #[must_use]
    pub fn of_address(address: IpAddr) -> Self {
        Self {
            host: Host::Address(address),
            port: 443,
        }
    }

    /// The address by the machine's own name, when it has no other.
    #[must_use]
    pub fn of_hostname(name: &Hostname) -> Self {
        Self {
            host: Host::Name(name.0.clone()),
            port: 443,
        }
    }

    #[must_use]
    pub fn host(&self) -> &Host {
        &self.host
    }

    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }
}

fn parse_port(digits: &str) -> Result<u16, &'static str> {
    const WRONG: &str = "has a port that is not a number from 1 to 65535";
    if digits.is_empty() || digits.starts_with('0') || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return Err(WRONG);
    }
    digits.parse().map_err(|_| WRONG)
}

fn parse_host(text: &str) -> Result<Host, &'static str> {
    if text.is_empty() {
        return Err("has no host");
    }
    if let Ok(address) = text.parse::<Ipv4Addr>() {
        return Ok(Host::Address(address.into()));
    }
    let name = text.to_ascii_lowercase();
    if name.len() > 253 {
        return Err("has a host longer than 253 characters");
    }
    // A name whose last label is a number is read as an IPv4 address by browsers (WHATWG URL).
    if name
        .rsplit('.')
        .next()
        .is_some_and(|last| !last.is_empty() && last.bytes().all(|b| b.is_ascii_digit()))
    {
        return Err("has a host that is neither a name nor a valid IPv4 address");
    }
    for part in name.split('.') {
        label(part).map_err(|_| "has a host that is not a DNS name or an IP address")?;
    }
    Ok(Host::Name(name))
}

fn label(text: &str) -> Result<(), &'static str> {
    if text.is_empty() {
        return Err("is empty");
    }
    if text.len() > 63 {
        return Err("is longer than 63 characters");
    }
    if text.bytes().any(|b| b.is_ascii_uppercase()) {
        return Err("holds an upper-case letter");
    }
    if !text
        .bytes()
        .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
    {
        return Err("holds a character that is not allowed");
    }
    if text.starts_with('-') || text.ends_with('-') {
        return Err("begins or ends with \"-\"");
    }
    Ok(())
}

impl Username {
    /// # Errors
    /// One sentence that says what is wrong.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        if !(3..=22).contains(&text.len()) {
            return Err("is not 3 to 22 characters long");
        }
        if !text.starts_with(|c: char| c.is_ascii_lowercase()) {
            return Err("does not begin with a lower-case letter");
        }
        if !text
            .bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b".-_".contains(&b))
        {
            return Err("holds a character that is not allowed");
        }
        if TAKEN_USERNAMES.contains(&text) {
            return Err("is a name that Mattermost or the appliance keeps for itself");
        }
        Ok(Self(text.to_owned()))
    }

    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Default for Username {
    fn default() -> Self {
        Self("admin".to_owned())
    }
}

impl Email {
    /// # Errors
    /// One sentence that says what is wrong.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        if text.len() > 128 {
            return Err("is longer than 128 bytes");
        }
        let Some((name, host)) = text.rsplit_once('@') else {
            return Err("has no \"@\"");
        };
        // RFC 5322 dot-atom, without the characters that only ever are a mistake in a configuration file.
        let atom = |b: u8| {
            b.is_ascii_lowercase() || b.is_ascii_digit() || b"!#$%&'*+-/=?^_`{|}~.".contains(&b)
        };
        if text.bytes().any(|b| b.is_ascii_uppercase()) {
            return Err("holds an upper-case letter");
        }
        if name.is_empty()
            || !name.bytes().all(atom)
            || name.starts_with('.')
            || name.ends_with('.')
            || name.contains("..")
        {
            return Err("has a part before \"@\" that is not allowed");
        }
        if host.is_empty() || host.split('.').any(|part| label(part).is_err()) {
            return Err("has a host after \"@\" that is not a DNS name");
        }
        Ok(Self(text.to_owned()))
    }

    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Default for Email {
    fn default() -> Self {
        Self("admin@localhost".to_owned())
    }
}

/// The limits are Mattermost's own: `PasswordSettings.MinimumLength` is 8 by default, and 72 bytes is all that it takes.
pub(super) fn parse_password(text: &str) -> Result<Secret, &'static str> {
    if text.len() < 8 {
        return Err("is shorter than 8 bytes");
    }
    if text.len() > 72 {
        return Err("is longer than 72 bytes");
    }
    if text.chars().any(char::is_control) {
        return Err("holds a control character");
    }
    Ok(Secret::new(text.to_owned()))
}

impl fmt::Display for Hostname {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for Username {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for Email {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => f.write_str(name),
            Self::Address(IpAddr::V4(address)) => write!(f, "{address}"),
            Self::Address(IpAddr::V6(address)) => write!(f, "[{address}]"),
        }
    }
}

impl fmt::Display for SiteAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "https://{}", self.host)?;
        if self.port != 443 {
            write!(f, ":{}", self.port)?;
        }
        Ok(())
    }
}
