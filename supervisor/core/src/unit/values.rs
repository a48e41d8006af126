//! Values of unit files that have a syntax of their own. Each is read from a string and written back as the same string,
//! and says what is allowed when it refuses.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};

macro_rules! as_string {
    ($($name:ident $pattern:literal),*) => {$(
        #[cfg(test)]
        impl schemars::JsonSchema for $name {
            fn schema_name() -> std::borrow::Cow<'static, str> {
                stringify!($name).into()
            }
            fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
                schemars::json_schema!({ "type": "string", "pattern": $pattern })
            }
        }
        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
            }
        }
        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }
    )*};
}
as_string!(
    Mode "^[01]?[0-7]{3,4}$",
    MemoryMax "^([0-9]+[KMG]?|[1-9][0-9]?%|100%)$",
    DataSource "^(gen|data):[^/]+(/[^/]+)*$",
    Capability "^CAP_[A-Z_]+$"
);

/// Permission bits, written in octal: "0755".
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mode(pub u32);

impl FromStr for Mode {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        match u32::from_str_radix(text, 8) {
            Ok(bits) if bits <= 0o1777 && (3..=5).contains(&text.len()) => Ok(Self(bits)),
            Ok(_) | Err(_) => Err(format!(
                "{text:?} is not a mode: allowed are octal digits such as \"0755\""
            )),
        }
    }
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:04o}", self.0)
    }
}

/// A limit of memory: bytes, or a share of what the machine has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MemoryMax {
    Bytes(u64),
    Percent(u8),
}

impl MemoryMax {
    /// In bytes on a machine with `total` bytes of memory.
    pub fn bytes(self, total: u64) -> u64 {
        match self {
            Self::Bytes(bytes) => bytes,
            Self::Percent(percent) => total / 100 * u64::from(percent),
        }
    }
}

impl FromStr for MemoryMax {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let refused = || {
            format!(
                "{text:?} is not a limit of memory: allowed are such as \"50%\", \"512M\" and \"2G\""
            )
        };
        if let Some(percent) = text.strip_suffix('%') {
            return match percent.parse() {
                Ok(percent @ 1..=100) => Ok(Self::Percent(percent)),
                Ok(_) | Err(_) => Err(refused()),
            };
        }
        let (digits, unit) =
            text.split_at(text.len() - usize::from(text.ends_with(['K', 'M', 'G'])));
        let scale: u64 = match unit {
            "K" => 1 << 10,
            "M" => 1 << 20,
            "G" => 1 << 30,
            _ => 1,
        };
        let bytes = digits
            .parse::<u64>()
            .ok()
            .and_then(|n| n.checked_mul(scale))
            .ok_or_else(refused)?;
        if bytes < 1 << 20 {
            Err(refused())
        } else {
            Ok(Self::Bytes(bytes))
        }
    }
}

impl fmt::Display for MemoryMax {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bytes(bytes) if bytes % (1 << 20) == 0 => write!(f, "{}M", bytes >> 20),
            Self::Bytes(bytes) => write!(f, "{bytes}"),
            Self::Percent(percent) => write!(f, "{percent}%"),
        }
    }
}

/// Where on /data a mount comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DataSource {
    /// "gen:X": X of the generation that is in use; "gen:.": all of it.
    Generation(String),
    /// "data:X": /data/X.
    Data(String),
}

impl FromStr for DataSource {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let refused = || {
            format!(
                "{text:?} is not a place on /data: allowed are \"gen:PATH\", \"gen:.\" and \"data:PATH\""
            )
        };
        let (kind, path) = text.split_once(':').ok_or_else(refused)?;
        if text == "gen:." {
            return Ok(Self::Generation(".".to_owned()));
        }
        if path.is_empty() || path.split('/').any(|part| matches!(part, "" | "." | "..")) {
            return Err(refused());
        }
        match kind {
            "gen" => Ok(Self::Generation(path.to_owned())),
            "data" => Ok(Self::Data(path.to_owned())),
            _ => Err(refused()),
        }
    }
}

impl fmt::Display for DataSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Generation(path) => write!(f, "gen:{path}"),
            Self::Data(path) => write!(f, "data:{path}"),
        }
    }
}

/// A capability by its kernel name. That the name is one is checked by the sandbox, which knows the kernel's list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Capability(pub String);

impl FromStr for Capability {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let is_name = |rest: &str| {
            !rest.is_empty() && rest.chars().all(|c| c.is_ascii_uppercase() || c == '_')
        };
        match text.strip_prefix("CAP_") {
            Some(rest) if is_name(rest) => Ok(Self(text.to_owned())),
            Some(_) | None => Err(format!(
                "{text:?} is not a capability: allowed are names such as \"CAP_SYS_TIME\""
            )),
        }
    }
}

impl fmt::Display for Capability {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The signals by which a unit may be stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "UPPERCASE")]
pub enum SignalName {
    Term,
    Int,
    Quit,
    Hup,
    Usr1,
    Usr2,
    Kill,
}

impl SignalName {
    /// Its number on Linux (x86 and ARM).
    pub fn number(self) -> i32 {
        match self {
            Self::Hup => 1,
            Self::Int => 2,
            Self::Quit => 3,
            Self::Kill => 9,
            Self::Usr1 => 10,
            Self::Usr2 => 12,
            Self::Term => 15,
        }
    }
}

/// The limits that a unit file can set: all that Linux has (getrlimit(2)).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum Rlimit {
    /// Bytes of address space.
    As,
    /// Bytes of a core file. 0 if the file does not say otherwise: a core file would hold secrets.
    Core,
    /// Seconds of processor time.
    Cpu,
    /// Bytes of data segments.
    Data,
    /// Bytes of a file that is written.
    Fsize,
    /// File locks; Linux ignores it.
    Locks,
    /// Bytes of locked memory.
    Memlock,
    /// Bytes in POSIX message queues of the user.
    Msgqueue,
    /// 20 minus the lowest nice value that may be set: 0 to 40.
    Nice,
    /// Open files.
    Nofile,
    /// Processes and threads of the user.
    Nproc,
    /// Bytes of resident memory; Linux ignores it.
    Rss,
    /// The highest real-time priority: 0 to 99.
    Rtprio,
    /// Microseconds of processor time without a blocking call under real-time scheduling.
    Rttime,
    /// Signals that wait for the user's processes.
    Sigpending,
    /// Bytes of the stack.
    Stack,
}
