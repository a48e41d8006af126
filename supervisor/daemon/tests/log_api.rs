//! Logs through a running atalayad: what units say by their two pipes and by syslog, and how it is asked for.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // what a test needs is not only in #[test]

mod support;

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::time::{Duration, Instant};

use serde_json::Value;
use support::{Ground, play, program, put};

const LIMIT: Duration = Duration::from_secs(30);

#[test]
fn unit_program() {
    play();
}

fn ask(ground: &Ground, query: &str) -> Vec<Value> {
    // It may be starting.
    let Some((status, body)) = ground.request("GET", &format!("/v1/logs?{query}")) else {
        return Vec::new();
    };
    assert_eq!(status, 200, "{body}");
    body.lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

/// Asks until something is there.
fn wait(ground: &Ground, query: &str) -> Vec<Value> {
    let begin = Instant::now();
    loop {
        let lines = ask(ground, query);
        if !lines.is_empty() {
            return lines;
        }
        assert!(begin.elapsed() < LIMIT, "nothing for {query}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn streams_levels_and_bytes_of_a_unit_are_told_apart() {
    let ground = Ground::new();
    ground.unit(
        "talks",
        "type = \"oneshot\"\nexec = [\"/bin/sh\", \"-c\", \"echo plain; echo '<4>careful' >&2; printf 'bad \\\\377\\\\n' >&2; echo '{\\\"level\\\":\\\"error\\\",\\\"msg\\\":\\\"x\\\"}'\"]\n",
    );
    let atalayad = ground.start();
    ground.wait_state("talks", "Done");
    let lines = ask(&ground, "unit=talks");
    let find = |text: &str| {
        let found = lines
            .iter()
            .find(|line| line["line"].as_str().unwrap().contains(text));
        found.unwrap_or_else(|| panic!("{text}: {lines:#?}"))
    };
    assert_eq!(find("plain")["stream"], "stdout");
    assert_eq!(find("plain")["level"], "info");
    assert_eq!(
        (&find("careful")["stream"], &find("careful")["level"]),
        (&"stderr".into(), &"warning".into())
    );
    assert_eq!(find("careful")["line"], "careful");
    assert_eq!(find("bad")["raw"], "YmFkIP8=");
    assert_eq!(find("msg")["level"], "err");
    assert_eq!(find("done")["stream"], "atalayad");
    let bad = ask(&ground, "unit=talks,other&level=err");
    assert_eq!(bad.len(), 1, "{bad:#?}");
    assert_eq!(
        ask(&ground, "unit=talks&lines=2")[..],
        lines[lines.len() - 2..]
    );
    let future = ask(&ground, "since=2125-01-01T00:00:00Z");
    assert!(future.is_empty() && ask(&ground, "until=2001-01-01T00:00:00%2B02:00").is_empty());
    for wrong in ["level=loud", "since=soon", "lines=-1", "colour=red"] {
        let (status, body) = ground.request("GET", &format!("/v1/logs?{wrong}")).unwrap();
        assert_eq!(status, 400, "{wrong}: {body}");
    }
    atalayad.stop();
}

#[test]
fn syslog_is_heard_and_belongs_to_the_unit_in_whose_cgroup_its_sender_is() {
    let ground = Ground::new();
    ground.unit(
        "old-style",
        &format!(
            "type = \"service\"\n{}environment = {{ ROLE = \"syslog GROUND/run/log.sock\" }}\n",
            program()
        ),
    );
    let atalayad = ground.start();
    let lines = wait(&ground, "unit=old-style&level=err");
    assert_eq!(lines[0]["line"], "prog[7]: it broke");
    assert_eq!(lines[0]["stream"], "syslog");
    // Whoever is no unit cannot pass for one.
    let stranger = UnixDatagram::unbound().unwrap();
    stranger
        .send_to(b"<11>old-style: not me", ground.path("run/log.sock"))
        .unwrap();
    assert_eq!(wait(&ground, "unit=syslog")[0]["line"], "old-style: not me");
    assert_eq!(ask(&ground, "unit=old-style&level=err").len(), 1);
    atalayad.stop();
}

#[test]
fn who_follows_sees_the_last_lines_once_and_then_each_that_comes() {
    let ground = Ground::new();
    ground.unit(
        "once",
        "type = \"oneshot\"\nexec = [\"/bin/echo\", \"again\"]\n",
    );
    let atalayad = ground.start();
    ground.wait_state("once", "Done");
    let mut stream = UnixStream::connect(ground.path("run/control.sock")).unwrap();
    stream.set_read_timeout(Some(LIMIT)).unwrap();
    stream
        .write_all(b"GET /v1/logs?unit=once&follow=true&lines=1000 HTTP/1.0\r\n\r\n")
        .unwrap();
    let mut lines = BufReader::new(stream).lines();
    while !lines.next().unwrap().unwrap().is_empty() {}
    let mut seen = Vec::new();
    for run in 1..=20 {
        while seen.iter().filter(|(text, _)| text == "again").count() < run {
            let line: Value = serde_json::from_str(&lines.next().unwrap().unwrap()).unwrap();
            let text = line["line"].as_str().unwrap().to_owned();
            seen.push((text, line["us"].as_u64().unwrap()));
        }
        assert_eq!(ground.post("/v1/units/once/restart"), 200);
    }
    let us: Vec<u64> = seen.iter().map(|(_, us)| *us).collect();
    assert!(
        us.is_sorted_by(|one, two| one < two),
        "twice or out of order: {seen:#?}"
    );
    drop(lines);
    atalayad.stop();
}

#[test]
fn how_the_last_boot_ended_is_in_its_list_in_the_status_and_in_the_log() {
    let ground = Ground::new();
    ground.unit("unit", "type = \"oneshot\"\nexec = [\"/bin/true\"]\n");
    for directory in ["data/logs/000001-0ld", "data/state"] {
        std::fs::create_dir_all(ground.path(directory)).unwrap();
    }
    put(
        &ground.path("data/logs/000001-0ld/000001.jsonl"),
        "{\"t\":\"2001-01-01T00:00:00.000Z\",\"unit\":\"one\",\"boot\":\"0ld\",\"line\":\"last words\"}\n",
    );
    put(
        &ground.path("data/state/last-end.json"),
        "{\"version\":1,\"action\":\"poweroff\",\"reason\":\"the power button\",\"boot_id\":\"0ld\",\"time\":1}",
    );
    let words = "it was switched off in order: the power button";
    let atalayad = ground.start();
    wait(&ground, "unit=atalayad");
    let told = |told: &[Value]| {
        told.iter()
            .any(|line| line["line"].as_str().unwrap().contains(words))
    };
    let begin = Instant::now();
    while !told(&ask(&ground, "unit=atalayad")) {
        assert!(begin.elapsed() < LIMIT);
        std::thread::sleep(Duration::from_millis(5));
    }
    let status: Value =
        serde_json::from_str(&ground.request("GET", "/v1/status").unwrap().1).unwrap();
    assert_eq!(status["last_boot"]["cause"], "orderly");
    assert_eq!(status["last_boot"]["lines"][0], "one: last words");
    let (_, boots) = ground.request("GET", "/v1/logs?boots=true").unwrap();
    let boots: Value = serde_json::from_str(&boots).unwrap();
    assert_eq!(boots["boots"][0]["index"], 0);
    assert_eq!(boots["boots"][1]["words"], words);
    assert_eq!(boots["boots"][1]["boot"], "0ld");
    atalayad.stop();
}
