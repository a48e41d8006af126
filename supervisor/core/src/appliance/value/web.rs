//! What an ACME authority hands out, and what stands in headers.

use super::super::Secret;
use super::SiteAddress;

pub(in crate::appliance) const DIRECTORY: &str =
    "https://HOST/PATH, without a user name (example: \"https://ca.example.com/acme/directory\")";
pub(in crate::appliance) const CONTACT: &str =
    "a list of e-mail addresses in lower case (example: [\"admin@example.com\"])";
pub(in crate::appliance) const PROFILE: &str =
    "1 to 64 letters, digits, \"-\" and \"_\", as the authority names it (example: \"shortlived\")";
pub(in crate::appliance) const KEY_ID: &str =
    "1 to 256 visible characters, as the authority gave it";
pub(in crate::appliance) const HMAC: &str =
    "base64url as the authority gave it: at least 22 letters, digits, \"-\" and \"_\"";
pub(in crate::appliance) const DNS_KEY: &str =
    "base64, at least 16 bytes, as in the DNS server's key file";
pub(in crate::appliance) const PERMISSIONS_POLICY: &str = "the header's text: 1 to 4096 visible ASCII characters and spaces (example: \"camera=(), geolocation=()\")";
pub(in crate::appliance) const FRAME_ANCESTORS: &str = "a list of https://HOST[:PORT], \"*.\" in front of the host at most (example: [\"https://portal.example.com\"])";

fn is_visible(text: &str) -> bool {
    text.bytes().all(|b| b.is_ascii_graphic())
}

pub(in crate::appliance) fn parse_directory(text: &str) -> Result<String, &'static str> {
    let Some(rest) = text.strip_prefix("https://") else {
        return Err("does not begin with https://");
    };
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let (host, path) = rest.split_at(end);
    SiteAddress::parse(&format!("https://{host}"))?;
    if text.len() > 1024 || !is_visible(path) || path.contains('#') {
        return Err("has a path that is not allowed");
    }
    Ok(text.to_owned())
}

pub(in crate::appliance) fn parse_profile(text: &str) -> Result<String, &'static str> {
    let allowed = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
    if text.is_empty() || text.len() > 64 || !text.bytes().all(allowed) {
        return Err("is not a profile's name");
    }
    Ok(text.to_owned())
}

pub(in crate::appliance) fn parse_key_id(text: &str) -> Result<String, &'static str> {
    if text.is_empty() || text.len() > 256 || !is_visible(text) {
        return Err("is not a key identifier");
    }
    Ok(text.to_owned())
}

/// 16 bytes are 22 characters; some authorities pad them, RFC 8555 does not.
pub(in crate::appliance) fn parse_hmac(text: &str) -> Result<Secret, &'static str> {
    let body = text.trim_end_matches('=');
    let allowed = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
    if text.contains(['+', '/']) {
        return Err("is base64, not base64url");
    }
    if body.len() % 4 == 1 || text.len() - body.len() > 2 || !body.bytes().all(allowed) {
        return Err("is not base64url");
    }
    if body.len() < 22 {
        return Err("is shorter than 16 bytes");
    }
    Ok(Secret::new(body.to_owned()))
}

pub(in crate::appliance) fn parse_dns_key(text: &str) -> Result<Secret, &'static str> {
    let body = text.trim_end_matches('=');
    let allowed = |b: u8| b.is_ascii_alphanumeric() || b == b'+' || b == b'/';
    if !text.len().is_multiple_of(4) || text.len() - body.len() > 2 || !body.bytes().all(allowed) {
        return Err("is not base64");
    }
    if body.len() < 22 {
        return Err("is shorter than 16 bytes");
    }
    Ok(Secret::new(text.to_owned()))
}

pub(in crate::appliance) fn parse_permissions_policy(text: &str) -> Result<String, &'static str> {
    if text.trim().is_empty() || text.len() > 4096 {
        return Err("is empty or too long");
    }
    if !text.bytes().all(|b| b.is_ascii_graphic() || b == b' ') {
        return Err("holds a character that a header cannot have");
    }
    Ok(text.trim().to_owned())
}

/// Mattermost puts them as they are into its Content-Security-Policy, so nothing may end the directive.
pub(in crate::appliance) fn parse_frame_ancestor(text: &str) -> Result<String, &'static str> {
    let Some(rest) = text.strip_prefix("https://") else {
        return Err("holds something that does not begin with https://");
    };
    let (star, host) = match rest.strip_prefix("*.") {
        Some(host) => ("*.", host),
        None => ("", rest),
    };
    let address = SiteAddress::parse(&format!("https://{host}"))
        .map_err(|_| "holds something that is not https://HOST[:PORT]")?;
    let plain = address.to_string();
    let host = plain.strip_prefix("https://").unwrap_or(&plain);
    Ok(format!("https://{star}{host}"))
}
