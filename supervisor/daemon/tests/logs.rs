//! The log as a whole: real pipes, real files, a writer that is killed, a disk that stands or is full.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // what a test needs is not only in #[test]

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use atalayad::logs::segment::scan;
use atalayad::logs::{Bounds, Budget, Hub, Level, Limits, Place, Query, Rotation, read_stored};
use nix::fcntl::OFlag;
use serde_json::Value;

const LIMIT: Duration = Duration::from_secs(30);

fn pipe() -> (OwnedFd, File) {
    let (read, write) = nix::unistd::pipe2(OFlag::O_CLOEXEC).unwrap();
    nix::fcntl::fcntl(&write, nix::fcntl::FcntlArg::F_SETPIPE_SZ(1 << 20)).unwrap();
    (read, File::from(write))
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap()
}

/// Small, so that little says much.
fn small() -> Bounds {
    Bounds {
        limits: Limits {
            waiting: 256 << 10,
            share: 192 << 10,
            recent: 64 << 10,
        },
        rotation: Rotation {
            bytes: 32 << 10,
            rest: Duration::from_millis(10),
            sync: Duration::from_millis(10),
            ..Rotation::shipped()
        },
        budget: Budget {
            bytes: 1 << 20,
            share: 1,
            age_ms: u64::MAX,
            floor: 0,
        },
    }
}

/// A disk that can be stopped.
#[derive(Default)]
struct Gate {
    is_shut: Mutex<bool>,
    changed: Condvar,
}

impl Gate {
    fn set(&self, is_shut: bool) {
        *self.is_shut.lock().unwrap() = is_shut;
        self.changed.notify_all();
    }

    fn pass(&self) {
        let shut = self.is_shut.lock().unwrap();
        drop(self.changed.wait_while(shut, |shut| *shut).unwrap());
    }
}

fn read(root: &Path, boot: &str, query: &Query) -> Vec<Value> {
    let place = Place {
        root: Some(root),
        boot,
        memory: &[],
        after: 0,
    };
    let mut lines = Vec::new();
    read_stored(&place, query, &mut |line| {
        lines.push(serde_json::from_slice(&line).unwrap());
        true
    });
    lines
}

fn texts(lines: &[Value]) -> Vec<&str> {
    lines
        .iter()
        .map(|line| line["line"].as_str().unwrap())
        .collect()
}

/// Every file below, in order.
fn files(root: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut entries: Vec<PathBuf> = fs::read_dir(root)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    entries.sort();
    for path in entries {
        if path.is_dir() {
            found.extend(files(&path));
        } else {
            found.push(path);
        }
    }
    found
}

fn wait(what: &str, is: impl Fn() -> bool) {
    let begin = Instant::now();
    while !is() {
        assert!(begin.elapsed() < LIMIT, "not within the limit: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn both_streams_long_lines_and_every_byte_are_kept() {
    let root = tempfile::tempdir().unwrap();
    let hub = Hub::new("one", Some(root.path().into()));
    let (out, mut to_out) = pipe();
    let (err, mut to_err) = pipe();
    runtime().block_on(async {
        let pump = hub.pump("u", (out, Some(err)), |_| {});
        let writer = std::thread::spawn(move || {
            let megabyte = vec![b'm'; 1_000_000];
            to_out.write_all(&megabyte).unwrap();
            to_out.write_all(b"\n\x1b[31mred\x1b[0m\r\n").unwrap();
            to_err
                .write_all(b"<3>bad \xff\xfe bytes\nno newline")
                .unwrap();
        });
        tokio::time::timeout(LIMIT, pump).await.unwrap().unwrap();
        writer.join().unwrap();
        assert!(hub.flush(LIMIT).await);
    });
    let lines = read(root.path(), "one", &Query::default());
    let of = |stream: &str| -> Vec<&Value> {
        lines
            .iter()
            .filter(|line| line["stream"] == stream)
            .collect()
    };
    let out = of("stdout");
    assert_eq!(out[0]["line"].as_str().unwrap().len(), 1_000_000);
    assert_eq!(out[1]["line"], "\u{1b}[31mred\u{1b}[0m\r");
    let err = of("stderr");
    assert_eq!((err[0]["level"].as_str(), err.len()), (Some("err"), 2));
    // "bad \xff\xfe bytes", exactly.
    assert_eq!(err[0]["raw"], "YmFkIP/+IGJ5dGVz");
    assert_eq!(err[1]["line"], "no newline");
}

#[test]
fn the_kernels_log_is_read_from_its_beginning_and_goes_on_after_a_restart() {
    let root = tempfile::tempdir().unwrap();
    let mark = root.path().join("mark");
    let own = format!("atalaya-test-{}: ", std::process::id());
    let say = |text: &str| {
        let mut log = fs::OpenOptions::new()
            .write(true)
            .open("/dev/kmsg")
            .unwrap();
        log.write_all(format!("<30>{own}{text}\n").as_bytes())
            .unwrap();
    };
    let seen = |hub: &Hub| -> Vec<String> {
        let lines = hub.last_lines("kmsg", 100_000);
        let own = lines.iter().filter_map(|line| line.strip_prefix(&own));
        own.map(str::to_owned).collect()
    };
    // Before anybody reads.
    say("one");
    let hub = Hub::new("one", None);
    hub.pump_kernel(mark.clone()).unwrap();
    wait("the first line", || seen(&hub) == ["one"]);
    say("two");
    wait("the second line", || seen(&hub) == ["one", "two"]);
    wait("the place to be kept", || mark.exists());
    drop(hub);
    let again = Hub::new("one", None);
    again.pump_kernel(mark.clone()).unwrap();
    say("three");
    wait("the third line", || {
        seen(&again).last().is_some_and(|line| line == "three")
    });
    assert!(!seen(&again).contains(&"one".to_owned()));
}

#[test]
fn a_disk_that_stands_holds_up_no_writer_and_every_lost_line_is_counted() {
    let root = tempfile::tempdir().unwrap();
    let gate = Arc::new(Gate::default());
    let mut bounds = small();
    let hook = Arc::clone(&gate);
    bounds.rotation.before_write = Some(Arc::new(move || hook.pass()));
    bounds.rotation.bytes = 8 << 20;
    bounds.budget.bytes = 64 << 20;
    let hub = Hub::with_bounds("one", Some(root.path().into()), bounds);
    hub.push("other", "before");
    gate.set(true);
    const LINES: u64 = 200_000;
    let (out, mut to_out) = pipe();
    let longest = runtime().block_on(async {
        let pump = hub.pump("loud", (out, None), |_| {});
        let writer = std::thread::spawn(move || {
            let mut longest = Duration::ZERO;
            for number in 0..LINES {
                let begin = Instant::now();
                writeln!(to_out, "line {number:06} of one that is in a hurry").unwrap();
                longest = longest.max(begin.elapsed());
            }
            longest
        });
        // It ends although nothing at all reaches the disk.
        tokio::time::timeout(LIMIT, pump).await.unwrap().unwrap();
        let longest = writer.join().unwrap();
        let last = hub.last_lines("loud", 1);
        assert_eq!(
            last,
            [format!("line {:06} of one that is in a hurry", LINES - 1)]
        );
        // What atalayad itself says is never waited for either, and another unit has its own share.
        hub.push("other", "while it stands");
        assert_eq!(hub.last_lines("other", 1), ["while it stands"]);
        gate.set(false);
        assert!(hub.flush(LIMIT).await);
        longest
    });
    // Far below what a machine under load does to a thread, and far below what the disk took.
    assert!(longest < Duration::from_secs(5), "{longest:?}");
    let lines = read(root.path(), "one", &Query::default());
    let texts = texts(&lines);
    let kept = texts
        .iter()
        .filter(|text| text.starts_with("line "))
        .count() as u64;
    let dropped: u64 = texts
        .iter()
        .filter_map(|text| text.strip_suffix(" were dropped: the disk took them too slowly"))
        .map(|text| text.split(' ').next().unwrap().parse::<u64>().unwrap())
        .sum();
    assert!(kept > 0 && dropped > 0);
    assert_eq!(kept + dropped, LINES);
    assert!(texts.contains(&"before") && texts.contains(&"while it stands"));
}

/// Plays the writer: says numbered lines until it is killed. Told by the environment.
#[test]
fn writer_program() {
    let Ok(root) = std::env::var("LOG_ROOT") else {
        return;
    };
    let boot = std::env::var("LOG_BOOT").unwrap();
    let hub = Hub::with_bounds(&boot, Some(root.into()), small());
    runtime().block_on(async {
        for number in 0_u64.. {
            hub.push("u", &format!("{boot} {number} {}", "x".repeat(100)));
            if number % 20 == 0 && hub.flush(LIMIT).await {
                // All up to here is on disk, whatever happens now.
                println!("synced {number}");
            }
        }
    });
}

#[test]
fn a_writer_that_is_killed_at_any_moment_loses_nothing_that_was_synced() {
    let root = tempfile::tempdir().unwrap();
    let mut promised = Vec::new();
    for round in 0..12_u64 {
        let boot = format!("b{}", round / 3);
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "writer_program", "--nocapture"])
            .env("LOG_ROOT", root.path())
            .env("LOG_BOOT", &boot)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut synced = None;
        // Another number of lines each time: at rotations, compressions, and in between.
        let wanted = 3 + round * 11 % 29;
        let output = BufReader::new(child.stdout.take().unwrap());
        for line in output.lines().map_while(Result::ok) {
            if let Some(at) = line.find("synced ") {
                synced = line[at + 7..].parse::<u64>().ok();
                if synced.is_some_and(|synced| synced / 20 >= wanted) {
                    break;
                }
            }
        }
        child.kill().unwrap();
        child.wait().unwrap();
        promised.push((boot, synced.unwrap()));
        // What the disk holds of the open segment may also be cut anywhere behind what was synced: here in a line.
        if let Some(open) = files(root.path()).iter().rev().find(|path| {
            path.extension()
                .is_some_and(|extension| extension == "jsonl")
        }) {
            // One that was killed before its first line leaves an empty segment, which is removed; with that part of a line it would be kept
            // as nothing of ours.
            let mut file = fs::OpenOptions::new().append(true).open(open).unwrap();
            if file.metadata().unwrap().len() > 0 {
                file.write_all(b"{\"t\":\"2026-11-22T1").unwrap();
            }
        }
    }
    let lines = read(root.path(), "none", &Query::default());
    for (boot, synced) in &promised {
        let of_boot: Vec<&Value> = lines.iter().filter(|line| line["boot"] == **boot).collect();
        for number in 0..=*synced {
            let prefix = format!("{boot} {number} ");
            let found = of_boot
                .iter()
                .any(|line| line["line"].as_str().unwrap().starts_with(&prefix));
            assert!(found, "{boot} {number} of {promised:?}");
        }
    }
    // The next start cuts every torn tail and compresses what was left open.
    let hub = Hub::with_bounds("last", Some(root.path().into()), small());
    wait("the segments to be mended", || {
        files(root.path()).iter().all(|path| {
            let name = path.to_string_lossy();
            !name.ends_with(".new") && (!name.ends_with(".jsonl") || name.contains("-last/"))
        })
    });
    assert_eq!(
        read(root.path(), "none", &Query::default()).len(),
        lines.len()
    );
    drop(hub);
}

#[test]
fn a_segment_truncated_at_every_byte_is_cut_to_its_whole_lines_and_goes_on() {
    let golden = include_bytes!("../src/logs/golden/version-2.jsonl");
    for cut in 0..=golden.len() {
        let root = tempfile::tempdir().unwrap();
        let boot = root.path().join("000001-old");
        fs::create_dir(&boot).unwrap();
        let mut file = File::create(boot.join("000001.jsonl")).unwrap();
        file.write_all(&golden[..cut]).unwrap();
        let whole = scan(&golden[..cut]).lines.len();
        let hub = Hub::with_bounds("new", Some(root.path().into()), small());
        hub.push("u", "after");
        runtime().block_on(async { assert!(hub.flush(LIMIT).await) });
        let lines = read(root.path(), "new", &Query::default());
        assert_eq!(lines.len(), whole + 1, "cut at {cut}");
    }
}

#[test]
fn the_budget_holds_the_oldest_go_and_a_newer_versions_stay() {
    let root = tempfile::tempdir().unwrap();
    let newer = root.path().join("000001-from-the-future");
    fs::create_dir(&newer).unwrap();
    let mut file = File::create(newer.join("000001.jsonl")).unwrap();
    file.write_all(b"{\"atalaya_log\":3}\nunreadable\n")
        .unwrap();
    let mut bounds = small();
    bounds.budget.bytes = 96 << 10;
    // Text that does not compress to nothing.
    let noise = |number: u64| {
        let mut state = number.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
        (0..200)
            .map(|_| {
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                char::from(b'!' + u8::try_from(state % 90).unwrap())
            })
            .collect::<String>()
    };
    for boot in ["a", "b", "c"] {
        let hub = Hub::with_bounds(boot, Some(root.path().into()), bounds.clone());
        runtime().block_on(async {
            for number in 0..1000 {
                hub.push("u", &format!("{boot}{number} {}", noise(number)));
                if number % 50 == 0 {
                    assert!(hub.flush(LIMIT).await);
                }
            }
            assert!(hub.flush(LIMIT).await);
        });
        let fits = || {
            let size: u64 = files(root.path())
                .iter()
                .map(|path| path.metadata().map_or(0, |metadata| metadata.len()))
                .sum();
            // And what is open now.
            size <= (96 << 10) + (32 << 10) + 4096
        };
        wait("the log to fit its budget", fits);
    }
    let lines = read(root.path(), "c", &Query::default());
    assert!(
        lines.last().unwrap()["line"]
            .as_str()
            .unwrap()
            .starts_with("c999 ")
    );
    assert!(!texts(&lines).iter().any(|text| text.starts_with("a0 ")));
    assert!(newer.join("000001.jsonl").exists());
}

#[test]
fn space_that_others_need_is_given_back_and_writing_goes_on_afterwards() {
    let root = tempfile::tempdir().unwrap();
    let hub = Hub::with_bounds("one", Some(root.path().into()), small());
    runtime().block_on(async {
        for number in 0..2000 {
            hub.push("u", &format!("{number} {}", "x".repeat(100)));
            if number % 50 == 0 {
                assert!(hub.flush(LIMIT).await);
            }
        }
        assert!(hub.flush(LIMIT).await);
    });
    let closed = || {
        files(root.path())
            .iter()
            .filter(|path| path.to_string_lossy().ends_with(".zst"))
            .count()
    };
    wait("segments to be closed", || closed() > 0);
    hub.yield_space();
    wait("the closed segments to go", || closed() == 0);
    hub.push("u", "kept in memory meanwhile");
    let snapshot = hub.snapshot(0);
    let last = snapshot.last().unwrap();
    assert_eq!(last.texts().next().unwrap(), "kept in memory meanwhile");
    let stored = read(root.path(), "one", &Query::default());
    assert!(!texts(&stored).contains(&"kept in memory meanwhile"));
    hub.resume();
    wait("the lines to be written", || {
        let stored = read(root.path(), "one", &Query::default());
        texts(&stored).last() == Some(&"kept in memory meanwhile")
    });
}

#[test]
fn a_full_disk_costs_old_segments_first_and_no_line_is_there_twice() {
    // A disk of 256 KiB.
    let root = tempfile::tempdir().unwrap();
    let flags = nix::mount::MsFlags::empty();
    nix::mount::mount(
        Some("tmpfs"),
        root.path(),
        Some("tmpfs"),
        flags,
        Some("size=256k"),
    )
    .unwrap();
    let outcome = std::panic::catch_unwind(|| {
        let mut bounds = small();
        bounds.budget.bytes = 8 << 20;
        bounds.budget.share = 1;
        let hub = Hub::with_bounds("one", Some(root.path().into()), bounds);
        let mut state = 7_u64;
        for number in 0..4000 {
            let noise: String = (0..20)
                .map(|_| {
                    state = state
                        .wrapping_mul(6_364_136_223_846_793_005)
                        .wrapping_add(1);
                    format!("{state:016x}")
                })
                .collect();
            hub.push("u", &format!("{number} {noise}"));
            if number % 100 == 0 {
                // The disk may need a moment to give something back; the next hundred must find room in the unit's share.
                wait("room in the queue", || {
                    hub.snapshot(0)
                        .iter()
                        .map(|batch| batch.cost())
                        .sum::<usize>()
                        < 100 << 10
                });
            }
        }
        wait("the last line to be stored", || {
            let stored = read(root.path(), "one", &Query::default());
            texts(&stored)
                .last()
                .is_some_and(|text| text.starts_with("3999 "))
        });
        let stored = read(root.path(), "one", &Query::default());
        let mut us: Vec<u64> = stored
            .iter()
            .map(|line| line["us"].as_u64().unwrap())
            .collect();
        let count = us.len();
        us.dedup();
        assert!(us.is_sorted() && us.len() == count, "lines are there twice");
        assert!(
            !texts(&stored)[0].starts_with("0 "),
            "nothing was given back"
        );
    });
    // What is written now may still hold it.
    nix::mount::umount2(root.path(), nix::mount::MntFlags::MNT_DETACH).unwrap();
    outcome.unwrap();
}

#[test]
fn the_last_lines_are_the_last_whatever_is_in_memory_and_what_on_disk() {
    let root = tempfile::tempdir().unwrap();
    let mut bounds = small();
    bounds.budget.floor = 8 << 20;
    for boot in ["old", "new"] {
        let hub = Hub::with_bounds(boot, Some(root.path().into()), bounds.clone());
        runtime().block_on(async {
            for number in 0..300 {
                let unit = if number % 3 == 0 { "three" } else { "u" };
                let level = if number % 10 == 0 {
                    Level::Err
                } else {
                    Level::Info
                };
                hub.push_level(unit, level, &format!("{boot} {number}"));
                if number == 200 {
                    assert!(hub.flush(LIMIT).await);
                    hub.yield_space();
                }
            }
        });
        if boot == "old" {
            hub.resume();
            runtime().block_on(async { assert!(hub.flush(LIMIT).await) });
            continue;
        }
        let memory = hub.snapshot(0);
        let ask = |query: Query| {
            let place = Place {
                root: Some(root.path()),
                boot: "new",
                memory: &memory,
                after: 0,
            };
            let mut found = Vec::new();
            read_stored(&place, &query, &mut |line| {
                let line: Value = serde_json::from_slice(&line).unwrap();
                found.push(line["line"].as_str().unwrap().to_owned());
                true
            });
            found
        };
        let last = |lines| Query {
            lines: Some(lines),
            ..Query::default()
        };
        let all = ask(Query::default());
        for count in [0, 1, 50, 99, 150, 299, 300, 400, 100_000] {
            let skip = all.len().saturating_sub(usize::try_from(count).unwrap());
            assert_eq!(ask(last(count)), all[skip..], "the last {count}");
        }
        let three = Query {
            units: vec!["three".into()],
            ..last(2)
        };
        assert_eq!(ask(three), ["new 294", "new 297"]);
        let bad = Query {
            level: Some(Level::Err),
            boot: Some("0".into()),
            ..last(1)
        };
        assert_eq!(ask(bad), ["new 290"]);
        let before = Query {
            boot: Some("-1".into()),
            ..last(1)
        };
        assert!(ask(before)[0].starts_with("old "));
    }
}
