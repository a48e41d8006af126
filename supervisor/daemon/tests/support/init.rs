//! An init for atalayad: the test's own process plays it. It keeps records and descriptors, reaps, tells exits, and kills
//! atalayad in the middle of its work.

use std::collections::BTreeMap;
use std::ffi::CString;
use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use atalaya_core::link::{
    Action, FromInit, LIMIT, Source, Status, StopOrder, ToInit, VERSION, decode, encode,
};
use atalaya_sys::reap::{self, Ending};
use atalaya_sys::seqpacket;
use atalaya_sys::spawn::{Parent, Spec, clone_into};

use super::{ATALAYAD, Ground, signal};

/// Reaping is for one at a time: all tests of this file are in one process.
static ONE: Mutex<()> = Mutex::new(());

pub struct Init<'a> {
    pub ground: &'a Ground,
    pub daemon: i32,
    link: OwnedFd,
    pub kept: BTreeMap<String, (String, Vec<OwnedFd>)>,
    /// How each run would be ended without atalayad, by the record's name.
    pub stops: BTreeMap<String, StopOrder>,
    /// Told after the records: what was heard while there was no atalayad.
    pub meanwhile: Vec<(FromInit, Vec<OwnedFd>)>,
    pub exits: BTreeMap<u64, FromInit>,
    seq: u64,
    pub deaths: u32,
    pub shutdown: Option<Action>,
    /// Kill atalayad after so many more messages from it.
    pub fuse: Option<u32>,
    /// Kill atalayad when it has said nothing for so long.
    pub silence: Option<Duration>,
    heard: Instant,
    _one: MutexGuard<'static, ()>,
}

impl<'a> Init<'a> {
    pub fn new(ground: &'a Ground) -> Self {
        let one = ONE.lock().unwrap_or_else(PoisonError::into_inner);
        let (daemon, link) = start(ground);
        Self {
            ground,
            daemon,
            link,
            kept: BTreeMap::new(),
            stops: BTreeMap::new(),
            meanwhile: Vec::new(),
            silence: None,
            heard: Instant::now(),
            exits: BTreeMap::new(),
            seq: 0,
            deaths: 0,
            shutdown: None,
            fuse: None,
            _one: one,
        }
    }

    pub fn send(&self, message: &FromInit, fds: &[OwnedFd]) {
        let fds: Vec<_> = fds.iter().map(AsFd::as_fd).collect();
        // It may just have died.
        drop(seqpacket::send_with_fds(
            self.link.as_fd(),
            &encode(message).unwrap(),
            &fds,
        ));
    }

    /// One round of init's work; restarts atalayad when it has died.
    pub fn turn(&mut self) {
        self.end_a_silent_one();
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
            self.heard = Instant::now();
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

    /// As init does with one that is stuck.
    fn end_a_silent_one(&mut self) {
        if self
            .silence
            .is_some_and(|limit| self.heard.elapsed() > limit)
        {
            self.heard = Instant::now();
            signal(self.daemon, 9);
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
                for (message, fds) in std::mem::take(&mut self.meanwhile) {
                    self.send(&message, &fds);
                }
                self.send(&FromInit::KeptEnd, &[]);
                for exit in self.exits.values() {
                    self.send(exit, &[]);
                }
            }
            ToInit::Keep { name, record, stop } => {
                assert_eq!(stop.is_some(), name.starts_with("run/"), "{name}");
                if let Some(stop) = stop {
                    self.stops.insert(name.clone(), stop);
                }
                self.kept.insert(name, (record, fds));
            }
            ToInit::Drop { name } => {
                self.stops.remove(&name);
                self.kept.remove(&name);
            }
            ToInit::Ack { seq } => drop(self.exits.remove(&seq)),
            ToInit::Shutdown { action, .. } => self.shutdown = Some(action),
            ToInit::Heartbeat => {}
        }
    }

    /// Works until `is` holds.
    pub fn until(&mut self, what: &str, mut is: impl FnMut(&mut Self) -> bool) {
        let begin = Instant::now();
        while begin.elapsed() < Duration::from_secs(40) {
            self.turn();
            if is(self) {
                // What the daemon kept before it answered may still lie in the link.
                self.turn();
                return;
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        let (_, units) = self.ground.request("GET", "/v1/units").unwrap_or_default();
        let units: serde_json::Value = serde_json::from_str(&units).unwrap_or_default();
        for unit in units["units"].as_array().into_iter().flatten() {
            eprintln!(
                "{} {} {} run {}",
                unit["name"], unit["state"], unit["words"], unit["run"]
            );
        }
        let said = self.ground.log("atalayad");
        panic!("never: {what}: {:#?} {said:#?}", self.kept.keys());
    }

    pub fn until_unit(
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

    /// A request that needs init's work while it is answered.
    pub fn post(&mut self, path: &str) {
        let ground = self.ground;
        std::thread::scope(|scope| {
            let asked = scope.spawn(|| ground.post(path));
            self.until(path, |_| asked.is_finished());
            assert_eq!(asked.join().unwrap(), 200, "{path}");
        });
    }

    pub fn kill_daemon(&mut self) {
        let (daemon, deaths) = (self.daemon, self.deaths);
        signal(daemon, 9);
        self.until("the daemon is restarted", |init| init.deaths > deaths);
    }

    pub fn end(mut self) {
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
        let any = nix::unistd::Pid::from_raw(-1);
        let flags = nix::sys::wait::WaitPidFlag::__WALL;
        while let Ok(status) = nix::sys::wait::waitpid(any, Some(flags)) {
            // A failed test may have left a process that it traces.
            if let nix::sys::wait::WaitStatus::PtraceEvent(pid, ..) = status {
                nix::sys::ptrace::detach(pid, None).ok();
            }
        }
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
