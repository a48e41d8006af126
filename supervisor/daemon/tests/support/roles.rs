//! What the test program plays as a unit that speaks by sd_notify or is passed descriptors. The test tells it what to do by
//! files in the unit's /mnt.

use std::fs::File;
use std::io::{Read, Seek, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use tokio::runtime::Runtime;
use tokio::signal::unix::{Signal, SignalKind, signal};

/// True if it was one of these.
#[allow(clippy::zombie_processes)] // the heir outlives this process
pub fn play(role: &str, rest: &str) -> bool {
    match role {
        // Says what the file /mnt/say holds whenever it changes, with so many descriptors as /mnt/fds has bytes.
        "parrot" => parrot(),
        // WATCHDOG=1 while the file /mnt/pet is there.
        "petting" => {
            say("READY=1", &[]);
            let limit = std::env::var("WATCHDOG_USEC").unwrap_or_default();
            say(&format!("STATUS=limit {limit}"), &[]);
            loop {
                if Path::new("/mnt/pet").exists() {
                    say("WATCHDOG=1", &[]);
                }
                pause();
            }
        }
        // Hands over to another process that stays, and ends.
        "handing-over" => {
            let heir = Command::new("/bin/sleep").arg("1004").spawn().unwrap();
            say(&format!("READY=1\nMAINPID={}", heir.id()), &[]);
            await_barrier();
        }
        // Needs longer than its limit, and says so.
        "late" => {
            for _ in 0..8 {
                say("EXTEND_TIMEOUT_USEC=900000", &[]);
                std::thread::sleep(Duration::from_millis(200));
            }
            say("READY=1", &[]);
            forever();
        }
        // Keeps a count in a descriptor that outlives it.
        "storing" => storing(),
        // Takes connections on what it was passed, answers each with its pid.
        "listening" => listening(),
        // Reads its configuration, slowly, whenever it gets SIGHUP: /mnt/reloading is there while it does.
        "reloading" => reloading(rest),
        // Starts its successor at SIGUSR2, unless the file /mnt/barren is there, and stays until /mnt/enough is.
        "succeeding" => succeeding(),
        // A task of a runtime panics, as atalayad's might.
        "panicking" => {
            atalayad::panics::end_at_once();
            let runtime = tokio::runtime::Builder::new_current_thread()
                .build()
                .unwrap();
            let task = runtime.spawn(async { panic!("half done") });
            drop(runtime.block_on(task));
            println!("it went on");
        }
        _ => return false,
    }
    true
}

#[allow(clippy::zombie_processes)] // the successor outlives this process
fn succeeding() -> ! {
    let (runtime, mut asked) = listening_for(SignalKind::user_defined2());
    if std::env::var_os("SUCCESSOR").is_some() {
        say(&format!("READY=1\nMAINPID={}", std::process::id()), &[]);
    } else {
        say("READY=1", &[]);
    }
    loop {
        runtime.block_on(asked.recv()).unwrap();
        if Path::new("/mnt/barren").exists() {
            say("READY=1", &[]);
            continue;
        }
        let mut successor = Command::new(std::env::current_exe().unwrap());
        successor
            .args(std::env::args_os().skip(1))
            .env("SUCCESSOR", "1");
        successor.spawn().unwrap();
        while !Path::new("/mnt/enough").exists() {
            pause();
        }
        std::process::exit(0);
    }
}

fn pause() {
    std::thread::sleep(Duration::from_millis(20));
}

fn forever() -> ! {
    loop {
        std::thread::park();
    }
}

fn say(text: &str, fds: &[BorrowedFd<'_>]) {
    say_bytes(text.as_bytes(), fds);
}

fn say_bytes(bytes: &[u8], fds: &[BorrowedFd<'_>]) {
    let socket = UnixDatagram::unbound().unwrap();
    socket
        .connect(std::env::var("NOTIFY_SOCKET").unwrap())
        .unwrap();
    atalaya_sys::seqpacket::send_with_fds(socket.as_fd(), bytes, fds).unwrap();
}

/// Returns when all that was said before has been processed.
fn await_barrier() {
    let (read, write) = nix::unistd::pipe().unwrap();
    say("BARRIER=1", &[write.as_fd()]);
    drop(write);
    let mut polled = [PollFd::new(read.as_fd(), PollFlags::empty())];
    poll(&mut polled, PollTimeout::NONE).unwrap();
}

fn parrot() -> ! {
    let mut before = Vec::new();
    loop {
        let mut text = Vec::new();
        if let Ok(mut file) = File::open("/mnt/say") {
            file.read_to_end(&mut text).unwrap();
        }
        if !text.is_empty() && text != before {
            let null = File::open("/dev/null").unwrap();
            let count = std::fs::read("/mnt/fds").unwrap_or_default().len();
            say_bytes(&text, &vec![null.as_fd(); count]);
            await_barrier();
            // A line of its log, for the test to wait for.
            println!("said {}", text.escape_ascii());
            before = text;
        }
        pause();
    }
}

fn passed() -> Vec<(String, OwnedFd)> {
    let count: u16 = std::env::var("LISTEN_FDS").map_or(0, |count| count.parse().unwrap());
    if count > 0 {
        let pid = std::env::var("LISTEN_PID").unwrap();
        assert_eq!(pid, std::process::id().to_string());
    }
    let names = std::env::var("LISTEN_FDNAMES").unwrap_or_default();
    let fds = atalaya_sys::fds::take_listen_fds(count).unwrap();
    names.split(':').map(str::to_owned).zip(fds).collect()
}

fn storing() -> ! {
    let mut count = 0;
    let mut found = false;
    for (name, fd) in passed() {
        if name == "count" {
            let mut file = File::from(fd);
            let mut text = String::new();
            file.rewind().unwrap();
            file.read_to_string(&mut text).unwrap();
            count = text.parse().unwrap();
            found = true;
        }
    }
    let memory =
        nix::sys::memfd::memfd_create(c"count", nix::sys::memfd::MFdFlags::empty()).unwrap();
    let mut memory = File::from(memory);
    memory
        .write_all((count + 1).to_string().as_bytes())
        .unwrap();
    if found {
        say("FDSTOREREMOVE=1\nFDNAME=count", &[]);
    }
    // The same one twice is stored once.
    for _ in 0..2 {
        say("FDSTORE=1\nFDNAME=count", &[memory.as_fd()]);
    }
    say(&format!("READY=1\nSTATUS=count {count}"), &[]);
    forever();
}

fn listening() -> ! {
    let (name, socket) = passed().into_iter().next().unwrap();
    let listener = std::net::TcpListener::from(socket);
    say(
        &format!(
            "READY=1\nSTATUS=on {name} {}",
            listener.local_addr().unwrap()
        ),
        &[],
    );
    for stream in listener.incoming() {
        let mut stream = stream.unwrap();
        // Whoever asked may be gone.
        drop(stream.write_all(std::process::id().to_string().as_bytes()));
    }
    forever();
}

fn listening_for(kind: SignalKind) -> (Runtime, Signal) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let signal = runtime.block_on(async { signal(kind).unwrap() });
    (runtime, signal)
}

fn reloading(how: &str) -> ! {
    let (runtime, mut hangups) = listening_for(SignalKind::hangup());
    say("READY=1\nSTATUS=first", &[]);
    let mut times = 0;
    loop {
        runtime.block_on(hangups.recv()).unwrap();
        times += 1;
        if how == "notify" {
            say("RELOADING=1\nMONOTONIC_USEC=1", &[]);
            while Path::new("/mnt/reloading").exists() {
                pause();
            }
            say("READY=1", &[]);
        }
        say(&format!("STATUS=reloaded {times}"), &[]);
    }
}
