//! Without an atalayad that lives: what init keeps, says and does by itself.

use crate::actor;
use crate::machine::{Machine, Outcome, STANDIN};
use serde_json::{Value, json};
use std::io::Write;
use std::process::Stdio;

/// Stop orders with limits short enough for a test.
fn order(level: u32, signal: i32, then: i32) -> Value {
    json!({
        "description": "", "cgroup": "", "pid": null, "level": level, "signal": signal,
        "timeout_ms": 300, "then": then, "then_timeout_ms": 5000,
    })
}

fn run_unit(machine: &mut Machine, name: &str, script: &str, stop: Value) -> Value {
    let command = json!({"run_unit": name, "script": script, "stop": stop});
    machine.command(command)["pid"].clone()
}

/// Waits for a sign to live on, in a way that a signal interrupts.
const IDLE: &str = "while :; do read line < /t/never & wait $!; done";

#[test]
fn what_units_say_meanwhile_is_kept_bounded_and_handed_over() {
    let mut machine = Machine::start();
    machine.connect_and_greet();
    let chatty = format!(
        "read line < /t/gate; i=0; while [ $i -lt 2000 ]; do echo {}; i=$((i+1)); done; echo the end; \
         {}; {}; {}; {}; {}; ACT=descriptor TO=/t/chatty.1 /t/program --exact actor::act --quiet >&2 || exit 1; \
         read line < /t/gate2; exit 5",
        "x".repeat(99),
        actor::notify("chatty.1", "STATUS=old"),
        actor::notify("chatty.1", "READY=1|STATUS=up"),
        actor::notify("chatty.1", "STATUS=new"),
        actor::notify("chatty.1", "nul"),
        actor::notify("chatty.1", "long"),
    );
    let pid = run_unit(&mut machine, "chatty.1", &chatty, Value::Null);
    let foreign = actor::notify("chatty.1", "STATUS=foreign");
    let foreign = format!("read line < /t/gate; {foreign}; echo said > /t/foreign");
    run_unit(&mut machine, "foreign.1", &foreign, Value::Null);
    run_unit(&mut machine, "quiet.1", "read line < /t/never", Value::Null);
    machine.enter_safe_mode();

    // Its pipe holds a third of it: without a reader it would never come to its last word.
    machine.until("the unit's last word", |machine| {
        let status = machine.ask_init(r#"{"request":"status"}"#);
        assert_eq!(status["safe_mode"], true, "{status}");
        machine.try_open_gate("gate");
        (status["drained"]["chatty.1"].as_u64()? > 200_000).then_some(())
    });
    // Which it does only when its descriptor was closed by init.
    machine.until("the second wait of the unit", |machine| {
        let said = machine.root_file("/t/foreign") == "said\n";
        (said && machine.try_open_gate("gate2")).then_some(())
    });
    let answer = machine.ask_init(r#"{"request":"supervisor-restart"}"#);
    assert_eq!(answer, json!({"ok": true}));
    machine.connect();
    let told = machine.greet();
    let of = |kind: &str, name: &str| -> Vec<&Value> {
        told.iter()
            .filter(|line| line["heard"]["type"] == kind && line["heard"]["name"] == name)
            .collect()
    };
    let drained = of("drained", "run/chatty.1");
    let text = drained[0]["fds"][0].as_str().unwrap();
    assert_eq!(text.len(), 64 * 1024);
    assert!(text.contains("the end\n"), "{}", &text[text.len() - 300..]);
    let dropped = drained[0]["heard"]["dropped"].as_u64().unwrap();
    assert!(
        dropped + text.len() as u64 > 200_007,
        "every byte is there or counted: {dropped}"
    );
    let notes: Vec<&Value> = of("notified", "run/chatty.1")
        .iter()
        .map(|line| &line["heard"]["text"])
        .collect();
    assert_eq!(
        notes,
        ["READY=1\nSTATUS=up", "STATUS=new", "X_DESCRIPTOR=1"]
    );
    assert!(of("drained", "run/quiet.1").is_empty(), "it said nothing");
    let place = |kind: &str| {
        told.iter()
            .position(|line| {
                line["heard"]["type"] == kind && line["heard"]["name"] == "run/chatty.1"
            })
            .unwrap()
    };
    assert!(place("kept") < place("drained"), "after its record");
    let exited = machine.heard_of("chatty.1", &pid);
    assert_eq!(exited["status"], json!({"code": 5}));

    // Once atalayad has spoken, it has it: the next one is not told again.
    machine.send(json!({"type": "heartbeat"}));
    machine.kill_daemon();
    assert_eq!(
        machine.ask_init(r#"{"request":"status"}"#)["drained"],
        json!({})
    );
}

/// The whole way down without atalayad: `ask` is how it is asked for.
fn stops_by_orders(ask: impl FnOnce(&Machine), outcome: Outcome) {
    let mut machine = Machine::start();
    machine.connect_and_greet();
    let note = |what: &str| format!("echo {what} >> /t/order");
    let postgres = format!(
        "trap '{}' INT; trap '{}; exit 0' QUIT; trap '{}' TERM; {}; {IDLE}",
        note("postgres-INT"),
        note("postgres-QUIT"),
        note("postgres-TERM"),
        note("up"),
    );
    let edge = format!(
        "trap '{}; exit 0' TERM; {}; {IDLE}",
        note("edge"),
        note("up")
    );
    let deaf = format!("trap '' TERM; {}; {IDLE}", note("up"));
    run_unit(
        &mut machine,
        "postgres.1",
        &postgres,
        order(0, libc::SIGINT, libc::SIGQUIT),
    );
    run_unit(
        &mut machine,
        "edge.2",
        &edge,
        order(1, libc::SIGTERM, libc::SIGKILL),
    );
    run_unit(
        &mut machine,
        "deaf.1",
        &deaf,
        order(2, libc::SIGTERM, libc::SIGKILL),
    );
    machine.until("units that listen", |machine| {
        (machine.root_file("/t/order").matches("up").count() == 3).then_some(())
    });
    machine.enter_safe_mode();
    ask(&machine);
    assert_eq!(machine.outcome(), outcome);
    let order = machine.root_file("/t/order").replace("up\n", "");
    assert_eq!(
        order,
        "edge\npostgres-INT\npostgres-QUIT\n",
        "{}",
        machine.console()
    );
    let console = machine.console();
    for line in [
        "safe mode: init does it",
        "init stops 3 units itself; that takes at most 46 s",
        "stopping deaf.1: SIGTERM",
        "deaf.1 did not stop in time: all its processes are killed",
        "postgres.1 did not stop within 0 s: SIGQUIT, 5 s",
        "stopped: postgres.1",
    ] {
        assert!(console.contains(line), "{line} in\n{console}");
    }
}

#[test]
fn ctrl_alt_del_stops_the_units_by_their_orders() {
    stops_by_orders(|machine| machine.signal(libc::SIGINT), Outcome::Restarted);
}

#[test]
fn the_poweroff_signal_works_too() {
    let signal = libc::SIGRTMIN() + 4;
    stops_by_orders(move |machine| machine.signal(signal), Outcome::PoweredOff);
}

#[test]
fn so_does_the_control_socket() {
    let ask = |machine: &Machine| {
        assert_eq!(
            machine.ask_init(r#"{"request":"reboot"}"#),
            json!({"ok": true})
        );
    };
    stops_by_orders(ask, Outcome::Restarted);
}

#[test]
fn units_are_untouched_and_their_statuses_wait() {
    let mut machine = Machine::start();
    machine.connect_and_greet();
    let pid = machine.start_unit("survivor.1", "read line < /t/gate; exit 6");
    machine.enter_safe_mode();
    machine.open_gate();
    let status = machine.ask_init(r#"{"request":"status"}"#);
    assert_eq!(status["deaths"], 5);
    assert!(
        status["reason"].as_str().unwrap().contains("signal 9"),
        "{status}"
    );
    assert!(
        (1..=60).contains(&status["next_try_s"].as_i64().unwrap()),
        "{status}"
    );
    machine.ask_init(r#"{"request":"supervisor-restart"}"#);
    machine.connect_and_greet();
    let exited = machine.heard("exited");
    assert_eq!(
        (&exited["pid"], &exited["status"]),
        (&json!(pid), &json!({"code": 6}))
    );
}

#[test]
fn in_a_trial_it_means_reboot() {
    // PID 1 leaves a /sys alone that is there already, so the loader's variable can be in it.
    let variable = "LoaderBootCountPath-4a67b082-0a4c-41cf-b6c7-440b29bb8c4f";
    let text: String = "a+2-1.efi"
        .bytes()
        .map(|byte| format!("\\{byte:03o}\\000"))
        .collect();
    let preparation = format!(
        r#"mount -t tmpfs tmpfs "$1/sys"
mkdir -p "$1/sys/firmware/efi/efivars" "$1/sys/fs/cgroup"
printf '\006\000\000\000{text}' > "$1/sys/firmware/efi/efivars/{variable}""#
    );
    let mut machine = Machine::start_prepared(STANDIN, &preparation, Stdio::null());
    machine.connect_and_greet();
    for _ in 0..4 {
        machine.kill_daemon();
        machine.connect();
    }
    machine.kill_daemon();
    assert_eq!(machine.outcome(), Outcome::Restarted);
    let console = machine.console();
    assert!(console.contains("this version is on trial"), "{console}");
}

#[test]
fn a_wished_restart_is_no_death() {
    let mut machine = Machine::start();
    machine.connect_and_greet();
    for _ in 0..6 {
        machine.ask_init(r#"{"request":"supervisor-restart"}"#);
        machine.await_daemons_end();
        machine.connect();
        assert_eq!(machine.greet()[0]["heard"]["deaths"], 0);
    }
    let status = machine.ask_init(r#"{"request":"status"}"#);
    assert_eq!(status["safe_mode"], false);
    assert!(status["atalayad"].as_i64().unwrap() > 1);
}

#[test]
fn slow_loud_and_strange_clients_hold_nobody_up() {
    let mut machine = Machine::start();
    machine.connect_and_greet();
    let mut slow: Vec<_> = (0..40).map(|_| machine.connect_to_init()).collect();
    for client in &mut slow {
        // Half a request; those that were hung up on cannot take it.
        drop(client.write_all(b"{\"request\":"));
    }
    let status = machine.ask_init(r#"{"request":"status"}"#);
    assert_eq!(status["ok"], true);
    let long = "x".repeat(10_000);
    for (line, expected) in [
        ("{\"request\":\"dance\"}", "supervisor-restart"),
        ("nonsense", "not a JSON object"),
        (long.as_str(), "at most 4096 bytes"),
    ] {
        let answer = machine.ask_init(line);
        assert_eq!(answer["ok"], false);
        assert!(
            answer["error"].as_str().unwrap().contains(expected),
            "{answer}"
        );
    }
    // Not even where the file's mode would allow it.
    let socket = machine.inside("/run/atalaya/init.sock");
    std::fs::set_permissions(socket, std::os::unix::fs::PermissionsExt::from_mode(0o666)).unwrap();
    let answer = machine.command(json!({"as_nobody": "ask"}));
    assert_eq!(answer["answer"], "ok");
    assert_eq!(
        machine.ask_init(r#"{"request":"poweroff"}"#),
        json!({"ok": true})
    );
    assert_eq!(machine.heard("request")["action"], "poweroff");
    machine.shutdown("poweroff");
    assert_eq!(machine.outcome(), Outcome::PoweredOff);
}

#[test]
fn a_refused_atalayad_touches_no_record() {
    let mut machine = Machine::start();
    machine.connect_and_greet();
    machine.command(json!({"keep": "unit/a", "record": "of a newer version", "pipes": ["log"]}));
    machine.kill_daemon();
    machine.connect();
    machine.send(json!({"type": "hello", "version": 99}));
    machine.heard("welcome");
    machine.send(json!({"type": "drop", "name": "unit/a"}));
    machine.send(json!({"type": "shutdown", "action": "poweroff", "reason": "no"}));
    machine.kill_daemon();
    machine.wait_for_console(
        "it speaks version 99 of the link, init version 2: refused; it is started again",
    );
    machine.connect();
    let told = machine.greet();
    assert_eq!(told[1]["heard"]["record"], "of a newer version");
    assert_eq!(told[1]["fds"], json!(["log"]));
}
