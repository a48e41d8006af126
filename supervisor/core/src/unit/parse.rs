//! From a file's text to a unit, or to an error with file and line.

use toml::de::{DeTable, DeValue};

use super::check::check_unit;
use super::schema::Unit;
use super::values::Rlimit;
use crate::graph::{Graph, GraphError};

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

/// A unit file as it was read, by its unit's name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnitFile {
    pub name: String,
    pub path: String,
    pub text: String,
}

/// Reads all files of a set of units, which must be a possible one.
///
/// # Errors
/// The first thing in them that is not allowed, or the place at which one names another that is missing, double, or waits
/// for it in a circle.
pub fn parse_units(files: &[UnitFile]) -> Result<Vec<Unit>, UnitError> {
    let units = files
        .iter()
        .map(|file| parse_unit(&file.name, &file.path, &file.text))
        .collect::<Result<Vec<Unit>, UnitError>>()?;
    match Graph::plan(&units) {
        Ok(_) => Ok(units),
        Err(error) => Err(place(files, &error)),
    }
}

fn place(files: &[UnitFile], error: &GraphError) -> UnitError {
    let (name, entry) = error.place();
    // Of two that are double the second is one too many.
    let file = files.iter().rfind(|file| file.name == name);
    let (path, text) = file.map_or(("", ""), |file| (&file.path, &file.text));
    UnitError {
        file: path.to_owned(),
        line: line_of(text, entry.map_or(0, |entry| offset_of_edge(text, entry))),
        message: error.to_string(),
    }
}

/// Where the file names the unit `entry`.
fn offset_of_edge(text: &str, entry: &str) -> usize {
    let Ok(document) = DeTable::parse(text) else {
        return 0;
    };
    let edges = ["requires", "after"].into_iter();
    edges
        .filter_map(|key| document.get_ref().get(key)?.get_ref().as_array())
        .flatten()
        .find(|value| value.get_ref().as_str() == Some(entry))
        .map_or(0, |value| value.span().start)
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
            ("on_full_disk = \"run\"\n", 4, "room on /data"),
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
                "[sandbox]\ndata = [{ source = \"data:.\", path = \"/x\" }]\n",
                5,
                "not a place on /data",
            ),
            (
                "[sandbox]\ndata = [{ source = \"gen:./x\", path = \"/x\" }]\n",
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
            ("user = \"Postgres\"\n", 4, "/etc/passwd"),
            ("rlimits = { nofile = 4 }\n", 4, "16 to 1048576"),
            ("rlimits = { files = 4 }\n", 4, "unknown variant"),
            ("rlimits = { nice = 41 }\n", 4, "0 to 40"),
            ("[ready]\ntimeout_s = 100000\n", 5, "0 to 86400"),
            (
                "[ready]\nkind = \"tcp\"\naddress = \"127.0.0.1:1\"\ncommand = [\"/x\"]\n",
                7,
                "ready.command: only kind exec and kind notify",
            ),
            (
                "[liveness]\nkind = \"watchdog\"\nurl = \"http://127.0.0.1:1/\"\n",
                6,
                "liveness.url: only kind http",
            ),
            ("[liveness]\nkind = \"exec\"\n", 4, "liveness.command"),
            ("[liveness]\nkind = \"http\"\n", 4, "liveness.url"),
            (
                "[liveness]\nkind = \"watchdog\"\nthreshold = 0\n",
                6,
                "1 to 100",
            ),
            ("[reload]\n", 4, "exactly one of signal and command"),
            (
                "[reload]\nsignal = \"HUP\"\ncommand = [\"/x\"]\n",
                4,
                "exactly one of signal and command",
            ),
            ("[reload]\nsignal = \"KILL\"\n", 5, "reload.signal"),
            (
                "[reload]\ncommand = [\"/x\"]\nnotifies = true\n",
                6,
                "reload.notifies",
            ),
            ("[handover]\nsignal = \"USR2\"\n", 4, "ready.kind"),
            (
                "ready = { kind = \"notify\" }\n[handover]\nsignal = \"KILL\"\n",
                6,
                "handover.signal",
            ),
            ("[timer]\nevery_s = 60\n", 4, "one-shots only"),
            ("listen = [{ name = \"a\" }]\n", 4, "exactly one of address"),
            (
                "listen = [{ name = \"a\", address = \"127.0.0.1:1\", file = \"/x\", key = \"y\" }]\n",
                4,
                "exactly one of address",
            ),
            (
                "listen = [{ name = \"a\", file = \"/x\" }]\n",
                4,
                "exactly one of address",
            ),
            (
                "listen = [{ name = \"a\", address = \"localhost\" }]\n",
                4,
                "IP address and a port",
            ),
            (
                "credentials = [{ name = \"../a\", source = \"/x\" }]\n",
                4,
                "a file's name",
            ),
            ("[resources]\ncpu_percent = 0\n", 5, "1 to 100000"),
            ("[resources]\nio_weight = 0\n", 5, "1 to 10000"),
            (
                "[sandbox]\nsyscalls = [\"Mount\"]\n",
                5,
                "neither a system call",
            ),
            (
                "[sandbox]\nwritable = [\"/etc\"]\n",
                5,
                "not a path below /run",
            ),
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
    fn a_one_shot_has_no_liveness_and_may_have_a_timer() {
        let oneshot = |extra: &str| {
            let text = format!("description = \"x\"\ntype = \"oneshot\"\nexec = [\"/x\"]\n{extra}");
            parse_unit("x", "x.toml", &text)
        };
        oneshot("[timer]\nevery_s = 60\n").unwrap();
        let error = oneshot("[timer]\nevery_s = 0\n").unwrap_err();
        assert_eq!(error.line, 5, "{error}");
        for extra in [
            "[liveness]\nkind = \"watchdog\"\n",
            "[reload]\nsignal = \"HUP\"\n",
            "[handover]\nsignal = \"USR2\"\n",
        ] {
            let error = oneshot(extra).unwrap_err();
            assert!(error.message.contains("services only"), "{error}");
        }
    }

    #[test]
    fn no_core_file_is_written_unless_the_file_says_so() {
        let text = "description = \"x\"\ntype = \"service\"\nexec = [\"/x\"]\n";
        let unit = parse_unit("x", "x.toml", text).unwrap();
        assert_eq!(unit.rlimits.get(&Rlimit::Core), Some(&0));
        let text = format!("{text}rlimits = {{ core = 1 }}\n");
        let unit = parse_unit("x", "x.toml", &text).unwrap();
        assert_eq!(unit.rlimits.get(&Rlimit::Core), Some(&1));
    }

    fn file(name: &str, edges: &str) -> UnitFile {
        UnitFile {
            name: name.to_owned(),
            path: format!("{name}.toml"),
            text: format!("description = \"x\"\ntype = \"service\"\nexec = [\"/x\"]\n{edges}\n"),
        }
    }

    #[test]
    fn a_set_that_cannot_be_is_refused_with_file_and_line() {
        let refused = |files: &[UnitFile]| parse_units(files).unwrap_err().to_string();
        assert_eq!(
            refused(&[
                file("a", "requires = [\n  \"b\",\n  \"nobody\",\n]"),
                file("b", "")
            ]),
            "a.toml:6: unit a names nobody, and there is no such unit"
        );
        assert_eq!(
            refused(&[
                file("a", "\nafter = [\"b\"]"),
                file("b", "requires = [\"a\"]")
            ]),
            "a.toml:5: units wait for each other: a -> b -> a"
        );
        let mut second = file("a", "");
        second.path = "other/a.toml".to_owned();
        assert_eq!(
            refused(&[file("a", ""), second]),
            "other/a.toml:1: there are two units named a"
        );
        let mut timed = file("t", "[timer]\nevery_s = 9");
        timed.text = timed.text.replace("service", "oneshot");
        assert_eq!(
            refused(&[timed, file("a", "requires = [\"t\"]")]),
            "a.toml:4: unit a requires t, which runs by a timer: allowed is `after`"
        );
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
