//! What the last boot left behind: init's record of an orderly end, the kernel's last words (pstore), the watchdog's flag, and the
//! last lines of its log. Gathered here, decided in `atalaya_core::last_boot`. The answer is written beside that boot's log, where
//! `atalaya logs --boots` finds it, and in /run, where an atalayad that starts again finds it.

use std::collections::VecDeque;
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use atalaya_core::last_boot::{Cause, End, Facts, Kind, Said, assess};
use atalaya_sys::durable;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::directory::{boot_of, list, list_boots, list_segments};
use super::line::{Batch, Level, Stream};
use super::segment::Reader;

/// In a boot's directory: how it ended.
pub(super) const END: &str = "end.json";
const VERSION: u32 = 1;
/// Kernel words that are kept, in bytes of all files.
const PSTORE_BYTES: u64 = 1 << 20;
/// Lines and characters of them that are looked at.
const LINES: usize = 30;
const COLUMNS: usize = 400;

/// Where to look.
#[derive(Clone, Debug)]
pub struct Places {
    /// What init found out when it started.
    pub boot_record: PathBuf,
    /// What init wrote down when it ended the machine in order.
    pub end_record: Option<PathBuf>,
    pub pstore: PathBuf,
    /// Where the answer is kept for the rest of this boot.
    pub answer: PathBuf,
}

/// What stands in [`END`].
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Ended {
    version: u32,
    /// The last line's time.
    pub ended: Option<String>,
    #[serde(flatten)]
    pub cause: Cause,
}

/// What this version puts into a boot's directory beside segments.
pub(super) fn is_ours(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    name == END || name.starts_with("pstore-")
}

/// The answer, and whether it is new in this boot.
pub(super) fn look(places: &Places, root: Option<&Path>, boot: &str) -> (Cause, bool) {
    if let Some(known) = read_json::<Ended>(&places.answer) {
        return (known.cause, false);
    }
    let earlier = root.and_then(|root| {
        let boots = list_boots(root);
        boots
            .into_iter()
            .rev()
            .find(|path| boot_of(path) != Some(boot))
    });
    let words = list(&places.pstore, |path| path.is_file());
    let (last_lines, ended) = earlier.as_deref().map(read_last).unwrap_or_default();
    let cause = assess(&Facts {
        has_log: earlier.is_some(),
        end: places
            .end_record
            .as_deref()
            .and_then(|path| read_end(path, earlier.as_deref(), boot)),
        kernel_words: read_kernel_words(&words),
        watchdog: read_json::<Value>(&places.boot_record)
            .and_then(|record| record.get("watchdog_reset")?.as_bool())
            .unwrap_or(false),
        last_lines,
    });
    if let Some(directory) = &earlier {
        for path in &words {
            // What cannot be kept stays where it is.
            keep_words(path, directory).ok();
        }
    }
    let ended = Ended {
        version: VERSION,
        ended,
        cause,
    };
    let text = serde_json::to_vec(&ended).unwrap_or_default();
    if let Some(directory) = earlier {
        // A disk that does not take it: it is still known until the next boot.
        durable::write(&directory.join(END), &text, 0o600, None).ok();
    }
    durable::write(&places.answer, &text, 0o600, None).ok();
    (ended.cause, true)
}

/// The answer as lines of the log.
pub(super) fn tell(cause: &Cause, mut offer: impl FnMut(Batch)) {
    let level = match cause.cause {
        Kind::Orderly | Kind::FirstBoot => Level::Info,
        Kind::Panic | Kind::Watchdog | Kind::OutOfMemory | Kind::PowerLoss | Kind::Unknown => {
            Level::Warning
        }
    };
    let mut say = |text: String| {
        let bytes = text.into_bytes();
        offer(Batch::new(
            "atalayad".into(),
            Stream::Atalayad,
            Some(level),
            bytes,
        ));
    };
    say(format!("the last boot: {}", cause.words));
    if level == Level::Warning {
        for line in &cause.lines {
            say(format!("its last lines: {}", line.replace('\n', " ")));
        }
    }
}

fn read_json<T: serde::de::DeserializeOwned>(path: &Path) -> Option<T> {
    serde_json::from_slice(&read_part(path, 256 << 10).ok()?).ok()
}

fn read_part(path: &Path, limit: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(limit).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Init's record, if it is of the boot before this one.
fn read_end(path: &Path, earlier: Option<&Path>, this: &str) -> Option<End> {
    let record: Value = read_json(path)?;
    let text = |key: &str| {
        let value = record.get(key).and_then(Value::as_str);
        value.unwrap_or_default().to_owned()
    };
    let of = text("boot_id");
    // Where that boot left no log its record may still be the last one.
    let is_it = earlier.map_or(of != this, |earlier| boot_of(earlier) == Some(&*of));
    is_it.then(|| End {
        action: text("action"),
        reason: text("reason"),
        troubles: record
            .get("troubles")
            .and_then(Value::as_array)
            .map(|all| {
                all.iter()
                    .filter_map(Value::as_str)
                    .map(str::to_owned)
                    .collect()
            })
            .unwrap_or_default(),
    })
}

/// The last lines of a boot, oldest first, and the time of the very last.
fn read_last(directory: &Path) -> (Vec<Said>, Option<String>) {
    let (mut said, mut ended) = (VecDeque::new(), None);
    for segment in list_segments(directory).iter().rev() {
        let mut of_segment = VecDeque::new();
        let Ok(mut reader) = Reader::open(segment) else {
            continue;
        };
        let mut last = None;
        reader.each(&mut |_, line| {
            if of_segment.len() == LINES {
                of_segment.pop_front();
            }
            last = Some(line.t.to_string());
            of_segment.push_back(Said {
                unit: line.unit.to_string(),
                text: line.line.chars().take(COLUMNS).collect(),
            });
            true
        });
        ended = ended.or(last);
        of_segment.extend(said);
        said = of_segment;
        if said.len() >= LINES {
            break;
        }
    }
    let surplus = said.len().saturating_sub(LINES);
    (said.into_iter().skip(surplus).collect(), ended)
}

/// The kernel's own last messages. Each file is a part, and part 1 is the end (fs/pstore/platform.c).
fn read_kernel_words(files: &[PathBuf]) -> Vec<String> {
    let mut parts: Vec<(u32, String)> = files
        .iter()
        .filter(|path| {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            name.starts_with("dmesg-") && !name.ends_with(".enc.z")
        })
        .filter_map(|path| {
            let bytes = read_part(path, PSTORE_BYTES).ok()?;
            let text = String::from_utf8_lossy(&bytes).into_owned();
            let (head, rest) = text.split_once('\n')?;
            let part = head
                .rsplit_once("Part")
                .and_then(|(_, part)| part.trim().parse().ok());
            // Oopses that the machine survived are no last words.
            head.starts_with("Panic#")
                .then(|| (part.unwrap_or(1), rest.to_owned()))
        })
        .collect();
    parts.sort_by_key(|(part, _)| std::cmp::Reverse(*part));
    parts
        .iter()
        .flat_map(|(_, text)| text.lines().map(str::to_owned))
        .collect()
}

/// Copies a file of pstore beside the log of the boot that it is of, and makes room for the next.
fn keep_words(path: &Path, directory: &Path) -> io::Result<()> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let taken: u64 = list(directory, is_ours)
        .iter()
        .filter_map(|path| fs::metadata(path).ok())
        .map(|metadata| metadata.len())
        .sum();
    let bytes = read_part(path, PSTORE_BYTES.saturating_sub(taken))?;
    let target = directory.join(format!("pstore-{name}"));
    durable::write(&target, &bytes, 0o600, None).map_err(|error| error.source)?;
    fs::remove_file(path)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::logs::put;

    struct Ground {
        root: tempfile::TempDir,
        places: Places,
    }

    impl Ground {
        fn new() -> Self {
            let root = tempfile::tempdir().unwrap();
            let path = |name: &str| root.path().join(name);
            for directory in ["logs/000007-old", "pstore"] {
                fs::create_dir_all(path(directory)).unwrap();
            }
            put(
                &path("logs/000007-old/000001.jsonl"),
                include_bytes!("golden/version-2.jsonl"),
            );
            let places = Places {
                boot_record: path("boot.json"),
                end_record: Some(path("last-end.json")),
                pstore: path("pstore"),
                answer: path("answer.json"),
            };
            Self { root, places }
        }

        fn logs(&self) -> PathBuf {
            self.root.path().join("logs")
        }

        fn look(&self) -> (Cause, bool) {
            look(&self.places, Some(&self.logs()), "new")
        }
    }

    #[test]
    fn a_boot_that_ends_without_a_word_is_told_with_its_last_lines_and_only_once() {
        let ground = Ground::new();
        // Another boot's record says nothing about this one.
        let other = br#"{"version":1,"action":"reboot","reason":"x","boot_id":"older"}"#;
        put(ground.places.end_record.as_deref().unwrap(), other);
        let (cause, is_new) = ground.look();
        assert_eq!((cause.cause, is_new), (Kind::PowerLoss, true));
        assert_eq!(cause.lines.last().unwrap(), "kernel: a long one");
        assert_eq!(ground.look(), (cause, false));
        let boots = crate::logs::list_boots(Some(&ground.logs()), "new");
        assert_eq!((boots[1].index, boots[1].boot.as_str()), (-1, "old"));
        assert_eq!(boots[1].cause.as_ref().unwrap().cause, Kind::PowerLoss);
        assert_eq!(boots[1].ended.as_deref(), Some("2026-11-22T18:00:01.000Z"));
    }

    #[test]
    fn inits_record_and_the_watchdogs_flag_are_understood() {
        let ground = Ground::new();
        put(&ground.places.boot_record, br#"{"watchdog_reset":true}"#);
        let record =
            br#"{"version":1,"action":"reboot","reason":"a command","boot_id":"old","time":1}"#;
        put(ground.places.end_record.as_deref().unwrap(), record);
        assert_eq!(
            ground.look().0.words,
            "it was restarted in order: a command"
        );
        fs::remove_file(&ground.places.answer).unwrap();
        fs::remove_file(ground.places.end_record.as_deref().unwrap()).unwrap();
        assert_eq!(ground.look().0.cause, Kind::Watchdog);
    }

    #[test]
    fn the_kernels_last_words_are_kept_beside_the_log_and_make_room() {
        let ground = Ground::new();
        let pstore = |name: &str| ground.places.pstore.join(name);
        put(
            &pstore("dmesg-efi_pstore-1700000000101001"),
            b"Panic#1 Part1\n<0>[  9.1] Kernel panic - not syncing: Fatal exception\n",
        );
        put(
            &pstore("dmesg-efi_pstore-1700000000102001"),
            b"Panic#1 Part2\n<1>[  9.0] BUG: kernel NULL pointer dereference\n",
        );
        put(&pstore("dmesg-ramoops-9.enc.z"), b"\x00\x01");
        let (cause, _) = ground.look();
        assert_eq!(cause.cause, Kind::Panic);
        assert!(cause.lines[0].contains("NULL pointer"), "{cause:?}");
        assert_eq!(fs::read_dir(&ground.places.pstore).unwrap().count(), 0);
        let kept = list(&ground.logs().join("000007-old"), is_ours);
        assert_eq!(kept.len(), 4, "{kept:?}");
    }

    #[test]
    fn an_oops_that_was_survived_is_no_panic() {
        let ground = Ground::new();
        put(
            &ground.places.pstore.join("dmesg-efi_pstore-1"),
            b"Oops#1 Part1\nBUG: Kernel panic - not syncing is not what happened\n",
        );
        assert_eq!(ground.look().0.cause, Kind::PowerLoss);
    }
}
