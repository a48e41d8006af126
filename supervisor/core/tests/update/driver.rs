//! The driver, as it promises to be (`update::machine`): records first, then the run, then everything else in its order.

use atalaya_core::update::machine::{Effect, Event, Run, Step, Work, boot, resume, rules, step};
use atalaya_core::update::record::{Record, choose, encode, places};

use crate::world::{Todo, Waiting, World, of_machine};

impl World {
    pub fn take(&mut self, step: Step) {
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
    pub fn event(&mut self, event: Event) {
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

    pub fn execute(&mut self) {
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

    pub fn write(&mut self, record: Record) {
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
    pub fn put_record(&mut self, record: &Record, count: usize) {
        let files = [self.files[0].as_deref(), self.files[1].as_deref()];
        let newest = choose(files).unwrap().map(|c| (c.file, c.sequence));
        for (file, sequence) in places(newest).into_iter().take(count) {
            self.files[file] = Some(encode(record, sequence).unwrap());
        }
        if count > 0 {
            self.remember(record);
        }
    }

    pub fn carry_out(&mut self, effect: Effect) {
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

    pub fn start(&mut self, work: Work) {
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

    /// The next one has the record from the disk and the run from /run. The units go on.
    pub fn restart(&mut self) {
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
}
