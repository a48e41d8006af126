//! How bad a line is, from its own words: a prefix as sd-daemon(3) has it, JSON's "level" (Mattermost), or PostgreSQL's
//! severity. Pure. A line that says nothing of the kind is information.

use super::line::Level;

/// A severity stands near the beginning, behind time and process number.
const NEAR: usize = 160;

/// The level, and the line without a prefix that says nothing but the level.
pub fn assess(line: &[u8]) -> (Level, &[u8]) {
    match line {
        [b'<', digit @ b'0'..=b'7', b'>', rest @ ..] => {
            (Level::of_priority(u32::from(digit - b'0')), rest)
        }
        [b'{', ..] => (of_json(line).unwrap_or(Level::Info), line),
        _ => (of_postgresql(line).unwrap_or(Level::Info), line),
    }
}

/// Without parsing it all: a line may be a megabyte.
fn of_json(line: &[u8]) -> Option<Level> {
    let near = line.get(..line.len().min(NEAR)).unwrap_or(line);
    let key = b"\"level\"";
    let at = memchr::memmem::find(near, key)?;
    let rest = line.get(at + key.len()..)?.trim_ascii_start();
    let rest = rest.strip_prefix(b":")?.trim_ascii_start();
    let rest = rest.strip_prefix(b"\"")?;
    let end = memchr::memchr(b'"', rest.get(..rest.len().min(16))?)?;
    Level::parse(std::str::from_utf8(rest.get(..end)?).ok()?)
}

/// `2026-01-31 12:00:00.000 UTC [42] FATAL:  the text`: two spaces behind the colon.
fn of_postgresql(line: &[u8]) -> Option<Level> {
    let near = line.get(..line.len().min(NEAR)).unwrap_or(line);
    let colon = memchr::memmem::find(near, b":  ")?;
    let head = near.get(..colon)?;
    let begin = head
        .iter()
        .rposition(|byte| !byte.is_ascii_uppercase() && !byte.is_ascii_digit())
        .map_or(0, |at| at + 1);
    Some(match head.get(begin..)? {
        b"PANIC" => Level::Crit,
        b"FATAL" | b"ERROR" => Level::Err,
        b"WARNING" => Level::Warning,
        b"NOTICE" => Level::Notice,
        b"LOG" | b"INFO" => Level::Info,
        b"DEBUG" | b"DEBUG1" | b"DEBUG2" | b"DEBUG3" | b"DEBUG4" | b"DEBUG5" => Level::Debug,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_levels_of_those_who_run_here_are_understood() {
        for (line, level) in [
            ("plain words", Level::Info),
            ("", Level::Info),
            ("<3>disk on fire", Level::Err),
            ("<8>not a level", Level::Info),
            (
                r#"{"timestamp":"2026-01-31 12:00:00.000 Z","level":"error","msg":"x"}"#,
                Level::Err,
            ),
            (r#"{"level": "warn"}"#, Level::Warning),
            (r#"{"level":"debug","msg":"FATAL:  no"}"#, Level::Debug),
            (r#"{"level":7}"#, Level::Info),
            (r#"{"level":""#, Level::Info),
            (
                "2026-01-31 12:00:00.000 UTC [42] FATAL:  no such role",
                Level::Err,
            ),
            (
                "2026-01-31 12:00:00.000 UTC [42] PANIC:  could not write",
                Level::Crit,
            ),
            (
                "2026-01-31 12:00:00.000 UTC [42] LOG:  checkpoint",
                Level::Info,
            ),
            ("WARNING:  there is already a transaction", Level::Warning),
            ("CATALOG:  not a level", Level::Info),
        ] {
            assert_eq!(assess(line.as_bytes()).0, level, "{line}");
        }
        assert_eq!(assess(b"<4>rest").1, b"rest");
        assert_eq!(assess(b"<4").1, b"<4");
    }
}
