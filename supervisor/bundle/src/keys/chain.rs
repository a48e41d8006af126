//! Key sets in a row, and which of them a machine trusts.

use serde::{Deserialize, Serialize};

use super::{KeyError, KeySet, SignedKeySet, What, verify};
use crate::limits;

/// `keysets.json`, in a bundle and on /data: every set from a first one on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeySets {
    /// In ascending order, without gaps.
    pub sets: Vec<SignedKeySet>,
}

/// Whose keys an image trusts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Purpose {
    /// Keys that are kept offline.
    Release,
    /// A key that lies about on the machine that built the image.
    Development,
}

/// `/usr/lib/atalaya/update-trust.json`: the sets that the image's builder knew.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrustFile {
    pub purpose: Purpose,
    pub sets: Vec<SignedKeySet>,
}

impl TrustFile {
    /// Sets of which nobody says whose they are.
    pub(crate) fn unmarked(sets: Vec<SignedKeySet>) -> Self {
        Self {
            purpose: Purpose::Development,
            sets,
        }
    }
}

impl KeySets {
    /// The chain, each set in order: a first one signed by itself, each other one by the former's threshold and by its own.
    ///
    /// # Errors
    /// It is none.
    pub fn verify(&self) -> Result<&KeySet, KeyError> {
        if self.sets.len() > limits::SETS {
            return Err(KeyError::Number);
        }
        let mut former: Option<&KeySet> = None;
        for SignedKeySet { set, signatures } in &self.sets {
            set.check()?;
            let what = What::KeySet(set.version);
            let message = set.message();
            match former {
                None => verify(what, &message, signatures, &[set])?,
                Some(former) if former.version.checked_add(1) == Some(set.version) => {
                    verify(what, &message, signatures, &[former, set])?;
                }
                Some(former) => {
                    return Err(KeyError::Gap {
                        after: former.version,
                        version: set.version,
                    });
                }
            }
            former = Some(set);
        }
        former.ok_or(KeyError::Number)
    }

    /// As it stands in a bundle and on /data.
    ///
    /// # Errors
    /// None that could happen: the type holds nothing that JSON lacks.
    pub fn to_json(&self) -> serde_json::Result<Vec<u8>> {
        crate::writer::json(self)
    }
}

/// The newest set that a machine trusts.
#[derive(Debug, Clone)]
pub struct Trust {
    purpose: Purpose,
    newest: KeySet,
}

impl Trust {
    /// From what the image brought along, and what was accepted with former updates. The image's word counts more: sets that do not lead on from
    /// its own are not believed, so that an image with other keys can be installed on old data.
    ///
    /// # Errors
    /// The image's own sets are no chain.
    pub fn new(image: TrustFile, accepted: Option<&KeySets>) -> Result<Self, KeyError> {
        let TrustFile { purpose, sets } = image;
        let sets = KeySets { sets };
        let newest = sets.verify()?.clone();
        let of_image = Self { purpose, newest };
        Ok(match accepted.map(|sets| of_image.follow(sets)) {
            Some(Ok(newest)) => Self {
                purpose,
                newest: newest.clone(),
            },
            Some(Err(_)) | None => of_image,
        })
    }

    pub fn purpose(&self) -> Purpose {
        self.purpose
    }

    pub fn newest(&self) -> &KeySet {
        &self.newest
    }

    /// The newest of `sets`, if they lead on from what is trusted.
    ///
    /// # Errors
    /// They do not, are older, or are no chain.
    pub fn follow<'s>(&self, sets: &'s KeySets) -> Result<&'s KeySet, KeyError> {
        let newest = sets.verify()?;
        let trusted = self.newest.version;
        if newest.version < trusted {
            return Err(KeyError::Old {
                newest: newest.version,
                trusted,
            });
        }
        let first = sets.sets.first().map_or(0, |first| first.set.version);
        let same = sets
            .sets
            .iter()
            .find(|signed| signed.set.version == trusted);
        match same {
            None => Err(KeyError::Unconnected { first, trusted }),
            Some(same) if same.set == self.newest => Ok(newest),
            Some(_) => Err(KeyError::Other { version: trusted }),
        }
    }
}
