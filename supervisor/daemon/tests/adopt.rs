//! atalayad under an init: this process plays it. It keeps records and descriptors, reaps, tells exits, and kills
//! atalayad in the middle of its work.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // what a test needs is not only in #[test]

mod support;

use std::collections::BTreeMap;
use std::ffi::CString;
use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use atalaya_core::link::{
    Action, FromInit, LIMIT, Source, Status, ToInit, VERSION, decode, encode,
};
use atalaya_sys::reap::{self, Ending};
use atalaya_sys::seqpacket;
use atalaya_sys::spawn::{Parent, Spec, clone_into};
use support::{ATALAYAD, Ground, pid_of, program, signal};

#[test]
fn unit_program() {
    support::play();
}

/// Reaping is for one at a time: all tests of this file are in one process.
static ONE: Mutex<()> = Mutex::new(());

struct Init<'a> {
    ground: &'a Ground,
    daemon: i32,
    link: OwnedFd,
    kept: BTreeMap<String, (String, Vec<OwnedFd>)>,
    exits: BTreeMap<u64, FromInit>,
    seq: u64,
    deaths: u32,
    shutdown: Option<Action>,
    /// Kill atalayad after so many more messages from it.
    fuse: Option<u32>,
    _one: MutexGuard<'static, ()>,
}

impl<'a> Init<'a> {
    fn new(ground: &'a Ground) -> Self {
        let one = ONE.lock().unwrap_or_else(PoisonError::into_inner);
        let (daemon, link) = start(ground);
        Self {
            ground,
            daemon,
            link,
            kept: BTreeMap::new(),
            exits: BTreeMap::new(),
            seq: 0,
            deaths: 0,
            shutdown: None,
            fuse: None,
            _one: one,
        }
    }

    fn send(&self, message: &FromInit, fds: &[OwnedFd]) {
        let fds: Vec<_> = fds.iter().map(AsFd::as_fd).collect();
        // It may just have died.
        drop(seqpacket::send_with_fds(
            self.link.as_fd(),
            &encode(message).unwrap(),
            &fds,
        ));
    }

    /// One round of init's work; restarts atalayad when it has died.
    fn turn(&mut self) {
        while let Some(zombie) = reap::peek().unwrap() {
            let cgroup = reap::cgroup_of(zombie.pid).unwrap_or_default();
            reap::reap(zombie.pid).unwrap();
            if zombie.pid == self.daemon {
                self.deaths += 1;
                let (daemon, link) = start(self.ground);
                self.daemon = daemon;
                self.link = link;
                continue;
            }
            self.seq += 1;
            let status = match zombie.ending {
                Ending::Code(code) => Status::Code(code),
                Ending::Signal { signal, .. } => Status::Signal(signal),
            };
            let cgroup = cgroup.rsplit('/').next().unwrap().to_owned();
            let exit = FromInit::Exited {
                seq: self.seq,
                pid: zombie.pid,
                cgroup,
                status,
            };
            self.send(&exit, &[]);
            self.exits.insert(self.seq, exit);
        }
        while let Ok(Some(received)) = seqpacket::recv_with_fds(self.link.as_fd(), LIMIT) {
            assert!(!received.truncated);
            let message: ToInit = decode(&received.bytes).unwrap();
            self.on_message(message, received.fds);
            if let Some(fuse) = &mut self.fuse {
                *fuse = fuse.saturating_sub(1);
                if *fuse == 0 {
                    self.fuse = None;
                    signal(self.daemon, 9);
                }
            }
        }
    }

    fn on_message(&mut self, message: ToInit, fds: Vec<OwnedFd>) {
        match message {
            ToInit::Hello { version } => {
                assert_eq!(version, VERSION);
                self.send(
                    &FromInit::Welcome {
                        version: VERSION,
                        deaths: self.deaths,
                        boot_id: "b".into(),
                    },
                    &[],
                );
                for (name, (record, fds)) in &self.kept {
                    self.send(
                        &FromInit::Kept {
                            name: name.clone(),
                            record: record.clone(),
                        },
                        fds,
                    );
                }
                self.send(&FromInit::KeptEnd, &[]);
                for exit in self.exits.values() {
                    self.send(exit, &[]);
                }
            }
            ToInit::Keep { name, record, .. } => drop(self.kept.insert(name, (record, fds))),
            ToInit::Drop { name } => drop(self.kept.remove(&name)),
            ToInit::Ack { seq } => drop(self.exits.remove(&seq)),
            ToInit::Shutdown { action, .. } => self.shutdown = Some(action),
            ToInit::Heartbeat => {}
        }
    }

    /// Works until `is` holds.
    fn until(&mut self, what: &str, mut is: impl FnMut(&mut Self) -> bool) {
        let begin = Instant::now();
        while begin.elapsed() < Duration::from_secs(40) {
            self.turn();
            if is(self) {
                return;
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        let units = self.ground.view("unit");
        panic!("never: {what}: {units:#?} {:#?}", self.kept.keys());
    }

    fn until_unit(
        &mut self,
        unit: &str,
        is: impl Fn(&serde_json::Value) -> bool,
    ) -> serde_json::Value {
        let mut found = serde_json::Value::Null;
        self.until(unit, |init| {
            found = ask(init, unit).unwrap_or_default();
            !found.is_null() && is(&found)
        });
        found
    }

    fn kill_daemon(&mut self) {
        let (daemon, deaths) = (self.daemon, self.deaths);
        signal(daemon, 9);
        self.until("the daemon is restarted", |init| init.deaths > deaths);
    }

    fn end(mut self) {
        self.send(
            &FromInit::Request {
                action: Action::Poweroff,
                source: Source::PowerButton,
            },
            &[],
        );
        self.until("the shutdown", |init| init.shutdown.is_some());
        assert_eq!(self.shutdown, Some(Action::Poweroff));
        assert!(
            self.kept.keys().all(|name| !name.starts_with("run/")),
            "{:?}",
            self.kept.keys()
        );
        let units = std::fs::read_dir(self.ground.cgroup.join("units")).unwrap();
        assert_eq!(
            units
                .filter(|entry| entry.as_ref().unwrap().path().is_dir())
                .count(),
            0
        );
    }
}

impl Drop for Init<'_> {
    fn drop(&mut self) {
        let daemon = nix::unistd::Pid::from_raw(self.daemon);
        nix::sys::signal::kill(daemon, nix::sys::signal::Signal::SIGKILL).ok();
        let cgroup = atalaya_sys::cgroup::Cgroup::at(&self.ground.cgroup);
        drop(cgroup.kill());
        // All children of this process, so that the next test finds none.
        while nix::sys::wait::waitpid(None, Some(nix::sys::wait::WaitPidFlag::__WALL)).is_ok() {}
    }
}

/// While it greets, atalayad needs init to answer, and init is this thread: it must not wait long.
fn ask(init: &Init<'_>, unit: &str) -> Option<serde_json::Value> {
    let path = format!("/v1/units/{unit}");
    let (_, body) = init
        .ground
        .request_within(Duration::from_millis(50), "GET", &path)?;
    serde_json::from_str(&body).ok()
}

fn start(ground: &Ground) -> (i32, OwnedFd) {
    let (ours, theirs) = seqpacket::pair().unwrap();
    let null = File::open("/dev/null").unwrap();
    let text = |value: &str| CString::new(value).unwrap();
    let mut args = vec![text(ATALAYAD)];
    args.extend(ground.arguments().iter().map(|argument| text(argument)));
    let stderr = std::io::stderr();
    let (pid, _pidfd) = clone_into(&Spec {
        program: text(ATALAYAD),
        args,
        env: vec![text("ATALAYA_INIT_FD=3"), text("PATH=/usr/bin:/usr/sbin")],
        fds: vec![
            (null.as_fd(), 0),
            (null.as_fd(), 1),
            (stderr.as_fd(), 2),
            (theirs.as_fd(), 3),
        ],
        cgroup: None,
        parent: Parent::Caller,
        new_session: true,
    })
    .unwrap();
    (pid, ours)
}

const SLEEPER: &str = "type = \"service\"\nexec = [\"/bin/sleep\", \"1000\"]\n";

#[test]
fn units_keep_their_process_when_atalayad_is_killed() {
    let ground = Ground::new();
    ground.unit(
        "first",
        "type = \"oneshot\"\nexec = [\"/bin/sh\", \"-c\", \"echo once\"]\n",
    );
    ground.unit(
        "unit",
        "type = \"service\"\nexec = [\"/bin/sh\", \"-c\", \"while read line; do echo got $line; done </mnt/pipe\"]\nrequires = [\"first\"]\n[sandbox]\ndata = [{ source = \"data:own\", path = \"/mnt\" }]\n",
    );
    std::fs::create_dir(ground.path("data/own")).unwrap();
    nix::unistd::mkfifo(
        &ground.path("data/own/pipe"),
        nix::sys::stat::Mode::from_bits_truncate(0o600),
    )
    .unwrap();
    let mut init = Init::new(&ground);
    let before = init.until_unit("unit", |view| view["ready"] == true);
    // Opening waits for the unit to open its end.
    let mut pipe = std::fs::OpenOptions::new()
        .read(true)
        .write(true)
        .open(ground.path("data/own/pipe"))
        .unwrap();
    init.kill_daemon();
    // What it says while nobody listens waits in the pipe.
    std::io::Write::write_all(&mut pipe, b"meanwhile\n").unwrap();
    let after = init.until_unit("unit", |view| view["ready"] == true);
    assert_eq!(pid_of(&before), pid_of(&after));
    assert_eq!(before["run"], after["run"]);
    assert_eq!(before["ready_since_ms"], after["ready_since_ms"]);
    init.until("its words arrive", |init| {
        init.ground
            .log("unit")
            .contains(&"got meanwhile".to_owned())
    });
    // A one-shot that was done is not done again.
    assert_eq!(ground.view("first").unwrap()["run"], 1);
    init.end();
}

#[test]
fn an_exit_that_happened_meanwhile_is_applied() {
    let ground = Ground::new();
    ground.unit("unit", &format!("{SLEEPER}[restart]\nmin_ms = 10\n"));
    let mut init = Init::new(&ground);
    let before = init.until_unit("unit", |view| view["ready"] == true);
    // Both at once: whoever comes first, the exit is told to the new one.
    signal(init.daemon, 19);
    signal(pid_of(&before), 9);
    init.until("the exit is seen", |init| !init.exits.is_empty());
    init.kill_daemon();
    let after = init.until_unit("unit", |view| view["run"] == 2 && view["ready"] == true);
    assert_eq!(after["last_exit"], "killed by signal 9");
    init.until("the exit is acknowledged", |init| init.exits.is_empty());
    init.end();
}

#[test]
fn ready_that_was_said_meanwhile_is_heard() {
    let ground = Ground::new();
    ground.unit(
        "unit",
        &format!("type = \"service\"\n{}environment = {{ ROLE = \"notify\" }}\n[ready]\nkind = \"notify\"\n", program()),
    );
    let mut init = Init::new(&ground);
    init.until("the run is kept with its process", |init| {
        init.kept
            .get("run/unit.1")
            .is_some_and(|(_, fds)| fds.len() == 3)
    });
    init.kill_daemon();
    let view = init.until_unit("unit", |view| view["ready"] == true);
    assert_eq!(view["run"], 1);
    init.end();
}

/// After every single message that atalayad sends on the way up.
#[test]
fn atalayad_may_die_at_every_step_of_a_start() {
    for fuse in 1..16 {
        let ground = Ground::new();
        ground.unit("first", "type = \"oneshot\"\nexec = [\"/bin/sh\", \"-c\", \"echo once\"]\n[restart]\nmin_ms = 10\n");
        ground.unit(
            "unit",
            &format!("{SLEEPER}requires = [\"first\"]\n[restart]\nmin_ms = 10\n"),
        );
        let mut init = Init::new(&ground);
        init.fuse = Some(fuse);
        let view = init.until_unit("unit", |view| view["ready"] == true);
        assert_eq!(init.deaths, 1, "{fuse}");
        let pids = atalaya_sys::cgroup::Cgroup::at(ground.cgroup.join("units"))
            .pids()
            .unwrap_or_default();
        assert!(pids.is_empty());
        let run = format!("units/unit.{}", view["run"]);
        assert_eq!(
            atalaya_sys::cgroup::Cgroup::at(ground.cgroup.join(run))
                .pids()
                .unwrap(),
            [pid_of(&view)],
            "{fuse}"
        );
        init.end();
    }
}

#[test]
fn a_shutdown_goes_on_when_atalayad_dies_in_it() {
    let ground = Ground::new();
    ground.unit(
        "unit",
        "type = \"service\"\nexec = [\"/bin/sh\", \"-c\", \"trap '' TERM; while :; do sleep 1000; done\"]\n[stop]\ntimeout_s = 1\n",
    );
    let mut init = Init::new(&ground);
    init.until_unit("unit", |view| view["ready"] == true);
    init.send(
        &FromInit::Request {
            action: Action::Reboot,
            source: Source::CtrlAltDel,
        },
        &[],
    );
    init.until_unit("unit", |view| view["state"] == "Stopping");
    init.kill_daemon();
    init.until("the shutdown", |init| init.shutdown.is_some());
    assert_eq!(init.shutdown, Some(Action::Reboot));
}
