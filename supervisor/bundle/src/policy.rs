//! Whether this machine takes a bundle that was signed by the right people. Pure: what is known of the machine comes in.

use semver::Version;

use atalaya_core::update::task::Rules;

use crate::limits;
use crate::manifest::Manifest;
use crate::refusal::Refusal;

/// A row after the other: the first that does not hold is the reason.
///
/// # Errors
/// The reason why not.
pub fn assess(manifest: &Manifest, rules: &Rules) -> Result<(), Refusal> {
    let version = manifest.version.clone();
    let running = rules.running.version.clone();
    if manifest.product != rules.product {
        return Err(Refusal::Product {
            found: manifest.product.clone(),
            here: rules.product.clone(),
        });
    }
    if manifest.architecture != rules.architecture {
        return Err(Refusal::Architecture {
            found: manifest.architecture.clone(),
            here: rules.architecture.clone(),
        });
    }
    if manifest.kind != rules.kind {
        return Err(Refusal::Kind {
            found: manifest.kind.clone(),
            here: rules.kind.clone(),
        });
    }
    let floor = rules.epoch_floor.max(rules.running.epoch);
    if manifest.epoch < floor {
        return Err(Refusal::Epoch {
            version,
            epoch: manifest.epoch,
            floor,
        });
    }
    if manifest.key_set < rules.key_set {
        return Err(Refusal::KeySet {
            found: manifest.key_set,
            accepted: rules.key_set,
        });
    }
    if manifest.root_hash == rules.running.root_hash {
        return Err(Refusal::Running { version });
    }
    if rules.quarantine.contains(&manifest.root_hash) && !rules.allow_quarantined {
        return Err(Refusal::Quarantined { version });
    }
    let from = comparable(&running).ok_or(Refusal::Incomparable {
        running: running.clone(),
    })?;
    let comparable = |text: &str, field| {
        comparable(text).ok_or(Refusal::Field {
            field,
            problem: "is not a semantic version",
        })
    };
    if comparable(&version, "version")? < from && !rules.allow_downgrade {
        return Err(Refusal::Downgrade { version, running });
    }
    if from < comparable(&manifest.minimum_from, "minimum_from")? {
        return Err(Refusal::MinimumFrom {
            version,
            minimum: manifest.minimum_from.clone(),
            running,
        });
    }
    for forbidden in &manifest.forbidden_from {
        if comparable(forbidden, "forbidden_from")? == from {
            return Err(Refusal::ForbiddenFrom { version, running });
        }
    }
    if !reads_data(manifest, &rules.postgresql) {
        return Err(Refusal::PostgreSql {
            version,
            found: manifest.postgresql.clone(),
            here: rules.postgresql.clone(),
        });
    }
    let to = manifest.mattermost.schema;
    if rules.external_database && rules.schema != Some(to) && rules.external_backup.is_none() {
        let from = rules.schema.map(|schema| schema.to_string());
        return Err(Refusal::ExternalDatabase {
            version,
            from: from.unwrap_or_else(|| "unknown".to_owned()),
            to,
        });
    }
    Ok(())
}

/// Data of one major version are read by that one, and carried over by an image that says so. Never back: a later version's data cannot be
/// read by an earlier one, and `rollback` goes back to those from before.
fn reads_data(manifest: &Manifest, here: &str) -> bool {
    let Some(here) = major(here) else {
        // Not known.
        return true;
    };
    let there = major(&manifest.postgresql);
    there == Some(here) || (there > Some(here) && manifest.postgresql_from.contains(&here))
}

/// 17 of `17.6`.
fn major(postgresql: &str) -> Option<u32> {
    postgresql.split('.').next()?.parse().ok()
}

/// The stand-in's mark is not a part of the version: the kind is compared by itself.
fn comparable(text: &str) -> Option<Version> {
    limits::version(text.strip_suffix("-standin").unwrap_or(text))
}
