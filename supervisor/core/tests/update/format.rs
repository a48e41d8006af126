//! The bytes of the record, frozen. Each file in `records` was written by a version that was shipped, or by one that does not exist yet and knows
//! more; it is never written again. A version that cannot read one of them cannot be started on a machine that has it.

use std::path::{Path, PathBuf};

use atalaya_core::update::record::{
    Error, FILES, Past, Quarantined, Reason, Record, Stage, choose, decode, encode, places,
};
use proptest::prelude::*;
use serde_json::json;
use sha2::{Digest, Sha256};

use crate::fixtures::{NOW, at, rest};

fn file(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/update/records")
        .join(name)
}

/// What lies in the golden files of version 0.1.0.
fn shipped() -> Vec<(&'static str, Record)> {
    let mut trial = at(Stage::Trial);
    let reason = Reason::new(
        Stage::Trial,
        "no post goes through",
        &["postgres: PANIC".to_owned()],
    );
    trial.candidate.as_mut().unwrap().reason = Some(reason.clone());
    trial.quarantine.push(Quarantined {
        version: "1.9.0".to_owned(),
        root_hash: "r9".to_owned(),
        reason,
        at: NOW,
    });
    trial.history.push(Past {
        from: "1.1.0".to_owned(),
        to: "1.2.0".to_owned(),
        outcome: Stage::Opened,
        marks: trial.candidate.as_ref().unwrap().marks.clone(),
        downtime: Some(41),
        reason: None,
    });
    vec![
        ("0.1.0-opened", rest()),
        ("0.1.0-writing", at(Stage::Writing)),
        ("0.1.0-trial", trial),
    ]
}

#[test]
fn what_was_shipped_is_read_and_written_byte_for_byte() {
    for (name, record) in shipped() {
        let bytes = encode(&record, 7).unwrap();
        let path = file(name);
        if !path.exists() && std::env::var_os("ATALAYA_BLESS").is_some() {
            let mut new = std::fs::File::create(&path).unwrap();
            std::io::Write::write_all(&mut new, &bytes).unwrap();
        }
        let frozen = std::fs::read(&path).unwrap();
        assert_eq!(
            decode(&frozen),
            Ok((record, 7)),
            "{name} is not read any more"
        );
        assert!(frozen == bytes, "{name} is written otherwise than it was");
    }
}

/// The bytes of a record with that body, made without the code that is tried out.
fn frame(body: &serde_json::Value, sequence: u64) -> Vec<u8> {
    let body = serde_json::to_vec(body).unwrap();
    let mut bytes = b"ATLYREC1".to_vec();
    bytes.extend(sequence.to_le_bytes());
    bytes.extend(u32::try_from(body.len()).unwrap().to_le_bytes());
    bytes.extend(body);
    let checksum = Sha256::digest(&bytes);
    bytes.extend(checksum);
    bytes
}

/// A later version adds keys at the top, which this one, started again, keeps; and further down, where it need not.
#[test]
fn what_a_later_version_adds_is_kept() {
    let mut body = serde_json::to_value(at(Stage::RolledBack)).unwrap();
    body["later"] = json!({"deep": [1, {"er": null}]});
    body["good"]["later"] = json!(true);
    body["candidate"]["later"] = json!("x");
    let bytes = frame(&body, 9);
    let path = file("later-with-more-keys");
    if !path.exists() && std::env::var_os("ATALAYA_BLESS").is_some() {
        let mut new = std::fs::File::create(&path).unwrap();
        std::io::Write::write_all(&mut new, &bytes).unwrap();
    }
    let frozen = std::fs::read(&path).unwrap();
    let (read, sequence) = decode(&frozen).unwrap();
    assert_eq!(sequence, 9);
    assert_eq!(read.good, at(Stage::RolledBack).good);
    let (again, _) = decode(&encode(&read, 10).unwrap()).unwrap();
    assert_eq!(again.unknown["later"], body["later"]);
    assert_eq!(again, read);
}

/// What a record must have; everything else may be missing.
#[test]
fn the_least_that_is_a_record() {
    let least = json!({
        "stage": "idle",
        "good": {
            "version": "1.0.0", "root_hash": "r", "epoch": 1, "uki": "u",
            "slot": "a", "entry": 1, "generation": 1
        },
        "epoch_floor": 1, "key_set": 1, "last_entry": 1, "last_generation": 1
    });
    let record: Record = serde_json::from_value(least).unwrap();
    assert_eq!(decode(&encode(&record, 1).unwrap()), Ok((record, 1)));
}

#[test]
fn the_layout_is_the_one_that_is_described() {
    let bytes = encode(&rest(), 0x0102_0304).unwrap();
    assert_eq!(&bytes[..8], b"ATLYREC1");
    assert_eq!(&bytes[8..16], [4, 3, 2, 1, 0, 0, 0, 0]);
    let length = u32::from_le_bytes(bytes[16..20].try_into().unwrap()) as usize;
    assert_eq!(bytes.len(), 20 + length + 32);
    let body: serde_json::Value = serde_json::from_slice(&bytes[20..20 + length]).unwrap();
    assert_eq!(body["stage"], "opened");
    assert_eq!(body["good"]["version"], "1.2.0");
    assert_eq!(body["kept"]["entry"], 1);
}

#[test]
fn what_is_not_whole_is_not_a_record() {
    let whole = encode(&rest(), 3).unwrap();
    for end in 0..whole.len() {
        assert!(decode(&whole[..end]).is_err(), "{end} bytes");
    }
    let mut longer = whole.clone();
    longer.push(0);
    assert!(decode(&longer).is_err());
    for at in 0..whole.len() {
        let mut other = whole.clone();
        other[at] ^= 1;
        assert!(decode(&other).is_err(), "byte {at}");
    }
    assert_eq!(decode(b"ATLYREC2"), Err(Error::Length(8)));
}

#[test]
fn the_newest_counts_and_a_spoilt_one_does_not() {
    let (old, new) = (at(Stage::Armed), rest());
    let files =
        |first: u64, second: u64| [encode(&old, first).unwrap(), encode(&new, second).unwrap()];
    let [first, second] = files(4, 5);
    let chosen = choose([Some(&first), Some(&second)]).unwrap().unwrap();
    assert_eq!(
        (chosen.file, chosen.sequence, chosen.record),
        (1, 5, new.clone())
    );
    let [first, second] = files(6, 5);
    let chosen = choose([Some(&first), Some(&second)]).unwrap().unwrap();
    assert_eq!((chosen.file, chosen.record), (0, old.clone()));
    let spoilt = &second[..20];
    let chosen = choose([Some(&first), Some(spoilt)]).unwrap().unwrap();
    assert_eq!((chosen.file, chosen.trouble), (0, Some(Error::Length(20))));
    let chosen = choose([None, Some(&second)]).unwrap().unwrap();
    assert_eq!((chosen.file, chosen.trouble), (1, None));
    assert_eq!(choose([None, None]), Ok(None));
    // Never as if there had been none: a machine would begin again with its first generation.
    for files in [
        [Some(spoilt), None],
        [None, Some(spoilt)],
        [Some(spoilt), Some(spoilt)],
    ] {
        let words = choose(files).unwrap_err().to_string();
        assert!(FILES.iter().any(|name| words.contains(name)), "{words}");
    }
}

proptest! {
    /// Whatever the disk spoils in one file, or wherever a writing is cut: the last record that was durable is known, or the one being written.
    #[test]
    fn a_cut_leaves_the_old_record_or_the_new_one(changes in 1_usize..6, cut in 0_usize..3, spoilt in 0_usize..2, byte in any::<prop::sample::Index>()) {
        let mut files: [Option<Vec<u8>>; 2] = [None, None];
        let mut durable = None;
        for change in 0..=changes {
            let mut record = rest();
            record.last_entry = 10 + u32::try_from(change).unwrap();
            let newest = choose([files[0].as_deref(), files[1].as_deref()]).unwrap();
            let places = places(newest.map(|chosen| (chosen.file, chosen.sequence)));
            let count = if change == changes { cut } else { 2 };
            for (file, sequence) in &places[..count] {
                files[*file] = Some(encode(&record, *sequence).unwrap());
            }
            if count == 2 {
                durable = Some(record.clone());
            }
            let read = choose([files[0].as_deref(), files[1].as_deref()]).unwrap().map(|c| c.record);
            prop_assert!(read == durable || read == Some(record));
        }
        if cut != 1 {
            // Both files say the same, so either may be lost.
            let bytes = files[spoilt].as_mut().unwrap();
            let at = byte.index(bytes.len());
            bytes[at] ^= 0x40;
            let read = choose([files[0].as_deref(), files[1].as_deref()]).unwrap().unwrap();
            prop_assert_eq!(Some(read.record), durable);
            prop_assert!(read.trouble.is_some());
        }
    }

    #[test]
    fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        prop_assert!(decode(&bytes).is_err());
    }
}
