//! The stand-in for atalayad: a bridge between the link and the test, that decides nothing.
//!
//! The test speaks JSON lines to it over /t/control; each line gets one line in answer. Everything heard over the link is
//! passed on as `{"heard": message, "fds": [what could be read from each]}`.

use crate::actor;
use atalaya_core::link::{self, FromInit, ToInit};
use atalaya_sys::spawn::{Parent, Spec, clone_into};
use atalaya_sys::{cgroup::Cgroup, fds, notify, pidfd, seqpacket};
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use serde_json::{Value, json};
use std::ffi::CString;
use std::fs::{self, File};
use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Mutex};

/// Not a test: what runs as atalayad inside. Outside there is nothing to play.
#[test]
fn play() {
    if std::env::var_os("STANDIN").is_none() {
        return;
    }
    let number = std::env::var(link::FD_ENV).unwrap().parse().unwrap();
    let link = Arc::new(fds::take_inherited(number).unwrap());
    let control = UnixStream::connect("/t/control").unwrap();
    let output = Arc::new(Mutex::new(control.try_clone().unwrap()));
    let (ear, mouth) = (link.clone(), output.clone());
    std::thread::spawn(move || listen(&ear, &mouth));
    for line in BufReader::new(control).lines() {
        let command: Value = serde_json::from_str(&line.unwrap()).unwrap();
        let answer = obey(&link, &command);
        say(&output, &answer);
    }
    std::process::exit(0);
}

fn say(output: &Mutex<UnixStream>, value: &Value) {
    writeln!(output.lock().unwrap(), "{value}").unwrap();
}

fn listen(link: &OwnedFd, output: &Mutex<UnixStream>) {
    loop {
        let received = match seqpacket::recv_with_fds(link.as_fd(), link::LIMIT) {
            Ok(Some(received)) => received,
            Ok(None) => return,
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                let mut polled = [nix::poll::PollFd::new(
                    link.as_fd(),
                    nix::poll::PollFlags::POLLIN,
                )];
                nix::poll::poll(&mut polled, nix::poll::PollTimeout::NONE).unwrap();
                continue;
            }
            Err(error) => panic!("{error}"),
        };
        let message: FromInit = link::decode(&received.bytes).unwrap();
        let contents: Vec<String> = received.fds.into_iter().map(read_all).collect();
        say(output, &json!({"heard": message, "fds": contents}));
    }
}

/// What is in it now; `-` for what is not for reading.
fn read_all(fd: OwnedFd) -> String {
    let mut bytes = Vec::new();
    match File::from(fd).read_to_end(&mut bytes) {
        Err(error) if error.kind() != ErrorKind::WouldBlock => "-".to_owned(),
        _ => String::from_utf8_lossy(&bytes).into_owned(),
    }
}

fn send(link: &OwnedFd, message: &ToInit, fds: &[BorrowedFd<'_>]) {
    seqpacket::send_with_fds(link.as_fd(), &link::encode(message).unwrap(), fds).unwrap();
}

fn obey(link: &OwnedFd, command: &Value) -> Value {
    let text = |name: &str| command[name].as_str().unwrap_or_default().to_owned();
    if let Some(message) = command.get("send") {
        // As it is: a test may send what no atalayad would.
        seqpacket::send_with_fds(link.as_fd(), message.to_string().as_bytes(), &[]).unwrap();
    } else if command.get("keep").is_some() {
        let pipes: Vec<OwnedFd> = command["pipes"]
            .as_array()
            .unwrap()
            .iter()
            .map(filled_pipe)
            .collect();
        let borrowed: Vec<BorrowedFd<'_>> = pipes.iter().map(AsFd::as_fd).collect();
        send(
            link,
            &ToInit::Keep {
                name: text("keep"),
                record: text("record"),
                stop: None,
            },
            &borrowed,
        );
    } else if command.get("unit").is_some() {
        return json!({"pid": start(&text("unit"), &text("script"))});
    } else if command.get("run").is_some() {
        let status = std::process::Command::new(text("run")).status().unwrap();
        return json!({"ran": status.success()});
    } else if command.get("zombies").is_some() {
        return json!({"zombies": states().filter(|state| *state == 'Z').count()});
    } else if let Some(pid) = command["alive"].as_i64() {
        return json!({"alive": fs::exists(format!("/proc/{pid}")).unwrap()});
    } else if let Some(pid) = command["kill"].as_i64() {
        signal(pid as i32);
    } else if command.get("run_unit").is_some() {
        return json!({"pid": start_run(link, command)});
    } else if let Some(what) = command["as_nobody"].as_str() {
        return json!({"answer": actor::as_nobody(what)});
    } else if let Some(count) = command["babble"].as_u64() {
        let line = [b'x'; 1024];
        for _ in 0..count {
            // A pipe that is full is init's way to say that it has had enough.
            drop(std::io::stderr().write(&line));
        }
    } else if command.get("die").is_some() {
        signal(std::process::id() as i32);
    } else if command.get("abort").is_some() {
        std::process::abort();
    } else if command.get("exit").is_some() {
        std::process::exit(command["exit"].as_i64().unwrap() as i32);
    }
    json!({"done": true})
}

fn signal(pid: i32) {
    pidfd::send_signal(pidfd::open(pid).unwrap().as_fd(), libc::SIGKILL).unwrap();
}

/// The read end of a pipe with this text in it.
fn filled_pipe(value: &Value) -> OwnedFd {
    let (reader, writer) = nix::unistd::pipe().unwrap();
    File::from(writer)
        .write_all(value.as_str().unwrap().as_bytes())
        .unwrap();
    reader
}

/// As atalayad does it: the log pipe, the notify socket (at /t/NAME) and the order are kept with init before and after.
fn start_run(link: &OwnedFd, command: &Value) -> i32 {
    let name = command["run_unit"].as_str().unwrap();
    let (log, log_writer) = nix::unistd::pipe2(OFlag::O_CLOEXEC).unwrap();
    fcntl(&log, FcntlArg::F_SETFL(OFlag::O_NONBLOCK)).unwrap();
    let notify = notify::bind(format!("/t/{name}").as_ref(), 0o666).unwrap();
    let pid = start_with(
        name,
        command["script"].as_str().unwrap(),
        log_writer.as_fd(),
    );
    let handle = pidfd::open(pid).unwrap();
    let mut stop = command["stop"].clone();
    if stop.is_object() {
        stop["pid"] = pid.into();
        stop["cgroup"] = name.into();
        stop["description"] = name.into();
    }
    let keep = ToInit::Keep {
        name: format!("run/{name}"),
        record: String::new(),
        stop: serde_json::from_value(stop).unwrap(),
    };
    send(link, &keep, &[log.as_fd(), notify.as_fd(), handle.as_fd()]);
    pid
}

/// Starts a shell script as a child of PID 1, born in its own cgroup.
fn start(name: &str, script: &str) -> i32 {
    let null = File::options().write(true).open("/dev/null").unwrap();
    start_with(name, script, null.as_fd())
}

fn start_with(name: &str, script: &str, output: BorrowedFd<'_>) -> i32 {
    let cgroup = Cgroup::create(format!("/sys/fs/cgroup/units/{name}")).unwrap();
    let directory = cgroup.open().unwrap();
    let null = File::open("/dev/null").unwrap();
    let words = ["/bin/sh", "-c", script].map(|word| CString::new(word).unwrap());
    let (pid, _) = clone_into(&Spec {
        program: words[0].clone(),
        args: words.to_vec(),
        env: Vec::new(),
        fds: vec![(null.as_fd(), 0), (output, 1), (output, 2)],
        cgroup: Some(directory.as_fd()),
        parent: Parent::Grandparent,
        new_session: true,
    })
    .unwrap();
    pid
}

fn states() -> impl Iterator<Item = char> {
    fs::read_dir("/proc")
        .unwrap()
        .flatten()
        .filter_map(|entry| {
            let name = entry.file_name().into_string().ok()?;
            name.parse::<i32>().ok()?;
            let stat = fs::read_to_string(entry.path().join("stat")).ok()?;
            stat.rsplit(") ").next()?.chars().next()
        })
}
