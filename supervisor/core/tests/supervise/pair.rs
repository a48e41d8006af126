//! Two units, one of which requires the other, and what happens to them at which time.

use atalaya_core::machine::{Effect as UnitEffect, Event, ExitStatus, Machine, State, StopPhase};
use atalaya_core::system::{Effect, Ground, Input, System};
use atalaya_core::unit::{Unit, parse_unit};

/// The usual service.
pub const NOTIFY: &str = "type = \"service\"\nready = { kind = \"notify\" }\n";

/// `db`, and `x` that requires it; `x` is what `rest` says.
pub fn units(rest: &str) -> Vec<Unit> {
    let unit = |name: &str, rest: &str| {
        let text = format!("description = \"x\"\nexec = [\"/x\"]\n{rest}");
        parse_unit(name, name, &text).unwrap_or_else(|error| panic!("{error}\n{text}"))
    };
    vec![
        unit("db", "type = \"service\"\nready = { kind = \"notify\" }\n"),
        unit("x", &format!("requires = [\"db\"]\n{rest}")),
    ]
}

/// Both run and are ready since 0; the first run of each.
pub struct Pair {
    pub system: System,
    pub now_ms: u64,
    pub run: u32,
}

impl Pair {
    pub fn up(rest: &str) -> Self {
        Self::of(units(rest))
    }

    pub fn of(units: Vec<Unit>) -> Self {
        let mut pair = Self {
            system: System::new(units).unwrap(),
            now_ms: 0,
            run: 1,
        };
        pair.input(Input::StartWanted);
        for name in ["db", "x"] {
            let run = 1;
            pair.tell(name, Event::Spawned { run, pid: 7 });
            pair.tell(name, Event::Executed { run });
            pair.tell(name, Event::SaidReady { run });
        }
        pair
    }

    pub fn input(&mut self, input: Input) -> Vec<UnitEffect> {
        let effects = self.system.step(self.now_ms, input).unwrap();
        let of_x = |effect| match effect {
            Effect::Unit { unit, effect } if unit == "x" => Some(effect),
            Effect::Unit { .. } | Effect::Forget { .. } | Effect::Ended { .. } => None,
        };
        effects.into_iter().filter_map(of_x).collect()
    }

    pub fn tell(&mut self, name: &str, event: Event) -> Vec<UnitEffect> {
        let unit = name.to_owned();
        self.input(Input::Unit { unit, event })
    }

    pub fn x(&mut self, event: Event) -> Vec<UnitEffect> {
        self.tell("x", event)
    }

    /// At `now_ms`, as atalayad would: only when it is wanted.
    pub fn at(&mut self, now_ms: u64) -> Vec<UnitEffect> {
        let mut effects = Vec::new();
        while let Some(due) = self.system.deadline_ms().filter(|due| *due <= now_ms) {
            self.now_ms = due.max(self.now_ms);
            effects.extend(self.input(Input::Tick));
        }
        self.now_ms = now_ms;
        effects
    }

    pub fn machine(&self) -> &Machine {
        self.system.unit("x").unwrap().1
    }

    pub fn state(&self) -> &State {
        self.machine().state()
    }

    pub fn reason(&self) -> String {
        self.machine().reason().unwrap_or_default().to_owned()
    }

    pub fn phase(&self) -> Option<StopPhase> {
        match self.state() {
            State::Stopping { phase, .. } => Some(*phase),
            _ => None,
        }
    }

    pub fn end_run(&mut self, code: i32) {
        let (run, status) = (self.run, ExitStatus::Code(code));
        self.x(Event::Exited { run, status });
        self.x(Event::Emptied { run });
    }

    pub fn answer(&mut self, error: Option<&str>) -> Vec<UnitEffect> {
        let (run, error) = (self.run, error.map(str::to_owned));
        self.x(Event::Alive { run, error })
    }

    pub fn ground(&mut self, data: bool, space: bool) -> Vec<UnitEffect> {
        let why = "/data is full".to_owned();
        self.input(Input::Ground(Ground { data, space, why }))
    }
}

pub fn reloads(effects: &[UnitEffect]) -> usize {
    let reload = |effect: &&UnitEffect| matches!(effect, UnitEffect::Reload { .. });
    effects.iter().filter(reload).count()
}

pub fn spawns(effects: &[UnitEffect]) -> bool {
    let spawn = |effect: &UnitEffect| matches!(effect, UnitEffect::Spawn { .. });
    effects.iter().any(spawn)
}
