//! What a bundle says of itself. Its bytes are what is signed; everything else in the bundle is bound by a digest in it.

use serde::{Deserialize, Serialize};

/// The only format there is.
pub const FORMAT: u32 = 1;

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    pub format: u32,
    /// `atalaya`.
    pub product: String,
    /// `official` or `standin`: they never update into each other.
    pub kind: String,
    /// As the kernel calls it: `x86_64`.
    pub architecture: String,
    /// Semantic version (semver.org) without build metadata.
    pub version: String,
    /// What tells two builds of one version apart.
    pub build: String,
    /// RFC 3339.
    pub built: String,
    /// Rises when an older image must never run again.
    pub epoch: u64,
    /// The newest key set that its maker knew.
    pub key_set: u32,
    /// The oldest version that can be updated to this one.
    pub minimum_from: String,
    /// Versions that cannot, whatever their number.
    #[serde(default)]
    pub forbidden_from: Vec<String>,
    pub mattermost: Mattermost,
    pub postgresql: String,
    /// Other major versions of PostgreSQL whose data it carries over: their programs are in it too.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub postgresql_from: Vec<u32>,
    /// Of dm-verity, 64 hexadecimal digits; the same stands on the command line in the UKI.
    pub root_hash: String,
    pub root: Root,
    /// The hash tree with its superblock. Its leaves are the digests of the root's blocks.
    pub verity: Part,
    pub uki: Part,
    /// systemd-boot.
    pub loader: Part,
}

impl Manifest {
    /// For people.
    #[must_use]
    pub fn about_postgresql(&self) -> String {
        let from: Vec<String> = self.postgresql_from.iter().map(u32::to_string).collect();
        if from.is_empty() {
            return self.postgresql.clone();
        }
        format!(
            "{}, carries data of {} over",
            self.postgresql,
            from.join(", ")
        )
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Mattermost {
    pub version: String,
    /// The highest migration that it applies.
    pub schema: u64,
}

/// The root file system, cut into chunks of `chunk_blocks` blocks of 4 KiB (the last may be shorter), each compressed by itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Root {
    /// Blocks of 4 KiB.
    pub blocks: u64,
    pub chunk_blocks: u32,
    /// Of the table of the chunks' compressed lengths.
    pub chunks: Part,
}

/// One entry of the bundle.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Part {
    pub bytes: u64,
    /// Hexadecimal.
    pub sha256: String,
}
