//! Plays the one-shot units of an update: each reads its request, leaves the answer that the real one would, or a refusal that the test wants.
//! The boot partition is a list in a file.

use std::fs;
use std::path::Path;

use atalaya_core::update::record::Image;
use atalaya_core::update::task::{
    Copied, Copy, Dropped, Esp, EspReport, FoundEntry, Install, Look, Looked, Numbered, Outcome,
    Progress, Refusal, Source, Staged, Step,
};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

/// Of the version that runs first and of the one that is installed, as root hashes.
pub const OLD: &str = "11";
pub const NEW: &str = "22";

/// `rest` is "NAME DIRECTORY".
pub fn play(rest: &str) {
    let (name, directory) = rest.split_once(' ').unwrap();
    let directory = Path::new(directory);
    if let Ok(what) = fs::read_to_string(directory.join(format!("fault-{name}"))) {
        let (data, next) = ("Nothing was changed.".to_owned(), "Try again.".to_owned());
        let code = "fault".to_owned();
        let refusal = Refusal {
            code,
            what,
            data,
            next,
        };
        return leave::<()>(directory, name, &Outcome::Refused(refusal));
    }
    match name {
        "install" => install(directory),
        "look" => {
            let asked: Look = request(directory, name);
            assert!(!asked.rules.allow_downgrade && !asked.rules.allow_quarantined);
            let looked = Looked {
                version: "0.2.0".to_owned(),
                mattermost: "11.8.0".to_owned(),
                postgresql: "17.6".to_owned(),
            };
            leave(directory, name, &Outcome::Done(looked));
        }
        "copy" => {
            let copy: Copy = request(directory, name);
            println!(
                "copies {} to {} beforehand {}",
                copy.from, copy.to, copy.beforehand
            );
            let (files, kept, bytes, milliseconds) = (1, 0, 1, 1);
            let copied = Copied {
                files,
                kept,
                bytes,
                milliseconds,
            };
            leave(directory, name, &Outcome::Done(copied));
        }
        "esp" => esp(directory),
        "drop" => leave(directory, name, &Outcome::Done(Dropped { files: 1 })),
        _ => panic!("no such unit of an update: {name}"),
    }
}

fn install(directory: &Path) {
    let asked: Install = request(directory, "install");
    // A line on which nothing comes.
    while directory.join("silent").exists() {
        std::thread::park();
    }
    let bytes = match &asked.source {
        Source::File(path) => fs::read(path).unwrap(),
        Source::Http(_) | Source::Usb(_) => Vec::new(),
    };
    println!("read {} bytes for slot {:?}", bytes.len(), asked.slot);
    if bytes.starts_with(b"broken") {
        let refusal = Refusal {
            code: "signatures".to_owned(),
            what: "the bundle is not signed by keys that this machine trusts".to_owned(),
            data: "Nothing was changed.".to_owned(),
            next: "Fetch it from where you trust.".to_owned(),
        };
        return leave::<()>(directory, "install", &Outcome::Refused(refusal));
    }
    let staged = Staged {
        image: Image {
            version: "0.2.0".to_owned(),
            root_hash: NEW.to_owned(),
            epoch: 0,
            uki: "uki-new".to_owned(),
        },
        key_set: 1,
        loader: "loader".to_owned(),
        mattermost: "11.8.0".to_owned(),
        postgresql: "17.6".to_owned(),
        progress: Progress {
            done: 1,
            total: 1,
            reused: 0,
            fetched: 1,
            step: Step::Compare,
            seconds_left: None,
        },
    };
    leave(directory, "install", &Outcome::Done(staged));
}

fn esp(directory: &Path) {
    let asked: Esp = request(directory, "esp");
    let partition = directory.join("../esp.json");
    if !asked.entries.is_empty() {
        let wanted: Vec<FoundEntry> = asked.entries.iter().map(found).collect();
        put(&partition, &serde_json::to_vec(&wanted).unwrap());
    }
    let entries: Vec<FoundEntry> = serde_json::from_slice(&fs::read(&partition).unwrap()).unwrap();
    println!("{}", serde_json::to_string(&entries).unwrap());
    let (loader, foreign, steps) = (None, Vec::new(), Vec::new());
    let report = EspReport {
        entries,
        loader,
        foreign,
        steps,
        lost_loader: false,
    };
    leave(directory, "esp", &Outcome::Done(report));
}

fn found(entry: &atalaya_core::update::task::Entry) -> FoundEntry {
    let counter = entry
        .tries
        .map_or(String::new(), |tries| format!("+{tries}"));
    FoundEntry {
        name: format!("atalaya_{:06}{counter}.efi", entry.number),
        number: entry.number,
        left: entry.tries,
        uki: entry.uki.clone(),
        root_hash: None,
    }
}

fn request<T: DeserializeOwned>(directory: &Path, name: &str) -> T {
    numbered(directory, name).content
}

fn numbered<T: DeserializeOwned>(directory: &Path, name: &str) -> Numbered<T> {
    let path = directory.join(format!("{name}.request.json"));
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}

fn leave<T: Serialize>(directory: &Path, name: &str, content: &Outcome<T>) {
    let Numbered { number, .. } = numbered::<Value>(directory, name);
    fs::create_dir_all(directory.join(name)).unwrap();
    let path = directory.join(name).join("result.json");
    put(
        &path,
        &serde_json::to_vec(&Numbered { number, content }).unwrap(),
    );
}

#[allow(clippy::disallowed_methods)] // a test's own files need not survive a power cut
fn put(path: &Path, bytes: &[u8]) {
    fs::write(path, bytes).unwrap();
}
