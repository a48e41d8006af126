//! The machine as a whole: what runs, what it has been asked, and what the driver does with the answers.

use std::collections::{BTreeSet, VecDeque};

use atalaya_core::update::assess::{Facts, Mode, assess};
use atalaya_core::update::machine::{Effect, Event, Failure, Phase, Run, Work};
use atalaya_core::update::record::{Record, Slot, Stage, choose};
use atalaya_core::update::task::{Asked, Refusal, Rules, Source};

use crate::acts::{Act, Quality};
use crate::outside::Outside;
use crate::promises::Memory;

/// Longer than any of it takes.
const PATIENCE: usize = 500;

#[derive(Debug)]
pub enum Todo {
    Write(Box<Record>),
    /// The run is kept in /run.
    Keep(Run),
    Do(Effect),
    /// The plan is durable: the boot begins.
    Boot,
}

/// A unit, or all of them, whose answer is an event.
#[derive(Debug, Clone, PartialEq)]
pub enum Waiting {
    Unit(Work, Option<Box<Rules>>),
    Stop,
    Ready,
}

/// What is lost when the power goes.
#[derive(Debug)]
pub struct Machine {
    pub version: usize,
    pub slot: Slot,
    /// Its number, and whether it has a counter.
    pub entry: (u32, bool),
    pub mode: Mode,
    pub generation: Option<u32>,
    pub record: Option<Record>,
    pub run: Run,
    /// The answer to the last event, until it is carried out.
    pub todo: VecDeque<Todo>,
    /// The run is in /run.
    pub is_kept: bool,
    pub waiting: Vec<Waiting>,
    pub services: bool,
    pub open: bool,
    pub released: bool,
}

pub struct World {
    pub outside: Outside,
    pub files: [Option<Vec<u8>>; 2],
    pub machine: Option<Machine>,
    /// Posts that somebody was told are safe.
    pub ledger: BTreeSet<u64>,
    next_post: u64,
    pub now: u64,
    pub memory: Memory,
    /// Phases and ends that were come to.
    pub seen: BTreeSet<String>,
    chosen: Option<usize>,
    pub fail_write: Option<bool>,
}

impl World {
    pub fn new(qualities: &[Quality]) -> Self {
        Self {
            outside: Outside::new(qualities),
            files: [None, None],
            machine: None,
            ledger: BTreeSet::new(),
            next_post: 1,
            now: 1_800_000_000,
            memory: Memory::default(),
            seen: BTreeSet::new(),
            chosen: None,
            fail_write: None,
        }
    }

    /// As it is on the disk.
    pub fn durable(&self) -> Option<Record> {
        let files = [self.files[0].as_deref(), self.files[1].as_deref()];
        choose(files).unwrap().map(|chosen| chosen.record)
    }

    pub fn act(&mut self, act: Act) {
        if self.machine.is_none() {
            self.power_on();
        }
        match act {
            Act::Do(count) => (0..count).for_each(|_| self.execute()),
            Act::Answer(which, luck) => self.answer(which, luck),
            Act::Cut(luck) => self.cut(luck),
            Act::CutAndChoose(luck, which) => {
                self.cut(luck);
                self.chosen = Some(which);
            }
            Act::CutAndSurprise(luck, version, number, tries) => {
                self.cut(luck);
                // Before the first look at it nobody knows which of the entries is the right one.
                let is_known = |record: Record| !record.good.image.uki.is_empty();
                if self.durable().is_some_and(is_known) {
                    self.outside.surprise(version, number, tries);
                }
            }
            Act::Post => self.post(),
            Act::Begin {
                version,
                arm,
                by_name,
                again,
            } => {
                let name = format!("r{version}");
                let source = if again {
                    Source::Http(name)
                } else {
                    Source::File(name)
                };
                let asked = Asked {
                    allow_quarantined: by_name,
                    ..Asked::default()
                };
                let shown = format!("bundle {version}");
                self.event(Event::Begin {
                    source,
                    shown,
                    asked,
                    arm,
                });
            }
            Act::Arm => self.event(Event::Arm),
            Act::Rollback => {
                let machine = self.machine.as_ref().unwrap();
                let other = self.outside.other(machine.slot);
                self.event(Event::Rollback(other));
            }
            Act::Cancel => self.event(Event::Cancel),
            Act::Tidy(short) => {
                let present = self.outside.generations.keys().copied().collect();
                self.event(Event::Tidy { present, short });
            }
            Act::FailWrite(there) => self.fail_write = Some(there),
            Act::Restart => self.restart(),
            Act::Broken => self.event(Event::Broken(failure("a unit does not become ready"))),
            Act::Pass(seconds) => self.now += seconds,
        }
        self.check();
    }

    /// Until something of ours runs.
    pub fn power_on(&mut self) {
        for _ in 0..16 {
            let by_hand = self.chosen.take();
            let by_hand = by_hand.and_then(|which| self.outside.start_by_hand(which));
            let (entry, uki) = by_hand.unwrap_or_else(|| {
                let mut starts = self.outside.starts();
                let (start, after) = starts.swap_remove(self.now as usize % starts.len());
                self.outside.esp = after;
                match start {
                    atalaya_core::update::esp::model::Start::Of { entry, uki } => (entry, uki),
                    atalaya_core::update::esp::model::Start::Stuck => {
                        panic!("nothing boots: {:?}", self.outside.esp)
                    }
                }
            });
            let version = self.outside.version_of_uki(&uki);
            let quality = self.outside.versions[version].quality;
            let is_dead = matches!(quality, Quality::Silent | Quality::Unloadable);
            let slot = self.outside.slot_of(version);
            // Neither a version that dies early nor one without a slot (a panic in stage 1) comes as far as to atalayad.
            let (Some(slot), false) = (slot, is_dead) else {
                self.now += 10;
                continue;
            };
            self.assess(version, slot, entry.number, entry.counter.is_some());
            return;
        }
        panic!("no start comes to anything: {:?}", self.outside.esp);
    }

    pub fn assess(&mut self, version: usize, slot: Slot, entry: u32, counted: bool) {
        let mut running = self.outside.versions[version].image.clone();
        running.uki = String::new(); // only the boot partition knows
        let record = self.durable();
        let facts = Facts {
            running,
            slot,
            entry: self.now.is_multiple_of(2).then_some(entry),
            counted,
            other: self.outside.other(slot),
            generations: self.outside.generations.keys().copied().collect(),
            key_set: self.outside.versions[version].key_set,
            gave_up: None,
            now: self.now,
        };
        let plan = assess(Ok(record.clone()), &facts);
        let mut todo = VecDeque::new();
        todo.extend(plan.record.clone().map(Box::new).map(Todo::Write));
        todo.push_back(Todo::Boot);
        self.machine = Some(Machine {
            version,
            slot,
            entry: (entry, counted),
            mode: plan.mode,
            generation: plan.generation,
            record,
            run: Run::of(Phase::Rest),
            todo,
            is_kept: false,
            waiting: Vec::new(),
            services: false,
            open: false,
            released: false,
        });
    }

    /// Everything that is under way is done, done in part, or not begun.
    pub fn cut(&mut self, luck: u8) {
        self.now += 5;
        let Some(machine) = self.machine.take() else {
            return;
        };
        if let Some(Todo::Write(record)) = machine.todo.front() {
            self.put_record(record, usize::from(luck) % 3);
        }
        for waiting in &machine.waiting {
            match waiting {
                Waiting::Stop | Waiting::Ready | Waiting::Unit(Work::Probe, _) => {}
                Waiting::Unit(Work::Copy(copy), _) => self.outside.copy_in_part(copy, luck),
                Waiting::Unit(Work::Esp(esp), _) => {
                    drop(self.outside.write_entries(esp, Some(luck)));
                }
                Waiting::Unit(Work::Drop(drop), _) => {
                    let count = usize::from(luck) % (drop.generations.len() + 1);
                    for number in &drop.generations[..count] {
                        self.outside.generations.remove(number);
                    }
                }
                Waiting::Unit(Work::Install { slot, .. }, _) if luck.is_multiple_of(2) => {
                    self.outside.put(*slot, None);
                }
                Waiting::Unit(Work::Install { .. }, _) => {}
            }
        }
        self.check();
    }

    pub fn post(&mut self) {
        let Some(machine) = self.machine.as_ref() else {
            return;
        };
        if !machine.open || !machine.services {
            return;
        }
        let generation = machine.generation.unwrap();
        let generation = self.outside.generations.get_mut(&generation).unwrap();
        generation.posts.insert(self.next_post);
        self.ledger.insert(self.next_post);
        self.next_post += 1;
    }

    /// Nothing goes wrong any more; then users are served, with everything that they were told is safe.
    pub fn calm_down(&mut self) {
        self.fail_write = None;
        for _ in 0..PATIENCE {
            if self.is_busy() {
                self.go_on();
                continue;
            }
            // A person looks at it, and switches it off and on.
            let machine = self.machine.as_ref().unwrap();
            let is_lost = machine.generation.is_none() || machine.run.phase == Phase::Stranded;
            let is_half = |record: Record| record.stage == Stage::Writing;
            if is_lost || self.durable().is_none_or(is_half) {
                self.cut(0);
                continue;
            }
            break;
        }
        self.check_served();
    }

    /// Something is under way, or the machine is off.
    pub fn is_busy(&self) -> bool {
        self.machine
            .as_ref()
            .is_none_or(|machine| !machine.todo.is_empty() || !machine.waiting.is_empty())
    }

    /// By one step, and well.
    pub fn go_on(&mut self) {
        match self.machine.as_ref() {
            None => self.power_on(),
            Some(machine) if !machine.todo.is_empty() => self.execute(),
            Some(_) => self.answer(0, u8::MAX),
        }
    }

    pub fn cycle_power(&mut self) {
        let before = self.durable().unwrap();
        for luck in 0..10 {
            self.cut(luck);
            self.power_on();
            self.calm_down();
            let after = self.durable().unwrap();
            let is_same = after.good.image.root_hash == before.good.image.root_hash
                && after.good.generation == before.good.generation;
            assert!(is_same, "a good version stays: {before:?}, {after:?}");
        }
    }
}

pub fn of_machine(record: &Record) -> Rules {
    Rules {
        running: record.good.image.clone(),
        product: "atalaya".to_owned(),
        kind: "standin".to_owned(),
        architecture: "x86_64".to_owned(),
        schema: None,
        postgresql: "17.6".to_owned(),
        epoch_floor: 0,
        key_set: 0,
        quarantine: Vec::new(),
        allow_downgrade: false,
        allow_quarantined: false,
        external_database: false,
        external_backup: None,
    }
}

pub fn failure(what: &str) -> Failure {
    Failure {
        what: what.to_owned(),
        log: vec!["the last line".to_owned()],
    }
}

pub fn refusal(what: &str) -> Refusal {
    Refusal {
        code: "x".to_owned(),
        what: what.to_owned(),
        data: String::new(),
        next: String::new(),
    }
}
