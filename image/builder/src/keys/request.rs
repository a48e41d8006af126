//! The small file that travels to whoever signs and back: what is to be signed, byte by byte, and the signatures so far.

use super::KeysError;
use crate::error::{Error, IoContext, Result};
use crate::pipeline::to_json;
use atalaya_bundle::Manifest;
use atalaya_bundle::keys::{KeySet, Signed, SigningKey};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Request {
    pub sign: Content,
    pub signatures: Vec<Signed>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Content {
    /// A new set of keys, and the one before it, which has a say in it.
    KeySet { set: KeySet, former: Option<KeySet> },
    /// manifest.json of a bundle, as it is, and the set that signs it.
    Bundle { manifest: String, set: KeySet },
}

impl Request {
    pub fn new(sign: Content) -> Self {
        Self {
            sign,
            signatures: Vec::new(),
        }
    }

    pub fn read(path: &Path) -> Result<Self> {
        let text = fs::read(path).during("read", path)?;
        serde_json::from_slice(&text).map_err(|error| {
            KeysError::Unusable {
                path: path.to_owned(),
                problem: format!("is no signing request: {error}"),
                next: "give the file that `keys rotate` or `bundle --request` wrote",
            }
            .into()
        })
    }

    /// The signatures of all copies of one request.
    pub fn gather(paths: &[PathBuf]) -> Result<Self> {
        let mut all: Option<(Self, &PathBuf)> = None;
        for path in paths {
            let copy = Self::read(path)?;
            match &mut all {
                None => all = Some((copy, path)),
                Some((first, from)) if first.sign != copy.sign => {
                    return Err(KeysError::OtherRequest {
                        one: path.clone(),
                        other: from.clone(),
                    }
                    .into());
                }
                Some((first, _)) => first.signatures.extend(copy.signatures),
            }
        }
        let (mut request, _) = all.ok_or(Error::Image {
            problem: "no request was given".to_owned(),
        })?;
        request.order();
        Ok(request)
    }

    pub fn write(&self, path: &Path) -> Result<()> {
        Ok(atalaya_sys::durable::write(
            path,
            to_json(self)?.as_bytes(),
            0o644,
            None,
        )?)
    }

    /// Adds a signature by `key`.
    pub fn sign(&mut self, key: &SigningKey) -> Result<()> {
        let public = key.public();
        let signed = match &self.sign {
            Content::KeySet { set, .. } => key.sign_set(set),
            Content::Bundle { manifest, .. } => {
                if self.manifest()?.is_some_and(|it| it.kind != "official") {
                    return Err(KeysError::SignStandin.into());
                }
                key.sign_manifest(manifest.as_bytes())
            }
        };
        if !self.voters().iter().any(|set| set.keys.contains(&public)) {
            return Err(KeysError::Stranger(public.to_string()).into());
        }
        self.signatures.push(signed);
        self.order();
        Ok(())
    }

    /// The sets whose keys have a say.
    fn voters(&self) -> Vec<&KeySet> {
        match &self.sign {
            Content::KeySet { set, former } => former.iter().chain([set]).collect(),
            Content::Bundle { set, .. } => vec![set],
        }
    }

    /// In the order that a bundle has them in, each key once. Ed25519 signs alike each time.
    fn order(&mut self) {
        self.signatures.sort_by_key(|signed| signed.key);
        self.signatures.dedup_by_key(|signed| signed.key);
    }

    pub fn manifest(&self) -> Result<Option<Manifest>> {
        match &self.sign {
            Content::KeySet { .. } => Ok(None),
            Content::Bundle { manifest, .. } => {
                serde_json::from_str(manifest)
                    .map(Some)
                    .map_err(|error| Error::Io {
                        operation: "understand",
                        object: "the manifest in the request".to_owned(),
                        source: error.into(),
                    })
            }
        }
    }
}

/// What a person confirms: made from what is signed, not from what the file says about it.
impl fmt::Display for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.sign, self.manifest()) {
            (Content::KeySet { set, former }, _) => {
                writeln!(
                    f,
                    "Key set {}, of whose keys {} have to sign:",
                    set.version, set.threshold
                )?;
                for key in &set.keys {
                    let stays = former.as_ref().is_some_and(|set| set.keys.contains(key));
                    writeln!(f, "  {key}{}", if stays { "  (stays)" } else { "" })?;
                }
                match former {
                    Some(former) => {
                        writeln!(
                            f,
                            "It follows set {}, of whose keys {} have to sign it too.",
                            former.version, former.threshold
                        )?;
                        for key in former.keys.iter().filter(|key| !set.keys.contains(key)) {
                            writeln!(f, "  {key}  (no more)")?;
                        }
                    }
                    None => writeln!(
                        f,
                        "It follows none: machines trust it only if they are installed with it."
                    )?,
                }
            }
            (Content::Bundle { set, .. }, Ok(Some(manifest))) => {
                writeln!(
                    f,
                    "Atalaya {} (build {}, {})",
                    manifest.version, manifest.build, manifest.built
                )?;
                writeln!(
                    f,
                    "  holds      Mattermost {} ({}), PostgreSQL {}",
                    manifest.mattermost.version,
                    manifest.kind,
                    manifest.about_postgresql()
                )?;
                writeln!(
                    f,
                    "  epoch      {}: older ones never run again after it",
                    manifest.epoch
                )?;
                writeln!(f, "  comes from {} or later", manifest.minimum_from)?;
                writeln!(f, "  root hash  {}", manifest.root_hash)?;
                writeln!(f, "  kernel     {}", manifest.uki.sha256)?;
                writeln!(
                    f,
                    "Signed by key set {}, of whose keys {} have to sign.",
                    set.version, set.threshold
                )?;
            }
            (Content::Bundle { .. }, _) => writeln!(f, "A manifest that cannot be understood.")?,
        }
        for signed in &self.signatures {
            writeln!(f, "  signed by {}", signed.key)?;
        }
        Ok(())
    }
}
