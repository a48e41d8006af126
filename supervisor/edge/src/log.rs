//! JSON lines on stdout: one for each request, one for each event. A reader that stops reading never stops the edge: lines go through a
//! bounded queue to a thread of their own, and what does not fit is counted and said later.

use std::io::Write;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::{Value, json};

/// Lines that may wait for the reader: about 2 MiB.
const QUEUE: usize = 8192;

/// Where lines are handed in; cheap to clone.
#[derive(Clone)]
pub struct Log {
    lines: SyncSender<String>,
    lost: Arc<AtomicU64>,
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

    /// One line as it is.
    pub fn line(&self, line: &Value) {
        if self.lines.try_send(format!("{line}\n")).is_err() {
            self.lost.fetch_add(1, Ordering::Relaxed);
        }
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

fn write_lines(queue: &Receiver<String>, lost: &AtomicU64) {
    let mut out = std::io::stdout().lock();
    while let Ok(line) = queue.recv() {
        if line.is_empty() {
            break;
        }
        let missing = lost.swap(0, Ordering::Relaxed);
        if missing > 0 {
            let note = json!({ "event": "log", "level": "warn", "message": "log lines were dropped", "count": missing });
            if writeln!(out, "{note}").is_err() {
                break;
            }
        }
        if out.write_all(line.as_bytes()).is_err() {
            break;
        }
    }
    out.flush().ok();
}

/// A request's path as it may be logged: no query, no secrets that stand in the path itself, bounded.
pub fn loggable_path(path: &str) -> String {
    let mut masked = String::new();
    let mut after_hook = false;
    for (index, part) in path.split('/').enumerate() {
        if index > 0 {
            masked.push('/');
        }
        masked.push_str(if after_hook && !part.is_empty() {
            "***"
        } else {
            part
        });
        // Incoming webhooks and slash-command answers carry their whole authority in the path.
        after_hook = part == "hooks" || (after_hook && matches!(part, "commands" | "workflows"));
    }
    if let Some((end, _)) = masked.char_indices().nth(512) {
        masked.truncate(end);
    }
    masked
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hooks_are_masked_and_other_paths_are_not() {
        assert_eq!(loggable_path("/hooks/abcdef"), "/hooks/***");
        assert_eq!(loggable_path("/hooks/commands/abcdef"), "/hooks/***/***");
        assert_eq!(loggable_path("/api/v4/posts"), "/api/v4/posts");
        assert_eq!(loggable_path("/api/v4/hooks/incoming"), "/api/v4/hooks/***");
        assert_eq!(loggable_path(&"a".repeat(600)).len(), 512);
    }
}
