//! `atalaya-image inspect BUNDLE`: says what is in a bundle, who signed it and whose machines take it, and checks every byte of it.
#![allow(clippy::print_stdout)] // its output is what it is for

use super::{BundleError, head, verify};
use crate::error::{IoContext, Result};
use crate::keys;
use crate::pipeline::to_json;
use crate::project::Project;
use atalaya_bundle::Seekable;
use atalaya_bundle::inspect::Summary;
use atalaya_bundle::keys::{KeySets, Purpose, Trust, TrustFile};
use std::fs::File;
use std::path::Path;

pub fn inspect(project: &Project, path: &Path, json: bool) -> Result<()> {
    let bad = |source| BundleError::Bad {
        path: path.to_owned(),
        source,
    };
    let open = || File::open(path).during("open", path);
    let summary = atalaya_bundle::inspect::inspect(Seekable(open()?), None, None).map_err(bad)?;
    if json {
        print!("{}", to_json(&summary)?);
    } else {
        print!("{}", describe(&summary));
    }
    let (_, sets) = head(path)?;
    if !json {
        println!("  taken by     {}", takers(project, &sets)?);
    }
    verify(open()?, &sets).map_err(bad)?;
    if !json {
        println!("Every byte of it is what was signed.");
    }
    Ok(())
}

fn describe(summary: &Summary) -> String {
    let manifest = &summary.manifest;
    let mut text = format!(
        "Atalaya {} for {} (build {}, {})\n",
        manifest.version, manifest.architecture, manifest.build, manifest.built
    );
    let mut line = |name: &str, value: String| text.push_str(&format!("  {name:<12} {value}\n"));
    let mattermost = &manifest.mattermost;
    line(
        "Mattermost",
        format!(
            "{} ({}), schema {}",
            mattermost.version, manifest.kind, mattermost.schema
        ),
    );
    line("PostgreSQL", manifest.about_postgresql());
    line("root hash", manifest.root_hash.clone());
    line("epoch", manifest.epoch.to_string());
    line("comes from", format!("{} or later", manifest.minimum_from));
    for forbidden in &manifest.forbidden_from {
        line("but not", forbidden.clone());
    }
    for set in &summary.key_sets {
        let count = set.keys.len();
        line(
            "key set",
            format!("{}: {} of {count} keys", set.version, set.threshold),
        );
    }
    for key in &summary.signed_by {
        line("signed by", key.to_string());
    }
    text
}

/// Whose images take it, as far as this project knows their keys.
fn takers(project: &Project, sets: &KeySets) -> Result<String> {
    for (purpose, words) in [
        (Purpose::Release, "images that trust the release keys"),
        (
            Purpose::Development,
            "images that trust this machine's development key",
        ),
    ] {
        let Some(known) = keys::known(project, purpose)? else {
            continue;
        };
        let file = TrustFile {
            purpose,
            sets: known.sets,
        };
        if Trust::new(file, None).is_ok_and(|trust| trust.follow(sets).is_ok()) {
            return Ok(words.to_owned());
        }
    }
    Ok("images with other keys than this project knows".to_owned())
}
