//! The socket that units see as /dev/log: one datagram is one message of syslog(3), `<PRI>Mmm dd hh:mm:ss tag[pid]: text`
//! (RFC 3164). Whose it is, is not what it says but in which cgroup its sender lives.

use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixDatagram;
use std::sync::Arc;

use atalaya_sys::{notify, reap};
use tokio::io::Interest;

use super::line::{Batch, Level, Stream};
use super::shared::Shared;
use crate::run::parse_cgroup_name;

/// A longer one is cut there, in bytes; syslog(3) writes less.
const LIMIT: usize = 64 << 10;

/// The level, and the text without priority and time.
fn parse(datagram: &[u8]) -> (Level, &[u8]) {
    let text = datagram
        .iter()
        .rposition(|byte| !matches!(byte, b'\n' | b'\r' | 0 | b' '))
        .and_then(|last| datagram.get(..=last))
        .unwrap_or_default();
    let (level, text) = parse_priority(text).unwrap_or((Level::Notice, text));
    (level, without_time(text))
}

fn parse_priority(text: &[u8]) -> Option<(Level, &[u8])> {
    let rest = text.strip_prefix(b"<")?;
    let end = rest.iter().take(4).position(|byte| *byte == b'>')?;
    let (digits, rest) = rest.split_at(end);
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let priority = std::str::from_utf8(digits).ok()?.parse().ok()?;
    Some((Level::of_priority(priority), rest.get(1..)?))
}

/// The line has its own time.
fn without_time(text: &[u8]) -> &[u8] {
    const FORM: &[u8] = b"Aaa 00 00:00:00 ";
    let is_time = text.len() >= FORM.len()
        && text.iter().zip(FORM).all(|(byte, form)| match form {
            b'A' => byte.is_ascii_uppercase(),
            b'a' => byte.is_ascii_lowercase(),
            b'0' => byte.is_ascii_digit() || *byte == b' ',
            other => byte == other,
        });
    if is_time {
        text.get(FORM.len()..).unwrap_or_default()
    } else {
        text
    }
}

/// Of the sender's cgroup; a sender that has ended meanwhile, or belongs to no unit, is named by the way it spoke.
fn unit_of(pid: i32) -> String {
    if pid == 1 {
        return "init".to_owned();
    }
    reap::cgroup_of(pid)
        .ok()
        .and_then(|path| {
            let mut parts = path.split('/').skip_while(|part| *part != "units");
            let (unit, _) = parse_cgroup_name(parts.nth(1)?)?;
            Some(unit.to_owned())
        })
        .unwrap_or_else(|| "syslog".to_owned())
}

pub(super) async fn pump(shared: Arc<Shared>, socket: OwnedFd) {
    let Ok(socket) = tokio::net::UnixDatagram::from_std(UnixDatagram::from(socket)) else {
        return;
    };
    while socket.readable().await.is_ok() {
        let receive = || notify::recv_up_to(socket.as_fd(), LIMIT);
        let Ok(received) = socket.try_io(Interest::READABLE, receive) else {
            continue;
        };
        let pid = received.credentials.map_or(0, |sender| sender.pid);
        let unit: Arc<str> = unit_of(pid).into();
        let (level, text) = parse(&received.bytes);
        let mut batch = Batch::new(unit, Stream::Syslog, Some(level), text.to_vec());
        batch.more = received.truncated;
        shared.offer_or_drop(batch);
        tokio::task::yield_now().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_syslog_writes_is_read() {
        for (datagram, level, text) in [
            (
                "<30>Nov 22 19:02:10 chronyd[42]: Selected source",
                Level::Info,
                "chronyd[42]: Selected source",
            ),
            ("<3>Nov  2 09:02:10 x: y\n\0", Level::Err, "x: y"),
            ("<165>no time", Level::Notice, "no time"),
            ("no priority", Level::Notice, "no priority"),
            ("<>x", Level::Notice, "<>x"),
            ("<99999>x", Level::Notice, "<99999>x"),
            ("", Level::Notice, ""),
        ] {
            assert_eq!(parse(datagram.as_bytes()), (level, text.as_bytes()));
        }
    }

    #[test]
    fn a_stranger_has_no_units_name() {
        assert_eq!(unit_of(1), "init");
        assert_eq!(unit_of(i32::MAX), "syslog");
    }
}
