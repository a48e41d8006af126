use super::*;
use crate::machine::Event;
use crate::machine::ExitStatus;
use crate::system::Input;
use crate::unit::parse_unit;

/// PostgreSQL, Mattermost on it, and the edge after both; on request only: the probe.
fn system() -> System {
    let unit = |name: &str, description: &str, rest: &str| {
        let text =
            format!("description = \"{description}\"\ntype = \"service\"\nexec = [\"/x\"]\n{rest}");
        parse_unit(name, "x.toml", &text).unwrap()
    };
    let ready = "[ready]\nkind = \"notify\"\ntimeout_s = 60\n";
    System::new(vec![
        unit(
            "postgres",
            "PostgreSQL",
            &format!(
                "{ready}[restart]\nlimit = 2\nmin_ms = 1000\nmax_ms = 1000\n[stop]\nsignal = \"INT\"\ntimeout_s = 300\nthen = \"QUIT\"\nthen_timeout_s = 30\n"
            ),
        ),
        unit(
            "mattermost",
            "Mattermost",
            &format!("requires = [\"postgres\"]\n{ready}"),
        ),
        unit("edge", "TLS edge", "after = [\"mattermost\"]\n"),
        unit("probe", "Probe", "wanted = false\nrequires = [\"mattermost\"]\n"),
    ])
    .unwrap()
}

fn event(system: &mut System, now_ms: u64, unit: &str, event: Event) {
    system
        .step(
            now_ms,
            Input::Unit {
                unit: unit.to_owned(),
                event,
            },
        )
        .unwrap();
}

fn start(system: &mut System, now_ms: u64, unit: &str) {
    let run = system.unit(unit).unwrap().1.run();
    event(system, now_ms, unit, Event::Spawned { run, pid: 42 });
    event(system, now_ms, unit, Event::Executed { run });
}

fn ready(system: &mut System, now_ms: u64, unit: &str) {
    start(system, now_ms, unit);
    let run = system.unit(unit).unwrap().1.run();
    event(system, now_ms, unit, Event::Ready { run });
}

/// Its process ends, and nothing is left of it.
fn exit(system: &mut System, now_ms: u64, unit: &str, status: ExitStatus) {
    let run = system.unit(unit).unwrap().1.run();
    event(system, now_ms, unit, Event::Exited { run, status });
    event(system, now_ms, unit, Event::Emptied { run });
}

fn told(system: &System, unit: &str, now_ms: u64) -> String {
    let why = explain(system, unit, now_ms).unwrap();
    format!("{} Next: {}", why.chain.join(" "), why.next)
}

#[test]
fn a_chain_goes_down_to_the_cause() {
    let mut system = system();
    system.step(0, Input::StartWanted).unwrap();
    for now_ms in [0, 1500, 3000] {
        system.step(now_ms, Input::Tick).unwrap();
        start(&mut system, now_ms, "postgres");
        exit(&mut system, now_ms, "postgres", ExitStatus::Code(1));
    }
    let why = explain(&system, "mattermost", 5000).unwrap();
    assert_eq!(why.cause, "postgres");
    assert!(why.wrong);
    assert_eq!(
        why.chain[0],
        "Mattermost is waiting for PostgreSQL, which it requires."
    );
    assert!(
        why.chain[1].starts_with("PostgreSQL has failed before it was ready:"),
        "{why:?}"
    );
    assert!(why.chain[1].contains("exit status 1"), "{why:?}");
    assert_eq!(
        why.chain[2],
        "It is not started again by itself (2 of 2 starts within 2 minutes)."
    );
    assert_eq!(
        why.next,
        "Read atalaya logs -u postgres. When the cause is gone: atalaya unit start postgres"
    );
    // What only comes after it does not wait for what will not come by itself.
    start(&mut system, 5000, "edge");
    assert!(
        told(&system, "edge", 9000).starts_with("TLS edge is ready, for 4 seconds now."),
        "{}",
        told(&system, "edge", 9000)
    );
}

#[test]
fn between_two_starts_it_says_when_the_next_comes() {
    let mut system = system();
    system.step(0, Input::StartWanted).unwrap();
    ready(&mut system, 0, "postgres");
    exit(&mut system, 100, "postgres", ExitStatus::Signal(9));
    let text = told(&system, "postgres", 100);
    assert!(
        text.starts_with(
            "PostgreSQL has failed while it ran: killed by signal 9. It is started again in"
        ),
        "{text}"
    );
    assert!(text.contains("1 of 2 starts within 2 minutes"), "{text}");
}

#[test]
fn readiness_that_is_lost_is_told_by_those_above_too() {
    let mut system = system();
    system.step(0, Input::StartWanted).unwrap();
    ready(&mut system, 0, "postgres");
    ready(&mut system, 10, "mattermost");
    assert_eq!(
        told(&system, "mattermost", 240_010),
        "Mattermost is ready, for 4 minutes now. Next: Nothing has to be done."
    );
    let reason = "rejecting connections".to_owned();
    event(
        &mut system,
        20,
        "postgres",
        Event::NotReady { run: 1, reason },
    );
    let text = told(&system, "mattermost", 5000);
    assert!(
        text.contains("It runs on although PostgreSQL is not ready"),
        "{text}"
    );
    assert!(
        text.contains(
            "PostgreSQL has been running for 5 seconds and is not ready: rejecting connections."
        ),
        "{text}"
    );
    let reason = "UNHEALTHY".to_owned();
    event(
        &mut system,
        30,
        "mattermost",
        Event::NotReady { run: 1, reason },
    );
    let text = told(&system, "mattermost", 5000);
    assert!(
        text.contains("is not ready: UNHEALTHY. It needs PostgreSQL."),
        "{text}"
    );
    assert_eq!(
        explain(&system, "mattermost", 5000).unwrap().cause,
        "postgres"
    );
}

#[test]
fn what_somebody_stopped_is_not_called_a_failure() {
    let mut system = system();
    assert_eq!(
        told(&system, "probe", 0),
        "Probe is not started at boot: it runs only when it is asked to. Next: To start it: atalaya unit start probe"
    );
    system.step(0, Input::StartWanted).unwrap();
    ready(&mut system, 0, "postgres");
    ready(&mut system, 0, "mattermost");
    system.step(1000, Input::Stop("postgres".into())).unwrap();
    let text = told(&system, "postgres", 1000);
    assert!(
        text.contains("It is stopped as soon as Mattermost has stopped."),
        "{text}"
    );
    let text = told(&system, "mattermost", 1000);
    assert!(
        text.contains("was asked to stop. If it has not in 15 seconds, its processes are killed."),
        "{text}"
    );
    exit(&mut system, 1100, "mattermost", ExitStatus::Code(0));
    exit(&mut system, 1200, "postgres", ExitStatus::Code(0));
    let text = told(&system, "mattermost", 1300);
    assert!(
        text.starts_with("Mattermost is waiting for PostgreSQL, which it requires. PostgreSQL was stopped on purpose."),
        "{text}"
    );
    assert!(
        text.ends_with("Next: To start it: atalaya unit start mattermost"),
        "{text}"
    );
    assert!(!explain(&system, "mattermost", 1300).unwrap().wrong);
}

#[test]
fn a_start_says_what_it_waits_for_and_for_how_long() {
    let mut system = system();
    system.step(0, Input::StartWanted).unwrap();
    assert!(told(&system, "postgres", 0).contains("its process is being made"));
    start(&mut system, 0, "postgres");
    let reason = "starting up".to_owned();
    event(
        &mut system,
        10,
        "postgres",
        Event::NotReady { run: 1, reason },
    );
    let text = told(&system, "mattermost", 30_000);
    assert!(
        text.contains(
            "PostgreSQL is starting and not ready yet: starting up. It has 30 seconds more"
        ),
        "{text}"
    );
    let text = told(&system, "edge", 30_000);
    assert!(
        text.starts_with(
            "TLS edge is waiting: it starts after Mattermost. Mattermost is waiting for PostgreSQL"
        ),
        "{text}"
    );
}

#[test]
fn a_stop_has_a_progress_and_a_bound_through_all_its_phases() {
    let mut system = system();
    system.step(0, Input::Start("postgres".into())).unwrap();
    ready(&mut system, 0, "postgres");
    assert_eq!(progress(&system, 0), None);
    system.step(1000, Input::Stop("postgres".into())).unwrap();
    let limit_ms = 340_000;
    for (now_ms, phase) in [
        (
            13_000,
            "was asked to stop. If it has not in 4 minutes 48 seconds, it is asked more firmly.",
        ),
        (
            311_000,
            "did not stop within 5 minutes and was asked more firmly. In 20 seconds its processes are killed.",
        ),
        (332_000, "is being ended: all its processes were killed."),
        (
            345_000,
            "its process 42 was killed and does not end, because it waits for a device.",
        ),
    ] {
        // Each limit is kept when it passes, not later.
        for tick in [301_000, 331_000, 341_000] {
            if tick <= now_ms {
                system.step(tick, Input::Tick).unwrap();
            }
        }
        let text = told(&system, "postgres", now_ms);
        assert!(text.contains(phase), "{now_ms}: {text}");
        let passed_ms = (now_ms - 1000).min(limit_ms);
        let shown = progress(&system, now_ms).unwrap();
        assert_eq!(shown.limit_ms, limit_ms);
        // A process that cannot be killed is tried again and again: then only the limit is sure.
        if now_ms < 341_000 {
            assert_eq!(shown.passed_ms, passed_ms, "{now_ms}");
        }
    }
}

fn progress(system: &System, now_ms: u64) -> Option<StopProgress> {
    let (unit, machine) = system.unit("postgres").unwrap();
    stop_progress(unit, machine, now_ms)
}

#[test]
fn there_is_an_answer_in_every_state_and_none_for_a_stranger() {
    assert_eq!(explain(&system(), "nobody", 0), None);
    let mut system = system();
    let mut seen = std::collections::BTreeSet::new();
    let mut look = |system: &System| {
        for (unit, machine) in system.units() {
            seen.insert(machine.state().word());
            let why = explain(system, &unit.name, 7000).unwrap();
            assert!(!why.chain.is_empty() && !why.next.is_empty(), "{why:?}");
            assert!(
                why.chain
                    .iter()
                    .all(|text| text.ends_with('.') && !text.contains("..")),
                "{why:?}"
            );
        }
    };
    look(&system);
    system.step(0, Input::StartWanted).unwrap();
    look(&system);
    ready(&mut system, 0, "postgres");
    ready(&mut system, 0, "mattermost");
    look(&system);
    exit(&mut system, 10, "postgres", ExitStatus::Code(2));
    look(&system);
    system.step(2000, Input::Tick).unwrap();
    start(&mut system, 2000, "postgres");
    exit(&mut system, 2100, "postgres", ExitStatus::Code(2));
    look(&system);
    system.step(3000, Input::Stop("mattermost".into())).unwrap();
    look(&system);
    assert_eq!(
        seen.into_iter().collect::<Vec<_>>(),
        [
            "Backoff", "Failed", "Running", "Starting", "Stopped", "Stopping", "Waiting"
        ]
    );
}
