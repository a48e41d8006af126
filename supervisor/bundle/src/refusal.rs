//! Every reason to refuse a bundle, and how it is told: what happened, what it means for the data, what to do next.

use atalaya_core::update::task;

use crate::keys::KeyError;
use crate::verity::TreeError;

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    // What it is made of.
    #[error("this is not an update bundle of Atalaya")]
    NotABundle,
    #[error("the bundle holds {found:?} where {expected} has to stand")]
    Entry {
        expected: &'static str,
        found: String,
    },
    #[error("the header of {entry} in the bundle is not the one that belongs there")]
    Header { entry: &'static str },
    #[error("{entry} in the bundle has {bytes} bytes, and at most {limit} are allowed")]
    TooLarge {
        entry: &'static str,
        bytes: u64,
        limit: u64,
    },
    #[error("the bundle ends inside {entry}")]
    Truncated { entry: &'static str },
    #[error("something stands behind {entry} in the bundle where nothing may stand")]
    Padding { entry: &'static str },
    #[error("the bundle goes on behind its end")]
    Trailing,
    #[error("{entry} in the bundle cannot be understood: {problem}")]
    Syntax {
        entry: &'static str,
        problem: String,
    },
    #[error("the bundle has format {found}, and this version understands format 1")]
    Format { found: u32 },
    #[error("{field} in the bundle's manifest {problem}")]
    Field {
        field: &'static str,
        problem: &'static str,
    },

    // Who signed it.
    #[error(transparent)]
    Keys(#[from] KeyError),

    // What it promised.
    #[error("{entry} in the bundle is not what was signed")]
    Digest { entry: &'static str },
    #[error("the hash tree in the bundle is not one: {0}")]
    Tree(#[from] TreeError),
    #[error("the hash tree in the bundle does not lead to the signed root hash")]
    RootHash,
    #[error("the kernel image in the bundle does not start the root file system in it: {problem}")]
    Kernel { problem: String },
    #[error("the length of chunk {index} in the bundle is impossible")]
    ChunkLength { index: u64 },
    #[error("chunk {index} in the bundle cannot be unpacked to exactly its size")]
    Chunk { index: u64 },
    #[error("block {block} of the root file system in the bundle is not what was signed")]
    Block { block: u64 },

    // What this machine takes.
    #[error("the bundle is for {found:?}, and this machine runs {here:?}")]
    Product { found: String, here: String },
    #[error(
        "the bundle holds {} and this machine runs {}",
        kind(found),
        kind(here)
    )]
    Kind { found: String, here: String },
    #[error("the bundle is for {found} processors, and this machine is {here}")]
    Architecture { found: String, here: String },
    #[error(
        "version {version} belongs to epoch {epoch}, and this machine takes nothing below {floor}: it has a fault that must not come back"
    )]
    Epoch {
        version: String,
        epoch: u64,
        floor: u64,
    },
    #[error("the bundle was signed by key set {found}, and this machine has accepted {accepted}")]
    KeySet { found: u32, accepted: u32 },
    #[error("version {version} is what runs already")]
    Running { version: String },
    #[error("version {version} was tried on this machine and was taken back")]
    Quarantined { version: String },
    #[error("version {version} is older than {running}, which runs")]
    Downgrade { version: String, running: String },
    #[error("version {version} can be reached from {minimum} or later, and {running} runs")]
    MinimumFrom {
        version: String,
        minimum: String,
        running: String,
    },
    #[error("version {version} cannot be reached from {running}")]
    ForbiddenFrom { version: String, running: String },
    #[error("{running:?}, which runs, is not a version that can be compared")]
    Incomparable { running: String },
    #[error(
        "version {version} has PostgreSQL {found} and does not carry over data of PostgreSQL {here}, of which yours are"
    )]
    PostgreSql {
        version: String,
        found: String,
        here: String,
    },
    #[error(
        "version {version} changes the database ({from} to {to}), which is on another server and cannot be taken back from here"
    )]
    ExternalDatabase {
        version: String,
        from: String,
        to: u64,
    },
}

fn kind(kind: &str) -> &str {
    match kind {
        "official" => "the official Mattermost,",
        "standin" => "the stand-in for Mattermost,",
        other => other,
    }
}

impl Refusal {
    /// For programs. Stable.
    pub fn code(&self) -> &'static str {
        match self {
            Self::NotABundle
            | Self::Entry { .. }
            | Self::Header { .. }
            | Self::TooLarge { .. }
            | Self::Padding { .. }
            | Self::Trailing
            | Self::Syntax { .. }
            | Self::Field { .. }
            | Self::ChunkLength { .. } => "malformed",
            Self::Truncated { .. } => "truncated",
            Self::Format { .. } => "format",
            Self::Keys(error) => error.code(),
            Self::Digest { .. }
            | Self::Tree(_)
            | Self::RootHash
            | Self::Chunk { .. }
            | Self::Block { .. } => "digest",
            Self::Kernel { .. } => "kernel",
            Self::Product { .. } => "product",
            Self::Kind { .. } => "kind",
            Self::Architecture { .. } => "architecture",
            Self::Epoch { .. } => "epoch",
            Self::KeySet { .. } => "old_keys",
            Self::Running { .. } => "running",
            Self::Quarantined { .. } => "quarantine",
            Self::Downgrade { .. } => "downgrade",
            Self::MinimumFrom { .. } => "minimum_from",
            Self::ForbiddenFrom { .. } => "forbidden_from",
            Self::Incomparable { .. } => "version",
            Self::PostgreSql { .. } => "postgresql",
            Self::ExternalDatabase { .. } => "external_database",
        }
    }

    /// What the administrator does next.
    pub fn next(&self) -> String {
        let text = match self {
            Self::NotABundle => "Give the file that ends in .bundle, not the disk image.",
            Self::Truncated { .. } => "Fetch the bundle again: it did not arrive whole.",
            Self::Entry { .. }
            | Self::Header { .. }
            | Self::TooLarge { .. }
            | Self::Padding { .. }
            | Self::Trailing
            | Self::Syntax { .. }
            | Self::Field { .. }
            | Self::ChunkLength { .. }
            | Self::Digest { .. }
            | Self::Tree(_)
            | Self::RootHash
            | Self::Kernel { .. }
            | Self::Chunk { .. }
            | Self::Block { .. } => {
                "Fetch the bundle again. If it stays so, it was changed after it was signed: ask whoever gave it to you."
            }
            Self::Format { .. } => "Update to a version in between first.",
            Self::Keys(error) => error.next(),
            Self::Product { .. } | Self::Architecture { .. } => "Get the bundle for this machine.",
            Self::Kind { .. } => {
                "The stand-in and the official Mattermost never update into each other: install the other image on a new machine."
            }
            Self::Epoch { .. } | Self::KeySet { .. } => "Get a newer bundle.",
            Self::Running { .. } => "Nothing needs to be done.",
            Self::Quarantined { .. } => {
                "See `atalaya update history` for the reason. To try it again: `atalaya update install --again`."
            }
            Self::Downgrade { .. } => {
                "To go back to what ran before: `atalaya update rollback`. To install it all the same: `atalaya update install --allow-downgrade`."
            }
            Self::MinimumFrom { minimum, .. } => {
                return format!("Update to {minimum} first.");
            }
            Self::ForbiddenFrom { .. } => "Update to another version first.",
            Self::Incomparable { .. } => "Install a release.",
            Self::PostgreSql { .. } => {
                "Update to a version first that has this PostgreSQL, or carries its data over: see that version's notes."
            }
            Self::ExternalDatabase { .. } => {
                "Back up the database on its server, then say so: `atalaya update install --external-backup=NOTE`."
            }
        };
        text.to_owned()
    }

    /// In the words of an update's units.
    pub fn told(&self) -> task::Refusal {
        task::Refusal {
            code: self.code().to_owned(),
            what: sentence(&self.to_string()),
            data: "The running system and its data were not touched.".to_owned(),
            next: self.next(),
        }
    }
}

fn sentence(text: &str) -> String {
    let mut letters = text.chars();
    let Some(first) = letters.next() else {
        return String::new();
    };
    format!("{}{}.", first.to_uppercase(), letters.as_str())
}
