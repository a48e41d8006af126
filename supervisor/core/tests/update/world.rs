//! The machine as a whole: what runs, what it has been asked, and what the driver does with the answers.

use std::collections::{BTreeSet, VecDeque};

use atalaya_core::update::assess::{Facts, Mode, assess};
use atalaya_core::update::machine::{
    Effect, Event, Failure, Phase, Run, Step, Work, boot, resume, rules, step,
};
use atalaya_core::update::record::{Record, Slot, Stage, choose, encode, places};
use atalaya_core::update::task::{
    Asked, Copied, Outcome, Progress, Refusal, Rules, Source, Staged, Step as Doing,
};

use crate::acts::{Act, Quality};
use crate::outside::Outside;
use crate::promises::Memory;

/// Longer than any of it takes.
const PATIENCE: usize = 500;

#[derive(Debug)]
enum Todo {
    Write(Box<Record>),
    /// The run is kept in /run.
    Keep(Run),
    Do(Effect),
    /// The plan is durable: the boot begins.
    Boot,
}

/// A unit, or all of them, whose answer is an event.
#[derive(Debug, Clone, PartialEq)]
enum Waiting {
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
    entry: (u32, bool),
    pub mode: Mode,
    pub generation: Option<u32>,
    pub record: Option<Record>,
    pub run: Run,
    /// The answer to the last event, until it is carried out.
    todo: VecDeque<Todo>,
    /// The run is in /run.
    is_kept: bool,
    waiting: Vec<Waiting>,
    pub services: bool,
    pub open: bool,
    pub released: bool,
}

pub struct World {
    pub outside: Outside,
    files: [Option<Vec<u8>>; 2],
    pub machine: Option<Machine>,
    /// Posts that somebody was told are safe.
    pub ledger: BTreeSet<u64>,
    next_post: u64,
    pub now: u64,
    pub memory: Memory,
    /// Phases and ends that were come to.
    pub seen: BTreeSet<String>,
    chosen: Option<usize>,
    fail_write: Option<bool>,
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
    fn power_on(&mut self) {
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

    fn assess(&mut self, version: usize, slot: Slot, entry: u32, counted: bool) {
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

    fn take(&mut self, step: Step) {
        let machine = self.machine.as_mut().unwrap();
        let (writes, others): (Vec<Effect>, Vec<Effect>) = step
            .effects
            .iter()
            .cloned()
            .partition(|effect| matches!(effect, Effect::WriteRecord(_)));
        assert!(
            step.effects[..writes.len()] == writes,
            "the record is written first: {:?}",
            step.effects
        );
        let writes = writes.into_iter().filter_map(|effect| match effect {
            Effect::WriteRecord(record) => Some(Todo::Write(record)),
            _ => None,
        });
        machine.todo.extend(writes);
        let done = Run {
            done: true,
            ..step.run.clone()
        };
        machine.todo.push_back(Todo::Keep(step.run));
        machine.todo.extend(others.into_iter().map(Todo::Do));
        machine.todo.push_back(Todo::Keep(done));
    }

    /// The driver takes the next event when the last one is carried out.
    fn event(&mut self, event: Event) {
        while self.machine.as_ref().is_some_and(|m| !m.todo.is_empty()) {
            self.execute();
        }
        let Some(machine) = self.machine.as_ref() else {
            return;
        };
        let Some(record) = machine.record.clone() else {
            return;
        };
        if let Ok(step) = step(&record, &machine.run, self.now, event) {
            self.take(step);
        }
    }

    fn execute(&mut self) {
        let Some(machine) = self.machine.as_mut() else {
            return;
        };
        let Some(todo) = machine.todo.pop_front() else {
            return;
        };
        match todo {
            Todo::Write(record) => self.write(*record),
            Todo::Keep(run) => {
                self.seen.insert(format!("{:?}", run.phase));
                machine.run = run;
                machine.is_kept = true;
            }
            Todo::Boot => {
                let record = machine.record.clone().unwrap();
                let first = boot(&record, &machine.mode);
                self.take(first);
            }
            Todo::Do(effect) => self.carry_out(effect),
        }
        self.check();
    }

    fn write(&mut self, record: Record) {
        if let Some(there) = self.fail_write.take() {
            if there {
                self.put_record(&record, 2);
            }
            let is_booting = self
                .machine
                .as_ref()
                .is_some_and(|m| m.todo.iter().any(|todo| matches!(todo, Todo::Boot)));
            let durable = self.durable();
            let machine = self.machine.as_mut().unwrap();
            machine.todo.clear();
            machine.record = durable;
            if is_booting {
                // Nothing starts without the plan's record.
                machine.generation = None;
                machine.record = None;
            } else {
                let why = "the disk is full".to_owned();
                self.event(Event::Unrecorded(why));
            }
            return;
        }
        self.put_record(&record, 2);
        self.machine.as_mut().unwrap().record = Some(record);
    }

    /// The first `count` of the two files.
    fn put_record(&mut self, record: &Record, count: usize) {
        let files = [self.files[0].as_deref(), self.files[1].as_deref()];
        let newest = choose(files).unwrap().map(|c| (c.file, c.sequence));
        for (file, sequence) in places(newest).into_iter().take(count) {
            self.files[file] = Some(encode(record, sequence).unwrap());
        }
        if count > 0 {
            self.remember(record);
        }
    }

    fn carry_out(&mut self, effect: Effect) {
        match effect {
            Effect::WriteRecord(_) => unreachable!("taken out before"),
            Effect::Start(work) => self.start(work),
            Effect::Cancel(_) | Effect::MarkBlessed | Effect::Tell(_) => {}
            Effect::StopServices => {
                let machine = self.machine.as_mut().unwrap();
                machine.services = false;
                machine.waiting.retain(|w| *w != Waiting::Ready);
                machine.waiting.push(Waiting::Stop);
            }
            Effect::StartServices => {
                self.check_start();
                let machine = self.machine.as_mut().unwrap();
                let number = machine.generation.unwrap();
                self.outside.generations.get_mut(&number).unwrap().used = true;
                machine.services = true;
                machine.waiting.push(Waiting::Ready);
            }
            Effect::Release => {
                self.check_release();
                self.machine.as_mut().unwrap().released = true;
            }
            Effect::Admit { open, .. } => {
                self.machine.as_mut().unwrap().open = open;
            }
            Effect::Reboot(_) => self.machine = None,
        }
    }

    fn start(&mut self, work: Work) {
        self.check_work(&work);
        let rules = match &work {
            Work::Install { asked, .. } => {
                let record = self.machine.as_ref().unwrap().record.as_ref().unwrap();
                Some(Box::new(rules(record, asked, of_machine(record))))
            }
            _ => None,
        };
        let machine = self.machine.as_mut().unwrap();
        let is_same_unit = |waiting: &Waiting| match waiting {
            Waiting::Unit(other, _) => {
                std::mem::discriminant(other) == std::mem::discriminant(&work)
            }
            Waiting::Stop | Waiting::Ready => false,
        };
        machine.waiting.retain(|waiting| !is_same_unit(waiting));
        machine.waiting.push(Waiting::Unit(work, rules));
    }

    fn answer(&mut self, which: usize, luck: u8) {
        while self.machine.as_ref().is_some_and(|m| !m.todo.is_empty()) {
            self.execute();
        }
        let Some(machine) = self.machine.as_mut() else {
            return;
        };
        if machine.waiting.is_empty() {
            return;
        }
        let which = which % machine.waiting.len();
        let waiting = machine.waiting.remove(which);
        let quality = self.outside.versions[machine.version].quality;
        let is_trial = matches!(machine.mode, Mode::Trial { .. }) && !machine.released;
        let is_well = luck > 20;
        match waiting {
            Waiting::Stop if is_well => self.event(Event::Stopped(Ok(vec!["eth0".to_owned()]))),
            Waiting::Stop => self.event(Event::Stopped(Err(failure("postgres hangs")))),
            Waiting::Ready if is_trial && quality == Quality::Hangs => self.cut(luck),
            Waiting::Ready if is_well => self.event(Event::Ready),
            Waiting::Ready if is_trial => self.event(Event::Broken(failure("not ready"))),
            // Units are started again until they are.
            Waiting::Ready => self.machine.as_mut().unwrap().waiting.push(Waiting::Ready),
            Waiting::Unit(Work::Probe, _) => {
                let is_bad = is_trial && quality == Quality::Failing;
                let result = if is_well && !is_bad {
                    Ok(())
                } else {
                    Err(failure("no post goes through"))
                };
                self.event(Event::Probed(result));
            }
            Waiting::Unit(Work::Copy(copy), _) => {
                let outcome = if is_well {
                    self.outside.copy(&copy);
                    Outcome::Done(copied())
                } else {
                    self.outside.copy_in_part(&copy, luck);
                    Outcome::Refused(refusal("no space"))
                };
                self.event(Event::Copied(outcome));
            }
            Waiting::Unit(Work::Drop(drop), _) => {
                for number in drop.generations {
                    self.outside.generations.remove(&number);
                }
            }
            Waiting::Unit(Work::Esp(esp), _) => {
                let cut = (!is_well).then_some(luck);
                let outcome = match self.outside.write_entries(&esp, cut) {
                    Ok(report) if is_well => Outcome::Done(report),
                    Ok(_) => Outcome::Refused(refusal("an error of the disk")),
                    Err(error) => Outcome::Refused(refusal(&error)),
                };
                self.event(Event::Entries(outcome));
            }
            Waiting::Unit(Work::Install { source, slot, .. }, rules) => {
                self.installed(&source, slot, &rules.unwrap(), is_well);
            }
        }
    }

    /// What the verification would say, and what is in the slot then.
    fn installed(&mut self, source: &Source, slot: Slot, rules: &Rules, is_well: bool) {
        let (Source::Http(name) | Source::File(name) | Source::Usb(name)) = source;
        let mut versions = self.outside.versions.iter();
        let version = versions.find(|v| v.image.root_hash == *name).unwrap();
        let is_refused = version.image.epoch < rules.epoch_floor
            || version.image.root_hash == rules.running.root_hash
            || (rules.quarantine.contains(name) && !rules.allow_quarantined);
        let outcome = if is_refused {
            Outcome::Refused(refusal("the rules"))
        } else if is_well {
            let staged = Staged {
                image: version.image.clone(),
                key_set: version.key_set,
                loader: crate::outside::LOADER.to_owned(),
                mattermost: "11.7.9".to_owned(),
                postgresql: "17".to_owned(),
                progress: Progress {
                    done: 1,
                    total: 1,
                    reused: 0,
                    fetched: 1,
                    step: Doing::Compare,
                    seconds_left: None,
                },
            };
            let uki = version.image.uki.clone();
            self.outside.put(slot, Some(name.clone()));
            self.outside.ukis.insert(uki, crate::outside::SIZE);
            Outcome::Done(staged)
        } else {
            self.outside.put(slot, None);
            Outcome::Refused(refusal("a block is not what it should be"))
        };
        let machine = self.machine.as_ref().unwrap();
        let other = self.outside.other(machine.slot);
        self.event(Event::Installed(outcome, other));
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

    /// The next one has the record from the disk and the run from /run. The units go on.
    fn restart(&mut self) {
        let record = self.durable();
        let Some(machine) = self.machine.as_mut() else {
            return;
        };
        if machine.record.is_none() {
            return;
        }
        // The plan is in /run after its record is written: whoever finds none assesses again.
        if machine.todo.iter().any(|todo| matches!(todo, Todo::Boot)) {
            let (version, slot) = (machine.version, machine.slot);
            let (entry, counted) = machine.entry;
            return self.assess(version, slot, entry, counted);
        }
        machine.todo.clear();
        machine.record.clone_from(&record);
        let record = record.unwrap();
        let step = if machine.is_kept {
            resume(&record, &machine.run, self.now)
        } else {
            boot(&record, &machine.mode)
        };
        self.take(step);
    }

    fn post(&mut self) {
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
            match self.machine.as_ref() {
                None => self.power_on(),
                Some(machine) if !machine.todo.is_empty() => self.execute(),
                Some(machine) if !machine.waiting.is_empty() => self.answer(0, u8::MAX),
                // A person looks at it, and switches it off and on.
                Some(machine)
                    if machine.generation.is_none()
                        || machine.run.phase == Phase::Stranded
                        || self
                            .durable()
                            .is_none_or(|record| record.stage == Stage::Writing) =>
                {
                    self.cut(0);
                }
                Some(_) => break,
            }
        }
        self.check_served();
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

fn copied() -> Copied {
    Copied {
        files: 1,
        kept: 0,
        bytes: 1,
        milliseconds: 1,
    }
}
