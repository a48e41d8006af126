//! What can go wrong around a virtual machine.

use std::path::PathBuf;
use std::time::Duration;

/// An operation on a virtual machine that failed.
#[derive(Debug, thiserror::Error)]
pub enum VmError {
    /// A program or firmware file is not where the tools tree should have it.
    #[error("{what} is not in the tools tree: {path}")]
    ToolMissing {
        /// What was looked for.
        what: String,
        /// Where it was looked for.
        path: PathBuf,
    },
    /// An operation on a file, socket or process.
    #[error("failed to {operation} {object}")]
    Io {
        /// The verb.
        operation: &'static str,
        /// What it was done to.
        object: String,
        /// The system's answer.
        #[source]
        source: std::io::Error,
    },
    /// QEMU refused a QMP command.
    #[error("QEMU refused {command}: {reason}")]
    Qmp {
        /// The QMP command.
        command: String,
        /// QEMU's description.
        reason: String,
    },
    /// Something else came back than the protocol allows.
    #[error("{peer} answered out of turn: {answer}")]
    Protocol {
        /// Who answered.
        peer: &'static str,
        /// What came, shortened.
        answer: String,
    },
    /// QEMU ended while something was still expected of the machine.
    #[error("QEMU ended ({exit}) while waiting for {what}\n{context}")]
    Ended {
        /// What was waited for.
        what: String,
        /// How it ended.
        exit: String,
        /// QEMU's own messages and the last console lines.
        context: String,
    },
    /// A state was not reached in time.
    #[error("waited {} s for {what}\n{context}", .waited.as_secs())]
    Deadline {
        /// What was waited for.
        what: String,
        /// How long.
        waited: Duration,
        /// The state last seen and the last console lines.
        context: String,
    },
    /// The agent in the machine could not do what it was asked.
    #[error("the agent could not {operation}: {reason}")]
    Agent {
        /// What it was asked.
        operation: String,
        /// Its answer.
        reason: String,
    },
    /// The machine was started without this port.
    #[error("this machine was started without {0}")]
    NotAttached(&'static str),
}

impl VmError {
    pub(crate) fn io(
        operation: &'static str,
        object: impl Into<String>,
    ) -> impl FnOnce(std::io::Error) -> VmError {
        let object = object.into();
        move |source| VmError::Io {
            operation,
            object,
            source,
        }
    }
}
