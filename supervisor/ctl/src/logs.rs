//! `atalaya logs`: asks, and shows lines one by one. Times are local, with their zone; control characters are written out, so that
//! no line can do anything to the terminal; colours are for terminals only. `--json` hands on what was stored, untouched.

use std::io::{self, IsTerminal, Write};
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, bail};
use atalaya_sys::local_time::{self, Local};
use clap::Args;
use serde_json::Value;

use crate::client::{self, Client};
use crate::show::text;

#[derive(Args)]
pub struct Arguments {
    /// Only of these services (more than one: with commas, or -u again). The kernel is `kernel`.
    #[arg(short, long, value_delimiter = ',')]
    unit: Vec<String>,
    /// Only from then on: 2026-01-31 12:00, 12:00, yesterday, "10 minutes ago", 2h, or with a zone 2026-01-31T12:00:00Z.
    #[arg(short = 'S', long, allow_hyphen_values = true)]
    since: Option<String>,
    /// Only until then.
    #[arg(short = 'U', long, allow_hyphen_values = true)]
    until: Option<String>,
    /// 0 for this boot, -1 for the one before, or the beginning of its id.
    #[arg(short, long, allow_hyphen_values = true, num_args = 0..=1, default_missing_value = "0")]
    boot: Option<String>,
    /// Only so bad or worse: emerg, alert, crit, err, warning, notice, info, debug.
    #[arg(short = 'p', long)]
    level: Option<String>,
    /// Only the last so many lines.
    #[arg(short = 'n', long)]
    lines: Option<u64>,
    /// Go on with what comes, after the last 10 lines or those of -n.
    #[arg(short, long)]
    follow: bool,
    /// The boots that have a log, and how each ended.
    #[arg(long)]
    boots: bool,
}

/// Lines before what comes, where nothing else is said.
const BEFORE_FOLLOWING: u64 = 10;

pub fn run(client: &Client, json: bool, arguments: &Arguments) -> Result<()> {
    if arguments.boots {
        let answer = client.get("/v1/logs?boots=true")?;
        let shown = if json {
            format!("{answer}\n")
        } else {
            boots(&answer)
        };
        return finish(io::stdout().write_all(shown.as_bytes()));
    }
    let query = query(arguments, now())?;
    let mut out = io::BufWriter::new(io::stdout().lock());
    let mut view = View {
        colours: io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none(),
        boot: None,
    };
    let mut outcome = Ok(());
    client.stream(&query, |line| {
        let shown = if json {
            format!("{line}\n")
        } else {
            match serde_json::from_str(line) {
                Ok(value) => view.line(&value),
                Err(_) => return true,
            }
        };
        outcome = out.write_all(shown.as_bytes());
        if arguments.follow && outcome.is_ok() {
            outcome = out.flush();
        }
        outcome.is_ok()
    })?;
    finish(outcome.and_then(|()| out.flush()))
}

/// Whoever reads may have seen enough (`| head`): that is no failure.
fn finish(outcome: io::Result<()>) -> Result<()> {
    match outcome {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        other => other.context("failed to write to the standard output"),
    }
}

fn query(arguments: &Arguments, now: i64) -> Result<String> {
    let time = |text: &Option<String>| {
        text.as_deref()
            .map(|text| {
                parse_time(text, now).with_context(|| {
                    format!(
                        "\"{text}\" is no time that is understood here. Nothing was changed. Write it as in 2026-01-31 12:00, \
                         12:00, yesterday, 10 minutes ago or 2h"
                    )
                })
            })
            .transpose()
    };
    let lines = arguments
        .lines
        .or((arguments.follow && arguments.since.is_none()).then_some(BEFORE_FOLLOWING));
    let mut fields = vec![format!("follow={}", arguments.follow)];
    let units = (!arguments.unit.is_empty()).then(|| arguments.unit.join(","));
    for (key, value) in [
        ("unit", units),
        ("since", time(&arguments.since)?),
        ("until", time(&arguments.until)?),
        ("boot", arguments.boot.clone()),
        ("level", arguments.level.clone()),
        ("lines", lines.map(|lines| lines.to_string())),
    ] {
        if let Some(value) = value {
            fields.push(format!("{key}={}", client::escape(&value)));
        }
    }
    Ok(format!("/v1/logs?{}", fields.join("&")))
}

struct View {
    colours: bool,
    boot: Option<String>,
}

impl View {
    fn line(&mut self, line: &Value) -> String {
        let mut shown = String::new();
        let boot = text(line, "boot");
        if self.boot.as_ref().is_some_and(|before| *before != boot) {
            shown = format!("-- boot {boot} --\n");
        }
        self.boot = Some(boot);
        let level = text(line, "level");
        let (begin, end) = match level.as_str() {
            _ if !self.colours => ("", ""),
            "emerg" | "alert" | "crit" | "err" => ("\x1b[31m", "\x1b[0m"),
            "warning" => ("\x1b[33m", "\x1b[0m"),
            "debug" => ("\x1b[2m", "\x1b[0m"),
            _ => ("", ""),
        };
        let word = match level.as_str() {
            "" | "info" | "notice" => String::new(),
            other => format!(" {other}"),
        };
        let said = line.get("line").and_then(Value::as_str).unwrap_or_default();
        let more = if line.get("more") == Some(&Value::Bool(true)) {
            " (goes on)"
        } else {
            ""
        };
        shown.push_str(&format!(
            "{} {}{word}: {begin}{}{more}{end}\n",
            local(&text(line, "t")),
            text(line, "unit"),
            written_out(said.strip_suffix('\r').unwrap_or(said)),
        ));
        shown
    }
}

/// Control characters, and those that change the direction of writing, as `\x1b` or `\u{202e}`.
pub fn written_out(said: &str) -> String {
    let mut shown = String::with_capacity(said.len());
    for c in said.chars() {
        match c {
            '\t' => shown.push(c),
            c if c.is_control() => shown.push_str(&format!("\\x{:02x}", u32::from(c))),
            '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{200e}' | '\u{200f}' => {
                shown.push_str(&c.escape_unicode().to_string());
            }
            c => shown.push(c),
        }
    }
    shown
}

/// A stored time (RFC 3339, UTC, milliseconds) in the machine's zone.
fn local(stored: &str) -> String {
    let shown = || {
        let (seconds, millis) = stored.strip_suffix('Z')?.split_once('.')?;
        let parts: Vec<i64> = seconds
            .split(['-', 'T', ':'])
            .map(|part| part.parse().ok())
            .collect::<Option<_>>()?;
        let [year, month, day, hour, minute, second] = parts.as_slice() else {
            return None;
        };
        let epoch = days(*year, *month, *day) * 86_400 + hour * 3600 + minute * 60 + second;
        let local = local_time::local_of(epoch)?;
        let date = format!("{:04}-{:02}-{:02}", local.year, local.month, local.day);
        let time = format!("{:02}:{:02}:{:02}", local.hour, local.minute, local.second);
        Some(format!("{date} {time}.{millis} {}", local.zone))
    };
    shown().unwrap_or_else(|| stored.to_owned())
}

/// Days since 1970-01-01 (Howard Hinnant, "chrono-compatible low-level date algorithms", days_from_civil).
fn days(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let (era, of_era) = (year.div_euclid(400), year.rem_euclid(400));
    let of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468
}

fn now() -> i64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    i64::try_from(now.unwrap_or_default().as_secs()).unwrap_or(i64::MAX)
}

/// What a person writes, as RFC 3339 with a zone.
fn parse_time(text: &str, now: i64) -> Result<String> {
    let text = text.trim();
    let has_zone = text.len() > 19 && text.contains('T');
    if has_zone {
        return Ok(text.to_owned());
    }
    let today = local_time::local_of(now).context("the clock")?;
    let midnight = |day: i32| Local {
        day,
        hour: 0,
        minute: 0,
        second: 0,
        ..today.clone()
    };
    let seconds = match text {
        "now" => Some(now),
        "today" => local_time::epoch_of(&midnight(today.day)),
        "yesterday" => local_time::epoch_of(&midnight(today.day - 1)),
        _ => match parse_ago(text) {
            Some(ago) => Some(now - ago),
            None => parse_local(text, &midnight(today.day)).and_then(|l| local_time::epoch_of(&l)),
        },
    };
    let Some(local) = seconds.and_then(local_time::local_of) else {
        bail!("not understood");
    };
    let offset = local.offset_seconds.abs() / 60;
    Ok(format!(
        "{:04}-{:02}-{:02}T{:02}:{:02}:{:02}{}{:02}:{:02}",
        local.year,
        local.month,
        local.day,
        local.hour,
        local.minute,
        local.second,
        if local.offset_seconds < 0 { '-' } else { '+' },
        offset / 60,
        offset % 60
    ))
}

/// `10m`, `-2h`, `3 days ago`, in seconds.
fn parse_ago(text: &str) -> Option<i64> {
    let text = text.strip_suffix("ago").unwrap_or(text).trim();
    let text = text.strip_prefix('-').unwrap_or(text);
    let end = text.find(|c: char| !c.is_ascii_digit())?;
    let (number, unit) = text.split_at_checked(end)?;
    let number: i64 = number.parse().ok()?;
    let seconds = match unit.trim() {
        "s" | "sec" | "second" | "seconds" => 1,
        "m" | "min" | "minute" | "minutes" => 60,
        "h" | "hour" | "hours" => 3600,
        "d" | "day" | "days" => 86_400,
        "w" | "week" | "weeks" => 7 * 86_400,
        _ => return None,
    };
    number.checked_mul(seconds)
}

/// A date, a time, or both; what is missing is today, or midnight.
fn parse_local(text: &str, midnight: &Local) -> Option<Local> {
    let numbers = |text: &str, separator: char| -> Option<Vec<i32>> {
        text.split(separator)
            .map(|part| part.parse().ok())
            .collect()
    };
    let (date, time) = match text.split_once([' ', 'T']) {
        Some((date, time)) => (Some(date), Some(time)),
        None if text.contains(':') => (None, Some(text)),
        None => (Some(text), None),
    };
    let mut local = midnight.clone();
    if let Some(date) = date {
        let [year, month @ 1..=12, day @ 1..=31] = numbers(date, '-')?[..] else {
            return None;
        };
        (local.year, local.month, local.day) = (year, month, day);
    }
    if let Some(time) = time {
        match numbers(time, ':')?[..] {
            [hour @ 0..=23, minute @ 0..=59] => (local.hour, local.minute) = (hour, minute),
            [hour @ 0..=23, minute @ 0..=59, second @ 0..=60] => {
                (local.hour, local.minute, local.second) = (hour, minute, second);
            }
            _ => return None,
        }
    }
    Some(local)
}

/// A row a boot, newest first.
fn boots(answer: &Value) -> String {
    let empty = Vec::new();
    let list = answer.get("boots").and_then(Value::as_array);
    let mut shown = String::new();
    for boot in list.unwrap_or(&empty) {
        let index = text(boot, "index");
        let id: String = text(boot, "boot").chars().take(8).collect();
        let time = |key: &str| match text(boot, key) {
            time if time.is_empty() => "?".to_owned(),
            time => local(&time),
        };
        let words = match (index.as_str(), text(boot, "words")) {
            ("0", _) => "runs now".to_owned(),
            (_, words) if words.is_empty() => "how it ended is not known".to_owned(),
            (_, words) => words,
        };
        let until = if index == "0" {
            String::new()
        } else {
            format!(" to {}", time("ended"))
        };
        shown.push_str(&format!("{index:>4}  {id}  {}{until}\n", time("began")));
        shown.push_str(&format!("                {words}\n"));
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    /// In whatever zone the test runs.
    fn same(text: &str, seconds: i64) {
        let parsed = parse_time(text, 1_795_362_074).unwrap();
        let again = local_time::local_of(seconds).unwrap();
        let expected = format!("{:02}:{:02}:{:02}", again.hour, again.minute, again.second);
        assert!(parsed.contains(&expected), "{text}: {parsed} {expected}");
    }

    #[test]
    fn times_are_read_as_people_write_them() {
        let now = 1_795_362_074;
        same("now", now);
        same("10m", now - 600);
        same("-2h", now - 7200);
        same("10 minutes ago", now - 600);
        same("3 days ago", now - 3 * 86_400);
        for (text, expected) in [
            ("2026-01-31 12:00", "2026-01-31T12:00:00"),
            ("2026-01-31", "2026-01-31T00:00:00"),
            ("2026-01-31T12:00:05", "2026-01-31T12:00:05"),
        ] {
            let parsed = parse_time(text, now).unwrap();
            assert!(parsed.starts_with(expected), "{parsed}");
        }
        assert!(parse_time("07:15", now).unwrap().contains("T07:15:00"));
        assert!(parse_time("yesterday", now).unwrap().contains("T00:00:00"));
        let zoned = "2026-01-31T12:00:00+01:00";
        assert_eq!(parse_time(zoned, now).unwrap(), zoned);
        for text in ["", "soon", "25:00", "2026-13-01", "10 parsecs ago", "12"] {
            assert!(parse_time(text, now).is_err(), "{text}");
        }
    }

    #[test]
    fn no_line_can_do_anything_to_a_terminal() {
        let said: String = (0..0x300)
            .chain(0x2000..0x2100)
            .filter_map(char::from_u32)
            .collect();
        let mut view = View {
            colours: false,
            boot: None,
        };
        let line = json!({ "t": "2026-01-31T12:00:00.000Z", "unit": "u", "line": said });
        let shown = view.line(&line);
        let harmful = |c: char| (c.is_control() && c != '\t' && c != '\n') || c == '\u{202e}';
        assert!(!shown.contains(harmful));
        assert_eq!(shown.lines().count(), 1);
        assert!(shown.contains("\\x1b") && shown.contains("\u{e9}"));
        assert_eq!(written_out("a\x1b[31mb\tc"), "a\\x1b[31mb\tc");
    }

    #[test]
    fn colours_are_for_terminals_and_a_new_boot_is_marked() {
        let line = |boot: &str| json!({ "boot": boot, "t": "2026-01-31T12:00:00.000Z", "unit": "u", "level": "err", "line": "x" });
        let mut plain = View {
            colours: false,
            boot: None,
        };
        assert!(plain.line(&line("a")).ends_with("u err: x\n"));
        assert!(plain.line(&line("b")).starts_with("-- boot b --\n"));
        let mut coloured = View {
            colours: true,
            boot: None,
        };
        assert!(coloured.line(&line("a")).contains("\x1b[31mx\x1b[0m"));
    }

    #[test]
    fn boots_are_told_with_how_they_ended() {
        let shown = boots(&json!({ "boots": [
            { "index": 0, "boot": "0123456789", "began": "2026-01-31T12:00:00.000Z", "ended": null },
            { "index": -1, "boot": "abcdefabcdef", "began": null, "ended": null, "cause": "power-loss", "words": "the power went" },
        ] }));
        assert!(shown.contains("runs now") && shown.contains("the power went"));
        assert!(shown.contains("  -1  abcdefab"), "{shown}");
    }
}
