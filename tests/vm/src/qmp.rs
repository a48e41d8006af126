//! QEMU's machine protocol: JSON lines over a Unix socket. One thread reads; answers go to the one caller that waits,
//! events are kept, so that a wait can begin after the event came.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::VmError;

/// QEMU answers at once; a longer silence is a hang.
const ANSWER_LIMIT: Duration = Duration::from_secs(60);

/// Something that happened to the machine, like RESET or SHUTDOWN.
#[derive(Debug, Clone)]
pub struct QmpEvent {
    /// Its name.
    pub name: String,
    /// Its data.
    pub data: Value,
    /// When it was read.
    pub at: Instant,
}

/// The connection.
#[derive(Debug)]
pub struct Qmp {
    writer: Mutex<Writer>,
    events: Arc<Events>,
}

#[derive(Debug)]
struct Writer {
    stream: UnixStream,
    answers: mpsc::Receiver<Value>,
}

#[derive(Debug, Default)]
struct Events {
    list: Mutex<Log>,
    more: Condvar,
}

#[derive(Debug, Default)]
struct Log {
    events: Vec<QmpEvent>,
    closed: bool,
}

impl Events {
    fn lock(&self) -> MutexGuard<'_, Log> {
        self.list.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Qmp {
    /// Takes over a connection: reads the greeting and leaves negotiation mode.
    pub(crate) fn open(
        stream: UnixStream,
        path: &Path,
        on_event: impl Fn(&QmpEvent) + Send + 'static,
    ) -> Result<Qmp, VmError> {
        let object = path.display().to_string();
        let reader = stream
            .try_clone()
            .map_err(VmError::io("duplicate", object.as_str()))?;
        let events = Arc::new(Events::default());
        let (sender, answers) = mpsc::channel();
        let log = Arc::clone(&events);
        thread::Builder::new()
            .name("qmp".to_owned())
            .spawn(move || read_messages(reader, &log, &sender, on_event))
            .map_err(VmError::io("start a thread to read", object))?;
        let qmp = Qmp {
            writer: Mutex::new(Writer { stream, answers }),
            events,
        };
        qmp.execute("qmp_capabilities", json!({}))?;
        Ok(qmp)
    }

    /// Runs one command and gives its return value.
    pub fn execute(&self, command: &str, arguments: Value) -> Result<Value, VmError> {
        let mut writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
        let line = format!("{}\n", json!({"execute": command, "arguments": arguments}));
        writer
            .stream
            .write_all(line.as_bytes())
            .map_err(VmError::io("ask QEMU for", command))?;
        let answer = writer
            .answers
            .recv_timeout(ANSWER_LIMIT)
            .map_err(|error| VmError::Qmp {
                command: command.to_owned(),
                reason: match error {
                    mpsc::RecvTimeoutError::Timeout => "no answer".to_owned(),
                    mpsc::RecvTimeoutError::Disconnected => "it ended".to_owned(),
                },
            })?;
        match answer.get("error") {
            None => Ok(answer.get("return").cloned().unwrap_or(Value::Null)),
            Some(error) => Err(VmError::Qmp {
                command: command.to_owned(),
                reason: error
                    .get("desc")
                    .and_then(Value::as_str)
                    .unwrap_or("no description")
                    .to_owned(),
            }),
        }
    }

    /// How many events have come so far: a mark for [`Qmp::wait_event`].
    #[must_use]
    pub fn mark(&self) -> usize {
        self.events.lock().events.len()
    }

    /// The events since a mark.
    #[must_use]
    pub fn events_since(&self, mark: usize) -> Vec<QmpEvent> {
        self.events
            .lock()
            .events
            .get(mark..)
            .unwrap_or_default()
            .to_vec()
    }

    /// Waits for the first event called `name` after `mark`. None: not in time, or QEMU ended before.
    #[must_use]
    pub fn wait_event(&self, name: &str, mark: usize, timeout: Duration) -> Option<QmpEvent> {
        let deadline = Instant::now() + timeout;
        let mut log = self.events.lock();
        loop {
            if let Some(event) = log
                .events
                .iter()
                .skip(mark)
                .find(|event| event.name == name)
            {
                return Some(event.clone());
            }
            if log.closed {
                return None;
            }
            let left = deadline.checked_duration_since(Instant::now())?;
            log = self
                .events
                .more
                .wait_timeout(log, left)
                .unwrap_or_else(PoisonError::into_inner)
                .0;
        }
    }
}

fn read_messages(
    reader: UnixStream,
    events: &Events,
    answers: &mpsc::Sender<Value>,
    on_event: impl Fn(&QmpEvent),
) {
    for line in BufReader::new(reader).lines() {
        let Ok(line) = line else { break };
        let Ok(message) = serde_json::from_str::<Value>(&line) else {
            continue;
        };
        if let Some(name) = message.get("event").and_then(Value::as_str) {
            let data = message.get("data").cloned().unwrap_or(Value::Null);
            let event = QmpEvent {
                name: name.to_owned(),
                data,
                at: Instant::now(),
            };
            on_event(&event);
            events.lock().events.push(event);
            events.more.notify_all();
        } else if message.get("QMP").is_none() {
            // Nobody waits any more: the connection is being taken down.
            answers.send(message).ok();
        }
    }
    events.lock().closed = true;
    events.more.notify_all();
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A QEMU that greets, and answers each command with what `answer` says.
    fn fake(answer: impl Fn(&Value) -> String + Send + 'static) -> Qmp {
        let (ours, theirs) = UnixStream::pair().unwrap();
        thread::spawn(move || {
            let mut writer = theirs.try_clone().unwrap();
            writer
                .write_all(b"{\"QMP\": {\"version\": {}, \"capabilities\": []}}\n")
                .unwrap();
            for line in BufReader::new(theirs).lines() {
                let Ok(line) = line else { return };
                let message: Value = serde_json::from_str(&line).unwrap();
                writer.write_all(answer(&message).as_bytes()).unwrap();
            }
        });
        Qmp::open(ours, Path::new("/test"), |_| {}).unwrap()
    }

    #[test]
    fn events_between_answers_are_kept_apart() {
        let qmp = fake(|_| "{\"event\": \"RESUME\"}\n{\"return\": {\"a\": 1}}\n".to_owned());
        assert_eq!(
            qmp.execute("query-status", json!({})).unwrap(),
            json!({"a": 1})
        );
        assert!(
            qmp.wait_event("RESUME", 0, Duration::from_secs(5))
                .is_some()
        );
        assert!(qmp.wait_event("RESET", 0, Duration::ZERO).is_none());
    }

    #[test]
    fn a_refusal_names_the_command_and_the_reason() {
        let qmp = fake(|message| match message["execute"].as_str() {
            Some("qmp_capabilities") => "{\"return\": {}}\n".to_owned(),
            _ => {
                "{\"error\": {\"class\": \"GenericError\", \"desc\": \"no such key\"}}\n".to_owned()
            }
        });
        let error = qmp.execute("send-key", json!({})).unwrap_err();
        assert_eq!(error.to_string(), "QEMU refused send-key: no such key");
    }
}
