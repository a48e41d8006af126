//! JSON lines on stdout: one for each request, one for each event. A reader that stops reading never stops the edge: lines go through a
//! bounded queue to a thread of their own, and what does not fit is counted and said later.

use std::io::Write;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde::Serialize;
use serde_json::{Value, json};

use crate::forward::decoded;

/// Lines that may wait for the reader: about 2 MiB.
const QUEUE: usize = 8192;

/// Where lines are handed in; cheap to clone.
#[derive(Clone)]
pub struct Log {
    lines: SyncSender<String>,
    /// Not yet said.
    lost: Arc<AtomicU64>,
    lost_ever: Arc<AtomicU64>,
    done: Arc<Mutex<Receiver<()>>>,
}

impl Log {
    /// Starts the writing thread.
    pub fn start() -> std::io::Result<Self> {
        let (lines, queue) = sync_channel::<String>(QUEUE);
        let (finished, done) = sync_channel::<()>(1);
        let lost = Arc::new(AtomicU64::new(0));
        let counter = Arc::clone(&lost);
        std::thread::Builder::new()
            .name("log".to_owned())
            .spawn(move || {
                write_lines(&queue, &counter);
                drop(finished);
            })?;
        Ok(Self {
            lines,
            lost,
            lost_ever: Arc::default(),
            done: Arc::new(Mutex::new(done)),
        })
    }

    /// Something that happened, with its details as an object.
    pub fn event(&self, level: &str, message: &str, details: Value) {
        let mut line = json!({ "event": "log", "level": level, "message": message });
        if let (Some(line), Value::Object(details)) = (line.as_object_mut(), details) {
            line.extend(details);
        }
        self.line(&line);
    }

    /// A request's line, at its end.
    pub fn request(&self, line: &impl Serialize) {
        self.line(line);
    }

    fn line(&self, line: &impl Serialize) {
        let written = serde_json::to_string(line).is_ok_and(|mut line| {
            line.push('\n');
            self.lines.try_send(line).is_ok()
        });
        if !written {
            self.lost.fetch_add(1, Ordering::Relaxed);
            self.lost_ever.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Lines that nobody took in time, since the start.
    pub fn lost(&self) -> u64 {
        self.lost_ever.load(Ordering::Relaxed)
    }

    /// Lets the thread write what is queued, for at most `limit`.
    pub fn finish(self, limit: Duration) {
        let done = Arc::clone(&self.done);
        // An empty line is the sign to end: clones of the sender may live on in requests that were cut off.
        if self.lines.try_send(String::new()).is_ok()
            && let Ok(done) = done.lock()
        {
            // Either the thread ended (disconnected) or the time is over: the process ends in both cases.
            done.recv_timeout(limit).ok();
        }
    }
}

/// Bytes of lines that are handed on together while more are waiting: one system call for many requests under load.
const BATCH: usize = 1024 * 1024;
/// How long the first line of a batch waits for others: waking this thread for each line would cost a request more than writing it.
const GATHER: Duration = Duration::from_millis(20);

fn write_lines(queue: &Receiver<String>, lost: &AtomicU64) {
    let mut out = std::io::stdout().lock();
    let mut batch = String::new();
    let mut ends = false;
    while !ends && let Ok(line) = queue.recv() {
        ends = line.is_empty();
        batch.push_str(&line);
        if !ends {
            std::thread::sleep(GATHER);
        }
        while !ends
            && batch.len() < BATCH
            && let Ok(line) = queue.try_recv()
        {
            ends = line.is_empty();
            batch.push_str(&line);
        }
        let missing = lost.swap(0, Ordering::Relaxed);
        if missing > 0 {
            let note = json!({ "event": "log", "level": "warn", "message": "log lines were dropped", "count": missing });
            batch.push_str(&note.to_string());
            batch.push('\n');
        }
        if out
            .write_all(batch.as_bytes())
            .and_then(|()| out.flush())
            .is_err()
        {
            return;
        }
        batch.clear();
    }
}

/// Parts of a path behind which everything is a secret or leads to one: incoming webhooks and slash-command answers carry their whole
/// authority in the path, invitations too; what plugins put there nobody knows.
const SECRET_BEHIND: [&str; 5] = ["hooks", "invite", "oauth", "plugins", "remotecluster"];
/// Words of Mattermost's own behind those.
const KNOWN_WORDS: [&str; 16] = [
    "access_token",
    "apps",
    "authorize",
    "authorized",
    "commands",
    "complete",
    "deauthorize",
    "gitlab",
    "google",
    "incoming",
    "login",
    "mobile_login",
    "office365",
    "outgoing",
    "signup",
    "workflows",
];
/// Mattermost's own ids have 26 characters. What is longer and has a figure in it may be a token.
const ID_LENGTH: usize = 26;
/// Characters of a path that are logged.
const PATH_LIMIT: usize = 512;

/// A request's path as it may be logged: no query, no secrets that stand in the path itself, bounded. As Mattermost understands it, so that
/// another spelling hides nothing.
pub fn loggable_path(path: &str) -> String {
    let decoded = decoded(path);
    let mut masked = String::with_capacity(decoded.len());
    let (mut secret, mut is_plugins_name) = (false, false);
    let is_static = decoded.starts_with("/static/");
    for (index, part) in decoded.split('/').enumerate() {
        if index > 0 {
            masked.push('/');
        }
        let is_known = part.is_empty()
            || is_plugins_name
            || if secret {
                KNOWN_WORDS.contains(&part)
            } else {
                is_static
                    || part.len() <= ID_LENGTH
                    || !part.bytes().any(|byte| byte.is_ascii_digit())
            };
        masked.push_str(if is_known { part } else { "***" });
        is_plugins_name = part == "plugins";
        secret |= SECRET_BEHIND.contains(&part);
    }
    if let Some((end, _)) = masked.char_indices().nth(PATH_LIMIT) {
        masked.truncate(end);
    }
    masked
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_gives_access_is_masked_and_other_paths_are_not() {
        let id = "4xp9fdt77pncbef59f4k1qe83o";
        for (path, logged) in [
            (format!("/hooks/{id}"), "/hooks/***".to_owned()),
            (format!("/h%6Foks//{id}"), "/hooks//***".to_owned()),
            (
                format!("/hooks/commands/{id}"),
                "/hooks/commands/***".to_owned(),
            ),
            (
                format!("/api/v4/hooks/incoming/{id}/regen"),
                "/api/v4/hooks/incoming/***/***".to_owned(),
            ),
            (
                format!("/api/v4/teams/invite/{id}"),
                "/api/v4/teams/invite/***".to_owned(),
            ),
            (
                "/plugins/com.example.git/webhook/s3cret".to_owned(),
                "/plugins/com.example.git/***/***".to_owned(),
            ),
            (
                "/oauth/gitlab/complete".to_owned(),
                "/oauth/gitlab/complete".to_owned(),
            ),
            (
                format!("/api/v4/oauth/apps/{id}"),
                "/api/v4/oauth/apps/***".to_owned(),
            ),
            (
                format!("/verify/{}", "a1".repeat(32)),
                "/verify/***".to_owned(),
            ),
            (
                "/static/main.0123456789abcdef0123456789abcdef.js".to_owned(),
                "/static/main.0123456789abcdef0123456789abcdef.js".to_owned(),
            ),
            (
                format!("/api/v4/channels/{id}/posts"),
                format!("/api/v4/channels/{id}/posts"),
            ),
            (
                "/team/channels/a-name-without-any-figure-in-it".to_owned(),
                "/team/channels/a-name-without-any-figure-in-it".to_owned(),
            ),
        ] {
            assert_eq!(loggable_path(&path), logged, "{path}");
        }
        assert_eq!(loggable_path(&"a".repeat(600)).len(), 512);
    }
}
