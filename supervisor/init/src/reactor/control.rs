//! /run/atalaya/init.sock: whoever is root may ask init itself, with atalayad or without.
//!
//! Nothing here waits: a client that sends slowly, or does not take its answer, costs a small buffer until its time is up.

use crate::console::Console;
use crate::supervise::control::{self, LINE_LIMIT, Request};
use nix::poll::PollFlags;
use nix::sys::socket::{getsockopt, sockopt::PeerCredentials};
use serde_json::Value;
use std::collections::BTreeMap;
use std::io::{ErrorKind, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};

const PATH: &str = "/run/atalaya/init.sock";
/// Of those who are connected at a time; beyond it the oldest has to go.
const CLIENTS: usize = 16;
/// From connecting to having taken the answer.
const LIMIT_MS: u64 = 5_000;
/// Without a free descriptor the next one waits this long, instead of being offered again at once.
const PAUSE_MS: u64 = 1_000;

#[derive(Debug)]
struct Client {
    stream: UnixStream,
    heard: Vec<u8>,
    /// What is still to be written of it.
    answer: Option<Vec<u8>>,
    until: u64,
}

/// The listening socket and who is connected, by number in order of arrival.
#[derive(Debug, Default)]
pub struct Control {
    listener: Option<UnixListener>,
    paused_until: u64,
    clients: BTreeMap<u64, Client>,
    last: u64,
}

impl Control {
    pub fn new(console: &mut Console) -> Self {
        drop(std::fs::remove_file(PATH));
        let listener = UnixListener::bind(PATH).and_then(|listener| {
            std::fs::set_permissions(PATH, PermissionsExt::from_mode(0o600))?;
            listener.set_nonblocking(true)?;
            Ok(listener)
        });
        Self {
            listener: listener
                .map_err(|error| {
                    console.say("init", &format!("failed to listen on {PATH}: {error}"))
                })
                .ok(),
            ..Self::default()
        }
    }

    /// What to wait on.
    pub fn fds(&self, now: u64) -> impl Iterator<Item = (BorrowedFd<'_>, PollFlags)> {
        let listener = self
            .listener
            .as_ref()
            .filter(|_| now >= self.paused_until)
            .map(|listener| (listener.as_fd(), PollFlags::POLLIN));
        let clients = self.clients.values().map(|client| {
            let flags = if client.answer.is_some() {
                PollFlags::POLLOUT
            } else {
                PollFlags::POLLIN
            };
            (client.stream.as_fd(), flags)
        });
        listener.into_iter().chain(clients)
    }

    pub fn deadline(&self, now: u64) -> Option<u64> {
        let pause = (self.paused_until > now).then_some(self.paused_until);
        self.clients
            .values()
            .map(|client| client.until)
            .chain(pause)
            .min()
    }

    /// Takes what has come; complete requests, each with the number to answer to.
    pub fn turn(&mut self, now: u64) -> Vec<(u64, Request)> {
        self.accept(now);
        self.clients.retain(|_, client| client.until > now);
        let mut requests = Vec::new();
        let mut over = Vec::new();
        for (number, client) in &mut self.clients {
            if client.answer.is_none() {
                match client.listen() {
                    Some(Ok(request)) => requests.push((*number, request)),
                    Some(Err(why)) => client.say(&control::refused(&why)),
                    None => {}
                }
            }
            if !client.goes_on() {
                over.push(*number);
            }
        }
        for number in over {
            self.clients.remove(&number);
        }
        requests
    }

    pub fn answer(&mut self, number: u64, answer: &Value) {
        if let Some(client) = self.clients.get_mut(&number) {
            client.say(answer);
            if !client.goes_on() {
                self.clients.remove(&number);
            }
        }
    }

    fn accept(&mut self, now: u64) {
        let Some(listener) = &self.listener else {
            return;
        };
        for _ in 0..CLIENTS {
            match listener.accept() {
                Ok((stream, _)) => {
                    let mut client = Client {
                        stream,
                        heard: Vec::new(),
                        answer: None,
                        until: now + LIMIT_MS,
                    };
                    if client.stream.set_nonblocking(true).is_err() {
                        continue;
                    }
                    if !client.is_root() {
                        client.say(&control::refused("only root may ask init"));
                        continue;
                    }
                    if self.clients.len() >= CLIENTS {
                        self.clients.pop_first();
                    }
                    self.last += 1;
                    self.clients.insert(self.last, client);
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                Err(_) => {
                    self.paused_until = now + PAUSE_MS;
                    return;
                }
            }
        }
    }
}

impl Client {
    fn is_root(&self) -> bool {
        getsockopt(&self.stream, PeerCredentials).is_ok_and(|peer| peer.uid() == 0)
    }

    /// The request, once its line is complete.
    fn listen(&mut self) -> Option<Result<Request, String>> {
        let mut buffer = [0u8; 1024];
        loop {
            match self.stream.read(&mut buffer) {
                Ok(0) => {
                    self.until = 0; // it has gone
                    return None;
                }
                Ok(count) => self.heard.extend(buffer.get(..count).unwrap_or_default()),
                Err(_) => return None, // nothing now; a broken one runs into its limit
            }
            if let Some(end) = self.heard.iter().position(|byte| *byte == b'\n') {
                return Some(control::parse(self.heard.get(..end).unwrap_or_default()));
            }
            if self.heard.len() > LINE_LIMIT {
                return Some(Err(format!("a line has at most {LINE_LIMIT} bytes")));
            }
        }
    }

    fn say(&mut self, answer: &Value) {
        self.answer = Some(format!("{answer}\n").into_bytes());
        self.write();
    }

    fn write(&mut self) {
        while let Some(answer) = self.answer.as_mut().filter(|answer| !answer.is_empty()) {
            match self.stream.write(answer) {
                Ok(count) => drop(answer.drain(..count)),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                Err(_) => answer.clear(),
            }
        }
    }

    /// Whether there is anything left to do for it.
    fn goes_on(&mut self) -> bool {
        self.write();
        self.until > 0 && !self.answer.as_ref().is_some_and(Vec::is_empty)
    }
}
