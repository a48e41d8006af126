//! What browsers are told beside Mattermost's own headers. Worked out once for each settings, so that an answer only copies. Pure.

use hyper::header::{self, HeaderMap, HeaderName, HeaderValue};

use crate::settings::{Csp, Headers, Site};

/// Powerful features that Mattermost has no use for, by names that Chromium knows: it complains about each other one on every page.
/// Microphone, camera, screen capture and clipboard stay as browsers have them: calls and copying need them.
const PERMISSIONS: &str = "accelerometer=(), geolocation=(), gyroscope=(), hid=(), magnetometer=(), midi=(), payment=(), serial=(), usb=()";

/// `csp = "default"`: beside the server's own policy; browsers enforce both.
const CONTENT_SECURITY: &str = "object-src 'none'; base-uri 'self'";

/// `csp = "strict"`: with this list the real web client ran without a violation. Inline styles must stay: the log-in form needs them.
/// Frames are the server's business (ServiceSettings.FrameAncestors), so that there is one place to allow them.
fn strict(site: Option<&Site>) -> String {
    let sockets = site.map_or_else(String::new, |site| {
        format!(" wss://{}", site.origin().trim_start_matches("https://"))
    });
    format!(
        "default-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data: blob:; connect-src 'self'{sockets}; font-src 'self'; \
         media-src 'self'; frame-src 'self'; form-action 'self'; {CONTENT_SECURITY}"
    )
}

const PERMISSIONS_POLICY: HeaderName = HeaderName::from_static("permissions-policy");

/// The values that are added to answers.
#[derive(Debug, Clone)]
pub struct Added {
    permissions: HeaderValue,
    /// None: the server's own stays.
    referrer: Option<HeaderValue>,
    content_security: Option<HeaderValue>,
    transport_security: Option<HeaderValue>,
}

impl Added {
    /// A value that cannot stand in a header counts as not given; the reader of appliance.toml refuses it before.
    pub fn new(headers: &Headers, site: Option<&Site>) -> Self {
        let value = |text: &str| HeaderValue::from_str(text).ok();
        Self {
            permissions: headers
                .permissions_policy
                .as_deref()
                .and_then(value)
                .unwrap_or(HeaderValue::from_static(PERMISSIONS)),
            referrer: Some(headers.referrer_policy.as_str())
                .filter(|policy| !policy.is_empty())
                .and_then(value),
            content_security: match headers.csp {
                Csp::Default => Some(HeaderValue::from_static(CONTENT_SECURITY)),
                Csp::Strict => value(&strict(site)),
                Csp::Off => None,
            },
            transport_security: transport_security(headers).as_deref().and_then(value),
        }
    }

    /// For an answer of Mattermost's. `trusted`: the connection has a certificate that browsers trust without being told to.
    pub fn complete(&self, headers: &mut HeaderMap, trusted: bool) {
        headers.remove(header::SERVER);
        headers.remove(HeaderName::from_static("x-powered-by"));
        // Mattermost sends an empty one, beside which a second has no effect.
        headers.insert(PERMISSIONS_POLICY, self.permissions.clone());
        headers.insert(
            header::X_CONTENT_TYPE_OPTIONS,
            HeaderValue::from_static("nosniff"),
        );
        if let Some(policy) = &self.referrer {
            headers.insert(header::REFERRER_POLICY, policy.clone());
        }
        if let Some(policy) = &self.content_security {
            headers.append(header::CONTENT_SECURITY_POLICY, policy.clone());
        }
        self.secure_transport(headers, trusted);
    }

    /// For any answer, the edge's own too. Never under the internal authority or a throw-away certificate: a browser that does not trust it
    /// would be locked out, and `localhost` is shared with everything else on a developer's machine.
    pub fn secure_transport(&self, headers: &mut HeaderMap, trusted: bool) {
        match &self.transport_security {
            Some(policy) if trusted => {
                headers.insert(header::STRICT_TRANSPORT_SECURITY, policy.clone());
            }
            _ => {
                headers.remove(header::STRICT_TRANSPORT_SECURITY);
            }
        }
    }
}

fn transport_security(headers: &Headers) -> Option<String> {
    if headers.hsts_seconds == 0 {
        return None;
    }
    let mut policy = format!("max-age={}", headers.hsts_seconds);
    if headers.hsts_include_subdomains {
        policy.push_str("; includeSubDomains");
    }
    if headers.hsts_preload {
        policy.push_str("; preload");
    }
    Some(policy)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn completed(settings: &Headers, trusted: bool) -> HeaderMap {
        let site = Site::parse("https://chat.example.org:8443").unwrap();
        let mut headers = HeaderMap::new();
        for (name, value) in [
            ("permissions-policy", ""),
            ("referrer-policy", "no-referrer"),
            ("server", "x"),
            ("x-powered-by", "x"),
            ("content-security-policy", "frame-ancestors 'self'"),
            ("strict-transport-security", "max-age=1"),
        ] {
            headers.insert(name, HeaderValue::from_static(value));
        }
        Added::new(settings, Some(&site)).complete(&mut headers, trusted);
        headers
    }

    fn all<'a>(headers: &'a HeaderMap, name: &str) -> Vec<&'a str> {
        let values = headers.get_all(name);
        values.iter().map(|value| value.to_str().unwrap()).collect()
    }

    #[test]
    fn by_default_pages_are_guarded_and_calls_still_work() {
        let headers = completed(&Headers::default(), false);
        let permissions = all(&headers, "permissions-policy");
        assert_eq!(permissions.len(), 1);
        for kept in ["clipboard", "microphone", "camera", "display-capture"] {
            assert!(!permissions[0].contains(kept), "{kept}");
        }
        assert!(
            !permissions[0].contains("bluetooth"),
            "no feature of that name"
        );
        assert_eq!(
            all(&headers, "content-security-policy"),
            ["frame-ancestors 'self'", CONTENT_SECURITY]
        );
        assert_eq!(all(&headers, "x-content-type-options"), ["nosniff"]);
        assert_eq!(all(&headers, "referrer-policy"), ["no-referrer"]);
        assert!(!headers.contains_key("server") && !headers.contains_key("x-powered-by"));
    }

    #[test]
    fn hsts_is_a_day_and_only_where_browsers_trust_the_certificate() {
        let name = "strict-transport-security";
        assert_eq!(
            all(&completed(&Headers::default(), true), name),
            ["max-age=86400"]
        );
        assert!(all(&completed(&Headers::default(), false), name).is_empty());
        let all_of_it = Headers {
            hsts_seconds: 63_072_000,
            hsts_include_subdomains: true,
            hsts_preload: true,
            ..Headers::default()
        };
        assert_eq!(
            all(&completed(&all_of_it, true), name),
            ["max-age=63072000; includeSubDomains; preload"]
        );
        let none = Headers {
            hsts_seconds: 0,
            ..Headers::default()
        };
        assert!(all(&completed(&none, true), name).is_empty());
    }

    #[test]
    fn each_can_be_changed() {
        let changed = Headers {
            csp: Csp::Strict,
            referrer_policy: "same-origin".to_owned(),
            permissions_policy: Some("usb=()".to_owned()),
            ..Headers::default()
        };
        let headers = completed(&changed, true);
        let policies = all(&headers, "content-security-policy");
        assert_eq!(policies.len(), 2);
        for part in [
            "default-src 'self'",
            "connect-src 'self' wss://chat.example.org:8443;",
            "style-src 'self' 'unsafe-inline'",
            "object-src 'none'",
        ] {
            assert!(policies[1].contains(part), "{part}");
        }
        assert!(!policies[1].contains("frame-ancestors"));
        assert_eq!(all(&headers, "referrer-policy"), ["same-origin"]);
        assert_eq!(all(&headers, "permissions-policy"), ["usb=()"]);
        let off = Headers {
            csp: Csp::Off,
            ..Headers::default()
        };
        assert_eq!(
            all(&completed(&off, true), "content-security-policy"),
            ["frame-ancestors 'self'"]
        );
    }
}
