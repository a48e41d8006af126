//! From a file's text to a unit, or to an error with file and line.

use toml::de::{DeTable, DeValue};

use super::check::check_unit;
use super::schema::Unit;
use super::values::Rlimit;

/// A unit file that was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{file}:{line}: {message}")]
pub struct UnitError {
    pub file: String,
    /// From 1.
    pub line: usize,
    /// What is wrong and what is allowed.
    pub message: String,
}

/// Reads the text of `file`, which holds the unit `name`.
///
/// # Errors
/// The first thing in it that is not allowed.
pub fn parse_unit(name: &str, file: &str, text: &str) -> Result<Unit, UnitError> {
    let refused = |offset: usize, message: String| UnitError {
        file: file.to_owned(),
        line: line_of(text, offset),
        message,
    };
    if !super::is_valid_name(name) {
        let message = format!(
            "{name:?} cannot be a unit's name: allowed are a lower-case letter, then letters, digits and hyphens, 32 at most"
        );
        return Err(refused(0, message));
    }
    let mut unit: Unit = toml::from_str(text).map_err(|error| {
        refused(
            error.span().map_or(0, |span| span.start),
            error.message().trim().to_owned(),
        )
    })?;
    name.clone_into(&mut unit.name);
    unit.rlimits.entry(Rlimit::Core).or_insert(0);
    check_unit(&unit).map_err(|cause| {
        refused(
            offset_of(text, &cause.key),
            format!("{}: {}", cause.key.join("."), cause.message),
        )
    })?;
    Ok(unit)
}

fn line_of(text: &str, offset: usize) -> usize {
    1 + text
        .bytes()
        .take(offset)
        .filter(|byte| *byte == b'\n')
        .count()
}

/// Where the value of `key` stands; a default stands nowhere, so the nearest table above it is named.
fn offset_of(text: &str, key: &[&str]) -> usize {
    let Ok(document) = DeTable::parse(text) else {
        return 0;
    };
    let mut table = document.get_ref();
    let mut offset = 0;
    for part in key {
        let Some((at, value)) = table.get_key_value(*part) else {
            break;
        };
        offset = at.span().start;
        match value.get_ref() {
            DeValue::Table(below) => table = below,
            _ => break,
        }
    }
    offset
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::unit::{Kind, MemoryMax, Mode, ReadyKind, SignalName};

    const POSTGRES: &str = r#"
description = "PostgreSQL"
type = "service"
exec = ["/usr/lib/postgresql/17/bin/postgres", "-D", "/var/lib/postgresql/17"]
user = "postgres"
requires = ["initdb"]
umask = "0077"
rlimits = { nofile = 49152 }

[ready]
kind = "notify"

[stop]
signal = "INT"
timeout_s = 300
then = "QUIT"
then_timeout_s = 30

[resources]
memory_max = "50%"

[sandbox]
data = [{ source = "gen:postgres", path = "/var/lib/postgresql", create = true }]
"#;

    #[test]
    fn a_whole_file_is_read() {
        let unit = parse_unit("postgres", "postgres.toml", POSTGRES).unwrap();
        assert_eq!(unit.name, "postgres");
        assert_eq!(unit.kind, Kind::Service);
        assert_eq!(unit.umask, Mode(0o077));
        assert_eq!(unit.ready.kind, ReadyKind::Notify);
        assert_eq!(unit.stop.then, SignalName::Quit);
        assert_eq!(unit.resources.memory_max, Some(MemoryMax::Percent(50)));
        assert!(unit.wanted);
    }

    fn error(extra: &str) -> UnitError {
        let text = format!("description = \"x\"\ntype = \"service\"\nexec = [\"/bin/x\"]\n{extra}");
        parse_unit("x", "x.toml", &text).unwrap_err()
    }

    #[test]
    fn every_refusal_names_its_line() {
        let cases = [
            ("colour = 1\n", 4, "unknown field"),
            (
                "\n[ready]\nkind = \"tcp\"\naddress = \"localhost:1\"\n",
                7,
                "ready.address: kind tcp needs an IP address",
            ),
            ("[ready]\nkind = \"tcp\"\n", 4, "ready.address"),
            (
                "[ready]\nkind = \"http\"\nurl = \"https://127.0.0.1:1/\"\n",
                6,
                "ready.url",
            ),
            ("[ready]\nkind = \"dbus\"\n", 5, "unknown variant"),
            ("umask = \"0999\"\n", 4, "not a mode"),
            ("oom_score_adj = 2000\n", 4, "-1000 to 1000"),
            ("[stop]\nsignal = \"KILL\"\n", 5, "stop.signal"),
            ("[stop]\nsignal = \"SIGFOO\"\n", 5, "unknown variant"),
            (
                "[restart]\nmin_ms = 1000\nmax_ms = 10\n",
                6,
                "restart.max_ms",
            ),
            ("[resources]\nmemory_max = \"lots\"\n", 5, "limit of memory"),
            (
                "[sandbox]\ncapabilities = [\"root\"]\n",
                5,
                "not a capability",
            ),
            (
                "[sandbox]\ndata = [{ source = \"gen:../x\", path = \"/x\" }]\n",
                5,
                "not a place on /data",
            ),
            (
                "[sandbox]\nexec_paths = [\"/x\"]\n",
                5,
                "sandbox.exec_paths",
            ),
            ("[sandbox]\npid_namespace = true\n", 5, "unknown field"),
            ("requires = [\"Big\"]\n", 4, "cannot be a unit's name"),
            (
                "runtime_directories = [{ path = \"/etc/x\", mode = \"0755\" }]\n",
                4,
                "below /run",
            ),
            ("user =\n", 4, ""),
        ];
        for (extra, line, message) in cases {
            let error = error(extra);
            assert_eq!(
                (error.line, error.file.as_str()),
                (line, "x.toml"),
                "{extra:?}: {error}"
            );
            assert!(error.message.contains(message), "{extra:?}: {error}");
        }
    }

    #[test]
    fn a_missing_field_is_named() {
        let error = parse_unit("x", "x.toml", "description = \"x\"\n").unwrap_err();
        assert!(error.message.contains("missing field"), "{error}");
    }

    #[test]
    fn a_name_that_could_not_be_a_cgroup_is_refused() {
        for name in ["", "a.b", "A", "a/b", "-a", "a_b", &"a".repeat(33)] {
            assert!(parse_unit(name, "f", POSTGRES).is_err(), "{name:?}");
        }
    }
}
