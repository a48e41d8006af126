//! One unit between its runs: failures, what is left behind, timer, data, new files, the end.

use atalaya_core::link::Action;
use atalaya_core::machine::{Effect as UnitEffect, Event, ExitStatus, State, StopPhase};
use atalaya_core::system::{Effect, Input, Refusal};

use crate::pair::{NOTIFY, Pair, spawns, units};

#[test]
fn a_failure_is_cleared_and_the_window_is_empty_again() {
    let mut pair = Pair::up("type = \"service\"\nrestart = { limit = 1, window_s = 1000 }\n");
    pair.end_run(1);
    assert!(matches!(pair.state(), State::Failed { .. }));
    let effects = pair.input(Input::Reset("x".into()));
    assert!(!spawns(&effects));
    assert_eq!(
        (pair.state(), pair.machine().starts()),
        (&State::Stopped, 0)
    );
    assert!(spawns(&pair.input(Input::Start("x".into()))));
}

#[test]
fn what_cannot_be_killed_is_said_and_nothing_starts_beside_it() {
    let mut pair = Pair::up(NOTIFY);
    let (run, status) = (1, ExitStatus::Signal(9));
    pair.x(Event::Exited { run, status });
    let effects = pair.at(1_000_000);
    assert!(!spawns(&effects), "{effects:?}");
    assert!(
        pair.reason().contains("cannot be killed"),
        "{}",
        pair.reason()
    );
    assert!(!spawns(&pair.input(Input::Restart("x".into()))));
    // The next atalayad finds no main process and waits too.
    assert!(!spawns(&pair.x(Event::Adopted { pid: None })));
    assert!(spawns(&pair.x(Event::Emptied { run: 1 })));
}

#[test]
fn a_start_that_the_supervisor_did_not_survive_is_seen_to_be_over_first() {
    let mut pair = Pair::up(NOTIFY);
    pair.input(Input::Restart("x".into()));
    pair.end_run(0);
    let effects = pair.x(Event::Adopted { pid: None });
    assert!(effects.contains(&UnitEffect::KillCgroup { run: 2 }));
    let effects = pair.at(9_000);
    assert!(!spawns(&effects), "{effects:?}");
    assert!(spawns(&pair.x(Event::Emptied { run: 2 })));
}

const TIMED: &str = "type = \"oneshot\"\ntimer = { first_s = 10, every_s = 60, spread_s = 5 }\nready = { timeout_s = 9 }\n";

/// Ends the run that is under way.
fn work(pair: &mut Pair, code: i32) {
    pair.run = pair.machine().run();
    let run = pair.run;
    pair.x(Event::Spawned { run, pid: 8 });
    pair.x(Event::Executed { run });
    pair.end_run(code);
}

#[test]
fn a_timer_runs_its_one_shot_again_and_never_early() {
    let mut pair = Pair::up(TIMED);
    assert_eq!(*pair.state(), State::Waiting);
    // Its requirement goes: the time counts from its return.
    let reason = "recovering".to_owned();
    pair.tell("db", Event::NotReady { run: 1, reason });
    pair.at(100_000);
    pair.tell("db", Event::SaidReady { run: 1 });
    assert!(!spawns(&pair.at(109_999)));
    assert!(spawns(&pair.at(115_000)));
    work(&mut pair, 0);
    assert_eq!(*pair.state(), State::Done);
    assert!(!spawns(&pair.at(174_999)));
    // Another atalayad keeps the time.
    assert!(!spawns(&pair.x(Event::Adopted { pid: None })));
    assert!(spawns(&pair.at(180_000)));
    // A failure goes the usual way and is not put off to the next time.
    work(&mut pair, 1);
    assert!(matches!(pair.state(), State::Backoff { .. }));
    assert!(spawns(&pair.at(181_000)));
    work(&mut pair, 0);
    // A person need not wait; a stop ends it.
    assert!(spawns(&pair.input(Input::Start("x".into()))));
    work(&mut pair, 0);
    pair.input(Input::Stop("x".into()));
    assert!(!spawns(&pair.at(10_000_000)));
    assert_eq!(*pair.state(), State::Stopped);
}

/// It is Done while others that it comes before are still being stopped.
#[test]
fn no_timer_fires_once_the_end_has_begun() {
    let mut all = units(TIMED);
    all.push(units("type = \"service\"\nafter = [\"x\"]\nstop = { timeout_s = 3600 }\n").remove(1));
    all[2].name = "late".into();
    all[2].requires.clear();
    let mut pair = Pair::of(all);
    pair.tell("late", Event::Spawned { run: 1, pid: 9 });
    pair.tell("late", Event::Executed { run: 1 });
    pair.at(15_000);
    work(&mut pair, 0);
    assert_eq!(*pair.state(), State::Done);
    pair.input(Input::End(Action::Poweroff));
    assert!(!spawns(&pair.at(3_000_000)));
    assert_eq!(*pair.state(), State::Stopped);
}

#[test]
fn units_with_data_wait_for_it_and_come_back_afresh() {
    let data = "restart = { limit = 2, window_s = 1000 }\nsandbox = { data = [{ source = \"gen:x\", path = \"/x\" }] }\n";
    let mut pair = Pair::up(&format!("{NOTIFY}{data}"));
    pair.ground(true, false);
    assert_eq!(
        *pair.state(),
        State::Running,
        "what runs finds out by itself"
    );
    pair.end_run(1);
    let effects = pair.at(60_000);
    assert!(!spawns(&effects));
    assert_eq!(
        (pair.state(), pair.reason().as_str()),
        (&State::Waiting, "/data is full")
    );
    assert!(spawns(&pair.ground(true, true)));
    // A crash loop for want of space is forgiven.
    for _ in 0..2 {
        work(&mut pair, 1);
        pair.at(pair.now_ms + 60_000);
    }
    assert!(
        matches!(pair.state(), State::Failed { .. }),
        "{:?}",
        pair.state()
    );
    pair.ground(false, false);
    assert!(spawns(&pair.ground(true, true)));
}

#[test]
fn new_files_are_taken_as_a_whole_or_not_at_all() {
    let mut pair = Pair::up(NOTIFY);
    let before = format!("{:?}", pair.system);
    let mut cycle = units(NOTIFY);
    cycle[0].requires.push("x".into());
    let refused = pair.system.step(0, Input::Replace(cycle));
    assert!(matches!(refused, Err(Refusal::Units(_))), "{refused:?}");
    assert_eq!(format!("{:?}", pair.system), before);

    // `x` gets another stop, `db` is gone, and `new` is new.
    let mut other = units(&format!("{NOTIFY}stop = {{ signal = \"INT\" }}\n"));
    other[0].name = "new".into();
    other[1].requires = vec!["new".into()];
    pair.input(Input::Replace(other));
    // In the order of the old files: what stands on `db` first, by the old file.
    assert_eq!(pair.phase(), Some(StopPhase::Asked));
    assert!(pair.system.unit("new").is_none());
    pair.end_run(0);
    let (run, status) = (1, ExitStatus::Code(0));
    pair.tell("db", Event::Exited { run, status });
    let name = "db".to_owned();
    let event = Event::Emptied { run };
    let last = pair.system.step(0, Input::Unit { unit: name, event });
    let last = last.unwrap();
    assert!(
        last.contains(&Effect::Forget { unit: "db".into() }),
        "{last:?}"
    );
    assert!(pair.system.unit("db").is_none());
    let (_, new) = pair.system.unit("new").unwrap();
    assert!(matches!(new.state(), State::Starting(_)));
    for event in [
        Event::Spawned { run, pid: 9 },
        Event::Executed { run },
        Event::SaidReady { run },
    ] {
        pair.tell("new", event);
    }
    assert!(
        matches!(pair.state(), State::Starting(_)),
        "it stayed wanted"
    );
    let (unit, _) = pair.system.unit("x").unwrap();
    assert_eq!(unit.stop.signal.number(), 2);
}

#[test]
fn a_healthy_while_makes_the_pause_short_again() {
    let mut pair = Pair::up(
        "type = \"service\"\nrestart = { min_ms = 100, max_ms = 60000, limit = 100, healthy_s = 30 }\n",
    );
    let pause = |pair: &Pair| match pair.state() {
        State::Backoff { until_ms } => until_ms - pair.now_ms,
        other => panic!("{other:?}"),
    };
    for _ in 0..6 {
        pair.end_run(1);
        pair.at(pair.now_ms + pause(&pair));
        pair.run += 1;
        let run = pair.run;
        pair.x(Event::Spawned { run, pid: 8 });
        pair.x(Event::Executed { run });
    }
    pair.end_run(1);
    assert!(pause(&pair) >= 4000, "{}", pause(&pair));
    pair.at(pair.now_ms + pause(&pair));
    pair.run += 1;
    let run = pair.run;
    pair.x(Event::Spawned { run, pid: 8 });
    pair.x(Event::Executed { run });
    pair.at(pair.now_ms + 30_000);
    pair.end_run(1);
    assert!(pause(&pair) <= 125, "{}", pause(&pair));
}

#[test]
fn the_end_is_told_once_and_the_first_wish_counts() {
    let mut pair = Pair::up(NOTIFY);
    pair.input(Input::End(Action::Poweroff));
    pair.input(Input::End(Action::Reboot));
    assert_eq!(pair.system.end(), Some(Action::Poweroff));
    pair.end_run(0);
    let (run, status) = (1, ExitStatus::Code(0));
    pair.tell("db", Event::Exited { run, status });
    let event = Event::Emptied { run };
    let unit = "db".to_owned();
    let last = pair.system.step(0, Input::Unit { unit, event }).unwrap();
    let ended = Effect::Ended {
        end: Action::Poweroff,
        stuck: Vec::new(),
    };
    assert!(last.contains(&ended), "{last:?}");
    assert_eq!(pair.system.step(0, Input::Tick).unwrap(), []);
}
