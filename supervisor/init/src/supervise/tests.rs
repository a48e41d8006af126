//! What PID 1 promises about atalayad, and random event lists that must not break it.

use super::*;
use proptest::prelude::*;

fn hello() -> Event {
    Event::Heard(ToInit::Hello { version: VERSION })
}

/// A machine whose atalayad 7 has said hello at time 0.
fn greeted() -> Supervise {
    let mut machine = Supervise::default();
    assert_eq!(machine.step(0, Event::DataDone), [Effect::StartDaemon]);
    assert_eq!(machine.step(0, Event::Started { pid: 7 }), []);
    assert_eq!(machine.step(0, hello()), [Effect::Greet { deaths: 0 }]);
    machine
}

fn is_start(effects: &[Effect]) -> bool {
    effects.contains(&Effect::StartDaemon)
}

#[test]
fn a_dead_atalayad_is_started_again_after_a_back_off() {
    let mut machine = greeted();
    let effects = machine.step(
        1000,
        Event::Ended {
            pid: 7,
            status: Status::Signal(9),
        },
    );
    assert!(matches!(effects.as_slice(), [Effect::Say(_)]));
    assert_eq!(machine.deadline(), Some(1100));
    assert!(!is_start(&machine.step(1099, Event::Tick)));
    assert!(is_start(&machine.step(1100, Event::Tick)));
    machine.step(1100, Event::Started { pid: 8 });
    assert_eq!(machine.step(1101, hello()), [Effect::Greet { deaths: 1 }]);
}

#[test]
fn a_silent_atalayad_is_killed_once_and_the_watchdog_starves_if_it_does_not_die() {
    let mut machine = greeted();
    machine.step(10_000, Event::Heard(ToInit::Heartbeat));
    assert_eq!(machine.step(39_999, Event::Tick), []);
    let effects = machine.step(40_000, Event::Tick);
    assert!(effects.contains(&Effect::Kill { pid: 7 }));
    assert_eq!(machine.step(50_000, Event::Tick), []);
    assert!(machine.feeds_watchdog(69_999));
    assert!(!machine.feeds_watchdog(70_000));
    machine.step(
        71_000,
        Event::Ended {
            pid: 7,
            status: Status::Signal(9),
        },
    );
    assert!(machine.feeds_watchdog(71_000));
}

#[test]
fn the_fifth_death_within_a_minute_means_safe_mode_and_a_healthy_minute_ends_it() {
    let mut machine = greeted();
    let (mut now, mut said) = (0, String::new());
    for pid in 7..12 {
        let effects = machine.step(
            now,
            Event::Ended {
                pid,
                status: Status::Code(1),
            },
        );
        said = format!("{effects:?}");
        now = machine.deadline().unwrap();
        assert!(is_start(&machine.step(now, Event::Tick)));
        machine.step(now, Event::Started { pid: pid + 1 });
        machine.step(now, hello());
    }
    assert!(said.contains("safe mode"), "{said}");
    assert!(now >= 60_000, "{now}");
    let effects = machine.step(now + 59_999, Event::Heard(ToInit::Heartbeat));
    assert_eq!(effects, []);
    let effects = machine.step(now + 60_000, Event::Heard(ToInit::Heartbeat));
    assert!(format!("{effects:?}").contains("safe mode is over"));
}

#[test]
fn a_wish_is_passed_on_and_again_to_the_next_atalayad() {
    let ask = Effect::Ask {
        action: Action::Poweroff,
        source: Source::PowerButton,
    };
    let wish = Event::Wanted {
        action: Action::Poweroff,
        source: Source::PowerButton,
    };
    let mut machine = greeted();
    assert_eq!(machine.step(10, wish.clone()), std::slice::from_ref(&ask));
    assert_eq!(machine.step(20, wish), []); // pressed twice
    machine.step(
        30,
        Event::Ended {
            pid: 7,
            status: Status::Code(101),
        },
    );
    machine.step(130, Event::Tick);
    machine.step(130, Event::Started { pid: 8 });
    assert_eq!(
        machine.step(140, hello()),
        [Effect::Greet { deaths: 1 }, ask]
    );
    let shutdown = ToInit::Shutdown {
        action: Action::Poweroff,
        reason: "power button".into(),
    };
    assert_eq!(
        machine.step(5_000, Event::Heard(shutdown)),
        [Effect::End {
            action: Action::Poweroff,
            reason: "power button".into(),
            units_stopped: true
        }]
    );
}

#[test]
fn without_atalayad_init_fulfils_the_wish_itself() {
    let mut machine = greeted();
    machine.step(
        10,
        Event::Ended {
            pid: 7,
            status: Status::Code(101),
        },
    );
    machine.step(
        10,
        Event::Wanted {
            action: Action::Reboot,
            source: Source::CtrlAltDel,
        },
    );
    machine.step(110, Event::Tick);
    machine.step(110, Event::NotStarted);
    let at = 10 + GREETING_LIMIT_MS;
    assert!(machine.deadline().unwrap() <= at);
    let effects = machine.step(at, Event::Tick);
    assert!(matches!(
        effects.last(),
        Some(Effect::End {
            action: Action::Reboot,
            units_stopped: false,
            ..
        })
    ));
    assert_eq!(machine.step(at + 1, Event::Tick), []);
}

#[test]
fn while_data_are_prepared_a_wish_is_fulfilled_at_once() {
    let mut machine = Supervise::default();
    let effects = machine.step(
        5,
        Event::Wanted {
            action: Action::Poweroff,
            source: Source::Signal,
        },
    );
    assert!(matches!(
        effects.as_slice(),
        [Effect::End {
            units_stopped: true,
            ..
        }]
    ));
}

#[test]
fn another_version_is_refused() {
    let mut machine = greeted();
    let effects = machine.step(
        1,
        Event::Heard(ToInit::Hello {
            version: VERSION + 1,
        }),
    );
    assert_eq!(effects[0], Effect::Refuse { deaths: 0 });
    assert!(
        matches!(&effects[1], Effect::Say(text) if text.contains("version 2") && text.contains("version 1"))
    );
}

fn event() -> impl Strategy<Value = Event> {
    let action = prop_oneof![
        Just(Action::Reboot),
        Just(Action::Poweroff),
        Just(Action::Halt)
    ];
    let source = prop_oneof![
        Just(Source::PowerButton),
        Just(Source::CtrlAltDel),
        Just(Source::Signal)
    ];
    prop_oneof![
        Just(Event::DataDone),
        (1..6i32).prop_map(|pid| Event::Started { pid }),
        Just(Event::NotStarted),
        (0..3u32).prop_map(|version| Event::Heard(ToInit::Hello { version })),
        Just(Event::Heard(ToInit::Heartbeat)),
        Just(Event::Heard(ToInit::Ack { seq: 1 })),
        (1..6i32).prop_map(|pid| Event::Ended {
            pid,
            status: Status::Signal(9)
        }),
        action.clone().prop_flat_map(move |action| source
            .clone()
            .prop_map(move |source| Event::Wanted { action, source })),
        Just(Event::Tick),
        action.prop_map(|action| Event::Heard(ToInit::Shutdown {
            action,
            reason: String::new()
        })),
    ]
}

proptest! {
    #[test]
    fn never_two_daemons_never_two_ends_and_never_waiting_for_nothing(
        events in proptest::collection::vec((0u64..40_000, event()), 1..60)
    ) {
        let mut machine = Supervise::default();
        let (mut now, mut ended, mut alive) = (0, false, false);
        for (passed, event) in events {
            now += passed;
            let before = machine.daemon;
            let effects = machine.step(now, event);
            prop_assert!(!ended || effects.is_empty());
            for effect in &effects {
                match effect {
                    Effect::StartDaemon => {
                        prop_assert!(!matches!(before, Daemon::Starting));
                        prop_assert!(matches!(machine.daemon, Daemon::Starting) || ended);
                        alive = true;
                    }
                    Effect::Kill { pid } => prop_assert!(alive && *pid > 0),
                    Effect::End { .. } => ended = true,
                    _ => {}
                }
            }
            prop_assert_eq!(effects.iter().filter(|effect| matches!(effect, Effect::StartDaemon)).count() <= 1, true);
            if let Some(deadline) = machine.deadline() {
                // Nothing is overdue after a step, and no back-off is longer than ten minutes.
                prop_assert!(deadline > now && deadline <= now + STOP_LIMIT_MS, "{deadline} at {now}");
            } else {
                let idle = matches!(machine.daemon, Daemon::NotYet | Daemon::Starting | Daemon::Alive { killed: Some(_), .. });
                prop_assert!(ended || idle);
            }
        }
    }
}
