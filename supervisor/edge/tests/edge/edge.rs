//! Starts the edge and waits on what it says itself: readiness by sd_notify, everything else by its log.

use std::collections::VecDeque;
use std::io::{BufRead, BufReader};
use std::net::{SocketAddr, TcpListener};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};
use tempfile::TempDir;

/// Longer than anything here takes on a busy machine with two cores.
const PATIENCE: Duration = Duration::from_secs(60);

/// Directories and settings that outlive one run of the edge.
pub struct Place {
    dir: TempDir,
    pub upstream: SocketAddr,
    /// Lines added to edge.toml; tables last.
    pub extra: String,
    pub listen: &'static str,
    pub names: &'static str,
    /// None: the machine does not know its address yet.
    pub site: Option<&'static str>,
    /// edge-secrets.toml in the unit's credentials.
    pub secrets: Option<String>,
    /// What a supervisor passes as `https`.
    pub socket: Option<TcpListener>,
    /// After which a supervisor takes the edge for stuck, in microseconds.
    pub watchdog_us: Option<u64>,
}

impl Place {
    pub fn new(upstream: SocketAddr) -> Self {
        let dir = tempfile::tempdir().unwrap();
        for sub in ["state", "public", "supervisor", "credentials"] {
            std::fs::create_dir(dir.path().join(sub)).unwrap();
        }
        Self {
            dir,
            upstream,
            extra: String::new(),
            listen: "127.0.0.1:0",
            names: "[\"localhost\", \"atalaya\"]",
            site: Some("https://localhost:8443"),
            secrets: None,
            socket: None,
            watchdog_us: None,
        }
    }

    pub fn path(&self, relative: &str) -> PathBuf {
        self.dir.path().join(relative)
    }

    /// Writes upstream.json as the supervisor does: beside it and by rename.
    pub fn report(&self, state: &Value) {
        let temporary = self.path("supervisor/.upstream.json");
        atalaya_sys::durable::write(&temporary, state.to_string().as_bytes(), 0o644, None).unwrap();
        std::fs::rename(&temporary, self.path("supervisor/upstream.json")).unwrap();
    }

    /// Everything is there, and has been since the machine started.
    pub fn report_open(&self) {
        self.report(&open_since(1));
    }

    pub fn ca_pem(&self) -> String {
        std::fs::read_to_string(self.path("public/ca.crt")).unwrap()
    }

    /// certificate.json.
    pub fn certificate(&self) -> Value {
        serde_json::from_slice(&std::fs::read(self.path("public/certificate.json")).unwrap())
            .unwrap()
    }

    /// Waits until a report of the edge's says what is wanted.
    pub fn wait_public(&self, name: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let text = std::fs::read(self.path("public").join(name)).unwrap_or_default();
            match serde_json::from_slice(&text) {
                Ok(report) if wanted(&report) => return report,
                _ => assert!(
                    Instant::now() < deadline,
                    "{}",
                    String::from_utf8_lossy(&text)
                ),
            }
            std::thread::yield_now();
        }
    }

    /// Starts the edge and waits until it is ready.
    pub fn start(&self) -> Edge {
        let edge = self.spawn();
        edge.wait_notify("READY=1");
        edge
    }

    /// Starts the edge and waits until it is ready and admits users.
    pub fn start_open(&self) -> Edge {
        self.report_open();
        let edge = self.start();
        edge.wait_log(|line| line["message"] == "users are admitted");
        edge
    }

    /// Writes edge.toml and its secrets as the renderer does: beside them and by rename.
    pub fn write_settings(&self) {
        let site = self
            .site
            .map_or_else(String::new, |site| format!("site_address = \"{site}\"\n"));
        let settings = format!(
            "{site}names = {}\naddresses = [\"127.0.0.1\"]\nlisten_https = \"{1}\"\nlisten_http = \"{1}\"\n\
             upstream = \"{2}\"\nstate_dir = \"{3}/state\"\npublic_dir = \"{3}/public\"\nupstream_state = \"{3}/supervisor/upstream.json\"\n{4}\n",
            self.names,
            self.listen,
            self.upstream,
            self.dir.path().display(),
            self.extra
        );
        if let Some(secrets) = &self.secrets {
            let path = self.path("credentials/edge-secrets.toml");
            atalaya_sys::durable::write(&path, secrets.as_bytes(), 0o400, None).unwrap();
        }
        let path = self.path("edge.toml");
        atalaya_sys::durable::write(&path, settings.as_bytes(), 0o644, None).unwrap();
    }

    pub fn spawn(&self) -> Edge {
        self.write_settings();
        let path = self.path("edge.toml");
        let notify_path = self.path("notify");
        if notify_path.exists() {
            std::fs::remove_file(&notify_path).unwrap();
        }
        let notify = UnixDatagram::bind(&notify_path).unwrap();
        notify.set_read_timeout(Some(PATIENCE)).unwrap();
        let edge = env!("CARGO_BIN_EXE_atalaya-edge");
        let mut command = Command::new("/bin/sh");
        match &self.socket {
            // LISTEN_PID is the edge's own number, which only its shell knows beforehand.
            Some(socket) => command
                .args([
                    "-c",
                    "LISTEN_PID=$$ exec \"$0\" \"$1\" 3<&0 </dev/null",
                    edge,
                ])
                .envs([("LISTEN_FDS", "1"), ("LISTEN_FDNAMES", "https")])
                .stdin(OwnedFd::from(socket.try_clone().unwrap())),
            None => command
                .args(["-c", "exec \"$0\" \"$1\"", edge])
                .stdin(Stdio::null()),
        };
        let watchdog = self.watchdog_us.map(|limit| limit.to_string());
        let mut child = command
            .arg(&path)
            .env("NOTIFY_SOCKET", &notify_path)
            .env("CREDENTIALS_DIRECTORY", self.path("credentials"))
            .envs(watchdog.map(|limit| ("WATCHDOG_USEC", limit)))
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = Lines::default();
        for output in [
            Box::new(child.stdout.take().unwrap()) as Box<dyn std::io::Read + Send>,
            Box::new(child.stderr.take().unwrap()),
        ] {
            lines.follow(output);
        }
        Edge {
            child,
            notify,
            heard: Mutex::default(),
            lines,
        }
    }
}

/// upstream.json of a server that has been there since `since_ms` after boot.
pub fn open_since(since_ms: u64) -> Value {
    json!({
        "admit": true, "postgres_ready": true, "postgres_ready_since_ms": since_ms,
        "mattermost_ready": true, "mattermost_ready_since_ms": since_ms, "waiting_for": null,
    })
}

pub struct Edge {
    child: Child,
    notify: UnixDatagram,
    /// Lines of messages that nobody has waited for yet.
    heard: Mutex<VecDeque<String>>,
    lines: Lines,
}

impl Edge {
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    pub fn https(&self) -> SocketAddr {
        self.listening("https")
    }

    pub fn http(&self) -> SocketAddr {
        self.listening("http")
    }

    fn listening(&self, which: &str) -> SocketAddr {
        self.wait_log(|line| line["message"] == "listening")[which]
            .as_str()
            .unwrap()
            .parse()
            .unwrap()
    }

    /// Waits for exactly this line, whatever comes before it.
    pub fn wait_notify(&self, wanted: &str) {
        self.wait_notify_with(|line| line == wanted);
    }

    pub fn wait_notify_with(&self, wanted: impl Fn(&str) -> bool) -> String {
        let mut buffer = [0; 4096];
        let mut heard = self.heard.lock().unwrap();
        loop {
            while let Some(line) = heard.pop_front() {
                if wanted(&line) {
                    return line;
                }
            }
            let length = self
                .notify
                .recv(&mut buffer)
                .unwrap_or_else(|error| panic!("nothing said: {error}\n{}", self.lines));
            let said = String::from_utf8_lossy(&buffer[..length]);
            heard.extend(said.lines().map(str::to_owned));
        }
    }

    /// The first line, past or future, that is wanted. Lines that are no JSON come as {"text": ...}.
    pub fn wait_log(&self, wanted: impl Fn(&Value) -> bool) -> Value {
        self.lines.wait(wanted)
    }

    /// Runs with nobody reading the edge's output.
    pub fn pause_reading(&self, act: impl FnOnce()) {
        let held = self.lines.0.0.lock().unwrap();
        act();
        drop(held);
    }

    pub fn terminate(&self) {
        self.signal(Signal::SIGTERM);
    }

    pub fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(i32::try_from(self.pid()).unwrap()), signal).unwrap();
    }

    /// Waits until the process itself has ended; a successor may still hold its outputs.
    pub fn wait_end(&mut self) -> ExitStatus {
        let process = atalaya_sys::pidfd::open(i32::try_from(self.pid()).unwrap()).unwrap();
        let mut ended = [PollFd::new(process.as_fd(), PollFlags::POLLIN)];
        let limit = PollTimeout::try_from(PATIENCE).unwrap();
        assert_eq!(poll(&mut ended, limit), Ok(1), "{}", self.lines);
        self.child.wait().unwrap()
    }

    /// Waits until the process has ended and all its output is read.
    pub fn wait_exit(mut self) -> (ExitStatus, String) {
        let deadline = Instant::now() + PATIENCE;
        self.lines.wait_end(deadline);
        (self.child.wait().unwrap(), self.lines.to_string())
    }

    /// A figure in KiB of /proc/PID/status.
    pub fn memory_kib(&self, field: &str) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid())).unwrap();
        let line = status.lines().find(|line| line.starts_with(field)).unwrap();
        line.split_whitespace().nth(1).unwrap().parse().unwrap()
    }
}

impl Drop for Edge {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// What was read so far and the number of open outputs. Whoever holds the lock keeps the readers from reading on.
#[derive(Default, Clone)]
struct Lines(Arc<(Mutex<Output>, Condvar)>);

#[derive(Default)]
struct Output {
    lines: Vec<Value>,
    open: usize,
}

impl Lines {
    fn follow(&self, output: Box<dyn std::io::Read + Send>) {
        self.0.0.lock().unwrap().open += 1;
        let shared = self.clone();
        std::thread::spawn(move || {
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                let value = serde_json::from_str(&line).unwrap_or_else(|_| json!({ "text": line }));
                shared.0.0.lock().unwrap().lines.push(value);
                shared.0.1.notify_all();
            }
            shared.0.0.lock().unwrap().open -= 1;
            shared.0.1.notify_all();
        });
    }

    fn wait(&self, wanted: impl Fn(&Value) -> bool) -> Value {
        let deadline = Instant::now() + PATIENCE;
        let mut state = self.0.0.lock().unwrap();
        loop {
            if let Some(line) = state.lines.iter().find(|line| wanted(line)) {
                return line.clone();
            }
            let left = deadline.saturating_duration_since(Instant::now());
            assert!(
                !left.is_zero() && state.open > 0,
                "no such line:\n{:#?}",
                state.lines
            );
            state = self.0.1.wait_timeout(state, left).unwrap().0;
        }
    }

    fn wait_end(&self, deadline: Instant) {
        let mut state = self.0.0.lock().unwrap();
        while state.open > 0 {
            let left = deadline.saturating_duration_since(Instant::now());
            assert!(!left.is_zero(), "the edge did not end:\n{:#?}", state.lines);
            state = self.0.1.wait_timeout(state, left).unwrap().0;
        }
    }
}

impl std::fmt::Display for Lines {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for line in &self.0.0.lock().unwrap().lines {
            writeln!(out, "{line}")?;
        }
        Ok(())
    }
}
