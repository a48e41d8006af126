//! Who may sign: sets of Ed25519 keys with a threshold, each set signed by the threshold of the one before it and by its own. Nothing expires,
//! so that a machine without a clock or a network never rejects for age. Decides whether a chain of sets leads on from the one that a machine
//! trusts; does not decide which set a machine trusts, and reads no file.
//!
//! A signature is over text, byte by byte: the first line says over what kind of thing, so that none can be passed off as one over another.

mod chain;
mod signature;

use serde::{Deserialize, Serialize};

pub use chain::{KeySets, Purpose, Trust, TrustFile};
pub use signature::{PublicKey, Signature, Signed, SigningKey};

use crate::limits;

/// What a machine accepts signatures from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeySet {
    /// Rises by one with every set.
    pub version: u32,
    /// How many different keys have to sign.
    pub threshold: u32,
    /// In ascending order.
    pub keys: Vec<PublicKey>,
}

/// A set with the signatures of the former's keys and of its own. A first one has only its own.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SignedKeySet {
    pub set: KeySet,
    /// In ascending order of their keys.
    pub signatures: Vec<Signed>,
}

/// `signatures.json`: over the bytes of the manifest, by keys of the newest set, in ascending order.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Signatures {
    pub signatures: Vec<Signed>,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    #[error("key set {version} is not one: {problem}")]
    Set { version: u32, problem: &'static str },
    #[error("the key sets are not consecutive: {after} is followed by {version}")]
    Gap { after: u32, version: u32 },
    #[error("there is no key set, or there are too many")]
    Number,
    #[error("the signatures of {what} are not in ascending order of their keys, each key once")]
    Order { what: What },
    #[error("{what} is signed by a key that has no say in it: {key}")]
    Stranger { what: What, key: PublicKey },
    #[error("a signature of {what} is false: that of {key}")]
    False { what: What, key: PublicKey },
    #[error("{what} has {found} of the {needed} signatures that key set {set} asks for")]
    TooFew {
        what: What,
        set: u32,
        found: u32,
        needed: u32,
    },
    #[error("the manifest names key set {manifest}, and the newest in the bundle is {newest}")]
    Manifest { manifest: u32, newest: u32 },
    #[error("the bundle was signed by key set {newest}, and this machine has accepted {trusted}")]
    Old { newest: u32, trusted: u32 },
    #[error(
        "the bundle's key sets begin with {first}, and do not lead on from {trusted}, which this machine trusts"
    )]
    Unconnected { first: u32, trusted: u32 },
    #[error("the bundle's key set {version} is not the one that this machine trusts")]
    Other { version: u32 },
}

/// Over what a signature is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum What {
    Manifest,
    KeySet(u32),
}

impl std::fmt::Display for What {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Manifest => f.write_str("the manifest"),
            Self::KeySet(version) => write!(f, "key set {version}"),
        }
    }
}

impl KeyError {
    pub(crate) fn code(&self) -> &'static str {
        match self {
            Self::Old { .. } => "old_keys",
            Self::Unconnected { .. } | Self::Other { .. } => "untrusted",
            Self::Set { .. }
            | Self::Gap { .. }
            | Self::Number
            | Self::Order { .. }
            | Self::Stranger { .. }
            | Self::False { .. }
            | Self::TooFew { .. }
            | Self::Manifest { .. } => "signatures",
        }
    }

    pub(crate) fn next(&self) -> &'static str {
        match self {
            Self::Old { .. } => "Get a newer bundle: the keys that signed this one were replaced.",
            Self::Unconnected { .. } | Self::Other { .. } => {
                "Get the bundle from where this machine's image came from. An image that trusts other keys has to be installed anew; /data can be kept (docs/keys.md)."
            }
            Self::Set { .. }
            | Self::Gap { .. }
            | Self::Number
            | Self::Order { .. }
            | Self::Stranger { .. }
            | Self::False { .. }
            | Self::TooFew { .. }
            | Self::Manifest { .. } => {
                "Do not install it. Get the bundle from where this machine's image came from."
            }
        }
    }
}

impl KeySet {
    /// # Errors
    /// The threshold cannot be met, a key stands there twice or is none, or there are too many.
    pub fn new(version: u32, threshold: u32, mut keys: Vec<PublicKey>) -> Result<Self, KeyError> {
        keys.sort_unstable();
        let set = Self {
            version,
            threshold,
            keys,
        };
        set.check()?;
        Ok(set)
    }

    /// The bytes over which a set is signed: unlike JSON, there is only one way to write them.
    pub fn message(&self) -> Vec<u8> {
        let mut text = format!(
            "atalaya key set\nversion {}\nthreshold {}\n",
            self.version, self.threshold
        );
        for key in &self.keys {
            text.push_str(&format!("key {key}\n"));
        }
        text.into_bytes()
    }

    pub(crate) fn check(&self) -> Result<(), KeyError> {
        let wrong = |problem| {
            Err(KeyError::Set {
                version: self.version,
                problem,
            })
        };
        let count = self.keys.len();
        if self.version == 0 {
            return wrong("versions begin with 1");
        }
        if count == 0 || count > limits::KEYS {
            return wrong("it has no keys, or too many");
        }
        if self.threshold == 0 || self.threshold as usize > count {
            return wrong("its threshold cannot be met");
        }
        if !self.keys.windows(2).all(|two| two[0] < two[1]) {
            return wrong("its keys are not in ascending order, each once");
        }
        if !self.keys.iter().all(PublicKey::is_sound) {
            return wrong("one of its keys is none");
        }
        Ok(())
    }

    /// Whether enough of `signers` are in this set.
    pub(crate) fn approves(&self, what: What, signers: &[Signed]) -> Result<(), KeyError> {
        let ours = |signed: &&Signed| self.keys.binary_search(&signed.key).is_ok();
        let found = signers.iter().filter(ours).count() as u32;
        if found < self.threshold {
            return Err(KeyError::TooFew {
                what,
                set: self.version,
                found,
                needed: self.threshold,
            });
        }
        Ok(())
    }
}

/// The bytes over which a manifest is signed.
pub fn manifest_message(manifest: &[u8]) -> Vec<u8> {
    [b"atalaya update manifest\n", manifest].concat()
}

/// Every signature must be true, by a key of one of `sets`, and by each key once: whatever is there has a meaning.
pub(crate) fn verify(
    what: What,
    message: &[u8],
    signatures: &[Signed],
    sets: &[&KeySet],
) -> Result<(), KeyError> {
    if !signatures.windows(2).all(|two| two[0].key < two[1].key) {
        return Err(KeyError::Order { what });
    }
    for Signed { key, signature } in signatures {
        let known = sets.iter().any(|set| set.keys.binary_search(key).is_ok());
        if !known {
            return Err(KeyError::Stranger { what, key: *key });
        }
        if !key.verify(message, signature) {
            return Err(KeyError::False { what, key: *key });
        }
    }
    sets.iter()
        .try_for_each(|set| set.approves(what, signatures))
}
