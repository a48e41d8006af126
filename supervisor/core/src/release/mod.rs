//! Which Mattermost an image holds, which one a generation of data was last used with, and whether the two may meet.
//!
//! Decides that older code never writes into newer data: the server itself would start on a newer schema without a word.
//! It must not read files or ask the database; both numbers come in as values.

use std::cmp::Ordering;
use std::fmt;

use serde::{Deserialize, Serialize};

/// `/usr/lib/atalaya/release.json`, written when the image is built. Keys that this version does not know are kept out
/// of the type, because an older program may read a newer image's file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Release {
    pub product: String,
    pub version: String,
    pub build: String,
    pub built: String,
    pub mattermost: MattermostRelease,
    pub postgresql: String,
    /// Rises when an older image must never run again. Images from before there was one say nothing.
    #[serde(default)]
    pub epoch: u64,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MattermostRelease {
    pub version: String,
    pub kind: Kind,
    #[serde(default)]
    pub source: String,
    #[serde(default)]
    pub sha256: String,
}

/// Where the server's program came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    Official,
    Standin,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Official => "the official Mattermost",
            Self::Standin => "the stand-in for Mattermost",
        })
    }
}

/// `mattermost.json` beside a generation's data, written after each version's first complete start.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Record {
    /// Version of this file's format: 1.
    pub format: u32,
    /// As in `11.7.9`.
    pub release: String,
    /// The number that `mattermost db version` gave.
    pub schema: u64,
    pub kind: Kind,
}

impl Record {
    /// The record of a complete start of `release` that left the database at `schema`.
    #[must_use]
    pub fn of(release: &MattermostRelease, schema: u64) -> Self {
        Self {
            format: 1,
            release: release.version.clone(),
            schema,
            kind: release.kind,
        }
    }
}

/// Whether the server in this image may start on this generation's data.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    Start,
    Refuse(Refusal),
}

/// Why a server is not started on data that are not its own. `Display` is three sentences: what happened, what it means
/// for the data, the next step.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    #[error(
        "this image holds {image}, but the data were written by {recorded}. Nothing was started on them and nothing was changed. \
         Start an image with {recorded}, or begin with empty data"
    )]
    OtherKind { image: Kind, recorded: Kind },
    #[error(
        "this image holds Mattermost {image}, but the data were last used with the later Mattermost {recorded}. Nothing was \
         started on them and nothing was changed. Start an image with Mattermost {recorded} or later"
    )]
    LaterRelease { image: String, recorded: String },
    #[error(
        "the database has schema {found}, but Mattermost {release} left it at schema {recorded}: something newer has written \
         into it. Nothing was started on it and nothing was changed. Start the image that wrote schema {found}"
    )]
    LaterSchema {
        release: String,
        found: u64,
        recorded: u64,
    },
    #[error(
        "the release number {value:?} {whose} cannot be read. Nothing was started on the data and nothing was changed. Start \
         the image that was used before and report this"
    )]
    UnreadableRelease { value: String, whose: &'static str },
}

/// Decides from the record, this image's release and the schema number that the database has now (`None`: not asked,
/// which is only allowed while there is no record).
#[must_use]
pub fn assess(record: Option<&Record>, image: &MattermostRelease, schema: Option<u64>) -> Verdict {
    // No record: the first start was never completed, so the data are this boot's own.
    let Some(record) = record else {
        return Verdict::Start;
    };
    if record.kind != image.kind {
        return Verdict::Refuse(Refusal::OtherKind {
            image: image.kind,
            recorded: record.kind,
        });
    }
    let Some(ours) = parse_version(&image.version) else {
        return Verdict::Refuse(Refusal::UnreadableRelease {
            value: image.version.clone(),
            whose: "of this image",
        });
    };
    let Some(theirs) = parse_version(&record.release) else {
        return Verdict::Refuse(Refusal::UnreadableRelease {
            value: record.release.clone(),
            whose: "recorded with the data",
        });
    };
    match (ours.cmp(&theirs), schema) {
        (Ordering::Less, _) => Verdict::Refuse(Refusal::LaterRelease {
            image: image.version.clone(),
            recorded: record.release.clone(),
        }),
        (Ordering::Equal, Some(found)) if found > record.schema => {
            Verdict::Refuse(Refusal::LaterSchema {
                release: record.release.clone(),
                found,
                recorded: record.schema,
            })
        }
        // A lower number is a database that was restored; the server migrates it. A later release may have been cut off
        // between its migration and its record, so a higher number is its own.
        (Ordering::Equal | Ordering::Greater, _) => Verdict::Start,
    }
}

/// A release number: dotted numbers, compared one by one; `11.7` is `11.7.0`. A suffix after `-` (`11.8.0-rc1`) makes it
/// earlier than the same number without one.
type Version = (Vec<u64>, bool, String);

fn parse_version(text: &str) -> Option<Version> {
    let (numbers, suffix) = match text.split_once('-') {
        Some((numbers, suffix)) => (numbers, Some(suffix)),
        None => (text, None),
    };
    let mut parsed = Vec::new();
    for part in numbers.split('.') {
        if part.is_empty() || !part.bytes().all(|b| b.is_ascii_digit()) {
            return None;
        }
        parsed.push(part.parse().ok()?);
    }
    while parsed.last() == Some(&0) {
        parsed.pop();
    }
    Some((
        parsed,
        suffix.is_none(),
        suffix.unwrap_or_default().to_owned(),
    ))
}

/// Reads the number out of what `mattermost db version` prints; log lines may stand before and after it.
#[must_use]
pub fn parse_schema(output: &str) -> Option<u64> {
    output
        .lines()
        .find_map(|line| {
            line.trim()
                .strip_prefix("Current database schema version is:")
        })
        .and_then(|number| number.trim().parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image(version: &str, kind: Kind) -> MattermostRelease {
        MattermostRelease {
            version: version.into(),
            kind,
            source: String::new(),
            sha256: String::new(),
        }
    }

    fn record(release: &str, schema: u64, kind: Kind) -> Record {
        Record {
            format: 1,
            release: release.into(),
            schema,
            kind,
        }
    }

    /// Every combination of kind, order of the releases and order of the schema numbers.
    #[test]
    fn the_whole_table() {
        use Kind::{Official, Standin};
        let other = |image, recorded| Verdict::Refuse(Refusal::OtherKind { image, recorded });
        let later = |image: &str, recorded: &str| {
            Verdict::Refuse(Refusal::LaterRelease {
                image: image.into(),
                recorded: recorded.into(),
            })
        };
        let schema = |release: &str, found, recorded| {
            Verdict::Refuse(Refusal::LaterSchema {
                release: release.into(),
                found,
                recorded,
            })
        };
        for kind in [Official, Standin] {
            let not = if kind == Official { Standin } else { Official };
            let data = record("11.7.9", 159, kind);
            for (version, found, expected) in [
                ("11.7.9", Some(158), Verdict::Start),
                ("11.7.9", Some(159), Verdict::Start),
                ("11.7.9", Some(160), schema("11.7.9", 160, 159)),
                ("11.7.9", None, Verdict::Start),
                ("11.7.10", Some(158), Verdict::Start),
                ("11.7.10", Some(159), Verdict::Start),
                ("11.7.10", Some(160), Verdict::Start),
                ("11.7.10", None, Verdict::Start),
                ("11.7.8", Some(158), later("11.7.8", "11.7.9")),
                ("11.7.8", Some(159), later("11.7.8", "11.7.9")),
                ("11.7.8", Some(160), later("11.7.8", "11.7.9")),
                ("11.7.8", None, later("11.7.8", "11.7.9")),
            ] {
                assert_eq!(
                    assess(Some(&data), &image(version, kind), found),
                    expected,
                    "{version} {found:?}"
                );
                assert_eq!(
                    assess(Some(&data), &image(version, not), found),
                    other(not, kind),
                    "{version} {found:?}"
                );
                assert_eq!(assess(None, &image(version, kind), found), Verdict::Start);
                assert_eq!(assess(None, &image(version, not), found), Verdict::Start);
            }
        }
    }

    #[test]
    fn releases_are_compared_as_numbers() {
        let order = [
            "9.11.20",
            "10.2.0-rc1",
            "10.2.0-rc2",
            "10.2",
            "10.2.1",
            "10.12.0",
            "11.0.0",
            "11.7.9",
            "11.7.10",
        ];
        for (i, earlier) in order.iter().enumerate() {
            for (j, later) in order.iter().enumerate() {
                let data = record(later, 1, Kind::Official);
                let started =
                    assess(Some(&data), &image(earlier, Kind::Official), Some(1)) == Verdict::Start;
                assert_eq!(started, i >= j, "{earlier} on the data of {later}");
            }
        }
        assert_eq!(parse_version("10.2.0"), parse_version("10.2"));
    }

    #[test]
    fn an_unreadable_release_is_refused() {
        for bad in [
            "",
            "11.",
            "11..7",
            "v11.7.9",
            "11.7.9 ",
            "99999999999999999999999",
        ] {
            assert!(matches!(
                assess(
                    Some(&record(bad, 1, Kind::Official)),
                    &image("11.7.9", Kind::Official),
                    Some(1)
                ),
                Verdict::Refuse(Refusal::UnreadableRelease { .. })
            ));
            assert!(matches!(
                assess(
                    Some(&record("11.7.9", 1, Kind::Official)),
                    &image(bad, Kind::Official),
                    Some(1)
                ),
                Verdict::Refuse(Refusal::UnreadableRelease { .. })
            ));
        }
    }

    #[test]
    fn a_refusal_says_what_happened_what_it_means_and_what_to_do() {
        let refusal = Refusal::LaterRelease {
            image: "11.7.8".into(),
            recorded: "11.7.9".into(),
        };
        assert_eq!(
            refusal.to_string(),
            "this image holds Mattermost 11.7.8, but the data were last used with the later Mattermost 11.7.9. Nothing was \
             started on them and nothing was changed. Start an image with Mattermost 11.7.9 or later"
        );
    }

    #[test]
    fn the_schema_number_is_found_among_log_lines() {
        let printed =
            "{\"level\":\"warn\",\"msg\":\"x\"}\nCurrent database schema version is: 159\n";
        assert_eq!(parse_schema(printed), Some(159));
        assert_eq!(parse_schema("Current database schema version is: \n"), None);
        assert_eq!(
            parse_schema("Current database schema version is: -1\n"),
            None
        );
        assert_eq!(parse_schema(""), None);
    }

    #[test]
    fn the_first_format_of_the_record_is_read_for_ever() {
        let text = r#"{"format":1,"release":"11.7.9","schema":159,"kind":"standin"}"#;
        assert_eq!(
            serde_json::from_str::<Record>(text).unwrap(),
            record("11.7.9", 159, Kind::Standin)
        );
        assert_eq!(
            serde_json::to_string(&record("11.7.9", 159, Kind::Standin)).unwrap(),
            text
        );
    }

    #[test]
    fn the_image_s_release_file_is_read() {
        let text = r#"{"product":"atalaya","version":"0.1.0-standin","build":"abc","built":"2026-11-22T00:00:00Z",
            "mattermost":{"version":"11.7.9","kind":"standin","source":"tests/standin","sha256":"00"},"postgresql":"17.6"}"#;
        let release: Release = serde_json::from_str(text).unwrap();
        assert_eq!(release.mattermost.kind, Kind::Standin);
    }
}
