//! Reading the unit files of the image, as one set.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use atalaya_core::unit::{Unit, UnitFile, parse_units};

/// Every NAME.toml in the directory.
///
/// # Errors
/// The first that cannot be read or used, with its line and what is allowed.
pub fn read(directory: &Path) -> Result<Vec<Unit>> {
    let mut files = Vec::new();
    let entries = fs::read_dir(directory)
        .with_context(|| format!("failed to list {}", directory.display()))?;
    for entry in entries {
        let path = entry
            .with_context(|| format!("failed to list {}", directory.display()))?
            .path();
        if path.extension().is_none_or(|extension| extension != "toml") {
            continue;
        }
        let text = fs::read_to_string(&path)
            .with_context(|| format!("failed to read {}", path.display()))?;
        files.push(UnitFile {
            name: path
                .file_stem()
                .unwrap_or_default()
                .to_string_lossy()
                .into_owned(),
            path: path.to_string_lossy().into_owned(),
            text,
        });
    }
    // The first error is the same one each time.
    files.sort_by(|one, other| one.name.cmp(&other.name));
    Ok(parse_units(&files)?)
}
