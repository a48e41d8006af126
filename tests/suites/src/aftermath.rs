//! What must be true of a disk that a power cut has left in the middle of an update: pure. It looks with eyes of its own,
//! the boot loader's and the firmware's, and not with those of the programs that wrote the disk.

use atalaya_core::update::record::{Image, Record, Stage};
use atalaya_vm::agent_protocol::examine::{BootEntry, Examined};

/// A name on the boot partition: `atalaya_000002+2-1.efi`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Name {
    number: u32,
    left: Option<u32>,
}

fn parse(name: &str) -> Option<Name> {
    let name = name.to_ascii_lowercase();
    let stem = name.strip_prefix("atalaya_")?.strip_suffix(".efi")?;
    let (number, counter) = match stem.split_once('+') {
        Some((number, counter)) => (number, Some(counter)),
        None => (stem, None),
    };
    let left = match counter {
        Some(counter) => Some(counter.split('-').next()?.parse().ok()?),
        None => None,
    };
    Some(Name {
        number: number.parse().ok()?,
        left,
    })
}

/// The entries in the order in which systemd-boot takes them: those without a try left last, then the highest name.
fn boot_order(entries: &[BootEntry]) -> Vec<(Name, &BootEntry)> {
    let mut list: Vec<_> = entries
        .iter()
        .filter_map(|entry| Some((parse(&entry.name)?, entry)))
        .collect();
    list.sort_by_key(|(name, _)| (name.left == Some(0), std::cmp::Reverse(name.number)));
    list
}

/// What is wrong with it, in sentences; nothing: whatever the machine does next, some version boots on its own data.
#[must_use]
pub fn problems(found: &Examined) -> Vec<String> {
    let mut list = Vec::new();
    let Some(record) = &found.record else {
        return vec!["neither record can be read".to_owned()];
    };
    let order = boot_order(&found.entries);
    match order.first() {
        None => list.push("there is nothing to boot".to_owned()),
        Some((name, entry)) => {
            check_bootable(found, record, entry, &mut list);
            // The loader may give it up, or it may die: somebody has to be next.
            if name.left.is_some() {
                let good = order.iter().find(|(name, entry)| {
                    name.left.is_none() && entry.sha256 == record.good.image.uki
                });
                match good {
                    Some((_, entry)) => check_bootable(found, record, entry, &mut list),
                    None => list.push(format!("nothing good is behind {}", entry.name)),
                }
            }
        }
    }
    check_good(found, record, &mut list);
    list
}

/// The images that the record knows, the good one first.
fn known(record: &Record) -> impl Iterator<Item = &Image> {
    let candidate = record.candidate.iter().map(|candidate| &candidate.image);
    let kept = record.kept.iter().map(|kept| &kept.installed.image);
    std::iter::once(&record.good.image)
        .chain(candidate)
        .chain(kept)
}

fn check_bootable(found: &Examined, record: &Record, entry: &BootEntry, list: &mut Vec<String>) {
    let name = &entry.name;
    // A machine that has not looked at its boot partition yet has begun no update, and goes by the root's hash alone.
    let is_new = record.stage == Stage::Idle && record.good.image.uki.is_empty();
    let is_it = |image: &&Image| {
        image.uki == entry.sha256 || (is_new && entry.root_hash.as_ref() == Some(&image.root_hash))
    };
    let Some(image) = known(record).find(is_it) else {
        list.push(format!("{name} is no kernel image that the record knows"));
        return;
    };
    if entry.root_hash.as_ref() != Some(&image.root_hash) {
        list.push(format!("{name} boots another root than the record says"));
    }
    if !found.slots.contains_key(&image.root_hash) {
        list.push(format!("no slot holds what {name} boots"));
    }
}

fn check_good(found: &Examined, record: &Record, list: &mut Vec<String>) {
    let good = &record.good;
    let slot = format!("{:?}", good.slot).to_lowercase();
    if found.slots.get(&good.image.root_hash) != Some(&slot) {
        list.push(format!("slot {slot} does not hold the good version"));
    }
    match found.generations.get(&good.generation) {
        None => list.push(format!("the good generation {} is gone", good.generation)),
        Some(generation) => {
            let untouched = matches!(record.stage, Stage::Armed | Stage::Trial | Stage::Blessed);
            let database = generation.database.as_deref();
            if untouched && database != Some("shut down") {
                list.push(format!("the good database is {database:?} during a trial"));
            }
        }
    }
    let kept = found.kept.contains(&good.image.uki);
    if record.stage >= Stage::Armed && record.stage <= Stage::Opened && !kept {
        list.push("the good kernel image is not kept on /data".to_owned());
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use atalaya_vm::agent_protocol::examine::Generation;
    use serde_json::json;

    use super::*;

    /// Version 2 is armed: its entry is before the good one's, and both have all that they need.
    fn armed() -> Examined {
        let image = |version: &str, of: &str| json!({"version": version, "root_hash": of.repeat(64), "epoch": 1, "uki": format!("uki-{of}")});
        let mut good = image("0.1.0", "a");
        let mut candidate = image("0.2.0", "b");
        let more = |of: &mut serde_json::Value, values: serde_json::Value| {
            let values = values.as_object().unwrap().clone();
            of.as_object_mut().unwrap().extend(values);
        };
        more(&mut good, json!({"slot": "a", "entry": 1, "generation": 1}));
        more(
            &mut candidate,
            json!({"slot": "b", "source": "x", "entry": 2, "generation": 2, "marks": []}),
        );
        let record = json!({
            "stage": "armed", "good": good, "candidate": candidate,
            "epoch_floor": 1, "key_set": 1, "last_entry": 2, "last_generation": 2,
        });
        let boots = |name: &str, of: &str| BootEntry {
            name: name.to_owned(),
            sha256: format!("uki-{of}"),
            root_hash: Some(of.repeat(64)),
        };
        let generation = Generation {
            database: Some("shut down".to_owned()),
            files: BTreeMap::new(),
        };
        Examined {
            record: Some(serde_json::from_value(record).unwrap()),
            entries: vec![
                boots("atalaya_000001.efi", "a"),
                boots("atalaya_000002+3.efi", "b"),
            ],
            slots: [("a", "a"), ("b", "b")]
                .map(|(hash, slot)| (hash.repeat(64), slot.to_owned()))
                .into(),
            kept: vec!["uki-a".to_owned(), "uki-b".to_owned()],
            generations: [(1, generation.clone()), (2, generation)].into(),
        }
    }

    #[test]
    fn a_disk_with_all_that_is_needed_is_fine() {
        assert_eq!(problems(&armed()), Vec::<String>::new());
        let mut before = armed();
        before.entries.pop();
        assert_eq!(problems(&before), Vec::<String>::new(), "not armed yet");
    }

    #[test]
    fn a_machine_that_has_not_looked_at_its_boot_partition_yet_is_fine() {
        let mut first = armed();
        let record = first.record.as_mut().unwrap();
        (record.stage, record.candidate) = (Stage::Idle, None);
        record.good.image.uki.clear();
        first.entries.pop();
        assert_eq!(problems(&first), Vec::<String>::new());
        first.entries[0].root_hash = Some("b".repeat(64));
        assert_eq!(
            problems(&first),
            ["atalaya_000001.efi is no kernel image that the record knows"]
        );
    }

    #[test]
    fn whatever_is_missing_is_seen() {
        type Harm = fn(&mut Examined);
        let harms: [(&str, Harm); 8] = [
            ("neither record", |of| of.record = None),
            ("nothing to boot", |of| of.entries.clear()),
            ("nothing good", |of| drop(of.entries.remove(0))),
            ("no kernel image that", |of| {
                of.entries[1].sha256 = "torn".to_owned()
            }),
            ("another root", |of| of.entries[0].root_hash = None),
            ("no slot holds", |of| drop(of.slots.remove(&"b".repeat(64)))),
            ("good generation 1", |of| drop(of.generations.remove(&1))),
            ("not kept", |of| of.kept.clear()),
        ];
        for (word, harm) in harms {
            let mut found = armed();
            harm(&mut found);
            let list = problems(&found).join("; ");
            assert!(list.contains(word), "{word}: {list:?}");
        }
        let mut touched = armed();
        let good = touched.generations.get_mut(&1).unwrap();
        good.database = Some("in production".to_owned());
        assert!(problems(&touched)[0].contains("in production"));
    }

    fn entry(name: &str) -> BootEntry {
        BootEntry {
            name: name.to_owned(),
            sha256: String::new(),
            root_hash: None,
        }
    }

    /// systemd-boot's own order, as it was seen to boot.
    #[test]
    fn the_highest_number_with_a_try_left_is_first() {
        let entries = [
            "atalaya_000001.efi",
            "ATALAYA_000003+0-3.EFI",
            "atalaya_000002+1-2.efi",
            "somebody.efi",
        ]
        .map(entry);
        let order = boot_order(&entries);
        let numbers: Vec<u32> = order.iter().map(|(name, _)| name.number).collect();
        assert_eq!(numbers, [2, 1, 3]);
    }

    #[test]
    fn names_are_read() {
        let name = |number, left| Some(Name { number, left });
        assert_eq!(parse("atalaya_000008.efi"), name(8, None));
        assert_eq!(parse("atalaya_000008+3.efi"), name(8, Some(3)));
        assert_eq!(parse("atalaya_000008+0-3.efi"), name(8, Some(0)));
        assert_eq!(parse("other.efi"), None);
    }
}
