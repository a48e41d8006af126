//! One unit while it runs: reload, liveness, watchdog, limits, memory.

use atalaya_core::machine::Effect as UnitEffect;
use atalaya_core::machine::{Event, ExitStatus, State, StopPhase};
use atalaya_core::system::{Input, Refusal};

use crate::pair::{NOTIFY, Pair, reloads};

#[test]
fn a_reload_by_signal_is_done_when_the_unit_says_so() {
    let mut pair = Pair::up(&format!("{NOTIFY}reload = {{ signal = \"HUP\" }}\n"));
    let since = pair.machine().ready_since_ms();
    pair.now_ms = 10;
    assert_eq!(reloads(&pair.input(Input::Reload("x".into()))), 1);
    assert!(pair.machine().is_reloading() && pair.machine().is_ready());
    pair.x(Event::Reloading { run: 1 });
    // Another wish waits for its turn.
    assert_eq!(reloads(&pair.input(Input::Reload("x".into()))), 0);
    assert_eq!(reloads(&pair.x(Event::SaidReady { run: 1 })), 1);
    assert!(pair.machine().is_reloading());
    pair.x(Event::SaidReady { run: 1 });
    assert!(!pair.machine().is_reloading());
    assert_eq!(pair.machine().ready_since_ms(), since, "it never was away");
}

#[test]
fn a_reload_that_takes_too_long_fails_and_the_unit_runs_on() {
    let mut pair = Pair::up(&format!(
        "{NOTIFY}reload = {{ signal = \"HUP\", timeout_s = 5 }}\n"
    ));
    pair.input(Input::Reload("x".into()));
    pair.at(4999);
    assert!(pair.machine().is_reloading());
    pair.at(5000);
    assert!(!pair.machine().is_reloading() && pair.machine().is_ready());
    assert!(pair.reason().contains("reload failed: not done within 5 s"));
    assert_eq!(*pair.state(), State::Running);
    pair.input(Input::Reload("x".into()));
    pair.x(Event::SaidReady { run: 1 });
    assert_eq!(pair.reason(), "", "what went well is no reason");
}

#[test]
fn a_reload_by_command_is_done_with_it_and_one_by_signal_at_once() {
    let mut pair = Pair::up(&format!("{NOTIFY}reload = {{ command = [\"/y\"] }}\n"));
    pair.input(Input::Reload("x".into()));
    pair.x(Event::SaidReady { run: 1 });
    assert!(pair.machine().is_reloading());
    let error = Some("its command: exit status 1".to_owned());
    pair.x(Event::ReloadDone { run: 1, error });
    assert!(pair.reason().contains("exit status 1") && pair.machine().is_ready());

    let mut pair = Pair::up(&format!(
        "{NOTIFY}reload = {{ signal = \"HUP\", notifies = false }}\n"
    ));
    assert_eq!(reloads(&pair.input(Input::Reload("x".into()))), 1);
    assert!(!pair.machine().is_reloading());
    let nothing = pair.system.step(0, Input::Reload("db".into()));
    assert_eq!(nothing, Err(Refusal::CannotReload));
}

const ASKED: &str = "type = \"service\"\nready = { kind = \"notify\" }\nstop = { signal = \"INT\", timeout_s = 300, then = \"QUIT\", then_timeout_s = 30 }\nliveness = { kind = \"exec\", command = [\"/y\"], threshold = 3 }\n";

#[test]
fn a_stuck_unit_goes_its_own_way_down_and_that_is_a_failure() {
    let mut pair = Pair::up(ASKED);
    pair.answer(Some("no answer"));
    pair.answer(Some("no answer"));
    pair.answer(None);
    for _ in 0..2 {
        pair.answer(Some("no answer"));
    }
    assert_eq!(*pair.state(), State::Running, "in a row is meant");
    let effects = pair.answer(Some("no answer"));
    let int = UnitEffect::Signal { run: 1, signal: 2 };
    assert!(effects.contains(&int), "{effects:?}");
    assert!(effects.contains(&UnitEffect::StopLiveness { run: 1 }));
    assert_eq!(pair.phase(), Some(StopPhase::Asked));
    // Its whole bound: five minutes, thirty seconds, and what SIGKILL takes.
    let bound_ms = pair.system.unit("x").unwrap().0.stop_bound_ms();
    assert_eq!(bound_ms, 340_000);
    pair.at(329_999);
    assert_eq!(pair.phase(), Some(StopPhase::Insisted));
    pair.at(330_000);
    assert_eq!(pair.phase(), Some(StopPhase::Killed));
    pair.end_run(137);
    assert!(matches!(pair.state(), State::Backoff { .. }));
    assert_eq!(
        pair.reason(),
        "run: stuck: 3 checks in a row failed: no answer"
    );
}

#[test]
fn nobody_is_blamed_for_what_it_requires() {
    let mut pair = Pair::up(ASKED);
    pair.answer(Some("no answer"));
    pair.answer(Some("no answer"));
    let reason = "recovering".to_owned();
    pair.tell("db", Event::NotReady { run: 1, reason });
    for _ in 0..20 {
        pair.answer(Some("no answer"));
    }
    pair.tell("db", Event::SaidReady { run: 1 });
    pair.answer(Some("no answer"));
    pair.answer(Some("no answer"));
    assert_eq!(
        *pair.state(),
        State::Running,
        "it counts from the beginning"
    );
    pair.answer(Some("no answer"));
    assert_eq!(pair.phase(), Some(StopPhase::Asked));
}

#[test]
fn a_watchdog_begins_with_the_run_and_anew_with_its_requirement_and_another_atalayad() {
    let watched = "type = \"service\"\nready = { kind = \"notify\" }\nliveness = { kind = \"watchdog\", timeout_ms = 1000 }\n";
    let mut pair = Pair::up(watched);
    pair.at(900);
    pair.x(Event::Petted { run: 1 });
    pair.at(1800);
    assert_eq!(*pair.state(), State::Running);
    let reason = "recovering".to_owned();
    pair.tell("db", Event::NotReady { run: 1, reason });
    pair.at(1_000_000);
    pair.tell("db", Event::SaidReady { run: 1 });
    pair.at(1_000_900);
    // Ten years without a supervisor are not its fault.
    pair.now_ms = 315_360_000_000;
    pair.x(Event::Adopted { pid: Some(7) });
    let begun = pair.now_ms;
    pair.at(begun + 999);
    assert_eq!(*pair.state(), State::Running);
    pair.x(Event::WatchdogLimit { run: 1, ms: 5000 });
    pair.at(begun + 999 + 4999);
    assert_eq!(*pair.state(), State::Running);
    pair.at(begun + 999 + 5000);
    assert_eq!(pair.phase(), Some(StopPhase::Asked));
    assert!(pair.reason().contains("no WATCHDOG=1 for 5000 ms"));
}

#[test]
fn a_limit_moves_at_the_units_wish_and_only_so_far() {
    let mut pair = Pair::up("type = \"service\"\nready = { kind = \"notify\", timeout_s = 10 }\n");
    pair.input(Input::Restart("x".into()));
    pair.end_run(0);
    pair.run = 2;
    pair.x(Event::Spawned { run: 2, pid: 8 });
    pair.x(Event::Executed { run: 2 });
    pair.x(Event::Extend { run: 2, ms: 1 });
    pair.at(9999);
    assert!(matches!(pair.state(), State::Starting(_)), "never shorter");
    pair.x(Event::Extend { run: 2, ms: 60_000 });
    pair.at(69_998);
    assert!(matches!(pair.state(), State::Starting(_)));
    pair.x(Event::Extend {
        run: 2,
        ms: u64::MAX,
    });
    // An hour beyond the file's limit.
    pair.at(3_609_999);
    assert!(matches!(pair.state(), State::Starting(_)));
    pair.at(3_610_000);
    assert_eq!(pair.phase(), Some(StopPhase::Asked));
    // The stop: twice the 15 s of its file.
    pair.x(Event::Extend {
        run: 2,
        ms: u64::MAX,
    });
    pair.at(3_639_999);
    assert_eq!(pair.phase(), Some(StopPhase::Asked));
    pair.at(3_640_000);
    assert_eq!(pair.phase(), Some(StopPhase::Killed));
}

#[test]
fn a_main_process_can_hand_over() {
    let mut pair = Pair::up(NOTIFY);
    pair.x(Event::MainPid { run: 1, pid: 9 });
    assert_eq!(pair.machine().pid(), Some(9));
    pair.end_run(0);
    pair.x(Event::MainPid { run: 1, pid: 10 });
    assert_eq!(pair.machine().pid(), None, "not once it has ended");
}

#[test]
fn who_ran_out_of_memory_says_so() {
    let mut pair = Pair::up(NOTIFY);
    pair.x(Event::Oom { run: 1 });
    assert!(pair.reason().contains("cause=oom") && pair.machine().is_ready());
    let (run, status) = (1, ExitStatus::Signal(9));
    pair.x(Event::Exited { run, status });
    assert_eq!(
        pair.reason(),
        "run: out of memory (cause=oom): killed by signal 9"
    );
    assert!(pair.machine().ran_out_of_memory());
}
