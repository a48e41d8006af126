//! What PID 1 promises about atalayad, and random event lists that must not break it.

use super::daemon::GREETING_LIMIT_MS;
use super::*;
use atalaya_core::link::StopOrder;
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

fn wish(action: Action, source: Source) -> Event {
    Event::Wanted {
        action,
        source,
        units_ms: 340_000,
    }
}

fn not_started() -> Event {
    Event::NotStarted {
        why: "no room".into(),
    }
}

fn died(pid: i32) -> Event {
    Event::Ended {
        pid,
        status: Status::Signal(9),
    }
}

fn postgres() -> StopOrder {
    StopOrder {
        description: "PostgreSQL".into(),
        cgroup: "postgres.1".into(),
        pid: Some(40),
        level: 0,
        signal: libc::SIGINT,
        timeout_ms: 300_000,
        then: libc::SIGQUIT,
        then_timeout_ms: 30_000,
    }
}

/// In safe mode between two attempts, and since when.
fn safe() -> (Supervise, u64) {
    let mut machine = greeted();
    let mut now = 0;
    for pid in 7..12 {
        machine.step(now, died(pid));
        if !machine.deaths.safe_mode() {
            now = machine.deadline().unwrap();
            machine.step(now, Event::Tick);
            machine.step(now, Event::Started { pid: pid + 1 });
        }
    }
    assert!(machine.deaths.safe_mode() && matches!(machine.daemon, Daemon::Due(_)));
    (machine, now)
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
    let wish = wish(Action::Poweroff, Source::PowerButton);
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
    machine.step(10, wish(Action::Reboot, Source::CtrlAltDel));
    machine.step(110, Event::Tick);
    machine.step(110, not_started());
    let at = 10 + GREETING_LIMIT_MS;
    assert!(machine.deadline().unwrap() <= at);
    let effects = machine.step(at, Event::Tick);
    assert_eq!(effects.last(), Some(&Effect::CollectOrders));
    let effects = machine.step(at, Event::Orders(Vec::new()));
    assert!(matches!(
        effects.last(),
        Some(Effect::End {
            action: Action::Reboot,
            ..
        })
    ));
    assert_eq!(machine.step(at + 1, Event::Tick), []);
}

#[test]
fn while_data_are_prepared_a_wish_is_fulfilled_at_once() {
    let mut machine = Supervise::default();
    let effects = machine.step(5, wish(Action::Poweroff, Source::Signal));
    assert!(matches!(effects.as_slice(), [Effect::End { .. }]));
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
        matches!(&effects[1], Effect::Say(text) if text.contains("version 3") && text.contains("version 2"))
    );
    // What it says from here on changes nothing.
    let shutdown = ToInit::Shutdown {
        action: Action::Poweroff,
        reason: String::new(),
    };
    assert_eq!(machine.step(2, Event::Heard(shutdown)), []);
    let effects = machine.step(3, died(7));
    assert!(format!("{effects:?}").contains("version 3"), "{effects:?}");
}

#[test]
fn a_wished_restart_is_no_death_and_one_that_does_not_end_is_killed() {
    let mut machine = greeted();
    let effects = machine.step(1000, Event::RestartWanted);
    assert!(effects.contains(&Effect::Terminate { pid: 7 }));
    assert_eq!(machine.step(1001, Event::RestartWanted), [], "asked twice");
    assert_eq!(machine.deadline(), Some(6000));
    assert!(
        machine
            .step(6000, Event::Tick)
            .contains(&Effect::Kill { pid: 7 })
    );
    assert_eq!(machine.step(6001, died(7)), [Effect::StartDaemon]);
    assert_eq!(machine.summary(6001).deaths, 0);
}

#[test]
fn safe_mode_says_why_drains_and_tries_at_once_if_wished() {
    let (mut machine, now) = safe();
    let summary = machine.summary(now);
    assert_eq!((summary.safe_mode, summary.deaths), (true, 5));
    assert_eq!(summary.next_try_ms, Some(60_000));
    assert!(summary.reason.unwrap().contains("signal 9"));
    assert!(machine.drains() && machine.feeds_watchdog(now + 50_000));
    assert_eq!(
        machine.step(now + 1, Event::RestartWanted),
        [Effect::StartDaemon]
    );
    machine.step(now + 1, Event::Started { pid: 20 });
    assert!(machine.drains(), "until it has said hello");
    machine.step(now + 2, hello());
    assert!(!machine.drains());
}

#[test]
fn in_safe_mode_a_wish_stops_the_units_at_once_by_their_orders() {
    let (mut machine, now) = safe();
    let effects = machine.step(now, wish(Action::Poweroff, Source::PowerButton));
    assert_eq!(effects.last(), Some(&Effect::CollectOrders));
    let effects = machine.step(now, Event::Orders(vec![postgres()]));
    assert_eq!(
        effects.last(),
        Some(&Effect::SignalMain {
            cgroup: "postgres.1".into(),
            pid: 40,
            signal: libc::SIGINT
        })
    );
    assert_eq!(machine.watched(), ["postgres.1"]);
    let effects = machine.step(now + 200_000, Event::RestartWanted);
    assert!(!is_start(&effects), "nothing is started on the way down");
    let ended = Event::UnitProcessEnded {
        cgroup: "postgres.1".into(),
        pid: 40,
    };
    machine.step(now + 200_001, ended);
    let emptied = Event::Emptied {
        cgroup: "postgres.1".into(),
    };
    let effects = machine.step(now + 200_002, emptied);
    assert_eq!(
        effects.last(),
        Some(&Effect::End {
            action: Action::Poweroff,
            reason: "power button".into()
        })
    );
}

#[test]
fn safe_mode_in_a_trial_means_reboot() {
    let mut machine = greeted();
    let mut now = 0;
    for pid in 7..12 {
        let effects = machine.step(now, died(pid));
        let last = pid == 11;
        assert_eq!(effects.contains(&Effect::AssessTrial), last);
        if !last {
            now = machine.deadline().unwrap();
            machine.step(now, Event::Tick);
            machine.step(now, Event::Started { pid: pid + 1 });
        }
    }
    assert_eq!(
        machine.step(now, Event::OnTrial),
        [Effect::CollectOrders],
        "units are stopped first"
    );
    let effects = machine.step(now, Event::Orders(Vec::new()));
    assert!(
        matches!(effects.last(), Some(Effect::End { action: Action::Reboot, reason }) if reason.contains("trial"))
    );
}

#[test]
fn an_atalayad_that_does_not_stop_the_units_is_killed_before_init_does_it() {
    let mut machine = greeted();
    machine.step(0, wish(Action::Reboot, Source::CtrlAltDel));
    for now in (0..600_000).step_by(2_000) {
        assert_eq!(machine.step(now, Event::Heard(ToInit::Heartbeat)), []);
    }
    let effects = machine.step(600_000, Event::Tick);
    assert_eq!(effects.last(), Some(&Effect::Kill { pid: 7 }));
    assert_eq!(machine.step(600_001, died(7)), [Effect::CollectOrders]);
}

#[test]
fn units_with_long_limits_are_waited_for() {
    let mut machine = greeted();
    let wish = Event::Wanted {
        action: Action::Reboot,
        source: Source::Signal,
        units_ms: 1_000_000,
    };
    machine.step(0, wish);
    machine.step(1_119_999, Event::Heard(ToInit::Heartbeat));
    assert!(matches!(machine.phase, Phase::Supervising));
    machine.step(1_120_000, Event::Tick);
    assert!(matches!(machine.phase, Phase::Quelling { .. }));
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
        Just(not_started()),
        (0..4u32).prop_map(|version| Event::Heard(ToInit::Hello { version })),
        Just(Event::Heard(ToInit::Heartbeat)),
        Just(Event::Heard(ToInit::Ack { seq: 1 })),
        (1..6i32).prop_map(|pid| Event::Ended {
            pid,
            status: Status::Signal(9)
        }),
        action.clone().prop_flat_map(move |action| source
            .clone()
            .prop_map(move |source| wish(action, source))),
        Just(Event::RestartWanted),
        Just(Event::OnTrial),
        Just(Event::Orders(vec![postgres()])),
        Just(Event::UnitProcessEnded {
            cgroup: "postgres.1".into(),
            pid: 40
        }),
        Just(Event::Emptied {
            cgroup: "postgres.1".into()
        }),
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
            let stopping = !matches!(machine.phase, Phase::Supervising);
            prop_assert!(!stopping || !is_start(&effects));
            for effect in &effects {
                match effect {
                    Effect::StartDaemon => {
                        prop_assert!(!matches!(before, Daemon::Starting));
                        prop_assert!(matches!(machine.daemon, Daemon::Starting) || ended);
                        alive = true;
                    }
                    Effect::Kill { pid } | Effect::Terminate { pid } => prop_assert!(alive && *pid > 0),
                    // Units are touched only on the way to the end.
                    Effect::SignalMain { .. } | Effect::KillRun { .. } => prop_assert!(machine.end.is_some() || ended),
                    Effect::End { .. } => ended = true,
                    _ => {}
                }
            }
            prop_assert_eq!(effects.iter().filter(|effect| matches!(effect, Effect::StartDaemon)).count() <= 1, true);
            if let Some(deadline) = machine.deadline() {
                // Nothing is overdue after a step, and no back-off is longer than ten minutes.
                prop_assert!(deadline > now && deadline <= now + STOP_LIMIT_MS, "{deadline} at {now}");
            } else {
                let idle = matches!(machine.phase, Phase::Collecting) || matches!(machine.daemon, Daemon::NotYet | Daemon::Starting | Daemon::Alive(Alive { killed: Some(_), .. }));
                prop_assert!(ended || idle);
            }
        }
    }
}
