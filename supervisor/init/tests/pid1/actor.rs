//! What units of the tests do that a shell cannot: this very program, started inside in another role.

use atalaya_sys::{pidfd, seqpacket};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, UnixAddr, connect, send, socket};
use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::process::CommandExt as _;
use std::process::Command;

const NOBODY: u32 = 65_534;

/// For a unit's script: sends this notify message to the socket of that run.
pub fn notify(run: &str, text: &str) -> String {
    format!("ACT='notify' TO=/t/{run} TEXT='{text}' /t/program --exact actor::act --quiet")
}

/// Not a test: what runs inside.
#[test]
fn act() {
    let Ok(role) = std::env::var("ACT") else {
        return;
    };
    let text = std::env::var("TEXT").unwrap_or_default();
    match role.as_str() {
        "notify" => say(match text.as_str() {
            "nul" => b"STATUS=nul\0".to_vec(),
            "long" => [b"STATUS=".to_vec(), vec![b'x'; 5000]].concat(),
            other => other.replace('|', "\n").into_bytes(),
        }),
        "descriptor" => say_with_descriptor(&destination(), b"X_DESCRIPTOR=1"),
        "signals" => signal_pid_1(),
        "ask" => ask_init(),
        other => panic!("{other}"),
    }
}

fn destination() -> OwnedFd {
    let socket = socket(
        AddressFamily::Unix,
        SockType::Datagram,
        SockFlag::SOCK_CLOEXEC,
        None,
    )
    .unwrap();
    let address = UnixAddr::new(std::env::var("TO").unwrap().as_str()).unwrap();
    connect(socket.as_raw_fd(), &address).unwrap();
    socket
}

fn say(bytes: Vec<u8>) {
    let socket = destination();
    let flags = nix::sys::socket::MsgFlags::empty();
    assert_eq!(
        send(socket.as_raw_fd(), &bytes, flags).unwrap(),
        bytes.len()
    );
    // As systemd-notify does: whoever ends before the message is read can no longer be asked for its cgroup.
    say_with_descriptor(&socket, b"BARRIER=1");
}

/// Waits until nobody holds the other end of what it sent along.
fn say_with_descriptor(socket: &OwnedFd, bytes: &[u8]) {
    let (reader, writer) = nix::unistd::pipe().unwrap();
    seqpacket::send_with_fds(socket.as_fd(), bytes, &[writer.as_fd()]).unwrap();
    drop(writer);
    assert_eq!(File::from(reader).read(&mut [0; 1]).unwrap(), 0);
}

/// What a user without rights may try.
fn signal_pid_1() {
    let init = pidfd::open(1).unwrap();
    for signal in 1..=64 {
        let error = pidfd::send_signal(init.as_fd(), signal).unwrap_err();
        assert_eq!(error.errno(), libc::EPERM, "signal {signal}");
    }
}

/// Even where the socket's mode would let it.
fn ask_init() {
    use std::io::{BufRead, BufReader, Write};
    let mut stream = std::os::unix::net::UnixStream::connect("/run/atalaya/init.sock").unwrap();
    // It may have been hung up on already.
    drop(stream.write_all(b"{\"request\":\"poweroff\"}\n"));
    let mut answer = String::new();
    BufReader::new(stream).read_line(&mut answer).unwrap();
    assert!(answer.contains("only root"), "{answer}");
}

/// Plays a role as a user without rights; what it printed if it failed.
pub fn as_nobody(role: &str) -> String {
    let output = Command::new("/t/program")
        .args(["--exact", "actor::act", "--quiet"])
        .env("ACT", role)
        .uid(NOBODY)
        .gid(NOBODY)
        .output()
        .unwrap();
    if output.status.success() {
        return "ok".to_owned();
    }
    String::from_utf8_lossy(&output.stdout).into_owned()
}
