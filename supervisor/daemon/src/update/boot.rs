//! What this boot knows of itself: which image runs from which slot, what the loader said of the entry, which generations there are. And the plan
//! of this boot, which a restarted atalayad takes up instead of assessing again. Reads and writes; decides nothing.

use std::fs;
use std::path::{Path, PathBuf};

use atalaya_core::update::assess::{Facts, GaveUp, OtherSlot, Plan};
use atalaya_core::update::esp::{Counter, EntryName, loader_variable, name_in_variable};
use atalaya_core::update::record::{Image, Slot};
use atalaya_init::disk::scan;
use atalaya_init::stage1::slots;
use atalaya_sys::durable;
use serde::Deserialize;

use crate::release::Release;

/// Where to look.
#[derive(Clone, Debug)]
pub struct Places {
    /// What stage 1 wrote down.
    pub boot_record: PathBuf,
    /// /sys/firmware/efi/efivars
    pub variables: PathBuf,
    pub data: PathBuf,
    /// The key sets that the image's maker knew.
    pub trust: PathBuf,
}

#[derive(Deserialize)]
struct BootRecord {
    slot: Slot,
    root_hash: String,
    /// The disk's device.
    disk: String,
}

/// `None`: this machine was not started from a slot, so it has no updates.
pub fn look(places: &Places, release: &Release, now_s: u64) -> Option<Facts> {
    let booted = read_booted(places)?;
    let variable = |name: &str| {
        let path = places.variables.join(loader_variable(name));
        name_in_variable(&fs::read(path).unwrap_or_default())
    };
    Some(Facts {
        running: Image {
            version: release.version.clone(),
            root_hash: booted.root_hash,
            epoch: release.epoch,
            uki: String::new(),
        },
        slot: booted.slot,
        entry: EntryName::parse(&variable("LoaderEntrySelected")).map(|entry| entry.number),
        counted: Counter::of(&variable("LoaderBootCountPath")).is_some(),
        other: look_other(places),
        generations: generations(&places.data),
        gave_up: read_gave_up(&places.data.join("state/last-end.json")),
        key_set: newest_key_set(&places.trust)
            .max(newest_key_set(&places.data.join("update/keysets.json"))),
        now: now_s,
    })
}

/// What init noted at the last orderly end, if that was of a version on trial which it had given up.
fn read_gave_up(last_end: &Path) -> Option<GaveUp> {
    #[derive(Deserialize)]
    struct LastEnd {
        reason: String,
        gave_up: Option<String>,
    }
    let end: LastEnd = serde_json::from_slice(&fs::read(last_end).ok()?).ok()?;
    Some(GaveUp {
        root_hash: end.gave_up?,
        why: end.reason,
    })
}

/// What the slot that is not running holds. Reads the disk.
pub fn look_other(places: &Places) -> OtherSlot {
    let found = read_booted(places).and_then(|booted| {
        let letter = match booted.slot.other() {
            Slot::A => 'a',
            Slot::B => 'b',
        };
        let disk = scan::disk(booted.disk.strip_prefix("/dev/")?)?;
        let pairs = slots::plan_pairs(&disk.partitions);
        let pair = pairs.iter().find(|pair| pair.letter == letter)?;
        slots::held(&disk, pair).ok()
    });
    match found {
        None => OtherSlot::Unknown,
        Some(None) => OtherSlot::Nothing,
        Some(Some(root_hash)) => OtherSlot::Holds(root_hash),
    }
}

fn read_booted(places: &Places) -> Option<BootRecord> {
    serde_json::from_slice(&fs::read(&places.boot_record).ok()?).ok()
}

/// What there is in /data/gen.
pub fn generations(data: &Path) -> Vec<u32> {
    let entries = fs::read_dir(data.join("gen"))
        .into_iter()
        .flatten()
        .flatten();
    let mut numbers: Vec<u32> = entries
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .collect();
    numbers.sort_unstable();
    numbers
}

/// What copies that were given up and removals that were cut off have left there, by the number that their names begin with.
pub fn leftovers(data: &Path) -> Vec<u32> {
    let entries = fs::read_dir(data.join("gen"))
        .into_iter()
        .flatten()
        .flatten();
    entries
        .filter_map(|entry| {
            let name = entry.file_name();
            name.to_str()?.split_once('.')?.0.parse().ok()
        })
        .collect()
}

/// The highest `version` of a key set in the file; 0 where there is none.
fn newest_key_set(path: &Path) -> u32 {
    let Ok(text) = fs::read(path) else { return 0 };
    let value: serde_json::Value = serde_json::from_slice(&text).unwrap_or_default();
    highest_version(&value)
}

fn highest_version(value: &serde_json::Value) -> u32 {
    match value {
        serde_json::Value::Object(fields) => {
            let own = fields.get("version").and_then(serde_json::Value::as_u64);
            let own = own.and_then(|own| u32::try_from(own).ok()).unwrap_or(0);
            fields.values().map(highest_version).fold(own, u32::max)
        }
        serde_json::Value::Array(all) => all.iter().map(highest_version).max().unwrap_or(0),
        serde_json::Value::Null
        | serde_json::Value::Bool(_)
        | serde_json::Value::Number(_)
        | serde_json::Value::String(_) => 0,
    }
}

/// The plan of this boot, if an earlier atalayad has made it.
pub fn read_plan(update: &Path) -> Option<Plan> {
    let text = fs::read(update.join("boot.json")).ok()?;
    serde_json::from_slice(&text).ok()
}

/// In /run: it ends with the boot.
///
/// # Errors
/// It cannot be written.
pub fn keep_plan(update: &Path, plan: &Plan) -> Result<(), String> {
    let text = serde_json::to_vec(plan).map_err(|error| error.to_string())?;
    durable::write(&update.join("boot.json"), &text, 0o600, None).map_err(|error| error.chain())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn variable(text: &str) -> Vec<u8> {
        let mut bytes = vec![6, 0, 0, 0];
        bytes.extend(text.encode_utf16().flat_map(u16::to_le_bytes));
        bytes.extend([0, 0]);
        bytes
    }

    #[test]
    fn this_boot_is_known_by_its_slot_its_entry_and_its_counter() {
        let root = tempfile::tempdir().unwrap();
        let at = |name: &str| root.path().join(name);
        let put = |path: &Path, bytes: &[u8]| {
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            durable::write(path, bytes, 0o600, None).unwrap();
        };
        let places = Places {
            boot_record: at("boot.json"),
            variables: at("efivars"),
            data: at("data"),
            trust: at("trust.json"),
        };
        let release = Release {
            epoch: 3,
            ..Release::default()
        };
        assert_eq!(look(&places, &release, 5), None, "not started from a slot");
        put(
            &places.boot_record,
            br#"{"version":1,"disk":"/dev/none","slot":"b","root_hash":"ab"}"#,
        );
        let facts = look(&places, &release, 5).unwrap();
        assert_eq!((facts.slot, facts.running.epoch), (Slot::B, 3));
        assert_eq!(facts.running.root_hash, "ab");
        assert_eq!(
            (facts.entry, facts.counted, facts.key_set),
            (None, false, 0)
        );
        assert_eq!(
            (facts.other, facts.generations),
            (OtherSlot::Unknown, vec![])
        );

        let name = |name: &str| at("efivars").join(loader_variable(name));
        put(
            &name("LoaderEntrySelected"),
            &variable("atalaya_000008.efi"),
        );
        put(
            &name("LoaderBootCountPath"),
            &variable("\\EFI\\Linux\\atalaya_000008+2-1.efi"),
        );
        for generation in ["2", "1", "3.unfinished"] {
            fs::create_dir_all(at("data/gen").join(generation)).unwrap();
        }
        put(
            &places.trust,
            br#"{"kind":"development","sets":[{"set":{"version":2}},{"set":{"version":1}}]}"#,
        );
        put(
            &at("data/update/keysets.json"),
            br#"[{"version":4,"keys":[]}]"#,
        );
        let last_end = at("data/state/last-end.json");
        let why = "its supervisor has died five times";
        put(&last_end, br#"{"version":1,"reason":"a wish"}"#);
        assert_eq!(look(&places, &release, 5).unwrap().gave_up, None);
        let noted = format!(r#"{{"version":1,"reason":"{why}","gave_up":"cd"}}"#);
        put(&last_end, noted.as_bytes());
        let facts = look(&places, &release, 5).unwrap();
        let (root_hash, why) = ("cd".to_owned(), why.to_owned());
        assert_eq!(facts.gave_up, Some(GaveUp { root_hash, why }));
        assert_eq!(
            (facts.entry, facts.counted, facts.key_set),
            (Some(8), true, 4)
        );
        assert_eq!(facts.generations, [1, 2]);
        assert_eq!(leftovers(&places.data), [3]);
    }

    #[test]
    fn a_restarted_atalayad_takes_up_the_plan_of_this_boot() {
        let update = tempfile::tempdir().unwrap();
        assert_eq!(read_plan(update.path()), None);
        let plan = Plan {
            generation: Some(4),
            mode: atalaya_core::update::assess::Mode::Ordinary,
            record: None,
        };
        keep_plan(update.path(), &plan).unwrap();
        assert_eq!(read_plan(update.path()), Some(plan));
    }
}
