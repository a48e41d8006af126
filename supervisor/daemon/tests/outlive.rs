//! What outlives a run, and atalayad too: listening sockets, stop orders, stored descriptors, and processes that do not die.
//! This process plays init.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // what a test needs is not only in #[test]

mod support;

use std::time::{Duration, Instant};

use support::init::Init;
use support::{Ground, free_port, pid_of, program, signal};

#[test]
fn unit_program() {
    support::play();
}

const SLEEPER: &str = "type = \"service\"\nexec = [\"/bin/sleep\", \"1000\"]\n";

/// A unit with everything that init keeps for it: two more lives than its own.
fn whole(port: u16) -> String {
    format!(
        "type = \"service\"\n{}environment = {{ ROLE = \"listening\" }}\nlisten = [{{ name = \"web\", address = \"127.0.0.1:{port}\" }}]\n\
         [ready]\nkind = \"notify\"\n[restart]\nmin_ms = 10\n",
        program()
    )
}

/// After every single message that atalayad sends on the way up of a unit with a socket, and of one above it.
#[test]
fn sockets_and_stop_orders_survive_a_death_at_every_step() {
    for fuse in 1..16 {
        let ground = Ground::new();
        let port = free_port();
        ground.unit("unit", &whole(port));
        ground.unit(
            "above",
            &format!("{SLEEPER}requires = [\"unit\"]\n[stop]\nsignal = \"INT\"\ntimeout_s = 7\nthen = \"QUIT\"\nthen_timeout_s = 3\n"),
        );
        let mut init = Init::new(&ground);
        init.fuse = Some(fuse);
        init.until("the death", |init| init.deaths == 1);
        let view = init.until_unit("above", |view| view["ready"] == true);
        assert_eq!(init.deaths, 1, "{fuse}");
        let below = ground.view("unit").unwrap();
        assert_eq!(ask_who(port), pid_of(&below), "{fuse}");
        let (record, sockets) = &init.kept["listen/unit"];
        assert_eq!(
            (record.as_str(), sockets.len()),
            (format!("[[\"web\",\"127.0.0.1:{port}\"]]").as_str(), 1)
        );
        let order = |name: &str| {
            let run = &ground.view(name).unwrap()["run"];
            init.stops[&format!("run/{name}.{run}")].clone()
        };
        let (order, lower) = (order("above"), order("unit"));
        assert_eq!(order.pid, Some(pid_of(&view)), "{fuse}");
        assert_eq!(order.cgroup, format!("above.{}", view["run"]));
        assert_eq!(
            (
                order.signal,
                order.timeout_ms,
                order.then,
                order.then_timeout_ms
            ),
            (2, 7_000, 3, 3_000)
        );
        assert!(order.level > lower.level, "{order:?} {lower:?}");
        init.end();
    }
}

/// Who takes connections on the port: the pid that it answers.
fn ask_who(port: u16) -> i32 {
    let mut stream = std::net::TcpStream::connect(("127.0.0.1", port)).unwrap();
    let mut text = String::new();
    std::io::Read::read_to_string(&mut stream, &mut text).unwrap();
    text.parse().unwrap()
}

#[test]
fn no_connection_is_refused_over_the_death_of_the_listener_and_of_atalayad() {
    let ground = Ground::new();
    let port = free_port();
    ground.unit("unit", &whole(port));
    let mut init = Init::new(&ground);
    init.until_unit("unit", |view| view["ready"] == true);
    let is_over = std::sync::atomic::AtomicBool::new(false);
    let done = || is_over.load(std::sync::atomic::Ordering::Relaxed);
    std::thread::scope(|scope| {
        let client = scope.spawn(|| {
            let mut count = 0_u32;
            while !done() {
                // A refusal is an error here; an answer may be cut short by the kill.
                drop(std::net::TcpStream::connect(("127.0.0.1", port)).unwrap());
                count += 1;
            }
            count
        });
        for round in 1..=5_u32 {
            signal(pid_of(&ground.view("unit").unwrap()), 9);
            if round % 2 == 0 {
                init.kill_daemon();
            }
            init.until_unit("unit", |view| {
                view["ready"] == true && view["run"] == round + 1
            });
        }
        is_over.store(true, std::sync::atomic::Ordering::Relaxed);
        assert!(client.join().unwrap() > 100);
    });
    assert_eq!(ask_who(port), pid_of(&ground.view("unit").unwrap()));
    init.end();
}

#[test]
fn stored_descriptors_survive_the_unit_and_atalayad_and_go_with_a_stop_on_purpose() {
    let ground = Ground::new();
    ground.unit(
        "unit",
        &format!(
            "type = \"service\"\n{}environment = {{ ROLE = \"storing\" }}\n[ready]\nkind = \"notify\"\n[restart]\nmin_ms = 10\n",
            program()
        ),
    );
    let mut init = Init::new(&ground);
    let first = init.until_unit("unit", |view| view["says"] == "count 0");
    init.kill_daemon();
    init.until_unit("unit", |view| view["ready"] == true);
    signal(pid_of(&first), 9);
    let second = init.until_unit("unit", |view| view["says"] == "count 1");
    // The old one was removed when the new one was stored.
    assert_eq!(init.kept["store/unit"].1.len(), 1);
    assert_eq!(second["stored"], 1);
    init.post("/v1/units/unit/stop");
    init.until_unit("unit", |view| view["state"] == "Stopped");
    init.until("nothing is stored", |init| {
        !init.kept.contains_key("store/unit")
    });
    init.post("/v1/units/unit/start");
    init.until_unit("unit", |view| view["says"] == "count 0");
    init.end();
}

/// A backend that is stopped, and then takes its time to die, as one that waits for a disk.
fn wait_for_a_slow_death(under_the_next: bool) {
    use nix::sys::ptrace;
    let ground = Ground::new();
    ground.unit(
        "unit",
        "type = \"service\"\nexec = [\"/bin/sh\", \"-c\", \"setsid sleep 1006 & exec sleep 1007\"]\n[restart]\nmin_ms = 10\n",
    );
    let mut init = Init::new(&ground);
    let before = init.until_unit("unit", |view| view["ready"] == true);
    let cgroup = atalaya_sys::cgroup::Cgroup::at(ground.cgroup.join("units/unit.1"));
    let mut backend = 0;
    init.until("both sleep", |_| {
        let sleeps = |pid: &i32| {
            std::fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|name| name == "sleep\n")
        };
        let pids = cgroup.pids().unwrap();
        backend = *pids
            .iter()
            .find(|pid| **pid != pid_of(&before))
            .unwrap_or(&0);
        pids.len() == 2 && pids.iter().all(sleeps)
    });
    signal(backend, 19);
    let backend = nix::unistd::Pid::from_raw(backend);
    // On its way out it stops once more, until this test lets it go. (A second SIGKILL would let it go, too.)
    ptrace::seize(backend, ptrace::Options::PTRACE_O_TRACEEXIT).unwrap();
    if under_the_next {
        signal(init.daemon, 19);
        signal(pid_of(&before), 9);
        init.until("the exit is seen", |init| !init.exits.is_empty());
        init.kill_daemon();
    } else {
        signal(pid_of(&before), 9);
    }
    let waits = |view: &serde_json::Value| view["state"] == "Backoff" && view["run"] == 1;
    init.until_unit("unit", waits);
    // Much longer than its pause.
    let begin = Instant::now();
    init.until("a second", |_| begin.elapsed() > Duration::from_secs(1));
    assert!(cgroup.populated().unwrap());
    let view = ground.view("unit").unwrap();
    assert!(waits(&view), "{view:#}");
    init.until("it may end", |_| ptrace::detach(backend, None).is_ok());
    init.until_unit("unit", |view| view["run"] == 2 && view["ready"] == true);
    init.until("it is gone", |_| !cgroup.path().exists());
    init.end();
}

#[test]
fn no_run_starts_while_a_process_of_the_former_one_lives() {
    wait_for_a_slow_death(false);
}

#[test]
fn no_run_starts_under_the_next_atalayad_while_a_process_of_the_former_one_lives() {
    wait_for_a_slow_death(true);
}
