//! Finds Debian's mirrors in the machine's own apt entries, so that no mirror's address stands in any file of ours.
//! Parsing is pure; only [`of_this_machine`] reads files.

use std::path::Path;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mirrors {
    pub main: String,
    pub security: String,
}

#[derive(Debug, thiserror::Error)]
pub enum MirrorError {
    #[error(
        "no active entry for {what} was found in /etc/apt; nothing was built; give one with {option}, or add Debian's entry to /etc/apt/sources.list"
    )]
    NotFound {
        what: &'static str,
        option: &'static str,
    },
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Entry {
    uri: String,
    suite: String,
    components: Vec<String>,
    /// Signed by a key that is not Debian's.
    foreign: bool,
}

/// What apt reads: sources.list, then sources.list.d in order of names, *.list and *.sources only.
pub fn of_this_machine(
    apt: &Path,
    main: Option<String>,
    security: Option<String>,
) -> Result<Mirrors, MirrorError> {
    let mut entries = Vec::new();
    if let Ok(text) = std::fs::read_to_string(apt.join("sources.list")) {
        entries.extend(parse_list(&text));
    }
    let mut files: Vec<_> = std::fs::read_dir(apt.join("sources.list.d"))
        .map(|list| list.flatten().map(|entry| entry.path()).collect())
        .unwrap_or_default();
    files.sort();
    for file in files {
        let Ok(text) = std::fs::read_to_string(&file) else {
            continue;
        };
        match file.extension().and_then(|name| name.to_str()) {
            Some("list") => entries.extend(parse_list(&text)),
            Some("sources") => entries.extend(parse_deb822(&text)),
            _ => {}
        }
    }
    choose(&entries, main, security)
}

fn choose(
    entries: &[Entry],
    main: Option<String>,
    security: Option<String>,
) -> Result<Mirrors, MirrorError> {
    Ok(Mirrors {
        main: main
            .or_else(|| best(entries, is_main))
            .ok_or(MirrorError::NotFound {
                what: "Debian's mirror",
                option: "--mirror URL",
            })?,
        security: security
            .or_else(|| best(entries, is_security))
            .ok_or(MirrorError::NotFound {
                what: "Debian's security mirror",
                option: "--security-mirror URL",
            })?,
    })
}

/// Vendors' repositories can carry Debian's suite names and a component "main". Debian's own has updates beside the release
/// and lies in a folder of a known name; the first one of those that look most like it is taken.
fn best(entries: &[Entry], wanted: fn(&Entry) -> bool) -> Option<String> {
    let likeness = |entry: &Entry| {
        let updates = entries
            .iter()
            .any(|other| other.uri == entry.uri && other.suite.ends_with("-updates"));
        let named = entry
            .uri
            .split('/')
            .skip(3)
            .any(|part| part == "debian" || part == "debian-security");
        u8::from(updates) + u8::from(named)
    };
    let mut found: Option<(&Entry, u8)> = None;
    for entry in entries.iter().filter(|entry| wanted(entry)) {
        let score = likeness(entry);
        if found.is_none_or(|(_, best)| score > best) {
            found = Some((entry, score));
        }
    }
    found.map(|(entry, _)| entry.uri.clone())
}

/// Suites of Debian's archive; other vendors mostly use suites of their own, or these with a suffix.
const RELEASES: [&str; 11] = [
    "bookworm",
    "trixie",
    "forky",
    "duke",
    "sid",
    "bullseye",
    "stable",
    "testing",
    "unstable",
    "oldstable",
    "oldoldstable",
];

fn is_main(entry: &Entry) -> bool {
    let suite = entry.suite.as_str();
    let base = suite
        .strip_suffix("-updates")
        .or_else(|| suite.strip_suffix("-backports"))
        .unwrap_or(suite);
    RELEASES.contains(&base) && is_debians(entry)
}

fn is_security(entry: &Entry) -> bool {
    let suite = entry.suite.as_str();
    let base = suite
        .strip_suffix("-security")
        .or_else(|| suite.strip_suffix("/updates"));
    base.is_some_and(|base| RELEASES.contains(&base)) && is_debians(entry)
}

fn is_debians(entry: &Entry) -> bool {
    !entry.foreign && entry.components.iter().any(|name| name == "main")
}

/// A key of its own means another vendor.
fn is_foreign(signed_by: &str) -> bool {
    !signed_by.is_empty() && !signed_by.contains("debian-archive")
}

fn parse_list(text: &str) -> Vec<Entry> {
    text.lines()
        .filter_map(|line| {
            let line = line.split('#').next().unwrap_or_default().trim();
            let rest = line.strip_prefix("deb")?;
            if !rest.starts_with([' ', '\t']) {
                return None;
            }
            let mut rest = rest.trim();
            let mut signed_by = "";
            if let Some(bracket) = rest.strip_prefix('[') {
                let (options, behind) = bracket.split_once(']')?;
                signed_by = options
                    .split_whitespace()
                    .find_map(|option| option.strip_prefix("signed-by="))
                    .unwrap_or_default();
                rest = behind.trim();
            }
            let mut words = rest.split_whitespace().map(str::to_owned);
            Some(Entry {
                uri: usable(&words.next()?)?,
                suite: words.next()?,
                components: words.collect(),
                foreign: is_foreign(signed_by),
            })
        })
        .collect()
}

fn parse_deb822(text: &str) -> Vec<Entry> {
    let mut entries = Vec::new();
    let mut stanza: Vec<(String, String)> = Vec::new();
    for line in text.lines().chain([""]) {
        if line.starts_with('#') {
            continue;
        }
        if line.trim().is_empty() {
            entries.extend(entries_of(&stanza));
            stanza.clear();
        } else if line.starts_with([' ', '\t']) {
            if let Some((_, value)) = stanza.last_mut() {
                value.push(' ');
                value.push_str(line.trim());
            }
        } else if let Some((key, value)) = line.split_once(':') {
            stanza.push((key.trim().to_ascii_lowercase(), value.trim().to_owned()));
        }
    }
    entries
}

fn entries_of(stanza: &[(String, String)]) -> Vec<Entry> {
    let words = |key: &str| -> Vec<String> {
        stanza
            .iter()
            .filter(|(name, _)| name == key)
            .flat_map(|(_, value)| value.split_whitespace().map(str::to_owned))
            .collect()
    };
    let disabled = words("enabled")
        .iter()
        .any(|value| ["no", "false", "0", "off"].contains(&value.to_ascii_lowercase().as_str()));
    if disabled || !words("types").iter().any(|kind| kind == "deb") {
        return Vec::new();
    }
    let mut entries = Vec::new();
    for uri in words("uris").iter().filter_map(|uri| usable(uri)) {
        for suite in words("suites") {
            entries.push(Entry {
                uri: uri.clone(),
                suite,
                components: words("components"),
                foreign: is_foreign(&words("signed-by").join(" ")),
            });
        }
    }
    entries
}

/// Only addresses that mmdebstrap and mkosi's apt can use from inside their own trees.
fn usable(uri: &str) -> Option<String> {
    (uri.starts_with("http://") || uri.starts_with("https://"))
        .then(|| uri.trim_end_matches('/').to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mirrors(entries: &[Entry]) -> Option<(String, String)> {
        choose(entries, None, None)
            .ok()
            .map(|m| (m.main, m.security))
    }

    const MAIN: &str = "http://mirror.example/debian";
    const SECURITY: &str = "http://mirror.example/debian-security";

    #[test]
    fn deb822_comments_between_fields_and_other_vendors_are_passed_over() {
        let text = "\
Types: deb
URIs: https://apt.vendor.example/debian
Suites: nodistro
Components: main

# Types: deb
Types: deb deb-src
# URIs: http://old.example/debian
URIs: http://mirror.example/debian/
Suites: bookworm bookworm-updates
Components: main contrib
Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg

Types: deb
URIs: http://mirror.example/debian-security
Suites: bookworm-security
Components: main
";
        assert_eq!(
            mirrors(&parse_deb822(text)),
            Some((MAIN.into(), SECURITY.into()))
        );
    }

    #[test]
    fn disabled_and_source_only_stanzas_do_not_count() {
        let text = "\
Enabled: no
Types: deb
URIs: http://a.example/debian
Suites: trixie
Components: main

Types: deb-src
URIs: http://b.example/debian
Suites: trixie
Components: main
";
        assert_eq!(parse_deb822(text), []);
    }

    #[test]
    fn one_line_entries_with_options_and_comments() {
        let text = "\
# deb http://old.example/debian bookworm main
deb-src http://src.example/debian bookworm main
deb [arch=amd64 signed-by=/k.gpg] https://download.vendor.example/linux/debian bookworm stable
deb cdrom:[Debian GNU/Linux 12]/ bookworm main
deb [arch=amd64] http://mirror.example/debian bookworm main # ours
deb http://mirror.example/debian-security bookworm-security main
";
        assert_eq!(
            mirrors(&parse_list(text)),
            Some((MAIN.into(), SECURITY.into()))
        );
    }

    #[test]
    fn a_vendor_with_debians_suite_and_component_is_not_debians_mirror() {
        let text = "\
deb https://pkgs.vendor.example/apt bookworm main
deb [signed-by=/usr/share/keyrings/vendor.gpg] https://pkgs.vendor.example/stable/debian bookworm main
deb http://mirror.example/debian bookworm main
deb http://mirror.example/debian-security bookworm-security main
";
        assert_eq!(
            mirrors(&parse_list(text)),
            Some((MAIN.into(), SECURITY.into()))
        );
    }

    #[test]
    fn a_missing_mirror_names_the_option_and_options_win() {
        let error = choose(&[], Some(MAIN.into()), None).unwrap_err();
        assert!(error.to_string().contains("--security-mirror"));
        let both = choose(
            &parse_list("deb http://x.example/debian trixie main"),
            Some(MAIN.into()),
            Some(SECURITY.into()),
        )
        .unwrap();
        assert_eq!(both.main, MAIN);
    }

    #[test]
    fn continuation_lines_belong_to_their_field() {
        let text = "Types: deb\nURIs:\n http://mirror.example/debian\n http://mirror.example/debian-security\nSuites: trixie\n trixie-security\nComponents: main\n";
        let found = parse_deb822(text);
        assert_eq!(found.len(), 4);
    }
}
