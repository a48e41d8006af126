//! A restart in which the successor serves before the old process ends.

use atalaya_core::machine::Effect as UnitEffect;
use atalaya_core::machine::{Event, ExitStatus, State};
use atalaya_core::system::Input;

use crate::pair::{NOTIFY, Pair, reloads, spawns, units};

const USR2: i32 = 12;
const HANDS_OVER: &str = "handover = { signal = \"USR2\", timeout_s = 5 }\n";

fn up() -> Pair {
    Pair::up(&format!(
        "{NOTIFY}{HANDS_OVER}reload = {{ signal = \"HUP\" }}\n"
    ))
}

fn asks_for_a_successor(effects: &[UnitEffect]) -> bool {
    let asked = UnitEffect::Signal {
        run: 1,
        signal: USR2,
    };
    effects.contains(&asked)
}

fn restart(pair: &mut Pair) -> Vec<UnitEffect> {
    pair.input(Input::Restart("x".into()))
}

#[test]
fn a_successor_takes_over_and_the_unit_was_never_away() {
    let mut pair = up();
    pair.now_ms = 1000;
    let effects = restart(&mut pair);
    assert!(asks_for_a_successor(&effects) && !spawns(&effects));
    assert!(pair.machine().is_handing_over() && pair.machine().is_ready());
    assert!(!asks_for_a_successor(&restart(&mut pair)), "one is enough");
    // What is to be read anew, the successor reads; but it may have begun already.
    assert_eq!(reloads(&pair.input(Input::Reload("x".into()))), 0);
    pair.x(Event::MainPid { run: 1, pid: 8 });
    assert!(pair.machine().is_handing_over() && pair.machine().is_ready());
    assert_eq!(reloads(&pair.x(Event::SaidReady { run: 1 })), 1);
    assert!(!pair.machine().is_handing_over() && pair.machine().is_ready());
    assert_eq!(pair.machine().pid(), Some(8));
    assert_eq!(pair.machine().run(), 1);
    assert_eq!(pair.machine().running_since_ms(), Some(1000));
    // From here on its end is the unit's.
    let status = ExitStatus::Code(1);
    pair.x(Event::Exited { run: 1, status });
    assert!(matches!(pair.state(), State::Backoff { .. }));
}

#[test]
fn a_successor_that_does_not_start_changes_nothing() {
    let mut pair = up();
    restart(&mut pair);
    let effects = pair.x(Event::SaidReady { run: 1 });
    assert_eq!(effects, [UnitEffect::Persist]);
    assert_eq!(*pair.state(), State::Running);
    assert!(!pair.machine().is_handing_over() && pair.machine().is_ready());
    assert!(pair.reason().contains("its successor did not start"));
    assert!(asks_for_a_successor(&restart(&mut pair)));
}

#[test]
fn one_that_does_not_answer_is_restarted_the_usual_way() {
    for word in [None, Some(Event::MainPid { run: 1, pid: 8 })] {
        let mut pair = up();
        restart(&mut pair);
        word.into_iter().for_each(|word| drop(pair.x(word)));
        pair.at(4999);
        assert_eq!(*pair.state(), State::Running);
        let effects = pair.at(5000);
        let term = UnitEffect::Signal { run: 1, signal: 15 };
        assert!(effects.contains(&term), "{effects:?}");
        pair.end_run(0);
        assert_eq!(pair.machine().run(), 2, "{:?}", pair.machine());
    }
}

#[test]
fn what_cannot_hand_over_is_restarted_the_usual_way() {
    // It is away just now.
    let mut pair = up();
    let reason = "starting".to_owned();
    pair.x(Event::NotReady { run: 1, reason });
    assert!(!asks_for_a_successor(&restart(&mut pair)));
    assert!(pair.phase().is_some());
    // Its file has changed: a successor would live in the old sandbox.
    let mut pair = up();
    let changed = units(&format!(
        "{NOTIFY}{HANDS_OVER}environment = {{ A = \"b\" }}\n"
    ));
    pair.input(Input::Replace(changed));
    assert!(!asks_for_a_successor(&restart(&mut pair)));
    pair.end_run(0);
    assert_eq!(pair.machine().run(), 2);
}

#[test]
fn another_atalayad_asks_again_or_goes_on_waiting() {
    let mut pair = up();
    restart(&mut pair);
    let effects = pair.x(Event::Adopted { pid: Some(7) });
    assert!(asks_for_a_successor(&effects), "{effects:?}");
    pair.x(Event::MainPid { run: 1, pid: 8 });
    pair.now_ms = 4000;
    let effects = pair.x(Event::Adopted { pid: Some(8) });
    assert!(!asks_for_a_successor(&effects), "{effects:?}");
    pair.at(8999);
    assert!(pair.machine().is_handing_over());
    pair.x(Event::SaidReady { run: 1 });
    assert!(!pair.machine().is_handing_over() && pair.machine().is_ready());
}

#[test]
fn a_stop_goes_before_a_handover() {
    let mut pair = up();
    restart(&mut pair);
    pair.input(Input::Stop("x".into()));
    assert!(pair.phase().is_some() && !pair.machine().is_handing_over());
    // The successor may have said so just then; it is stopped instead of the old one.
    let effects = pair.x(Event::MainPid { run: 1, pid: 8 });
    assert_eq!(effects, [UnitEffect::Persist]);
    pair.end_run(0);
    assert_eq!(*pair.state(), State::Stopped);
}
