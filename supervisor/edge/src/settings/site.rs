//! The address that users type, and where requests for another one are sent on to.

use std::net::IpAddr;

use hyper::Uri;

use super::SettingsError;

/// The address that users type: `https://host[:port]`, never with a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Site {
    origin: String,
    host: String,
}

impl Site {
    pub fn parse(address: &str) -> Result<Self, SettingsError> {
        let invalid = |why| SettingsError::Site {
            address: address.to_owned(),
            why,
        };
        let uri: Uri = address.parse().map_err(|_| invalid("it is not a URL"))?;
        if uri.scheme_str() != Some("https") {
            return Err(invalid("it does not begin with https://"));
        }
        let authority = uri.authority().ok_or_else(|| invalid("it has no host"))?;
        if authority.as_str().contains('@') {
            return Err(invalid("it contains a user name"));
        }
        // `https://host/` and `https://host` mean the same; anything longer is a path.
        if address.to_ascii_lowercase().trim_end_matches('/')
            != format!("https://{}", authority.as_str().to_ascii_lowercase())
        {
            return Err(invalid("it has a path"));
        }
        let host = authority.host().to_ascii_lowercase();
        if host.is_empty() {
            return Err(invalid("it has no host"));
        }
        let port = match authority.port_u16() {
            None if authority.as_str().len() != authority.host().len() => {
                return Err(invalid("its port is not a number from 1 to 65535"));
            }
            None | Some(443) => String::new(),
            Some(port) => format!(":{port}"),
        };
        Ok(Self {
            origin: format!("https://{host}{port}"),
            host,
        })
    }

    /// `https://host[:port]`, without a slash at the end; the default port is left out.
    pub fn origin(&self) -> &str {
        &self.origin
    }

    /// `host[:port]`, as a request names it.
    pub fn authority(&self) -> &str {
        self.origin.trim_start_matches("https://")
    }

    pub fn has_default_port(&self) -> bool {
        self.authority().len() == self.host.len()
    }

    /// Where a plain-text request for `path_and_query` is sent on to.
    pub fn location(&self, path_and_query: &str) -> String {
        if path_and_query.starts_with('/') {
            format!("{}{path_and_query}", self.origin)
        } else {
            format!("{}/", self.origin)
        }
    }

    /// The host as it stands in the address; IPv6 in brackets.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The host, where it is an address.
    pub fn address(&self) -> Option<IpAddr> {
        self.host
            .trim_start_matches('[')
            .trim_end_matches(']')
            .parse()
            .ok()
    }
}
