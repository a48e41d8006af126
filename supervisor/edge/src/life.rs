//! How a run of the edge ends: by a signal, by its successor, or because a part of it has ended. Serves nothing itself.

use std::os::fd::OwnedFd;
use std::time::Duration;

use sd_notify::NotifyState;
use serde_json::json;
use tokio::signal::unix::Signal;
use tokio::task::{JoinHandle, JoinSet};

use crate::drain::{Drainer, Ending};
use crate::handover::hand_over;
use crate::log::Log;
use crate::reload::Current;
use crate::{EdgeError, tell_supervisor};

pub struct Life<'a> {
    pub terminate: Signal,
    pub interrupt: Signal,
    /// The wish for a successor.
    pub hand_over: Signal,
    /// Copies of the listening sockets, for the successor.
    pub sockets: Vec<(&'static str, OwnedFd)>,
    pub log: &'a Log,
}

impl Life<'_> {
    /// Until everything that was begun has been finished, or the time for it is over.
    pub async fn live(
        mut self,
        mut parts: JoinSet<()>,
        mut drainer: Drainer,
        settings: &Current,
    ) -> Result<(), EdgeError> {
        let ending = self.wait(&mut parts).await?;
        let limits = settings.load().limits.clone();
        // Nobody accepts here any more.
        self.sockets.clear();
        drainer.begin(ending);
        // What only serves a running edge: renewals, settings, signs of life. Those that accept end by themselves.
        parts.abort_all();
        let limit = match ending {
            Ending::Stopping => {
                tell_supervisor(&[NotifyState::Stopping], self.log);
                self.say("stopping: no new connections, open requests are finished");
                limits.drain()
            }
            Ending::HandedOver => {
                self.say("another process serves from now on; open requests are finished");
                limits.handover()
            }
        };
        tokio::select! {
            ended = tokio::time::timeout(limit, drainer.ended()) => {
                if ended.is_err() {
                    self.cut_off(limit);
                }
                return Ok(());
            }
            // In the middle of a handover's drain.
            () = self.told_to_stop() => drainer.begin(Ending::Stopping),
        }
        let limit = limits.drain();
        if tokio::time::timeout(limit, drainer.ended()).await.is_err() {
            self.cut_off(limit);
        }
        Ok(())
    }

    async fn wait(&mut self, parts: &mut JoinSet<()>) -> Result<Ending, EdgeError> {
        let mut successor: Option<JoinHandle<std::io::Result<()>>> = None;
        loop {
            let (terminate, interrupt) = (&mut self.terminate, &mut self.interrupt);
            tokio::select! {
                _ = terminate.recv() => return Ok(Ending::Stopping),
                _ = interrupt.recv() => return Ok(Ending::Stopping),
                Some(ended) = parts.join_next() => {
                    return Err(EdgeError::Part { source: ended.err() });
                }
                Some(()) = self.hand_over.recv(), if successor.is_none() => {
                    match self.copies() {
                        Ok(sockets) => successor = Some(tokio::task::spawn_blocking(move || hand_over(&sockets))),
                        Err(error) => self.stay(&error),
                    }
                }
                Some(outcome) = finished(&mut successor) => {
                    successor = None;
                    match outcome {
                        Ok(()) => return Ok(Ending::HandedOver),
                        Err(error) => self.stay(&error),
                    }
                }
            }
        }
    }

    fn copies(&self) -> std::io::Result<Vec<(&'static str, OwnedFd)>> {
        self.sockets
            .iter()
            .map(|(name, socket)| Ok((*name, socket.try_clone()?)))
            .collect()
    }

    /// No successor: this run goes on.
    fn stay(&self, error: &std::io::Error) {
        let details = json!({ "error": error.to_string() });
        let message = "failed to start a successor; this process goes on serving";
        self.log.event("error", message, details);
        tell_supervisor(&[NotifyState::Ready], self.log);
    }

    async fn told_to_stop(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }

    fn say(&self, message: &str) {
        self.log.event("info", message, json!({}));
    }

    fn cut_off(&self, after: Duration) {
        let details = json!({ "after_seconds": after.as_secs() });
        self.log
            .event("warn", "open requests were cut off", details);
    }
}

/// What became of the successor; never, while there is none.
async fn finished(
    successor: &mut Option<JoinHandle<std::io::Result<()>>>,
) -> Option<std::io::Result<()>> {
    match successor {
        Some(handle) => Some(
            handle
                .await
                .unwrap_or_else(|error| Err(std::io::Error::other(error))),
        ),
        None => std::future::pending().await,
    }
}
