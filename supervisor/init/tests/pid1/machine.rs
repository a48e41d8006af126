//! A machine for one test: namespaces, a small root folder, a console that is a file, a socket to the stand-in.
//!
//! Nothing of the build machine is mounted inside: PID 1 unmounts, and makes read-only, whatever it finds at its end.

use atalaya_core::link::VERSION;
use atalaya_sys::cgroup::Cgroup;
use serde_json::{Value, json};
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::net::{UnixListener, UnixStream};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};
use tempfile::TempDir;

const LIMIT: Duration = Duration::from_secs(180);
static NUMBER: AtomicU32 = AtomicU32::new(0);

#[derive(Debug, PartialEq, Eq)]
pub enum Outcome {
    Restarted,
    PoweredOff,
    Other(String),
}

pub struct Machine {
    root: TempDir,
    cgroup: PathBuf,
    /// Where the number of its processes is limited, if a test did that.
    crowded: Option<PathBuf>,
    process: Child,
    listener: UnixListener,
    daemon: Option<(BufReader<UnixStream>, UnixStream)>,
    /// Heard, but not asked for yet.
    waiting: Vec<Value>,
}

/// Becomes atalayad inside: this very program, playing the stand-in.
pub const STANDIN: &str =
    "#!/bin/sh\nSTANDIN=1 exec /t/program --exact standin::play --nocapture --quiet\n";

impl Machine {
    pub fn start() -> Self {
        Self::start_with(STANDIN)
    }

    pub fn start_with(daemon: &str) -> Self {
        Self::boot(daemon, false, "", Stdio::null())
    }

    pub fn start_stage_1() -> Self {
        Self::boot(STANDIN, true, "", Stdio::null())
    }

    /// With a bit of shell before PID 1 starts; `$1` is its root, standard input is `given`.
    pub fn start_prepared(daemon: &str, preparation: &str, given: Stdio) -> Self {
        Self::boot(daemon, false, preparation, given)
    }

    fn boot(daemon: &str, stage_1: bool, preparation: &str, given: Stdio) -> Self {
        let root = tempfile::tempdir().unwrap();
        // Units that are not root's must get through.
        fs::set_permissions(root.path(), PermissionsExt::from_mode(0o755)).unwrap();
        let inside = |path: &str| root.path().join(path.trim_start_matches('/'));
        for folder in [
            "proc",
            "sys",
            "dev",
            "run",
            "tmp",
            "data",
            "t",
            "usr/lib/atalaya",
            "usr/sbin",
            "bin",
            "etc/atalaya-stage1",
        ] {
            fs::create_dir_all(inside(folder)).unwrap();
        }
        let program = std::env::current_exe().unwrap();
        let init = Path::new(env!("CARGO_BIN_EXE_atalaya-init"));
        for (source, target) in [
            (program.as_path(), "t/program"),
            (init, "usr/lib/atalaya/atalaya-init"),
            (Path::new("/bin/sh"), "bin/sh"),
        ] {
            copy_with_libraries(source, root.path(), &inside(target));
        }
        for name in ["poweroff", "reboot"] {
            symlink("../lib/atalaya/atalaya-init", inside("usr/sbin").join(name)).unwrap();
        }
        write(&inside("usr/lib/atalaya/atalayad"), daemon, 0o755);
        write(&inside("t/console"), "", 0o644);
        if stage_1 {
            write(&inside("etc/atalaya-stage1/modules"), "# none\n", 0o644);
        }
        for fifo in ["gate", "gate2", "never"] {
            nix::unistd::mkfifo(&inside("t").join(fifo), nix::sys::stat::Mode::S_IRWXU).unwrap();
        }
        let listener = UnixListener::bind(inside("t/control")).unwrap();
        listener.set_nonblocking(true).unwrap();
        let cgroup = make_cgroup();
        let process = Command::new("/bin/sh")
            .args(["-ec", OUTSIDE, "sh"])
            .args([root.path(), &cgroup])
            .arg(INSIDE.replace("PREPARATION", preparation))
            .stdin(given)
            .spawn()
            .unwrap();
        Self {
            root,
            cgroup,
            crowded: None,
            process,
            listener,
            daemon: None,
            waiting: Vec::new(),
        }
    }

    /// Waits for the (next) stand-in.
    pub fn connect(&mut self) {
        let stream = self
            .until("an atalayad", |machine| machine.listener.accept().ok())
            .0;
        stream.set_nonblocking(false).unwrap();
        stream.set_read_timeout(Some(LIMIT)).unwrap();
        self.daemon = Some((BufReader::new(stream.try_clone().unwrap()), stream));
        self.waiting.clear();
    }

    /// Says hello; everything up to the end of the records.
    pub fn greet(&mut self) -> Vec<Value> {
        self.send(json!({"type": "hello", "version": VERSION}));
        let mut told = Vec::new();
        loop {
            // The first of it may have come before the answer to the command.
            let line = if self.waiting.is_empty() {
                self.read_line()
            } else {
                self.waiting.remove(0)
            };
            let last = line["heard"]["type"] == "kept_end";
            told.push(line);
            if last {
                return told;
            }
        }
    }

    pub fn connect_and_greet(&mut self) {
        self.connect();
        self.greet();
    }

    /// Sends a message over the link.
    pub fn send(&mut self, message: Value) {
        self.command(json!({"send": message}));
    }

    /// Lets the stand-in do something; its answer.
    pub fn command(&mut self, command: Value) -> Value {
        let (_, writer) = self.daemon.as_mut().unwrap();
        writeln!(writer, "{command}").unwrap();
        loop {
            let line = self.read_line();
            if line.get("heard").is_none() {
                return line;
            }
            self.waiting.push(line);
        }
    }

    /// Starts a unit (a shell script) as atalayad does; its pid.
    pub fn start_unit(&mut self, cgroup: &str, script: &str) -> i64 {
        self.command(json!({"unit": cgroup, "script": script}))["pid"]
            .as_i64()
            .unwrap()
    }

    /// The next message of this type over the link.
    pub fn heard(&mut self, kind: &str) -> Value {
        loop {
            let found = self
                .waiting
                .iter()
                .position(|line| line["heard"]["type"] == kind);
            if let Some(index) = found {
                return self.waiting.remove(index)["heard"].take();
            }
            let line = self.read_line();
            self.waiting.push(line);
        }
    }

    pub fn kill_daemon(&mut self) {
        self.end_daemon(json!({"die": true}));
    }

    /// Lets atalayad end itself in this way.
    pub fn end_daemon(&mut self, command: Value) {
        let (mut reader, mut writer) = self.daemon.take().unwrap();
        writeln!(writer, "{command}").unwrap();
        self.await_end_of(&mut reader);
    }

    /// Its end of the socket closes when it is dead.
    fn await_end_of(&self, reader: &mut BufReader<UnixStream>) {
        let mut rest = String::new();
        while reader.read_line(&mut rest).is_ok_and(|count| count > 0) {}
    }

    /// The end of this one of a run, among those heard and to come.
    pub fn heard_of(&mut self, cgroup: &str, pid: &Value) -> Value {
        loop {
            let found = self
                .waiting
                .iter()
                .position(|line| line["heard"]["cgroup"] == cgroup && line["heard"]["pid"] == *pid);
            if let Some(index) = found {
                return self.waiting.remove(index)["heard"].take();
            }
            let line = self.read_line();
            self.waiting.push(line);
        }
    }

    /// The next message of this type, if it has been heard already.
    pub fn heard_already(&mut self, kind: &str) -> Option<Value> {
        let index = self
            .waiting
            .iter()
            .position(|line| line["heard"]["type"] == kind)?;
        Some(self.waiting.remove(index)["heard"].take())
    }

    /// Somebody else ends atalayad.
    pub fn await_daemons_end(&mut self) {
        let (mut reader, _) = self.daemon.take().unwrap();
        self.await_end_of(&mut reader);
    }

    /// A file of the machine's root folder, as far as nothing is mounted over it.
    pub fn root_file(&self, path: &str) -> String {
        let path = self.root.path().join(path.trim_start_matches('/'));
        fs::read_to_string(path).unwrap_or_default()
    }

    /// From now on PID 1 cannot start a process; until it is allowed again.
    pub fn allow_processes(&mut self, allow: bool) {
        let path = self.crowded.clone().unwrap_or_else(|| {
            let first = Path::new("/sys/fs/cgroup/pids");
            if !first.is_dir() {
                // One hierarchy: atalayad is born into this one.
                return self.cgroup.join("atalaya.daemon");
            }
            let number = NUMBER.fetch_add(1, Ordering::Relaxed);
            let path = first.join(format!("atalaya-test-{}-{number}", std::process::id()));
            fs::create_dir(&path).unwrap();
            Cgroup::at(&path).add(self.pid()).unwrap();
            path
        });
        let limit = match (allow, path.starts_with("/sys/fs/cgroup/pids")) {
            (true, _) => "max",
            (false, true) => "1",
            (false, false) => "0",
        };
        Cgroup::at(&path).write("pids.max", limit).unwrap();
        self.crowded = Some(path);
    }

    /// Lets those through who wait at this gate; whether there was anybody.
    pub fn try_open_gate(&self, name: &str) -> bool {
        use std::os::unix::fs::OpenOptionsExt;
        fs::OpenOptions::new()
            .write(true)
            .custom_flags(libc::O_NONBLOCK)
            .open(self.root.path().join("t").join(name))
            .is_ok()
    }

    /// Holds on to a folder inside in a way that does not keep its file system busy for PID 1: by a copy of all mounts.
    pub fn witness_of(&self, folder: &str) -> Witness {
        let mut other = Command::new("nsenter")
            .args(["-m", "-t", &self.pid().to_string()])
            .args(["unshare", "--mount", "--propagation", "private", "cat"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        // When it answers it has its copy.
        other.stdin.as_ref().unwrap().write_all(b"?\n").unwrap();
        let mut answer = String::new();
        BufReader::new(other.stdout.as_mut().unwrap())
            .read_line(&mut answer)
            .unwrap();
        let path = format!(
            "/proc/{}/root{}{folder}",
            other.id(),
            self.root.path().display()
        );
        let folder = fs::File::open(path).unwrap();
        other.kill().unwrap();
        other.wait().unwrap();
        Witness { folder }
    }

    pub fn open_gate(&self) {
        // Opening for writing waits for the reader; closing lets it go on.
        drop(
            fs::OpenOptions::new()
                .write(true)
                .open(self.root.path().join("t/gate"))
                .unwrap(),
        );
    }

    pub fn shutdown(&mut self, action: &str) {
        let message = json!({"type": "shutdown", "action": action, "reason": "the test"});
        let (_, writer) = self.daemon.as_mut().unwrap();
        writeln!(writer, "{}", json!({"send": message})).unwrap();
    }

    /// PID 1, as it is called outside.
    pub fn pid(&self) -> i32 {
        self.until("PID 1", |machine| {
            let pid = machine.process.id();
            let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).ok()?;
            children.trim().parse::<i32>().ok()
        })
    }

    /// A file inside, seen from outside; what PID 1 has mounted is in it.
    pub fn inside(&self, path: &str) -> PathBuf {
        PathBuf::from(format!("/proc/{}/root{path}", self.pid()))
    }

    pub fn read(&self, path: &str) -> String {
        fs::read_to_string(self.inside(path)).unwrap_or_default()
    }

    /// Connects to init's own socket; what is sent is a line, what comes back is JSON.
    pub fn ask_init(&self, line: &str) -> Value {
        let mut socket = self.connect_to_init();
        // It need not take all of it before it answers.
        drop(writeln!(socket, "{line}"));
        let mut answer = String::new();
        BufReader::new(socket).read_line(&mut answer).unwrap();
        serde_json::from_str(&answer).unwrap()
    }

    pub fn connect_to_init(&self) -> UnixStream {
        // By a descriptor of its folder: the path itself may be longer than an address.
        self.until("init's socket", |machine| {
            let folder = fs::File::open(machine.inside("/run/atalaya")).ok()?;
            let path = format!("/proc/self/fd/{}/init.sock", folder.as_raw_fd());
            let socket = UnixStream::connect(path).ok()?;
            socket.set_read_timeout(Some(LIMIT)).unwrap();
            Some(socket)
        })
    }

    /// Kills one atalayad after the other until init has had enough.
    pub fn enter_safe_mode(&mut self) {
        for _ in 0..4 {
            self.kill_daemon();
            self.connect();
        }
        self.kill_daemon();
        self.wait_for_console("safe mode: atalayad died too often");
    }

    /// Signals PID 1 from outside, as the kernel would.
    pub fn signal(&self, signal: i32) {
        let init = atalaya_sys::pidfd::open(self.pid()).unwrap();
        atalaya_sys::pidfd::send_signal(init.as_fd(), signal).unwrap();
    }

    pub fn console(&self) -> String {
        String::from_utf8_lossy(&fs::read(self.root.path().join("t/console")).unwrap()).into_owned()
    }

    pub fn wait_for_console(&self, text: &str) {
        self.until(text, |machine| {
            machine.console().contains(text).then_some(())
        });
    }

    /// Waits for the end.
    pub fn outcome(&mut self) -> Outcome {
        let start = Instant::now();
        loop {
            if let Some(status) = self.process.try_wait().unwrap() {
                return match status.signal() {
                    Some(libc::SIGHUP) => Outcome::Restarted,
                    Some(libc::SIGINT) => Outcome::PoweredOff,
                    _ => Outcome::Other(format!("{status}\n{}", self.console())),
                };
            }
            assert!(
                start.elapsed() < LIMIT,
                "the machine goes on running\n{}",
                self.console()
            );
            std::thread::yield_now();
            glance();
        }
    }

    fn read_line(&mut self) -> Value {
        let mut line = String::new();
        let (reader, _) = self.daemon.as_mut().unwrap();
        let read = reader.read_line(&mut line);
        assert!(
            matches!(read, Ok(1..)),
            "the stand-in says nothing more: {read:?}\n{}",
            self.console()
        );
        serde_json::from_str(&line).unwrap()
    }

    pub fn until<T>(&self, what: &str, mut probe: impl FnMut(&Self) -> Option<T>) -> T {
        let start = Instant::now();
        loop {
            if let Some(found) = probe(self) {
                return found;
            }
            assert!(
                start.elapsed() < LIMIT,
                "waited in vain for {what}\n{}",
                self.console()
            );
            glance();
        }
    }
}

/// See `Machine::witness_of`.
pub struct Witness {
    folder: fs::File,
}

impl Witness {
    /// What is in a file of the folder, whether it is mounted still or not.
    pub fn read(&self, name: &str) -> String {
        let path = format!("/proc/self/fd/{}/{name}", self.folder.as_raw_fd());
        fs::read_to_string(path).unwrap_or_default()
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        // unshare --kill-child ends PID 1 with it, and with PID 1 goes its namespace.
        drop(self.process.kill());
        drop(self.process.wait());
        let cgroup = Cgroup::at(&self.cgroup);
        drop(cgroup.kill());
        let start = Instant::now();
        while cgroup.populated().unwrap_or(false) && start.elapsed() < LIMIT {
            glance();
        }
        drop(cgroup.remove());
        if let Some(path) = self.crowded.take() {
            drop(fs::remove_dir(path));
        }
    }
}

/// Enters the cgroup, then new namespaces. $1 root, $2 cgroup, $3 what runs inside.
const OUTSIDE: &str = r#"echo $$ > "$2/cgroup.procs"
exec unshare --fork --kill-child --pid --mount --propagation private --uts --ipc --net --cgroup /bin/sh -ec "$3" sh "$1""#;

/// /dev is a small one of its own, so that neither the machine's console nor its watchdog is in it.
const INSIDE: &str = r#"mount -t tmpfs tmpfs "$1/dev"
mount -t tmpfs tmpfs "$1/data"
mknod -m 666 "$1/dev/null" c 1 3
mknod -m 666 "$1/dev/zero" c 1 5
ln -s /t/console "$1/dev/console"
PREPARATION
exec chroot "$1" /usr/lib/atalaya/atalaya-init"#;

fn glance() {
    std::thread::sleep(Duration::from_millis(5));
}

fn write(path: &Path, text: &str, mode: u32) {
    atalaya_sys::durable::write(path, text.as_bytes(), mode, None).unwrap();
}

/// A cgroup v2 of its own for each machine, wherever this host has v2 mounted (hybrid hosts: not at the usual place).
fn make_cgroup() -> PathBuf {
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap();
    let v2 = mounts
        .lines()
        .map(|line| line.split(' ').collect::<Vec<_>>())
        .find(|fields| fields[2] == "cgroup2")
        .map(|fields| PathBuf::from(fields[1]))
        .expect("cgroup v2 is mounted somewhere");
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    let path = v2.join(format!("atalaya-test-{}-{number}", std::process::id()));
    fs::create_dir(&path).unwrap();
    path
}

fn copy_with_libraries(program: &Path, root: &Path, target: &Path) {
    fs::copy(program, target).unwrap();
    fs::set_permissions(target, PermissionsExt::from_mode(0o755)).unwrap();
    let output = Command::new("ldd").arg(program).output().unwrap();
    for word in String::from_utf8_lossy(&output.stdout)
        .split_whitespace()
        .filter(|word| word.starts_with('/'))
    {
        let inside = root.join(&word[1..]);
        if !inside.exists() {
            fs::create_dir_all(inside.parent().unwrap()).unwrap();
            fs::copy(word, inside).unwrap();
        }
    }
}
