//! The protocol between a test and the agent in a test image: one JSON object a line, requests one way, responses the
//! other, matched by id. Bytes are base64.
//!
//! The image has no shell to run scripts with, so what tests keep needing is a call of its own. This file decides
//! nothing; the agent's side is in `calls`, the test's side in the crate atalaya-vm, what breaks things in `mischief`, and
//! what looks at another machine's disk in `examine`.

pub mod calls;
pub mod examine;
pub mod mischief;

use serde::{Deserialize, Serialize};

/// A request. The id is the caller's own and comes back in the response.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Request {
    /// Chosen by the caller.
    pub id: u64,
    /// What to do.
    pub call: Call,
}

/// A response. Responses may come in another order than their requests.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Response {
    /// The request's id.
    pub id: u64,
    /// The answer, or why there is none.
    pub result: Result<Answer, String>,
}

/// What the agent can do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "name", rename_all = "snake_case")]
pub enum Call {
    /// Answer.
    Ping,
    /// Run a program and wait for it. The first word is a path or a name on PATH.
    Exec {
        /// The words.
        argv: Vec<String>,
        /// What it reads, base64.
        #[serde(default)]
        stdin: String,
    },
    /// Read a whole file.
    Read {
        /// Which.
        path: String,
    },
    /// Replace a file's content, or make the file.
    Write {
        /// Which.
        path: String,
        /// The content, base64.
        content: String,
        /// Permission bits.
        mode: u32,
    },
    /// What is below a directory, without crossing into other file systems.
    List {
        /// Which directory.
        path: String,
        /// Its whole tree, or only itself.
        recursive: bool,
    },
    /// About one path; a symbolic link is not followed.
    Stat {
        /// Which.
        path: String,
    },
    /// Every process.
    Processes,
    /// Proportional set size of a process.
    Memory {
        /// Which.
        pid: i32,
    },
    /// Send a signal.
    Kill {
        /// To whom.
        pid: i32,
        /// Its number.
        signal: i32,
    },
    /// Size and free space of the file system that holds a path.
    FileSystem {
        /// Which path.
        path: String,
    },
}

/// What comes back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "name", rename_all = "snake_case")]
pub enum Answer {
    /// Done; there is nothing more to say.
    Done,
    /// A program ended.
    Output {
        /// Its exit status; none: a signal ended it.
        code: Option<i32>,
        /// The signal that ended it.
        signal: Option<i32>,
        /// What it wrote, base64.
        stdout: String,
        /// Its messages, base64.
        stderr: String,
    },
    /// A file's content, base64.
    Content {
        /// The bytes.
        content: String,
    },
    /// Files.
    Entries {
        /// In no order.
        entries: Vec<Entry>,
    },
    /// Processes.
    Processes {
        /// In order of pid.
        processes: Vec<ProcessInfo>,
    },
    /// An amount of memory.
    Memory {
        /// Proportional set size in KiB.
        pss_kib: u64,
    },
    /// A file system.
    FileSystem {
        /// Bytes in all.
        size: u64,
        /// Bytes that are free.
        free: u64,
    },
}

/// A file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// Full path.
    pub path: String,
    /// Type and permission bits as in stat(2).
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Bytes.
    pub size: u64,
    /// Where a link leads; of a namespace in /proc its identity.
    #[serde(default)]
    pub target: Option<String>,
}

/// A process.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProcessInfo {
    /// Its id.
    pub pid: i32,
    /// Its parent.
    pub ppid: i32,
    /// Its real user.
    pub uid: u32,
    /// Its short name.
    pub name: String,
    /// Its arguments; empty for a thread of the kernel.
    pub argv: Vec<String>,
    /// Its cgroup, as in /proc/PID/cgroup.
    pub cgroup: String,
}
