//! The program on a terminal of its own (a pty): what it sends, what a person then sees, and that it waits for nobody.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // what a test needs is not only in #[test]

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::{Child, Command};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use atalaya_sys::screen;
use serde_json::{Value, json};

/// A loaded machine with two cores is slow; nothing waits so long unless it is broken.
const LIMIT: Duration = Duration::from_secs(30);

/// A terminal as a person has it: shows what comes, and answers where its cursor is, unless it is dumb.
struct Person {
    shown: Arc<Mutex<vt100::Parser>>,
    sent: Arc<Mutex<Vec<u8>>>,
    keys: File,
    /// So that the terminal stays while the program is away.
    _slave: OwnedFd,
    device: String,
}

impl Person {
    fn new(rows: u16, columns: u16, answers: bool) -> Self {
        let pair = nix::pty::openpty(None, None).unwrap();
        let device = nix::unistd::ttyname(&pair.slave).unwrap();
        let shown = Arc::new(Mutex::new(vt100::Parser::new(rows, columns, 0)));
        let sent = Arc::new(Mutex::new(Vec::new()));
        let keys = File::from(pair.master);
        let mut master = keys.try_clone().unwrap();
        let (parser, bytes) = (Arc::clone(&shown), Arc::clone(&sent));
        std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            // A question may come in pieces.
            let mut heard = Vec::new();
            while let Ok(count) = master.read(&mut buffer) {
                let part = &buffer[..count];
                parser.lock().unwrap().process(part);
                bytes.lock().unwrap().extend_from_slice(part);
                heard.extend_from_slice(part);
                let is_asked = heard.windows(4).any(|window| window == b"\x1b[6n");
                heard.drain(..heard.len() - if is_asked { 0 } else { heard.len().min(3) });
                if answers && is_asked {
                    let answer = format!("\x1b[{rows};{columns}R");
                    master.write_all(answer.as_bytes()).unwrap();
                }
            }
        });
        Self {
            shown,
            sent,
            keys,
            _slave: pair.slave,
            device: device.to_string_lossy().into_owned(),
        }
    }

    fn press(&mut self, keys: &[u8]) {
        self.keys.write_all(keys).unwrap();
    }

    fn rows(&self) -> Vec<String> {
        let parser = self.shown.lock().unwrap();
        let (_, columns) = parser.screen().size();
        parser
            .screen()
            .rows(0, columns)
            .map(|row| row.trim_end().to_owned())
            .collect()
    }

    fn wait(&self, what: &str, is: impl Fn(&str) -> bool) -> String {
        wait(what, || {
            let text = self.rows().join("\n");
            is(&text).then_some(text)
        })
    }

    fn sent(&self) -> Vec<u8> {
        self.sent.lock().unwrap().clone()
    }
}

fn wait<T>(what: &str, mut found: impl FnMut() -> Option<T>) -> T {
    let begin = Instant::now();
    loop {
        if let Some(found) = found() {
            return found;
        }
        assert!(begin.elapsed() < LIMIT, "never: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// A supervisor that answers what it is told to, and counts.
struct Supervisor {
    /// Null: it hangs up instead.
    answer: Arc<Mutex<Value>>,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Supervisor {
    fn start(socket: &Path) -> Self {
        let listener = UnixListener::bind(socket).unwrap();
        let answer = Arc::new(Mutex::new(status()));
        let asked = Arc::new(Mutex::new(Vec::new()));
        let (body, requests) = (Arc::clone(&answer), Arc::clone(&asked));
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                let mut buffer = [0; 1024];
                let count = stream.read(&mut buffer).unwrap();
                let request = String::from_utf8_lossy(&buffer[..count]).into_owned();
                requests
                    .lock()
                    .unwrap()
                    .push(request.lines().next().unwrap_or_default().to_owned());
                let body = body.lock().unwrap().clone();
                if body.is_null() {
                    continue;
                }
                let answer =
                    format!("HTTP/1.0 200 OK\r\ncontent-type: application/json\r\n\r\n{body}");
                // The program may have ended.
                drop(stream.write_all(answer.as_bytes()));
            }
        });
        Self { answer, asked }
    }

    fn change(&self, key: &str, value: Value) {
        self.answer.lock().unwrap()[key] = value;
    }

    /// Has it hang up on each question from now on; gives what it would answer.
    fn be_silent(&self) -> Value {
        std::mem::take(&mut *self.answer.lock().unwrap())
    }

    /// Waits until the program has heard what is answered now.
    fn wait_asked(&self) {
        let before = self.asked.lock().unwrap().len();
        wait("two more questions", || {
            (self.asked.lock().unwrap().len() >= before + 2).then_some(())
        });
    }
}

fn status() -> Value {
    json!({
        "state": "ready", "admit": true, "wrong": [], "version": "0.1.0", "build": "0123456789ab", "slot": "a",
        "mattermost": "11.7.9", "site": "https://10.0.2.15", "addresses": ["10.0.2.15"], "fingerprint": "AB:".repeat(31) + "AB",
        "first_log_in": "correct-horse", "data": true, "time": "2026-11-22T19:05:12.123Z", "zone": "UTC", "up_ms": 240_000,
        "units": [{ "name": "postgres", "state": "Running", "ready": true, "words": "ready", "run": 1,
                    "running_for_ms": 240_000, "usage": { "cpu_us": 5, "memory": 14 << 20, "tasks": 3 } }],
        "messages": [{ "t": "2026-11-22T19:05:12.123Z", "text": "postgres: ready" }],
    })
}

struct Stage {
    directory: tempfile::TempDir,
    supervisor: Supervisor,
    person: Person,
    program: Child,
}

impl Stage {
    fn new(kind: &str, rows: u16, columns: u16, answers: bool) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let socket = directory.path().join("control.sock");
        let supervisor = Supervisor::start(&socket);
        let person = Person::new(rows, columns, answers);
        let program = Command::new(env!("CARGO_BIN_EXE_atalaya-console"))
            .args([&format!("--{kind}"), &person.device])
            .arg("--socket")
            .arg(&socket)
            .arg("--locks")
            .arg(directory.path())
            .spawn()
            .unwrap();
        Self {
            directory,
            supervisor,
            person,
            program,
        }
    }

    fn is_taken(&self) -> bool {
        let name = self.person.device.rsplit('/').next().unwrap();
        screen::is_taken(self.directory.path(), name)
    }

    fn terminate(&mut self) {
        let pid = nix::unistd::Pid::from_raw(i32::try_from(self.program.id()).unwrap());
        nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM).unwrap();
        let status = wait("the program's end", || self.program.try_wait().unwrap());
        assert!(status.success(), "{status}");
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        // It may have ended.
        drop(self.program.kill());
        drop(self.program.wait());
    }
}

#[test]
fn a_serial_line_gets_nothing_before_a_key_and_a_screen_after_it() {
    let mut stage = Stage::new("line", 24, 80, true);
    stage.supervisor.wait_asked();
    assert_eq!(stage.person.sent(), b"", "nobody has asked for anything");
    assert!(!stage.is_taken());
    stage.person.press(b"\r");
    let text = stage
        .person
        .wait("the picture", |text| text.contains("plain lines"));
    assert!(stage.is_taken(), "others leave it alone now");
    for wanted in [
        "READY",
        "https://10.0.2.15",
        "admin  correct-horse",
        "postgres",
        "2026-11-22 19:05:12 UTC",
    ] {
        assert!(text.contains(wanted), "{wanted}:\n{text}");
    }
    // What changes is seen, what is wrong first.
    stage.supervisor.change(
        "wrong",
        json!(["PostgreSQL has failed while it ran: exit status 1."]),
    );
    stage.person.wait("what is wrong", |text| {
        text.contains("WRONG  PostgreSQL has failed")
    });
    // Other pages, and back to plain lines.
    stage.person.press(b"\t");
    stage.person.wait("the services", |text| {
        text.contains("Since, why") && text.contains("ready, for 4 minutes")
    });
    stage.person.press(b"\x1b[C");
    stage.person.wait("the messages", |text| {
        text.contains("19:05:12 postgres: ready")
    });
    stage.person.press(b"q");
    wait("plain again", || (!stage.is_taken()).then_some(()));
    // What the program sent before it let go is read by a thread of its own.
    wait("the lines that were there before", || {
        let person = stage.person.shown.lock().unwrap();
        (!person.screen().alternate_screen()).then_some(())
    });
    let asked = stage.supervisor.asked.lock().unwrap().clone();
    assert!(
        asked
            .iter()
            .all(|request| request == "GET /v1/screen HTTP/1.0"),
        "it only looks: {asked:?}"
    );
    stage.terminate();
}

#[test]
fn a_stick_is_installed_by_whoever_types_the_word_in_front_of_the_machine() {
    let mut stage = Stage::new("screen", 24, 80, true);
    stage
        .person
        .wait("the picture", |text| text.contains("READY"));
    stage.person.press(b"uproceed\r");
    // Two questions later the keys have been taken, for nothing.
    stage.supervisor.wait_asked();
    let offer = json!({ "version": "0.2.0", "mattermost": "11.8.0", "postgresql": "17.6" });
    stage.supervisor.change("update", json!({ "stick": offer }));
    stage
        .person
        .wait("the stick", |text| text.contains("holds version 0.2.0"));
    stage.person.press(b"u");
    stage.person.wait("the question", |text| {
        text.contains("Install version 0.2.0?")
    });
    let posts = |stage: &Stage| {
        let asked = stage.supervisor.asked.lock().unwrap().clone();
        asked
            .into_iter()
            .filter(|line| line.starts_with("POST"))
            .collect::<Vec<_>>()
    };
    // Another word, and a look at something else meanwhile.
    stage.person.press(b"yes\r");
    stage.person.press(b"\t");
    stage
        .person
        .wait("the overview", |text| text.contains("holds version 0.2.0"));
    assert_eq!(posts(&stage), Vec::<String>::new());
    stage.person.press(b"uquit\x7f\x7f\x7f\x7f");
    stage.person.press(b"proceed");
    stage
        .person
        .wait("the word", |text| text.contains("proceed_"));
    stage.person.press(b"\r");
    let asked = wait("the wish", || posts(&stage).pop());
    assert_eq!(asked, "POST /v1/update/stick/0.2.0 HTTP/1.0");
    // This supervisor answers 200, which is no yes: it is told, and pulling the stick out ends it.
    stage
        .person
        .wait("the word anew", |text| text.contains("Enter:  _"));
    stage.supervisor.change("update", Value::Null);
    stage
        .person
        .wait("the overview", |text| text.contains("READY"));
    assert_eq!(posts(&stage).len(), 1);
    stage.terminate();
}

#[test]
fn a_supervisor_that_misses_a_question_changes_nothing_on_the_screen() {
    let mut stage = Stage::new("screen", 24, 80, true);
    let offer = json!({ "version": "0.2.0", "mattermost": "11.8.0", "postgresql": "17.6" });
    stage.supervisor.change("update", json!({ "stick": offer }));
    stage
        .person
        .wait("the stick", |text| text.contains("holds version 0.2.0"));
    let answer = stage.supervisor.be_silent();
    stage.supervisor.wait_asked();
    stage.person.press(b"u");
    stage.person.wait("the question", |text| {
        text.contains("Install version 0.2.0?")
    });
    stage.person.press(b"pro");
    stage
        .person
        .wait("what is typed", |text| text.contains("pro_"));
    stage.supervisor.wait_asked();
    *stage.supervisor.answer.lock().unwrap() = answer;
    stage.supervisor.wait_asked();
    stage.person.press(b"ceed");
    stage
        .person
        .wait("the word", |text| text.contains("proceed_"));
    stage.terminate();
}

#[test]
fn a_dumb_line_is_asked_once_and_left_alone() {
    let mut stage = Stage::new("line", 24, 80, false);
    stage.supervisor.wait_asked();
    stage.person.press(b"\r");
    wait("the question", || {
        (!stage.person.sent().is_empty()).then_some(())
    });
    // A key, a second without an answer, and two more looks at the supervisor later nothing has come of it.
    stage.supervisor.wait_asked();
    let sent = String::from_utf8(stage.person.sent()).unwrap();
    assert!(
        sent.ends_with("\u{1b}[6n\u{1b}8"),
        "only the question: {sent:?}"
    );
    assert!(!stage.is_taken());
    stage.terminate();
}

#[test]
fn the_machines_screen_is_given_back_for_the_end_of_the_machine() {
    let mut stage = Stage::new("screen", 25, 80, true);
    // Its last line is drawn last.
    let text = stage.person.wait("the whole picture", |text| {
        text.contains("READY") && text.contains("Ctrl-L redraw")
    });
    assert!(
        !text.contains("plain lines"),
        "there is nothing behind it: {text}"
    );
    assert!(stage.is_taken());
    stage.supervisor.change("stopping", json!("reboot"));
    wait("given back", || (!stage.is_taken()).then_some(()));
    stage
        .person
        .wait("an empty page", |text| text.trim().is_empty());
    stage.supervisor.change("stopping", Value::Null);
    stage
        .person
        .wait("the picture again", |text| text.contains("READY"));
    stage.terminate();
    assert!(!stage.is_taken());
    stage
        .person
        .wait("an empty page", |text| text.trim().is_empty());
    wait("the cursor", || {
        let person = stage.person.shown.lock().unwrap();
        (!person.screen().hide_cursor()).then_some(())
    });
}

#[test]
fn a_stopped_terminal_stops_nothing_else() {
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("control.sock");
    let supervisor = Supervisor::start(&socket);
    // Nobody reads this one: it takes a few kilobytes and then nothing more, as after Ctrl-S.
    let stopped = nix::pty::openpty(None, None).unwrap();
    let stopped_device = nix::unistd::ttyname(&stopped.slave).unwrap();
    let filler = File::from(stopped.slave.try_clone().unwrap());
    nix::fcntl::fcntl(
        &filler,
        nix::fcntl::FcntlArg::F_SETFL(nix::fcntl::OFlag::O_NONBLOCK),
    )
    .unwrap();
    while (&filler).write(&[b'x'; 4096]).is_ok() {}
    let mut person = Person::new(24, 80, true);
    let program = Command::new(env!("CARGO_BIN_EXE_atalaya-console"))
        .args([
            "--screen",
            &stopped_device.to_string_lossy(),
            "--line",
            &person.device,
        ])
        .arg("--socket")
        .arg(&socket)
        .arg("--locks")
        .arg(directory.path())
        .spawn()
        .unwrap();
    supervisor.wait_asked();
    person.press(b"\r");
    person.wait("the picture on the other", |text| text.contains("READY"));
    supervisor.change("state", json!("later"));
    supervisor.change("admit", json!(false));
    person.wait("what changes", |text| text.contains("NOT READY: later"));
    let mut stage = Stage {
        directory,
        supervisor,
        person,
        program,
    };
    stage.terminate();
}

#[test]
fn a_small_terminal_is_drawn_too() {
    let mut stage = Stage::new("line", 10, 40, true);
    stage.supervisor.wait_asked();
    stage.person.press(b"\r");
    stage.person.wait("the picture", |text| {
        text.contains("READY") && text.contains("Address      https://10.0.2.15")
    });
    assert_eq!(stage.person.rows().len(), 10);
    stage.terminate();
}
