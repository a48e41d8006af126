//! A unit's request and result: small JSON files, whole or not there.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use atalaya_core::update::task::{self, Numbered, Outcome};
use atalaya_sys::durable;
use serde::Serialize;
use serde::de::DeserializeOwned;

/// Where this unit finds its request: among its credentials if it has any, else where the supervisor leaves it.
pub fn request_directory() -> PathBuf {
    std::env::var_os("CREDENTIALS_DIRECTORY").map_or_else(|| task::DIRECTORY.into(), PathBuf::from)
}

/// # Errors
/// There is none, or it is not one.
pub fn read_request<T: DeserializeOwned>(
    directory: &Path,
    name: &str,
) -> Result<Numbered<T>, String> {
    let path = directory.join(format!("{name}.request.json"));
    let text = std::fs::read(&path)
        .map_err(|error| format!("failed to read {}: {error}", path.display()))?;
    serde_json::from_slice(&text)
        .map_err(|error| format!("{} is not a request: {error}", path.display()))
}

/// Leaves the answer to request `number` in `directory`/`name`, the unit's runtime directory.
///
/// # Errors
/// The file cannot be written.
pub fn write_result<T: Serialize>(
    directory: &Path,
    name: &str,
    number: u64,
    outcome: Outcome<T>,
) -> Result<(), String> {
    let path = directory.join(name).join("result.json");
    let content = outcome;
    let text =
        serde_json::to_vec(&Numbered { number, content }).map_err(|error| error.to_string())?;
    durable::write(&path, &text, 0o600, None)
        .map_err(|error| format!("failed to leave the result {}: {error}", path.display()))
}

/// How far a unit has come, for whoever looks: NAME/progress.json, once a second at most. That it cannot be written ends no work.
pub struct Progress {
    file: PathBuf,
    last: Option<Instant>,
}

impl Progress {
    pub fn of(name: &str) -> Self {
        Self {
            file: Path::new(task::DIRECTORY).join(name).join("progress.json"),
            last: None,
        }
    }

    pub fn tell<T: Serialize>(&mut self, progress: &T) {
        if self
            .last
            .is_some_and(|last| last.elapsed() < Duration::from_secs(1))
        {
            return;
        }
        self.last = Some(Instant::now());
        if let Ok(text) = serde_json::to_vec(progress) {
            drop(durable::write(&self.file, &text, 0o600, None));
        }
    }
}
