//! The machine outside atalayad: versions, slots, generations, the boot partition, and what units do to them, wholly or in part.

use std::collections::{BTreeMap, BTreeSet};

use atalaya_core::update::assess::OtherSlot;
use atalaya_core::update::esp::{self, ENTRIES, EntryName, File, Kept, Listing, model};
use atalaya_core::update::record::{Image, Slot};
use atalaya_core::update::task::{Copy, Esp, EspReport, FoundEntry};

use crate::acts::Quality;

pub const SIZE: u64 = 18 << 20;
/// There is only one.
pub const LOADER: &str = "l";

#[derive(Clone, Debug)]
pub struct Version {
    pub image: Image,
    pub quality: Quality,
    pub key_set: u32,
}

impl Version {
    pub fn new(number: usize, quality: Quality) -> Self {
        let image = Image {
            version: format!("1.{number}.0"),
            root_hash: format!("r{number}"),
            epoch: [1, 1, 2, 1][number],
            uki: format!("u{number}"),
        };
        Self {
            image,
            quality,
            key_set: [1, 2, 1, 3][number],
        }
    }
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Generation {
    pub posts: BTreeSet<u64>,
    /// Nothing of it is missing.
    pub whole: bool,
    /// Units have run on it since it was copied.
    pub used: bool,
}

#[derive(Clone, Debug)]
pub struct Outside {
    pub versions: Vec<Version>,
    /// By root hash.
    pub slots: [Option<String>; 2],
    pub generations: BTreeMap<u32, Generation>,
    pub esp: Listing,
    /// Kernel images on /data, and the loader.
    pub ukis: Kept,
}

const fn index(slot: Slot) -> usize {
    match slot {
        Slot::A => 0,
        Slot::B => 1,
    }
}

impl Outside {
    pub fn new(qualities: &[Quality]) -> Self {
        let all = [Quality::Good].into_iter().chain(qualities.iter().copied());
        let first = Generation {
            whole: true,
            ..Generation::default()
        };
        Self {
            versions: all.enumerate().map(|(n, q)| Version::new(n, q)).collect(),
            slots: [Some("r0".to_owned()), None],
            generations: BTreeMap::from([(1, first)]),
            esp: Listing {
                files: vec![entry_file("atalaya_000001.efi", "u0", 1)],
                free: 400 << 20,
            },
            ukis: Kept::from([(LOADER.to_owned(), SIZE)]),
        }
    }

    pub fn version_of_uki(&self, uki: &str) -> usize {
        let mut versions = self.versions.iter();
        versions.position(|v| v.image.uki == uki).unwrap()
    }

    /// Stage 1 takes the slot that holds the root hash on its command line.
    pub fn slot_of(&self, version: usize) -> Option<Slot> {
        let root_hash = Some(&self.versions[version].image.root_hash);
        [Slot::A, Slot::B]
            .into_iter()
            .find(|slot| self.slots[index(*slot)].as_ref() == root_hash)
    }

    pub fn other(&self, running: Slot) -> OtherSlot {
        self.slots[index(running.other())]
            .clone()
            .map_or(OtherSlot::Nothing, OtherSlot::Holds)
    }

    pub fn put(&mut self, slot: Slot, root_hash: Option<String>) {
        self.slots[index(slot)] = root_hash;
    }

    /// What the loader may start, and what is on the partition then.
    pub fn starts(&self) -> Vec<(model::Start, Listing)> {
        let loads =
            |uki: &str| self.versions[self.version_of_uki(uki)].quality != Quality::Unloadable;
        model::starts(&self.esp, &loads)
    }

    /// Somebody picks an entry in the loader's menu, which counts it like any other.
    pub fn start_by_hand(&mut self, which: usize) -> Option<(EntryName, String)> {
        let entries: Vec<&File> = self
            .esp
            .files
            .iter()
            .filter(|file| file.sha256.is_some() && parse(file).is_some())
            .collect();
        let chosen = (*entries.get(which % entries.len().max(1))?).clone();
        let only = Listing {
            files: vec![chosen.clone()],
            free: 0,
        };
        let (start, after) = model::starts(&only, &|_| true).pop()?;
        let renamed = after.files.first()?.path.clone();
        let mut files = self.esp.files.iter_mut();
        files.find(|file| file.path == chosen.path)?.path = renamed;
        match start {
            model::Start::Of { entry, uki } => Some((entry, uki)),
            model::Start::Stuck => None,
        }
    }

    /// An entry that nobody of ours has put there.
    pub fn surprise(&mut self, version: usize, number: u32, tries: Option<u32>) {
        let is_dead = matches!(
            self.versions[version].quality,
            Quality::Silent | Quality::Unloadable
        );
        if self.slot_of(version).is_none() || (is_dead && tries.is_none()) {
            return; // nobody could help a machine whose loader wants to start that and nothing else
        }
        let counter = tries.map(|left| esp::Counter { left, done: 0 });
        let name = EntryName { number, counter }.to_string();
        if self.esp.file(&format!("{ENTRIES}/{name}")).is_none() {
            let uki = &self.versions[version].image.uki;
            let start = self
                .esp
                .files
                .iter()
                .map(|file| file.start)
                .max()
                .unwrap_or(0)
                + 1;
            self.esp.files.push(entry_file(&name, uki, start));
        }
    }

    pub fn copy(&mut self, copy: &Copy) {
        let mut new = self.generations[&copy.from].clone();
        new.whole = !copy.beforehand;
        new.used = false;
        self.generations.insert(copy.to, new);
    }

    /// Not begun, torn, or done.
    pub fn copy_in_part(&mut self, copy: &Copy, luck: u8) {
        match luck % 3 {
            0 => {}
            1 => {
                self.generations.insert(copy.to, Generation::default());
            }
            _ => self.copy(copy),
        }
    }

    /// The unit `esp`; `cut` chooses the state that a power cut leaves.
    pub fn write_entries(&mut self, wanted: &Esp, cut: Option<u8>) -> Result<EspReport, String> {
        for want in wanted.entries.iter().filter(|entry| entry.tries.is_none()) {
            let mut files = self.esp.files.iter();
            if files.any(|file| file.sha256.as_ref() == Some(&want.uki)) {
                self.ukis.insert(want.uki.clone(), SIZE);
            }
        }
        let steps = esp::plan(&self.esp, wanted, &self.ukis).map_err(|error| error.to_string())?;
        let done = cut.map_or(steps.len(), |luck| usize::from(luck) % (steps.len() + 1));
        for step in &steps[..done] {
            self.esp = esp::apply(&self.esp, step, &self.ukis);
        }
        if let (Some(luck), Some(step)) = (cut, steps.get(done)) {
            let mut states = model::cuts(&self.esp, step, &self.ukis);
            self.esp = states.swap_remove(usize::from(luck / 7) % states.len());
        }
        if let Some(needed) = &wanted.needed
            && cut.is_none()
        {
            let is_wanted = |uki: &String| wanted.entries.iter().any(|entry| entry.uki == *uki);
            self.ukis
                .retain(|uki, _| uki == LOADER || needed.contains(uki) || is_wanted(uki));
        }
        Ok(self.report())
    }

    fn report(&self) -> EspReport {
        let files = self.esp.files.iter();
        let entries = files.filter_map(|file| {
            let name = parse(file)?;
            let uki = file.sha256.clone().unwrap_or_default();
            Some(FoundEntry {
                name: name.to_string(),
                number: name.number,
                left: name.counter.map(|counter| counter.left),
                root_hash: uki.strip_prefix('u').map(|number| format!("r{number}")),
                uki,
            })
        });
        EspReport {
            entries: entries.collect(),
            loader: None,
            foreign: Vec::new(),
            steps: Vec::new(),
            lost_loader: false,
        }
    }
}

fn parse(file: &File) -> Option<EntryName> {
    let (_, name) = file.path.rsplit_once('/')?;
    EntryName::parse(name)
}

fn entry_file(name: &str, uki: &str, start: u64) -> File {
    File {
        path: format!("{ENTRIES}/{name}"),
        size: SIZE,
        sha256: Some(uki.to_owned()),
        start,
    }
}
