//! The promises, each with the words of what it would mean to break it.

use std::collections::BTreeSet;

use atalaya_core::update::assess::Mode;
use atalaya_core::update::machine::{Phase, Work};
use atalaya_core::update::record::{Record, Stage};

use crate::world::World;

/// What was ever recorded, to see it roll back.
#[derive(Default)]
pub struct Memory {
    last: Option<Record>,
}

impl World {
    /// After every step.
    pub fn check(&self) {
        let Some(machine) = self.machine.as_ref() else {
            return;
        };
        if machine.open {
            let good = self.durable().unwrap().good;
            let running = &self.outside.versions[machine.version].image.root_hash;
            assert_eq!(
                good.image.root_hash, *running,
                "users are on another version"
            );
            assert_eq!(
                Some(good.generation),
                machine.generation,
                "users are on other data"
            );
            let generation = &self.outside.generations[&good.generation];
            assert!(generation.posts.is_superset(&self.ledger), "a post is lost");
        }
    }

    /// A record goes to the disk.
    pub fn remember(&mut self, new: &Record) {
        self.seen.insert(format!("{:?}", new.stage));
        if !new.quarantine.is_empty() {
            self.seen.insert("quarantined".to_owned());
        }
        if let Some(old) = self.memory.last.replace(new.clone()) {
            check_growth(&old, new);
            if old.good != new.good {
                self.check_change_of_good(&old, new);
            }
            if new.stage == Stage::Armed && old.stage != Stage::Armed {
                check_armed(new);
            }
        }
        let kept = new.kept.as_ref();
        assert!(
            kept.is_none_or(|kept| kept.installed.generation != new.good.generation),
            "two versions on one generation"
        );
    }

    fn check_change_of_good(&mut self, old: &Record, new: &Record) {
        let (before, after) = (&old.good, &new.good);
        if before.image.root_hash == after.image.root_hash {
            assert_eq!(
                before.generation, after.generation,
                "the data changed without a trial"
            );
            return;
        }
        assert_eq!(
            new.stage,
            Stage::Opened,
            "a version became good without being opened"
        );
        assert_eq!(
            old.stage,
            Stage::Blessed,
            "a version was opened without being marked good"
        );
        let candidate = old.candidate.as_ref().unwrap();
        assert_eq!(candidate.image, after.image, "another version was opened");
        let generation = &self.outside.generations[&after.generation];
        if candidate.way_back {
            self.seen.insert("back on demand".to_owned());
            // Asked for, after the window was named.
            self.ledger.clone_from(&generation.posts);
        } else {
            assert!(
                generation.posts.is_superset(&self.ledger),
                "a post is lost by opening"
            );
        }
        assert_eq!(new.kept.as_ref().unwrap().installed, *before);
        assert!(
            after.image.epoch >= old.epoch_floor,
            "opened below the floor"
        );
    }

    /// Units are about to start.
    pub fn check_start(&self) {
        let machine = self.machine.as_ref().unwrap();
        let record = self.durable().unwrap();
        let running = &self.outside.versions[machine.version].image.root_hash;
        let number = machine.generation.expect("units start without data");
        let generation = &self.outside.generations[&number];
        assert!(
            generation.whole,
            "units start on data of which some are missing"
        );
        if record.good.image.root_hash == *running {
            assert_eq!(
                number, record.good.generation,
                "the good version on other data"
            );
            assert!(
                !record.is_between(),
                "the good version starts before the trial is over"
            );
            return;
        }
        let candidate = record.candidate.as_ref().unwrap();
        assert!(matches!(machine.mode, Mode::Trial { .. }) && record.is_between());
        assert_eq!(
            candidate.image.root_hash, *running,
            "an unknown version starts units"
        );
        assert_eq!(
            candidate.generation,
            Some(number),
            "a version on data not its own"
        );
        assert_ne!(number, record.good.generation, "a trial on the good data");
        let good = &self.outside.generations[&record.good.generation];
        assert!(
            candidate.way_back || generation.posts == good.posts,
            "a trial on a copy that is not up to date"
        );
        assert!(
            !generation.used || candidate.way_back || machine.services,
            "a trial on data that an earlier trial has used"
        );
        assert!(
            candidate.reason.is_none(),
            "a version that failed starts units again"
        );
        assert!(!machine.open, "users are let into a trial");
    }

    pub fn check_release(&self) {
        let machine = self.machine.as_ref().unwrap();
        let good = self.durable().unwrap().good;
        let running = &self.outside.versions[machine.version].image.root_hash;
        assert_eq!(
            good.image.root_hash, *running,
            "something is sent before it was opened"
        );
    }

    pub fn check_work(&self, work: &Work) {
        let machine = self.machine.as_ref().unwrap();
        let record = self.durable().unwrap();
        match work {
            Work::Probe => assert!(machine.services),
            Work::Esp(esp) => {
                let is_good = |number: u32, uki: &str| {
                    number == record.good.entry && uki == record.good.image.uki
                };
                let mut entries = esp.entries.iter();
                assert!(
                    esp.entries.is_empty()
                        || entries.any(|e| e.tries.is_none() && is_good(e.number, &e.uki)),
                    "the boot partition is to be without the good version: {esp:?}"
                );
            }
            Work::Install { slot, .. } => {
                assert_ne!(*slot, machine.slot, "the running system is written over");
                assert!(
                    record.stage == Stage::Writing,
                    "written without a record of it"
                );
            }
            Work::Copy(copy) => {
                assert_eq!(copy.from, record.good.generation, "a copy of other data");
                assert_ne!(
                    copy.to, record.good.generation,
                    "the good data are written over"
                );
                let kept = record.kept.as_ref().map(|kept| kept.installed.generation);
                assert_ne!(Some(copy.to), kept, "the kept data are written over");
                assert!(
                    copy.beforehand || !machine.services,
                    "a copy of data in use"
                );
            }
            Work::Drop(drop) => {
                let good = record.good.generation;
                assert!(
                    !drop.generations.contains(&good),
                    "the good data are dropped"
                );
                let kept = record.kept.as_ref().map(|kept| kept.installed.generation);
                assert!(
                    kept.is_none_or(|kept| !drop.generations.contains(&kept)),
                    "the kept data are dropped, and the record says that they are there"
                );
            }
        }
    }

    /// When nothing goes wrong any more.
    pub fn check_served(&self) {
        let machine = self.machine.as_ref().expect("the machine is up");
        let record = self.durable().unwrap();
        assert_eq!(
            machine.run.phase,
            Phase::Rest,
            "it waits for something: {record:?}"
        );
        assert!(
            machine.open && machine.services,
            "nobody is served: {machine:?}"
        );
        let generation = &self.outside.generations[&record.good.generation];
        assert!(generation.posts.is_superset(&self.ledger), "a post is lost");
        assert!(generation.whole);
    }
}

/// What never rolls back.
fn check_growth(old: &Record, new: &Record) {
    assert!(new.epoch_floor >= old.epoch_floor, "the epoch floor fell");
    assert!(new.key_set >= old.key_set, "the key set fell");
    assert!(
        new.last_entry >= old.last_entry,
        "an entry's number may be given twice"
    );
    assert!(
        new.last_generation >= old.last_generation,
        "a generation's number may be given twice"
    );
    assert!(new.last_entry >= new.good.entry && new.last_generation >= new.good.generation);
    let hashes = |record: &Record| -> BTreeSet<String> {
        let quarantine = record.quarantine.iter();
        quarantine.map(|one| one.root_hash.clone()).collect()
    };
    assert!(
        hashes(new).is_superset(&hashes(old)),
        "the quarantine was forgotten"
    );
    let told = |record: &Record| -> Vec<(String, Stage)> {
        let history = record.history.iter();
        history
            .map(|past| (past.to.clone(), past.outcome))
            .collect()
    };
    assert!(
        told(new).starts_with(&told(old)),
        "the history was forgotten"
    );
}

fn check_armed(record: &Record) {
    let candidate = record.candidate.as_ref().unwrap();
    let mut quarantine = record.quarantine.iter();
    let is_quarantined = quarantine.any(|one| one.root_hash == candidate.image.root_hash);
    assert!(
        !is_quarantined || candidate.asked.allow_quarantined || candidate.way_back,
        "a version that failed is tried again by itself"
    );
    assert!(
        candidate.image.epoch >= record.epoch_floor,
        "armed below the floor"
    );
    assert!(
        candidate.entry.unwrap() > record.good.entry,
        "the loader would not take it"
    );
}
