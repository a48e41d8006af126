//! What the one-shot units of an update are asked, and what they answered: small files in /run, so nothing here waits for a disk. Decides
//! nothing.

use std::fs;
use std::io::ErrorKind;
use std::path::Path;

use atalaya_core::update::task::{Numbered, Outcome, Progress};
use atalaya_sys::durable;
use serde::Serialize;
use serde::de::DeserializeOwned;

/// Leaves the request for `name` below `directory`, and removes what an earlier run of it has left. The request's number, which only its answer
/// has.
///
/// # Errors
/// It cannot be written.
pub fn ask<T: Serialize>(directory: &Path, name: &str, request: T) -> Result<u64, String> {
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
    let path = directory.join(format!("{name}.request.json"));
    let number = number_in(&path).unwrap_or(0) + 1;
    let content = request;
    let text =
        serde_json::to_vec(&Numbered { number, content }).map_err(|error| error.to_string())?;
    durable::write(&path, &text, 0o600, None).map_err(|error| error.chain())?;
    Ok(number)
}

/// What was answered to request `number`.
///
/// # Errors
/// Nothing, or nothing that can be understood, or it is the answer to another request.
pub fn answer<T: DeserializeOwned>(
    directory: &Path,
    name: &str,
    number: u64,
) -> Result<Outcome<T>, String> {
    let path = directory.join(name).join("result.json");
    let text = fs::read(&path).map_err(|_| "it left no result".to_owned())?;
    let answer: Numbered<Outcome<T>> = serde_json::from_slice(&text)
        .map_err(|error| format!("its result cannot be understood: {error}"))?;
    if answer.number == number {
        Ok(answer.content)
    } else {
        Err("it left the result of another request".to_owned())
    }
}

/// Whether that is there.
pub fn has_answer(directory: &Path, name: &str, number: u64) -> bool {
    number_in(&directory.join(name).join("result.json")) == Some(number)
}

fn number_in(path: &Path) -> Option<u64> {
    let value: serde_json::Value = serde_json::from_slice(&fs::read(path).ok()?).ok()?;
    value.get("number")?.as_u64()
}

/// How far `install` is.
pub fn progress(directory: &Path) -> Option<Progress> {
    let text = fs::read(directory.join("install/progress.json")).ok()?;
    serde_json::from_slice(&text).ok()
}

#[cfg(test)]
mod tests {
    use atalaya_core::update::task::{Drop, Dropped};

    use super::*;

    #[test]
    fn an_answer_counts_for_its_own_request_alone() {
        let directory = tempfile::tempdir().unwrap();
        let place = directory.path();
        let request = |numbers: &[u32]| Drop {
            generations: numbers.to_vec(),
        };
        // A unit that never ran has no place yet.
        assert_eq!(ask(place, "drop", request(&[1])), Ok(1));
        fs::create_dir(place.join("drop")).unwrap();
        let answered = place.join("drop/result.json");
        let leave = |number: u64| {
            let content = Outcome::Done(Dropped { files: 3 });
            let text = serde_json::to_vec(&Numbered { number, content }).unwrap();
            durable::write(&answered, &text, 0o600, None).unwrap();
        };
        leave(1);
        assert!(has_answer(place, "drop", 1));
        let answer = |number: u64| super::answer::<Dropped>(place, "drop", number);
        assert_eq!(answer(1), Ok(Outcome::Done(Dropped { files: 3 })));
        assert_eq!(ask(place, "drop", request(&[1, 2])), Ok(2));
        assert!(answer(2).is_err(), "the old one is gone");
        // One that was still at work on the older request.
        leave(1);
        assert!(!has_answer(place, "drop", 2));
        assert!(answer(2).unwrap_err().contains("another request"));
        let text = fs::read(place.join("drop.request.json")).unwrap();
        let asked: Numbered<Drop> = serde_json::from_slice(&text).unwrap();
        assert_eq!((asked.number, asked.content), (2, request(&[1, 2])));
        durable::write(&answered, b"{", 0o600, None).unwrap();
        assert!(answer(2).is_err());
    }
}
