//! What init and atalayad say to each other: the messages, their form on the wire, and nothing about when.
//!
//! One message is one datagram of a SEQPACKET socket pair, JSON, at most [`LIMIT`] bytes. atalayad finds its end under
//! the number in [`FD_ENV`]. It says `Hello` first; init answers `Welcome`, then one `Kept` per stored record (with its
//! descriptors), `KeptEnd`, and every `Exited` that nobody has acknowledged. From then on both speak when they have to.
//! If the versions differ, init says `Welcome` with its own and nothing more, and atalayad must touch no unit.

use serde::{Deserialize, Serialize};

/// The version of everything in this module.
pub const VERSION: u32 = 2;
/// The longest message, in bytes.
pub const LIMIT: usize = 64 * 1024;
/// The most descriptors in one `Keep`.
pub const MAX_FDS: usize = 8;
/// The longest name of a kept record, in bytes.
pub const MAX_NAME: usize = 128;
/// Names the descriptor of atalayad's end.
pub const FD_ENV: &str = "ATALAYA_INIT_FD";
/// How often atalayad sends a heartbeat, in milliseconds.
pub const HEARTBEAT_MS: u64 = 2_000;
/// After so long without any message from it, init takes atalayad for stuck and kills it, in milliseconds.
pub const SILENCE_LIMIT_MS: u64 = 30_000;

/// How the machine is to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    Reboot,
    Poweroff,
    Halt,
}

/// Who asked for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Source {
    PowerButton,
    CtrlAltDel,
    Signal,
}

/// How a process ended: `{"code":0}` or `{"signal":9}`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    Code(i32),
    Signal(i32),
}

/// How a run is ended. init needs it only when it has to do without atalayad.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StopOrder {
    /// For people.
    pub description: String,
    /// The name of its cgroup below `units`, such as `postgres.3`.
    pub cgroup: String,
    /// The main process, once there is one.
    pub pid: Option<i32>,
    /// Units of a higher level are stopped first; those of one level together.
    pub level: u32,
    /// First to the main process.
    pub signal: i32,
    pub timeout_ms: u64,
    /// Then this one, unless it is SIGKILL.
    pub then: i32,
    /// Then SIGKILL to all that is in the cgroup.
    pub then_timeout_ms: u64,
}

/// atalayad to init.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum ToInit {
    Hello {
        version: u32,
    },
    Heartbeat,
    /// Replaces what is kept under `name` by this record and the descriptors that come with the message.
    Keep {
        name: String,
        record: String,
        /// In the record of a run: what init must know to end it without atalayad.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        stop: Option<StopOrder>,
    },
    Drop {
        name: String,
    },
    /// The exit status `seq` was understood and need not be told again.
    Ack {
        seq: u64,
    },
    /// Units are stopped: init ends whatever is left, unmounts, syncs and acts.
    Shutdown {
        action: Action,
        reason: String,
    },
}

/// init to atalayad.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum FromInit {
    Welcome {
        version: u32,
        /// How often atalayad has died since the machine started.
        deaths: u32,
        /// /proc/sys/kernel/random/boot_id
        boot_id: String,
    },
    /// One record that an earlier atalayad left, with its descriptors.
    Kept { name: String, record: String },
    /// While nobody read them, init took the log pipe of the run kept under `name` empty: its newest bytes come as the one
    /// descriptor (a memfd), `dropped` bytes before them are lost. After the run's `Kept`.
    Drained { name: String, dropped: u64 },
    /// In that time the run kept under `name` sent this notify message, whose sender init has checked. After its `Kept`.
    Notified {
        name: String,
        pid: i32,
        text: String,
    },
    /// All records have been told.
    KeptEnd,
    /// A process of a unit ended as a child of PID 1: the unit's own, or one that it orphaned. Told again after every `Hello` until acknowledged.
    Exited {
        seq: u64,
        pid: i32,
        /// The component behind `units` of its cgroup's path, such as `postgres.3`: name and run number.
        cgroup: String,
        status: Status,
    },
    /// Somebody wants the machine to end: stop the units, then send `Shutdown`.
    Request { action: Action, source: Source },
}

/// Why a message could not be used.
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    #[error("failed to write a message for the link")]
    Encode(#[source] serde_json::Error),
    #[error("failed to read a message from the link")]
    Decode(#[source] serde_json::Error),
    #[error("message of {0} bytes is longer than the link's {LIMIT}")]
    TooLong(usize),
}

/// The datagram for a message.
///
/// # Errors
/// [`LinkError::TooLong`] for a record that does not fit.
pub fn encode<M: Serialize>(message: &M) -> Result<Vec<u8>, LinkError> {
    let bytes = serde_json::to_vec(message).map_err(LinkError::Encode)?;
    if bytes.len() > LIMIT {
        return Err(LinkError::TooLong(bytes.len()));
    }
    Ok(bytes)
}

/// The message in a datagram ([`ToInit`] or [`FromInit`]).
///
/// # Errors
/// [`LinkError::Decode`] for anything that is not exactly one message of this version.
pub fn decode<'a, M: Deserialize<'a>>(bytes: &'a [u8]) -> Result<M, LinkError> {
    serde_json::from_slice(bytes).map_err(LinkError::Decode)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn wire<M: Serialize>(message: &M) -> String {
        String::from_utf8(encode(message).unwrap()).unwrap()
    }

    #[test]
    fn the_wire_format_is_the_documented_one() {
        assert_eq!(
            wire(&ToInit::Hello { version: 2 }),
            r#"{"type":"hello","version":2}"#
        );
        assert_eq!(wire(&ToInit::Heartbeat), r#"{"type":"heartbeat"}"#);
        assert_eq!(
            wire(&ToInit::Shutdown {
                action: Action::Poweroff,
                reason: "asked".into()
            }),
            r#"{"type":"shutdown","action":"poweroff","reason":"asked"}"#
        );
        assert_eq!(
            wire(&FromInit::Exited {
                seq: 7,
                pid: 42,
                cgroup: "postgres.3".into(),
                status: Status::Signal(9)
            }),
            r#"{"type":"exited","seq":7,"pid":42,"cgroup":"postgres.3","status":{"signal":9}}"#
        );
        assert_eq!(
            wire(&FromInit::Request {
                action: Action::Reboot,
                source: Source::CtrlAltDel
            }),
            r#"{"type":"request","action":"reboot","source":"ctrl-alt-del"}"#
        );
        assert_eq!(wire(&FromInit::KeptEnd), r#"{"type":"kept_end"}"#);
    }

    #[test]
    fn too_long_a_record_is_refused_before_it_is_sent() {
        let message = ToInit::Keep {
            name: "x".into(),
            record: "y".repeat(LIMIT),
            stop: None,
        };
        assert!(matches!(encode(&message), Err(LinkError::TooLong(_))));
    }

    proptest! {
        #[test]
        fn any_record_comes_back_as_it_was(name in ".{0,40}", record in ".{0,400}") {
            let message = ToInit::Keep { name, record, stop: None };
            let bytes = encode(&message).unwrap();
            prop_assert_eq!(decode::<ToInit>(&bytes).unwrap(), message);
        }

        #[test]
        fn garbage_is_an_error_and_never_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _unused = decode::<ToInit>(&bytes).is_err();
            let _unused = decode::<FromInit>(&bytes).is_err();
        }
    }
}
