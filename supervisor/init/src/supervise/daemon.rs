//! The present atalayad as `Supervise` sees it, and when its patience with it ends.

use atalaya_core::link::{SILENCE_LIMIT_MS, VERSION};

/// A new atalayad has to say hello within this time.
pub(super) const GREETING_LIMIT_MS: u64 = 30_000;
/// After SIGTERM atalayad has this long to write its logs; what it knows of units is with init already.
const TERMINATE_LIMIT_MS: u64 = 5_000;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Alive {
    pub pid: i32,
    pub since: u64,
    pub heard: u64,
    pub greeted: bool,
    /// The version it spoke, if that is another one.
    pub refused: Option<u32>,
    /// A restart was wished for.
    pub wished: Option<u64>,
    pub killed: Option<u64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Daemon {
    /// /data is being prepared.
    NotYet,
    /// To be started at this time.
    Due(u64),
    /// `StartDaemon` was said and not answered yet.
    Starting,
    Alive(Alive),
}

impl Alive {
    /// When it is to be killed, and why; `None` if it was already.
    pub fn limit(&self) -> Option<(u64, String)> {
        let silent = |limit: u64| format!("was silent for {} s", limit / 1000);
        match (self.killed, self.wished, self.greeted) {
            (Some(_), _, _) => None,
            (None, Some(since), _) => Some((
                since + TERMINATE_LIMIT_MS,
                format!("did not end within {} s", TERMINATE_LIMIT_MS / 1000),
            )),
            (None, None, true) => Some((self.heard + SILENCE_LIMIT_MS, silent(SILENCE_LIMIT_MS))),
            (None, None, false) => {
                Some((self.since + GREETING_LIMIT_MS, silent(GREETING_LIMIT_MS)))
            }
        }
    }
}

/// It speaks another version.
pub(super) fn mismatch(version: u32) -> String {
    format!("it speaks version {version} of the link, init version {VERSION}: refused")
}
