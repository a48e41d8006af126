//! A ground of its own for each test: directories, a cgroup, an atalayad with real processes. A test program plays
//! the units: it is this very executable, told by its environment what to be.
#![allow(dead_code)] // each test file uses its part
#![allow(clippy::print_stdout)] // units speak on it

pub mod init;
mod roles;

pub mod script;
pub mod updating;

use std::fs;
use std::io::{Read, Write};
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use serde_json::Value;

pub const ATALAYAD: &str = env!("CARGO_BIN_EXE_atalayad");
pub const SANDBOX: &str = env!("CARGO_BIN_EXE_atalaya-sandbox");
/// A loaded machine with two cores is slow; nothing waits so long unless it is broken.
const LIMIT: Duration = Duration::from_secs(30);

static COUNTER: AtomicU32 = AtomicU32::new(0);

/// Removed with everything in it.
pub struct Ground {
    pub root: PathBuf,
    pub cgroup: PathBuf,
}

impl Ground {
    pub fn new() -> Self {
        let name = format!(
            "atalaya-test-{}-{}",
            std::process::id(),
            COUNTER.fetch_add(1, Ordering::Relaxed)
        );
        // Not in /tmp, which units have their own of.
        let root = PathBuf::from("/run").join(&name);
        for directory in ["units", "data", "run"] {
            fs::create_dir_all(root.join(directory)).unwrap();
        }
        let unified = Path::new("/sys/fs/cgroup/unified");
        let tree = if unified.is_dir() {
            unified
        } else {
            Path::new("/sys/fs/cgroup")
        };
        let cgroup = tree.join(&name);
        fs::create_dir(&cgroup).unwrap();
        Self { root, cgroup }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.root.join(name)
    }

    /// Writes a unit file; GROUND in it is this ground's root, PROGRAM this executable where units can see it.
    pub fn unit(&self, name: &str, text: &str) {
        let text = text.replace("GROUND", &self.root.to_string_lossy());
        let text = if text.contains("PROGRAM") {
            text.replace("PROGRAM", &self.program().to_string_lossy())
        } else {
            text
        };
        let text = format!("description = \"{name}\"\n{text}");
        put(&self.root.join("units").join(format!("{name}.toml")), &text);
    }

    /// Units have a /tmp of their own. Where the project itself lies in /tmp, they get a copy beside it.
    fn program(&self) -> PathBuf {
        let own = std::env::current_exe().unwrap();
        if !own.starts_with("/tmp") {
            return own;
        }
        fs::create_dir_all(self.beside()).unwrap();
        let copy = self.beside().join("program");
        if !copy.exists() {
            fs::copy(own, &copy).unwrap();
        }
        copy
    }

    /// /run may forbid programs.
    fn beside(&self) -> PathBuf {
        Path::new("/var/tmp").join(self.root.file_name().unwrap())
    }

    pub fn arguments(&self) -> Vec<String> {
        let text = |path: &Path| path.to_string_lossy().into_owned();
        [
            "--no-consoles".into(),
            "--units".into(),
            text(&self.path("units")),
            "--run".into(),
            text(&self.path("run")),
            "--data".into(),
            text(&self.path("data")),
            "--cgroup".into(),
            text(&self.cgroup),
            "--sandbox".into(),
            SANDBOX.into(),
            "--shell".into(),
            "/bin/sh".into(),
        ]
        .into()
    }

    pub fn start(&self) -> Alone<'_> {
        self.start_with(&[])
    }

    pub fn start_with(&self, environment: &[(&str, &str)]) -> Alone<'_> {
        let child = Command::new(ATALAYAD)
            .args(self.arguments())
            .arg("--no-init")
            .envs(environment.iter().copied())
            .spawn()
            .unwrap();
        Alone {
            ground: self,
            child,
        }
    }

    /// With these besides.
    pub fn start_more(&self, arguments: &[String]) -> Alone<'_> {
        let child = Command::new(ATALAYAD)
            .args(self.arguments())
            .arg("--no-init")
            .args(arguments)
            .spawn()
            .unwrap();
        Alone {
            ground: self,
            child,
        }
    }

    /// As a power cut does.
    pub fn kill_all(&self) {
        let cgroup = atalaya_sys::cgroup::Cgroup::at(self.cgroup.join("units"));
        cgroup.kill().unwrap();
        self.until("nothing lives", || !cgroup.populated().unwrap_or(true));
        cgroup.remove().unwrap();
    }

    /// Sends the beginning of a bundle, and no more for as long as the answer is kept.
    pub fn begin_upload(&self, path: &str) -> UnixStream {
        let mut stream = UnixStream::connect(self.path("run/control.sock")).unwrap();
        let head = format!(
            "POST {path} HTTP/1.0\r\nContent-Type: application/octet-stream\r\nContent-Length: 1000000\r\n\r\nbegins"
        );
        stream.write_all(head.as_bytes()).unwrap();
        stream
    }

    /// Expects a refusal to start; returns what was said.
    pub fn refused(&self) -> String {
        let output = Command::new(ATALAYAD)
            .args(self.arguments())
            .arg("--no-init")
            .stderr(Stdio::piped())
            .output()
            .unwrap();
        assert!(!output.status.success());
        String::from_utf8(output.stderr).unwrap()
    }

    pub fn request(&self, method: &str, path: &str) -> Option<(u16, String)> {
        self.request_within(LIMIT, method, path)
    }

    pub fn request_within(
        &self,
        limit: Duration,
        method: &str,
        path: &str,
    ) -> Option<(u16, String)> {
        self.request_with(limit, method, path, "")
    }

    pub fn request_with(
        &self,
        limit: Duration,
        method: &str,
        path: &str,
        body: &str,
    ) -> Option<(u16, String)> {
        self.request_headed(limit, method, path, "Host: atalaya", body)
    }

    pub fn request_headed(
        &self,
        limit: Duration,
        method: &str,
        path: &str,
        head: &str,
        body: &str,
    ) -> Option<(u16, String)> {
        let mut stream = UnixStream::connect(self.path("run/control.sock")).ok()?;
        stream.set_read_timeout(Some(limit)).unwrap();
        let length = body.len();
        let request =
            format!("{method} {path} HTTP/1.0\r\n{head}\r\nContent-Length: {length}\r\n\r\n{body}");
        stream.write_all(request.as_bytes()).ok()?;
        let mut text = String::new();
        stream.read_to_string(&mut text).ok()?;
        let (head, body) = text.split_once("\r\n\r\n")?;
        Some((head.split(' ').nth(1)?.parse().ok()?, body.to_owned()))
    }

    pub fn view(&self, unit: &str) -> Option<Value> {
        let (status, body) = self.request("GET", &format!("/v1/units/{unit}"))?;
        assert_eq!(status, 200, "{body}");
        serde_json::from_str(&body).ok()
    }

    /// Waits until the unit is as `is` wants it.
    pub fn wait(&self, unit: &str, is: impl Fn(&Value) -> bool) -> Value {
        let begin = Instant::now();
        let mut last = None;
        while begin.elapsed() < LIMIT {
            if let Some(view) = self.view(unit) {
                if is(&view) {
                    return view;
                }
                last = Some(view);
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        panic!(
            "{unit} did not become so: {last:#?}\n{}",
            self.log(unit).join("\n")
        );
    }

    pub fn wait_state(&self, unit: &str, state: &str) -> Value {
        self.wait(unit, |view| view["state"] == state)
    }

    pub fn wait_ready(&self, unit: &str) -> Value {
        self.wait(unit, |view| view["ready"] == true)
    }

    pub fn post(&self, path: &str) -> u16 {
        self.request("POST", path).unwrap().0
    }

    /// What a unit has said, from the control socket.
    pub fn log(&self, unit: &str) -> Vec<String> {
        let (_, body) = self
            .request("GET", &format!("/v1/logs?unit={unit}"))
            .unwrap_or_default();
        lines(&body)
    }

    /// What the edge is told; null until something is.
    pub fn upstream(&self) -> Value {
        match fs::read(self.path("run/public/upstream.json")) {
            Ok(text) => serde_json::from_slice(&text).unwrap(),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Value::Null,
            Err(error) => panic!("{error}"),
        }
    }

    /// The lines of all units that reached the disk, as "unit: line".
    pub fn stored(&self) -> Vec<String> {
        let place = atalayad::logs::Place {
            root: Some(&self.path("data/logs")),
            boot: "",
            memory: &[],
            after: 0,
        };
        let mut all = Vec::new();
        atalayad::logs::read_stored(&place, &atalayad::logs::Query::default(), &mut |line| {
            let line: Value = serde_json::from_slice(&line).unwrap();
            all.push(format!(
                "{}: {}",
                line["unit"].as_str().unwrap(),
                line["line"].as_str().unwrap()
            ));
            true
        });
        all
    }
}

fn lines(body: &str) -> Vec<String> {
    body.lines()
        .map(|line| {
            serde_json::from_str::<Value>(line).unwrap()["line"]
                .as_str()
                .unwrap()
                .to_owned()
        })
        .collect()
}

impl Drop for Ground {
    fn drop(&mut self) {
        // Whatever the test left running.
        let cgroup = atalaya_sys::cgroup::Cgroup::at(&self.cgroup);
        drop(cgroup.kill());
        for _ in 0..500 {
            if !cgroup.populated().unwrap_or(false) {
                break;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        drop(cgroup.remove());
        drop(fs::remove_dir_all(&self.root));
        drop(fs::remove_dir_all(self.beside()));
    }
}

/// An atalayad that reaps for itself.
pub struct Alone<'a> {
    ground: &'a Ground,
    child: Child,
}

impl Alone<'_> {
    pub fn pid(&self) -> i32 {
        i32::try_from(self.child.id()).unwrap()
    }

    /// Asks it to stop everything, and expects that it does.
    pub fn stop(mut self) {
        signal(self.pid(), 15);
        let begin = Instant::now();
        while begin.elapsed() < LIMIT {
            if let Some(status) = self.child.try_wait().unwrap() {
                assert!(status.success(), "{status}");
                let left: Vec<_> = fs::read_dir(self.ground.cgroup.join("units"))
                    .unwrap()
                    .filter_map(|entry| entry.ok().filter(|entry| entry.path().is_dir()))
                    .collect();
                assert!(left.is_empty(), "{left:?}");
                return;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        panic!("it does not stop");
    }
}

impl Alone<'_> {
    /// Waits until it has ended the machine by itself.
    pub fn ended(mut self) {
        let begin = Instant::now();
        while begin.elapsed() < LIMIT * 4 {
            if let Some(status) = self.child.try_wait().unwrap() {
                assert!(status.success(), "{status}");
                return;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        let update = self
            .ground
            .request("GET", "/v1/update")
            .unwrap_or_default()
            .1;
        panic!("the machine does not end: {update}");
    }
}

impl Drop for Alone<'_> {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

pub fn signal(pid: i32, signal: i32) {
    nix::sys::signal::kill(
        nix::unistd::Pid::from_raw(pid),
        nix::sys::signal::Signal::try_from(signal).unwrap(),
    )
    .unwrap();
}

#[allow(clippy::disallowed_methods)] // a test's own files need not survive a power cut
pub fn put(path: &Path, text: &str) {
    fs::write(path, text).unwrap();
}

pub fn pid_of(view: &Value) -> i32 {
    i32::try_from(
        view["pid"]
            .as_i64()
            .unwrap_or_else(|| panic!("no process: {view:#?}")),
    )
    .unwrap()
}

/// The line that gives a unit the ground's data/own as /mnt.
pub const MNT: &str = "[sandbox]\ndata = [{ source = \"data:own\", path = \"/mnt\" }]\n";

impl Ground {
    /// A file that units with [`MNT`] see as /mnt/NAME, put there at once and whole.
    pub fn put_own(&self, name: &str, bytes: &[u8]) {
        let directory = self.path("data/own");
        fs::create_dir_all(&directory).unwrap();
        let hidden = directory.join(format!(".{name}"));
        let mut file = fs::File::create(&hidden).unwrap();
        file.write_all(bytes).unwrap();
        fs::rename(hidden, directory.join(name)).unwrap();
    }

    pub fn remove_own(&self, name: &str) {
        fs::remove_file(self.path("data/own").join(name)).unwrap();
    }

    /// Waits for something that no unit's view shows.
    pub fn until(&self, what: &str, mut is: impl FnMut() -> bool) {
        let begin = Instant::now();
        while !is() {
            assert!(begin.elapsed() < LIMIT, "never: {what}");
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

/// A port that nobody uses now.
pub fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port()
}

/// The line of a unit file that runs this executable as a unit.
pub fn program() -> &'static str {
    "exec = [\"PROGRAM\", \"--exact\", \"unit_program\", \"--nocapture\"]\n"
}

/// To be called by a test named `unit_program`: plays the role that the environment names, or is an empty test.
pub fn play() {
    let Ok(role) = std::env::var("ROLE") else {
        return;
    };
    let (role, rest) = role.split_once(' ').unwrap_or((&role, ""));
    match role {
        // Says READY=1 and stays.
        "notify" => {
            say_ready();
            forever();
        }
        // Answers HTTP on a port: 200 while the file is there, else 500.
        "http" => {
            let (port, file) = rest.split_once(' ').unwrap();
            let listener = std::net::TcpListener::bind(format!("127.0.0.1:{port}")).unwrap();
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                let mut buffer = [0; 1024];
                drop(stream.read(&mut buffer));
                let status = if Path::new(file).exists() {
                    "200 OK"
                } else {
                    "500 Broken"
                };
                drop(stream.write_all(
                    format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\n\r\n").as_bytes(),
                ));
            }
        }
        "tcp" => {
            let _listener = std::net::TcpListener::bind(format!("127.0.0.1:{rest}")).unwrap();
            forever();
        }
        // Speaks as syslog(3) does, and stays.
        "syslog" => {
            let socket = UnixDatagram::unbound().unwrap();
            let message = b"<11>Nov 22 19:02:10 prog[7]: it broke";
            socket.send_to(message, rest).unwrap();
            forever();
        }
        "update" => updating::play(rest),
        "walls" => walls(),
        "reach" => reach(rest),
        _ => assert!(roles::play(role, rest), "no such role: {role}"),
    }
}

fn say_ready() {
    let socket = UnixDatagram::unbound().unwrap();
    socket
        .send_to(
            b"READY=1\nSTATUS=at work",
            std::env::var("NOTIFY_SOCKET").unwrap(),
        )
        .unwrap();
}

fn forever() -> ! {
    loop {
        std::thread::park();
    }
}

/// Tries what a filter of system calls decides, and what a program needs.
fn walls() {
    let told = |what: &str, done: nix::Result<()>| match done {
        Ok(()) => println!("{what}: done"),
        Err(error) => println!("{what}: {error:?}"),
    };
    let flags = nix::sched::CloneFlags::CLONE_NEWUSER;
    std::thread::spawn(|| println!("thread: done"))
        .join()
        .unwrap();
    let child = Command::new("/bin/true").status().unwrap();
    println!("child: {child}");
    told("namespace", nix::sched::unshare(flags));
    told("trace", nix::sys::ptrace::traceme());
}

/// Tries to reach what lies outside: "PID PORT ABSTRACT_NAME".
fn reach(outside: &str) {
    use std::os::linux::net::SocketAddrExt;
    let [pid, port, name] = outside.split(' ').collect::<Vec<_>>()[..] else {
        panic!("{outside}");
    };
    let told = |what: &str, error: Option<std::io::Error>| match error {
        None => println!("{what}: done"),
        Some(error) => println!("{what}: {:?}", error.kind()),
    };
    let pid = nix::unistd::Pid::from_raw(pid.parse().unwrap());
    told(
        "signal",
        nix::sys::signal::kill(pid, None).err().map(Into::into),
    );
    told(
        "connect",
        std::net::TcpStream::connect(format!("127.0.0.1:{port}")).err(),
    );
    told("bind", std::net::TcpListener::bind("127.0.0.1:0").err());
    let name = std::os::unix::net::SocketAddr::from_abstract_name(name).unwrap();
    told("abstract", UnixStream::connect_addr(&name).err());
}
