//! Which units there are and what happens: everything that is left to chance.

use atalaya_core::unit::{Unit, parse_unit};
use proptest::prelude::*;

/// The most units in a graph. Names are `u0` and so on; each requires only those before it.
const UNITS: usize = 7;

/// What the world does next. Numbers choose units.
#[derive(Clone, Debug)]
pub enum Act {
    Start(usize),
    Stop(usize),
    Restart(usize),
    Reload(usize),
    Reset(usize),
    SpawnAnswer(usize, bool),
    Executed(usize),
    SandboxFailed(usize),
    Ready(usize),
    NotReady(usize),
    Says(usize, Word),
    Exit(usize, i32, bool),
    Emptied(usize),
    Stale(usize, u32),
    Pass(u64),
    /// atalayad dies; a process that was being made exists, or does not.
    Crash(bool),
    Ground(bool, bool),
    Replace(bool),
    End,
}

/// What a run says, or is said of it.
#[derive(Clone, Debug)]
pub enum Word {
    Reloading,
    ReloadDone(bool),
    Alive(bool),
    Petted,
    WatchdogLimit(u64),
    Extend(u64),
    MainPid,
    Oom,
}

fn word() -> impl Strategy<Value = Word> {
    prop_oneof![
        1 => Just(Word::Reloading),
        1 => any::<bool>().prop_map(Word::ReloadDone),
        4 => prop::bool::weighted(0.3).prop_map(Word::Alive),
        2 => Just(Word::Petted),
        1 => prop::sample::select(vec![0, 500, 60_000]).prop_map(Word::WatchdogLimit),
        1 => prop::sample::select(vec![0, 1000, 100_000, u64::MAX]).prop_map(Word::Extend),
        2 => Just(Word::MainPid),
        1 => Just(Word::Oom),
    ]
}

pub fn act() -> impl Strategy<Value = Act> {
    let unit = 0..UNITS;
    let pause = vec![1, 50, 1000, 15_000, 60_000, 400_000, 315_360_000_000];
    prop_oneof![
        1 => unit.clone().prop_map(Act::Start),
        1 => unit.clone().prop_map(Act::Stop),
        1 => unit.clone().prop_map(Act::Restart),
        1 => unit.clone().prop_map(Act::Reload),
        1 => unit.clone().prop_map(Act::Reset),
        9 => (unit.clone(), prop::bool::weighted(0.9)).prop_map(|(unit, well)| Act::SpawnAnswer(unit, well)),
        7 => unit.clone().prop_map(Act::Executed),
        1 => unit.clone().prop_map(Act::SandboxFailed),
        7 => unit.clone().prop_map(Act::Ready),
        1 => unit.clone().prop_map(Act::NotReady),
        5 => (unit.clone(), word()).prop_map(|(unit, word)| Act::Says(unit, word)),
        5 => (unit.clone(), prop::sample::select(vec![0, 0, 0, 1, 137]), any::<bool>())
            .prop_map(|(unit, code, leaves)| Act::Exit(unit, code, leaves)),
        6 => unit.clone().prop_map(Act::Emptied),
        1 => (unit, 0_u32..4).prop_map(|(unit, run)| Act::Stale(unit, run)),
        6 => prop::sample::select(pause).prop_map(Act::Pass),
        1 => any::<bool>().prop_map(Act::Crash),
        1 => (prop::bool::weighted(0.7), any::<bool>()).prop_map(|(data, space)| Act::Ground(data, space)),
        1 => any::<bool>().prop_map(Act::Replace),
        1 => Just(Act::End),
    ]
}

/// One unit's file but for its edges.
fn file(is_service: bool) -> BoxedStrategy<String> {
    let select = |choices: &'static [&'static str]| prop::sample::select(choices);
    let top = (
        select(&["", "on_requirement_lost = \"restart\"\n"]),
        select(&["", "", "wanted = false\n"]),
    );
    let restart = select(&[
        "",
        "[restart]\npolicy = \"never\"\n",
        "[restart]\nlimit = 2\nmin_ms = 10\nmax_ms = 500\n",
    ]);
    let data = select(&[
        "",
        "[sandbox]\ndata = [{ source = \"gen:x\", path = \"/x\" }]\n",
        "[sandbox]\ndata_read = [{ source = \"gen:x\", path = \"/x\" }]\n",
    ]);
    let own = if is_service {
        let ready = select(&[
            "",
            "[ready]\nkind = \"notify\"\n",
            "[ready]\nkind = \"notify\"\n[handover]\nsignal = \"USR2\"\n",
            "[ready]\nkind = \"notify\"\ncommand = [\"/x\"]\ntimeout_s = 60\n",
            "[ready]\nkind = \"tcp\"\naddress = \"127.0.0.1:1\"\ntimeout_s = 30\n",
        ]);
        let stop = select(&["", "[stop]\ntimeout_s = 10\nthen = \"QUIT\"\n"]);
        let liveness = select(&[
            "",
            "[liveness]\nkind = \"watchdog\"\n",
            "[liveness]\nkind = \"exec\"\ncommand = [\"/x\"]\nthreshold = 2\n",
        ]);
        let reload = select(&[
            "",
            "[reload]\nsignal = \"HUP\"\n",
            "[reload]\ncommand = [\"/x\"]\ntimeout_s = 10\n",
        ]);
        (ready, stop, liveness, reload)
            .prop_map(|(ready, stop, liveness, reload)| format!("{ready}{stop}{liveness}{reload}"))
            .boxed()
    } else {
        select(&["", "[ready]\ntimeout_s = 20\n"])
            .prop_map(str::to_owned)
            .boxed()
    };
    let kind = if is_service { "service" } else { "oneshot" };
    (top, restart, data, own)
        .prop_map(move |((lost, wanted), restart, data, own)| {
            format!("type = \"{kind}\"\n{lost}{wanted}EDGES{restart}{data}{own}")
        })
        .boxed()
}

/// For the unit at `index`: one bit for each unit before it that it requires, and that it comes after; whether a one-shot
/// has a timer; whether it is there at all.
fn graph(kinds: [bool; UNITS]) -> BoxedStrategy<Files> {
    let files: Vec<_> = kinds.into_iter().map(file).collect();
    let edges = prop::array::uniform::<_, UNITS>((
        any::<u8>(),
        any::<u8>(),
        any::<u8>(),
        prop::bool::weighted(0.3),
        prop::bool::weighted(0.85),
    ));
    (files, edges)
        .prop_map(move |(files, edges)| {
            let timed = |index: usize| !kinds[index] && edges[index].3;
            let there = |index: usize| edges[index].4;
            let mut files_of_all = Vec::new();
            for (index, file) in files.iter().enumerate().filter(|(index, _)| there(*index)) {
                let (one, other, after, ..) = edges[index];
                let chosen = |bits: u8, may: &dyn Fn(usize) -> bool| -> Vec<String> {
                    (0..index)
                        .filter(|before| bits >> before & 1 == 1 && there(*before) && may(*before))
                        .map(|before| format!("u{before}"))
                        .collect()
                };
                // Few edges are more telling than many.
                let requires = chosen(one & other, &|before| !timed(before));
                let after = chosen(after & one & !other, &|_| true);
                let edges = format!("requires = {requires:?}\nafter = {after:?}\n");
                let timer = if timed(index) {
                    "[timer]\nfirst_s = 20\nevery_s = 100\nspread_s = 7\n"
                } else {
                    ""
                };
                files_of_all.push((format!("u{index}"), file.replace("EDGES", &edges) + timer));
            }
            Files(files_of_all)
        })
        .boxed()
}

/// By name, so that a list that breaks a promise can be read.
#[derive(Clone, Debug)]
pub struct Files(Vec<(String, String)>);

impl Files {
    fn units(&self) -> Vec<Unit> {
        let unit = |(name, file): &(String, String)| {
            let text = format!("description = \"x\"\nexec = [\"/x\"]\n{file}");
            parse_unit(name, name, &text).unwrap_or_else(|error| panic!("{error}\n{text}"))
        };
        self.0.iter().map(unit).collect()
    }
}

pub fn units(graphs: &[Files; 2]) -> [Vec<Unit>; 2] {
    [graphs[0].units(), graphs[1].units()]
}

/// The units at the beginning, and those of another release. Of one name there is one kind.
pub fn two_graphs() -> impl Strategy<Value = [Files; 2]> {
    prop::array::uniform::<_, UNITS>(prop::bool::weighted(0.65))
        .prop_flat_map(|kinds| [graph(kinds), graph(kinds)])
}
