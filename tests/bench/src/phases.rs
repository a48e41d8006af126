//! Boot phases and memory, of the test image: it is the production image and an agent, which is asked only after the
//! page was served.

use std::time::Duration;

use anyhow::Context;
use atalaya_suites::appliance::{Appliance, BOOT, FIRST_BOOT, POWER_OFF, wait_served};
use atalaya_suites::place::Place;
use atalaya_suites::story::eventually;
use atalaya_vm::{Event, Recorded, Vm};

use crate::stats::Sample;
use crate::table::Table;

/// Every phase, in seconds since power-on.
const PHASES: [&str; 6] = [
    "kernel started",
    "atalayad's first report",
    "PostgreSQL ready",
    "Mattermost ready",
    "users admitted",
    "page served",
];

/// What was measured.
pub struct Boots {
    first: [f64; 6],
    later: Vec<[f64; 6]>,
    memory: Vec<(&'static str, u64)>,
}

/// Boots a fresh disk, and then the same disk again `later` times.
pub fn measure(place: &Place, later: usize) -> anyhow::Result<Boots> {
    let appliance = Appliance::new(place, &place.test_image()?, 16, true)?.seeded()?;
    let (first, vm) = boot(&appliance, FIRST_BOOT)?;
    switch_off(vm)?;
    let mut boots = Boots {
        first,
        later: Vec::new(),
        memory: Vec::new(),
    };
    for round in 1..=later {
        let (phases, vm) = boot(&appliance, BOOT)?;
        boots.later.push(phases);
        if round == later {
            boots.memory = memory(&vm)?;
        }
        switch_off(vm)?;
    }
    Ok(boots)
}

fn boot(appliance: &Appliance, limit: Duration) -> anyhow::Result<([f64; 6], Vm)> {
    let vm = appliance.start()?;
    let client = appliance.client(&wait_served(&vm, limit)?)?;
    let page = eventually("the page", limit, || {
        let page = client.get("/").is_ok_and(|page| page.status == 200);
        Ok(page.then(|| vm.started().elapsed()))
    })?;
    let events = vm.status().events();
    let ready = |unit: &str| {
        let found = events
            .iter()
            .find(|event| matches!(&event.event, Event::Unit(it) if it.unit == unit && it.ready));
        found
            .map(|event| event.after)
            .with_context(|| format!("{unit} was never reported as ready"))
    };
    let admitted = events
        .iter()
        .find(|event| matches!(event.event, Event::Admit { admit: true }));
    let phases = [
        kernel_start(&events).context("no unit was reported")?,
        events.first().context("nothing was reported")?.after,
        ready("postgres")?,
        ready("mattermost")?,
        admitted.context("nobody was admitted")?.after,
        page,
    ];
    Ok((phases.map(|time| time.as_secs_f64()), vm))
}

/// A report carries the guest's time since its kernel started; the report that travelled fastest tells when that was.
fn kernel_start(events: &[Recorded]) -> Option<Duration> {
    let start = |event: &Recorded| match &event.event {
        Event::Unit(unit) => event.after.checked_sub(Duration::from_millis(unit.t_ms?)),
        _ => None,
    };
    events.iter().filter_map(start).min()
}

fn memory(vm: &Vm) -> anyhow::Result<Vec<(&'static str, u64)>> {
    let agent = vm.agent()?;
    agent.wait_ready(BOOT)?;
    let processes = agent.processes()?;
    let mut list = vec![("init (PID 1)", agent.pss_kib(1)?)];
    for (what, name) in [
        ("atalayad", "atalayad"),
        ("atalaya-edge", "atalaya-edge"),
        ("PostgreSQL, all processes", "postgres"),
        ("Mattermost", "mattermost"),
    ] {
        let pids = processes
            .iter()
            .filter(|process| process.name == name)
            .map(|process| process.pid);
        // A backend may have ended since.
        list.push((what, pids.filter_map(|pid| agent.pss_kib(pid).ok()).sum()));
    }
    let about = String::from_utf8(agent.read_file("/proc/meminfo")?)?;
    let amount = |name: &str| {
        let rest = about
            .lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        rest.and_then(|rest| rest.trim().strip_suffix("kB")?.trim().parse::<u64>().ok())
    };
    let used = amount("MemTotal")
        .zip(amount("MemAvailable"))
        .map(|(all, free)| all.saturating_sub(free));
    list.push((
        "everything: memory that is not available",
        used.context("no MemAvailable")?,
    ));
    Ok(list)
}

fn switch_off(vm: Vm) -> anyhow::Result<()> {
    vm.press_power_button()?;
    vm.wait_exit("the machine to switch itself off", POWER_OFF)?;
    Ok(())
}

impl Boots {
    /// The table of boot phases.
    pub fn phases(&self) -> Table {
        let mut table = Table::new([
            "seconds from power-on to",
            "first boot",
            "later boot (median)",
        ]);
        for (index, phase) in PHASES.iter().enumerate() {
            let first = format!("{:.1}", self.first[index]);
            let later: Sample = self.later.iter().map(|phases| phases[index]).collect();
            let later = format!("{:.1}", later.median());
            table.row([phase, &first, &later]);
        }
        table
    }

    /// The table of memory.
    pub fn memory(&self) -> Table {
        let mut table = Table::new(["memory (proportional set size)", "MiB"]);
        for (what, kib) in &self.memory {
            table.row([what, &format!("{:.2}", *kib as f64 / 1024.0)]);
        }
        table
    }
}
