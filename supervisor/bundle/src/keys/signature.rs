//! Ed25519 keys and signatures as text. Keys of low order, which sign anything, are refused, and so is the second form of a signature that a
//! lenient verifier would take.

use std::fmt;

use ed25519_dalek::{Signer, VerifyingKey};
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::{KeySet, manifest_message};
use crate::hex;

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PublicKey([u8; 32]);

impl PublicKey {
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    pub fn bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// 64 hexadecimal digits, lower case.
    pub fn parse(text: &str) -> Option<Self> {
        hex::decode(text).map(Self)
    }

    pub(crate) fn is_sound(&self) -> bool {
        VerifyingKey::from_bytes(&self.0).is_ok_and(|key| !key.is_weak())
    }

    pub fn verify(&self, message: &[u8], signature: &Signature) -> bool {
        let signature = ed25519_dalek::Signature::from_bytes(&signature.0);
        VerifyingKey::from_bytes(&self.0)
            .is_ok_and(|key| key.verify_strict(message, &signature).is_ok())
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Signature([u8; 64]);

/// A signature with the key that it is by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Signed {
    pub key: PublicKey,
    pub signature: Signature,
}

/// The secret half of a key. Its file, one line of text, is all that has to be kept: `atalaya-signing-key ` and 64 hexadecimal digits.
pub struct SigningKey(ed25519_dalek::SigningKey);

const FILE: &str = "atalaya-signing-key ";

impl SigningKey {
    /// From 32 bytes that nobody else knows.
    pub fn from_seed(seed: &[u8; 32]) -> Self {
        Self(ed25519_dalek::SigningKey::from_bytes(seed))
    }

    /// What [`Self::to_file`] wrote.
    pub fn from_file(text: &str) -> Option<Self> {
        let line = text.strip_suffix('\n').unwrap_or(text);
        Some(Self::from_seed(&hex::decode(line.strip_prefix(FILE)?)?))
    }

    pub fn to_file(&self) -> String {
        format!("{FILE}{}\n", hex::encode(self.0.as_bytes()))
    }

    pub fn public(&self) -> PublicKey {
        PublicKey(self.0.verifying_key().to_bytes())
    }

    /// Over the bytes of `manifest.json`, as they stand in the bundle.
    pub fn sign_manifest(&self, manifest: &[u8]) -> Signed {
        self.sign(&manifest_message(manifest))
    }

    pub fn sign_set(&self, set: &KeySet) -> Signed {
        self.sign(&set.message())
    }

    fn sign(&self, message: &[u8]) -> Signed {
        Signed {
            key: self.public(),
            signature: Signature(self.0.sign(message).to_bytes()),
        }
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SigningKey of {}", self.public())
    }
}

macro_rules! as_hexadecimal {
    ($type:ty, $what:literal) => {
        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&hex::encode(&self.0))
            }
        }

        impl fmt::Debug for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }

        impl Serialize for $type {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $type {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = String::deserialize(deserializer)?;
                hex::decode(&text)
                    .map(Self)
                    .ok_or_else(|| D::Error::custom($what))
            }
        }
    };
}

as_hexadecimal!(PublicKey, "a key is 64 hexadecimal digits, lower case");
as_hexadecimal!(
    Signature,
    "a signature is 128 hexadecimal digits, lower case"
);
