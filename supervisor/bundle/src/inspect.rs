//! What a bundle is, without installing it: also of one that is not trusted, which is then said.

use serde::Serialize;

use atalaya_core::update::task::{self, Rules};

use crate::container::Input;
use crate::error::Result;
use crate::keys::{KeySet, PublicKey, Trust, TrustFile};
use crate::manifest::Manifest;
use crate::policy;
use crate::reader::{Unverified, understand};
use crate::refusal::Refusal;
use crate::source::Source;

#[derive(Debug, Clone, Serialize)]
pub struct Summary {
    pub manifest: Manifest,
    pub key_sets: Vec<KeySet>,
    /// Of whom there is a signature of the manifest; whether it is true, `refused` says.
    pub signed_by: Vec<PublicKey>,
    /// Whether somebody's trust was asked, or only whether the signatures are right among themselves.
    pub trust_asked: bool,
    /// Why it would not be installed; none if it would.
    pub refused: Option<task::Refusal>,
}

/// Reads no more than the head. Without `trust` the bundle's own key sets are believed; without `rules` no machine is asked.
///
/// # Errors
/// It cannot be read, or not be understood at all.
pub fn inspect<S: Source>(
    source: S,
    trust: Option<&Trust>,
    rules: Option<&Rules>,
) -> Result<Summary> {
    let head = Unverified::read(&mut Input::new(source))?;
    let (manifest, _) = understand(&head.manifest)?;
    let summary = Summary {
        manifest,
        key_sets: head
            .key_sets
            .sets
            .iter()
            .map(|signed| signed.set.clone())
            .collect(),
        signed_by: head
            .signatures
            .signatures
            .iter()
            .map(|signed| signed.key)
            .collect(),
        trust_asked: trust.is_some(),
        refused: None,
    };
    let verdict = verdict(head, trust, rules);
    Ok(Summary {
        refused: verdict.err().map(|refusal| refusal.told()),
        ..summary
    })
}

fn verdict(head: Unverified, trust: Option<&Trust>, rules: Option<&Rules>) -> Result<(), Refusal> {
    let own;
    let trust = match trust {
        Some(trust) => trust,
        None => {
            let sets = head.key_sets.sets.clone();
            own = Trust::new(TrustFile::unmarked(sets), None)?;
            &own
        }
    };
    let (head, _) = head.verify(trust)?;
    rules.map_or(Ok(()), |rules| policy::assess(&head.manifest, rules))
}
