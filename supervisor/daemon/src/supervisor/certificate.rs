//! What the edge reports about its certificate and its settings, judged: a line for people, and what is wrong. Pure but for reading the
//! files; the time is passed in.

use std::path::Path;
use std::time::Duration;

use serde::Deserialize;
use serde_json::Value;

use crate::clock::format_wall;

const DAY: i64 = 86_400;
/// A certificate that nothing renews is warned of so long before its end, in seconds.
const WARN_BEFORE: i64 = 30 * DAY;

/// certificate.json, as far as it matters here. Times are seconds since 1970.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub(super) struct Certificate {
    mode: String,
    serving: String,
    not_after: i64,
    renewal: Renewal,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
struct Renewal {
    #[serde(default)]
    next_at: Option<i64>,
    #[serde(default)]
    error: Option<String>,
}

/// settings.json: whether the edge's settings hold as they are written.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
pub(super) struct Settings {
    #[serde(default)]
    error: Option<String>,
    #[serde(default)]
    restart_for: Vec<String>,
}

/// Nothing is wrong with settings that the edge has not spoken of.
pub(super) fn read_settings(path: &Path) -> Settings {
    std::fs::read(path)
        .ok()
        .and_then(|text| serde_json::from_slice(&text).ok())
        .unwrap_or_default()
}

impl Certificate {
    /// None for a report of another form.
    pub(super) fn read(report: &Value) -> Option<Self> {
        Self::deserialize(report).ok()
    }

    /// One line: from whom, how long, when it is renewed.
    pub(super) fn words(&self, now: i64) -> String {
        let from = match self.serving.as_str() {
            "acme" => "from the ACME authority",
            "static" => "as given in appliance.toml",
            "internal" => "from the internal authority",
            _ => "made for this start only",
        };
        let until = if self.not_after <= now {
            format!("EXPIRED on {}", date(self.not_after))
        } else {
            format!(
                "until {} ({} left)",
                date(self.not_after),
                days(self.not_after - now)
            )
        };
        let next = match self.renewal.next_at {
            Some(next) if next > now => format!(", renewal on {}", date(next)),
            Some(_) | None => String::new(),
        };
        format!("{from}, {until}{next}")
    }

    /// What people should do something about.
    pub(super) fn wrong(&self, now: i64) -> Option<String> {
        let left = self.not_after - now;
        let is_wanted = self.serving == self.mode;
        let served = match (self.serving.as_str(), is_wanted) {
            (_, true) if left > 0 => format!("The present one is served on, {} are left.", days(left)),
            (_, true) => "It has expired, and browsers refuse it.".to_owned(),
            ("internal", false) => {
                "The internal one is served meanwhile, which browsers trust only where its authority was installed."
                    .to_owned()
            }
            _ => "One made for this start is served meanwhile, which no browser trusts.".to_owned(),
        };
        if let Some(error) = &self.renewal.error {
            let what = match self.mode.as_str() {
                "acme" if is_wanted => "The certificate cannot be renewed",
                "acme" => "The ACME authority has given no certificate yet",
                "static" => "The certificate given in appliance.toml cannot be used",
                _ => "The internal certificate is not as it should be",
            };
            let next = match self.renewal.next_at {
                Some(next) if next > now => {
                    let minutes = (next - now + 59) / 60;
                    format!(" The next attempt is in {minutes} minutes.")
                }
                Some(_) | None => String::new(),
            };
            let error = error.trim_end_matches('.');
            return Some(format!("{what}: {error}. {served}{next}"));
        }
        if left <= 0 {
            return Some(format!(
                "The certificate expired on {}, and browsers refuse it.",
                date(self.not_after)
            ));
        }
        (self.serving == "static" && left < WARN_BEFORE).then(|| {
            format!(
                "The certificate given in appliance.toml expires on {}, in {}: give a new one (tls.static).",
                date(self.not_after),
                days(left)
            )
        })
    }
}

impl Settings {
    pub(super) fn wrong(&self) -> Option<String> {
        if let Some(error) = &self.error {
            let error = error.trim_end_matches('.').replace('\n', " ");
            return Some(format!(
                "The edge refused its settings, and what was set before holds: {error}."
            ));
        }
        (!self.restart_for.is_empty()).then(|| {
            format!(
                "New settings of the edge wait for its restart ({}): atalaya unit restart edge.",
                self.restart_for.join(", ")
            )
        })
    }
}

fn date(seconds: i64) -> String {
    let since = Duration::from_secs(u64::try_from(seconds).unwrap_or(0));
    format_wall(since).chars().take(10).collect()
}

/// A certificate may live for six days: hours count then.
fn days(seconds: i64) -> String {
    match (seconds / DAY, seconds / 3600) {
        (0, 1) => "1 hour".to_owned(),
        (0, hours) => format!("{hours} hours"),
        (1, _) => "1 day".to_owned(),
        (days, _) => format!("{days} days"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const NOW: i64 = 1_795_362_074; // 2026-11-22

    fn certificate(mode: &str, serving: &str, left: i64, renewal: Value) -> Certificate {
        Certificate::read(&json!({
            "version": 1, "mode": mode, "serving": serving, "names": ["chat.example.org"], "issuer": "CN=R11",
            "not_before": NOW - DAY, "not_after": NOW + left, "sha256": "AB", "renewal": renewal, "authority": null,
        }))
        .unwrap()
    }

    #[test]
    fn a_certificate_that_is_well_has_a_line_and_no_warning() {
        let renewal = json!({ "next_at": NOW + 30 * DAY, "error": null, "failures": 0 });
        let well = certificate("acme", "acme", 62 * DAY, renewal);
        assert_eq!(well.wrong(NOW), None);
        assert_eq!(
            well.words(NOW),
            "from the ACME authority, until 2027-01-23 (62 days left), renewal on 2026-12-22"
        );
        let internal = certificate("internal", "internal", 5 * 3600, json!({}));
        assert_eq!(internal.wrong(NOW), None);
        assert!(internal.words(NOW).ends_with("(5 hours left)"));
    }

    #[test]
    fn a_broken_renewal_says_why_how_long_and_when_next() {
        let renewal = json!({ "next_at": NOW + 3600, "error": "the authority said: rateLimited.", "failures": 3 });
        let broken = certificate("acme", "acme", 21 * DAY, renewal.clone());
        assert_eq!(
            broken.wrong(NOW).unwrap(),
            "The certificate cannot be renewed: the authority said: rateLimited. The present one is served on, 21 days are \
             left. The next attempt is in 60 minutes."
        );
        let none_yet = certificate("acme", "internal", 21 * DAY, renewal);
        let said = none_yet.wrong(NOW).unwrap();
        assert!(
            said.starts_with("The ACME authority has given no certificate yet: ")
                && said.contains("internal one")
        );
    }

    #[test]
    fn one_that_nothing_renews_is_warned_of_in_time() {
        let fixed = |left| certificate("static", "static", left, json!({}));
        assert_eq!(fixed(40 * DAY).wrong(NOW), None);
        assert!(fixed(12 * DAY).wrong(NOW).unwrap().contains("in 12 days"));
        assert!(
            fixed(-DAY)
                .wrong(NOW)
                .unwrap()
                .contains("expired on 2026-11-21")
        );
        assert!(fixed(-DAY).words(NOW).contains("EXPIRED"));
        let refused = certificate(
            "static",
            "internal",
            DAY,
            json!({ "error": "the key is another's" }),
        );
        assert!(
            refused
                .wrong(NOW)
                .unwrap()
                .contains("cannot be used: the key is another's. The internal one")
        );
    }

    #[test]
    fn refused_settings_and_waiting_ones_are_told() {
        let settings: Settings =
            serde_json::from_value(json!({ "version": 1, "error": null, "restart_for": [] }))
                .unwrap();
        assert_eq!(settings.wrong(), None);
        let refused = Settings {
            error: Some("line 3\nno".to_owned()),
            ..settings.clone()
        };
        assert!(refused.wrong().unwrap().ends_with("holds: line 3 no."));
        let waiting = Settings {
            restart_for: vec!["listen_https".to_owned()],
            ..settings
        };
        assert!(
            waiting
                .wrong()
                .unwrap()
                .contains("(listen_https): atalaya unit restart edge")
        );
    }
}
