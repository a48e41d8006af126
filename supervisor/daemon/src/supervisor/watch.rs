//! Tasks that watch one run and tell the owner: its notify socket, its helper's report, the emptiness of its cgroup, its
//! main process, its memory. They decide nothing and end with the run.

use std::fs::File;
use std::io::{self, Read, Seek};
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use atalaya_core::unit::Unit;
use atalaya_sys::cgroup::Cgroup;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::net::unix::pipe::Receiver;
use tokio::sync::mpsc::UnboundedSender;
use tokio::sync::oneshot;
use tokio::task::{AbortHandle, JoinHandle};

use super::{FromRun, Message, Supervisor};
use crate::notify::{self, Expected};
use crate::run::cgroup_name;
use crate::watched::watch;

/// How long a pipe that no process of the unit holds any more may take to be read.
const LAST_WORDS_LIMIT: Duration = Duration::from_millis(500);
/// The exit status of a main process comes from init; after so long without one, nobody knows it.
const STATUS_LIMIT: Duration = Duration::from_secs(2);
/// Should the kernel forget to tell that a cgroup has changed.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// The owner's ear for one run.
#[derive(Clone)]
pub(super) struct Teller {
    unit: String,
    run: u32,
    outbox: UnboundedSender<Message>,
}

impl Teller {
    /// That nobody listens any more means that the owner ends.
    pub(super) fn tell(&self, what: FromRun) {
        let (unit, run) = (self.unit.clone(), self.run);
        drop(self.outbox.send(Message::Run { unit, run, what }));
    }
}

impl Supervisor {
    pub(super) fn teller(&self, unit: &str, run: u32) -> Teller {
        Teller {
            unit: unit.to_owned(),
            run,
            outbox: self.outbox.clone(),
        }
    }

    pub(super) fn watch_notify(
        &self,
        unit: &Unit,
        run: u32,
        socket: Arc<OwnedFd>,
    ) -> Option<AbortHandle> {
        let user = nix::unistd::User::from_name(&unit.user).ok()??;
        let expected = Expected {
            cgroup: cgroup_name(&unit.name, run),
            uid: user.uid.as_raw(),
        };
        let teller = self.teller(&unit.name, run);
        let socket = watch(socket, Interest::READABLE).ok()?;
        let task = tokio::spawn(async move {
            loop {
                let Ok(mut ready) = socket.readable().await else {
                    return;
                };
                match ready.try_io(|socket| notify::hear(socket.as_fd(), &expected)) {
                    Ok(Ok(Some(heard))) => {
                        // Taken once its consequences are with init: this process may end at any moment before.
                        let (done, dealt_with) = oneshot::channel();
                        teller.tell(FromRun::Notified(heard, done));
                        dealt_with.await.ok();
                        notify::take(socket.get_ref().as_fd());
                    }
                    Ok(Ok(None)) | Err(_) => {}
                    Ok(Err(_)) => return,
                }
                // A unit that never stops must not keep the owner from its work.
                tokio::task::yield_now().await;
            }
        });
        Some(task.abort_handle())
    }

    pub(super) fn watch_report(
        &self,
        name: &str,
        run: u32,
        report: OwnedFd,
    ) -> Option<AbortHandle> {
        let report = Receiver::from_owned_fd(report).ok()?;
        let teller = self.teller(name, run);
        let task = tokio::spawn(async move {
            if report.readable().await.is_ok() {
                teller.tell(FromRun::Reported);
            }
        });
        Some(task.abort_handle())
    }

    /// A main process that is not the one that was started may be a child of another process of the unit: then init never
    /// hears of its end.
    pub(super) fn watch_main(
        &self,
        name: &str,
        run: u32,
        pid: i32,
        process: OwnedFd,
    ) -> Option<AbortHandle> {
        let process = watch(process, Interest::READABLE).ok()?;
        let teller = self.teller(name, run);
        let task = tokio::spawn(async move {
            if process.readable().await.is_ok() {
                tokio::time::sleep(STATUS_LIMIT).await;
                teller.tell(FromRun::MainGone(pid));
            }
        });
        Some(task.abort_handle())
    }

    /// Tells whenever memory.events changes; nothing where the kernel does not count memory.
    pub(super) fn watch_memory(
        &self,
        name: &str,
        run: u32,
        cgroup: &Cgroup,
    ) -> Option<AbortHandle> {
        let mut file = Changing::open(&cgroup.path().join("memory.events")).ok()?;
        let teller = self.teller(name, run);
        let task = tokio::spawn(async move {
            while file.read().is_ok() && file.changed().await.is_ok() {
                teller.tell(FromRun::MemoryEvents);
            }
        });
        Some(task.abort_handle())
    }

    /// Tells when no process is left and the last words are read.
    pub(super) fn watch_emptiness(
        &self,
        name: &str,
        run: u32,
        cgroup: Cgroup,
        pump: Option<JoinHandle<()>>,
    ) -> AbortHandle {
        let teller = self.teller(name, run);
        let task = tokio::spawn(async move {
            emptied(&cgroup).await;
            // Its last words come before the word about its end.
            if let Some(pump) = pump {
                tokio::time::timeout(LAST_WORDS_LIMIT, pump).await.ok();
            }
            teller.tell(FromRun::Emptied);
        });
        task.abort_handle()
    }
}

/// Returns when no process is left in the cgroup.
async fn emptied(cgroup: &Cgroup) {
    // A cgroup that is gone has none.
    let mut file = Changing::open(&cgroup.path().join("cgroup.events")).ok();
    loop {
        let populated = match &mut file {
            Some(file) => file.read().is_ok_and(|text| text.contains("populated 1")),
            None => cgroup.populated().unwrap_or(false),
        };
        if !populated {
            return;
        }
        match &file {
            Some(file) => {
                tokio::time::timeout(LOOK_AGAIN, file.changed()).await.ok();
            }
            None => tokio::time::sleep(Duration::from_millis(10)).await,
        }
    }
}

/// A file of a cgroup that rings when it changes (cgroup v2, "cgroup.events": poll gives POLLPRI).
struct Changing(AsyncFd<File>);

impl Changing {
    fn open(path: &Path) -> io::Result<Self> {
        watch(File::open(path)?, Interest::PRIORITY).map(Self)
    }

    /// Reading also arms the bell.
    fn read(&mut self) -> io::Result<String> {
        let mut text = String::new();
        let file = self.0.get_mut();
        file.rewind()?;
        file.read_to_string(&mut text)?;
        Ok(text)
    }

    async fn changed(&self) -> io::Result<()> {
        self.0.ready(Interest::PRIORITY).await?.clear_ready();
        Ok(())
    }
}
