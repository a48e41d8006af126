//! What the one-shot units of an update are asked, and what they answered: small files in /run, so nothing here waits for a disk. Decides
//! nothing.

use std::fs;
use std::io::ErrorKind;
use std::path::Path;

use atalaya_core::update::task::{Outcome, Progress};
use atalaya_sys::durable;
use serde::Serialize;
use serde::de::DeserializeOwned;

/// Leaves the request for `name` below `directory`, and removes what an earlier run of it has left.
///
/// # Errors
/// It cannot be written.
pub fn ask<T: Serialize>(directory: &Path, name: &str, request: &T) -> Result<(), String> {
    for old in ["result.json", "progress.json"] {
        let path = directory.join(name).join(old);
        match fs::remove_file(&path) {
            Err(error)
                if !matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) =>
            {
                return Err(format!(
                    "failed to remove the old {}: {error}",
                    path.display()
                ));
            }
            Ok(()) | Err(_) => {}
        }
    }
    let text = serde_json::to_vec(request).map_err(|error| error.to_string())?;
    let path = directory.join(format!("{name}.request.json"));
    durable::write(&path, &text, 0o600, None).map_err(|error| error.chain())
}

/// What the last run has answered.
///
/// # Errors
/// It has left nothing, or nothing that can be understood.
pub fn answer<T: DeserializeOwned>(directory: &Path, name: &str) -> Result<Outcome<T>, String> {
    let path = directory.join(name).join("result.json");
    let text = fs::read(&path).map_err(|_| "it left no result".to_owned())?;
    serde_json::from_slice(&text)
        .map_err(|error| format!("its result cannot be understood: {error}"))
}

/// How far `install` is.
pub fn progress(directory: &Path) -> Option<Progress> {
    let text = fs::read(directory.join("install/progress.json")).ok()?;
    serde_json::from_slice(&text).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_left_and_an_earlier_answer_is_not_taken_for_the_new_one() {
        let directory = tempfile::tempdir().unwrap();
        let place = directory.path();
        fs::create_dir(place.join("drop")).unwrap();
        let answered = place.join("drop/result.json");
        durable::write(&answered, br#"{"done":3}"#, 0o600, None).unwrap();
        assert_eq!(answer::<u32>(place, "drop"), Ok(Outcome::Done(3)));
        ask(place, "drop", &[1, 2]).unwrap();
        assert_eq!(fs::read(place.join("drop.request.json")).unwrap(), b"[1,2]");
        assert!(answer::<u32>(place, "drop").is_err());
        durable::write(&answered, b"{", 0o600, None).unwrap();
        assert!(answer::<u32>(place, "drop").is_err());
        // A unit that never ran has no place yet.
        ask(place, "copy", &()).unwrap();
    }
}
