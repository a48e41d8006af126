//! The server's side of sd_notify: what a datagram says, and whether it is to be believed. What follows from the words is
//! decided elsewhere (`supervisor::words`, and behind it the unit's machine).
//!
//! A datagram is believed as a whole or not at all: its sender must be in the run's cgroup with the unit's own user (or
//! root's), it must have arrived whole, and every word in it that is known must make sense. Of one that is not believed
//! nothing stays, no descriptor either. Words that are not known are none of our business (sd_notify(3)).

use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};

use atalaya_sys::notify::{Received, peek, recv};
use atalaya_sys::reap;

/// A longer STATUS is cut, in characters.
const STATUS_LIMIT: usize = 200;
/// The longest name of a stored descriptor (sd_pid_notify_with_fds(3)).
const FDNAME_LIMIT: usize = 255;

/// One assignment of a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Word {
    Ready,
    Reloading,
    /// CLOCK_MONOTONIC at the time of RELOADING=1, in microseconds.
    MonotonicUsec(u64),
    Stopping,
    /// For people; without control characters.
    Status(String),
    Errno(i32),
    MainPid(i32),
    /// It is not stuck.
    Watchdog,
    /// It says itself that it is stuck.
    WatchdogTrigger,
    WatchdogUsec(u64),
    ExtendTimeoutUsec(u64),
    FdStore,
    FdStoreRemove,
    FdName(String),
    /// The descriptor that came along is to be closed when all before it is done.
    Barrier,
}

/// Why a datagram is not believed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    #[error("it is not UTF-8, or holds a NUL")]
    NotText,
    #[error("a line is no KEY=VALUE")]
    NotAssignment,
    #[error("the value of {0} is impossible")]
    Value(&'static str),
    #[error("{0} stands there more than once")]
    Double(&'static str),
    #[error("BARRIER=1 does not stand alone")]
    Crowded,
}

/// All known words of a datagram, in its order.
///
/// # Errors
/// The first thing in it that cannot be.
pub fn parse(bytes: &[u8]) -> Result<Vec<Word>, Malformed> {
    let text = std::str::from_utf8(bytes).map_err(|_| Malformed::NotText)?;
    if text.contains('\0') {
        return Err(Malformed::NotText);
    }
    let mut words: Vec<Word> = Vec::new();
    for line in text.lines().filter(|line| !line.is_empty()) {
        let (key, value) = line.split_once('=').ok_or(Malformed::NotAssignment)?;
        if key.is_empty() {
            return Err(Malformed::NotAssignment);
        }
        let Some((key, word)) = word(key, value)? else {
            continue;
        };
        let kind = std::mem::discriminant(&word);
        if words
            .iter()
            .any(|said| std::mem::discriminant(said) == kind)
        {
            return Err(Malformed::Double(key));
        }
        words.push(word);
    }
    if words.len() > 1 && words.contains(&Word::Barrier) {
        return Err(Malformed::Crowded);
    }
    Ok(words)
}

/// The word, with the name of its key for errors; nothing if the key is not known.
fn word(key: &str, value: &str) -> Result<Option<(&'static str, Word)>, Malformed> {
    let one = |key, word| match value {
        "1" => Ok(Some((key, word))),
        _ => Err(Malformed::Value(key)),
    };
    match key {
        "READY" => one("READY", Word::Ready),
        "RELOADING" => one("RELOADING", Word::Reloading),
        "STOPPING" => one("STOPPING", Word::Stopping),
        "BARRIER" => one("BARRIER", Word::Barrier),
        "FDSTORE" => one("FDSTORE", Word::FdStore),
        "FDSTOREREMOVE" => one("FDSTOREREMOVE", Word::FdStoreRemove),
        "WATCHDOG" if value == "trigger" => Ok(Some(("WATCHDOG", Word::WatchdogTrigger))),
        "WATCHDOG" => one("WATCHDOG", Word::Watchdog),
        "STATUS" => {
            let words = value.chars().filter(|c| !c.is_control());
            Ok(Some((
                "STATUS",
                Word::Status(words.take(STATUS_LIMIT).collect()),
            )))
        }
        "FDNAME" => {
            let good = (1..=FDNAME_LIMIT).contains(&value.len())
                && value
                    .bytes()
                    .all(|byte| byte.is_ascii_graphic() && byte != b':');
            if good {
                Ok(Some(("FDNAME", Word::FdName(value.to_owned()))))
            } else {
                Err(Malformed::Value("FDNAME"))
            }
        }
        "ERRNO" => Ok(Some((
            "ERRNO",
            Word::Errno(number("ERRNO", value, 0..=4095)?),
        ))),
        "MAINPID" => Ok(Some((
            "MAINPID",
            Word::MainPid(number("MAINPID", value, 2..=4_194_304)?),
        ))),
        "MONOTONIC_USEC" => Ok(Some((
            "MONOTONIC_USEC",
            Word::MonotonicUsec(number("MONOTONIC_USEC", value, 0..=u64::MAX)?),
        ))),
        "WATCHDOG_USEC" => Ok(Some((
            "WATCHDOG_USEC",
            Word::WatchdogUsec(number("WATCHDOG_USEC", value, 1..=u64::MAX)?),
        ))),
        "EXTEND_TIMEOUT_USEC" => Ok(Some((
            "EXTEND_TIMEOUT_USEC",
            Word::ExtendTimeoutUsec(number("EXTEND_TIMEOUT_USEC", value, 1..=u64::MAX)?),
        ))),
        _ => Ok(None),
    }
}

fn number<N>(
    key: &'static str,
    value: &str,
    range: std::ops::RangeInclusive<N>,
) -> Result<N, Malformed>
where
    N: std::str::FromStr + PartialOrd,
{
    // FromStr would take a sign.
    Some(value)
        .filter(|value| value.bytes().all(|byte| byte.is_ascii_digit()))
        .and_then(|value| value.parse().ok())
        .filter(|number| range.contains(number))
        .ok_or(Malformed::Value(key))
}

/// Whose words are believed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Expected {
    /// The last component of the run's cgroup: name and run number, so that a former run is not believed either.
    pub cgroup: String,
    /// The unit's user. The helper that builds the sandbox is root's.
    pub uid: u32,
}

/// A datagram that is believed.
#[derive(Debug)]
pub struct Heard {
    pub words: Vec<Word>,
    /// BARRIER's is closed once its datagram is taken: after all before it was processed.
    pub fds: Vec<OwnedFd>,
}

/// Reads the first datagram in the socket. One that is believed stays there until it is taken ([`take`]), so that it is
/// not lost should this process end before init keeps what follows from it; of one that is not (`None`) nothing stays.
///
/// # Errors
/// `WouldBlock` when there is none.
pub fn hear(socket: BorrowedFd<'_>, expected: &Expected) -> io::Result<Option<Heard>> {
    let heard = believe(peek(socket)?, expected);
    if heard.is_none() {
        take(socket);
    }
    Ok(heard)
}

/// Takes the first datagram out of the socket: it is dealt with.
pub fn take(socket: BorrowedFd<'_>) {
    drop(recv(socket));
}

fn believe(received: Received, expected: &Expected) -> Option<Heard> {
    let sender = received.credentials?;
    let own = sender.pid > 0
        && (sender.uid == expected.uid || sender.uid == 0)
        && is_in(sender.pid, &expected.cgroup);
    if received.truncated || !own {
        return None;
    }
    let words = parse(&received.bytes).ok()?;
    Some(Heard {
        words,
        fds: received.fds,
    })
}

/// Whether the process is in the run's cgroup. A zombie still is.
pub fn is_in(pid: i32, cgroup: &str) -> bool {
    reap::cgroup_of(pid).is_ok_and(|path| path.rsplit('/').next() == Some(cgroup))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_word_is_read() {
        for (text, word) in [
            ("READY=1", Word::Ready),
            ("RELOADING=1", Word::Reloading),
            ("MONOTONIC_USEC=7", Word::MonotonicUsec(7)),
            ("STOPPING=1", Word::Stopping),
            (
                "STATUS=a=b \u{1b}[31mred",
                Word::Status("a=b [31mred".into()),
            ),
            ("ERRNO=2", Word::Errno(2)),
            ("MAINPID=77", Word::MainPid(77)),
            ("WATCHDOG=1", Word::Watchdog),
            ("WATCHDOG=trigger", Word::WatchdogTrigger),
            ("WATCHDOG_USEC=20000000", Word::WatchdogUsec(20_000_000)),
            ("EXTEND_TIMEOUT_USEC=5", Word::ExtendTimeoutUsec(5)),
            ("FDSTORE=1", Word::FdStore),
            ("FDSTOREREMOVE=1", Word::FdStoreRemove),
            ("FDNAME=cache", Word::FdName("cache".into())),
            ("BARRIER=1", Word::Barrier),
        ] {
            assert_eq!(parse(text.as_bytes()), Ok(vec![word]), "{text}");
        }
        assert_eq!(
            parse(b"READY=1\n\nX_OWN=anything\nSTATUS=up\n"),
            Ok(vec![Word::Ready, Word::Status("up".into())])
        );
        assert_eq!(parse(b""), Ok(vec![]));
    }

    #[test]
    fn a_message_with_one_wrong_word_is_wrong_as_a_whole() {
        for (bytes, error) in [
            (&b"READY=1\0"[..], Malformed::NotText),
            (b"READY=\xff", Malformed::NotText),
            (b"READY=1\nnonsense", Malformed::NotAssignment),
            (b"=1", Malformed::NotAssignment),
            (b"READY=yes", Malformed::Value("READY")),
            (b"READY=1\nREADY=1", Malformed::Double("READY")),
            (b"READY=1\nMAINPID=1", Malformed::Value("MAINPID")),
            (b"MAINPID=-5", Malformed::Value("MAINPID")),
            (b"MAINPID=+5", Malformed::Value("MAINPID")),
            (b"MAINPID=99999999999999999999", Malformed::Value("MAINPID")),
            (b"WATCHDOG=2", Malformed::Value("WATCHDOG")),
            (b"WATCHDOG_USEC=", Malformed::Value("WATCHDOG_USEC")),
            (b"WATCHDOG_USEC=0", Malformed::Value("WATCHDOG_USEC")),
            (b"FDNAME=a:b", Malformed::Value("FDNAME")),
            (b"FDNAME=", Malformed::Value("FDNAME")),
            (b"READY=1\nBARRIER=1", Malformed::Crowded),
        ] {
            assert_eq!(parse(bytes), Err(error), "{}", bytes.escape_ascii());
        }
    }

    #[test]
    fn a_long_status_is_cut_between_characters() {
        let text = format!("STATUS={}", "ä".repeat(1000));
        assert_eq!(
            parse(text.as_bytes()),
            Ok(vec![Word::Status("ä".repeat(STATUS_LIMIT))])
        );
    }
}
