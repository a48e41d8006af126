//! What pg_upgrade leaves behind when it fails: lists of what stands in its way, and logs of the programs that it ran. Only reads.

use std::path::{Path, PathBuf};

/// Lines of one list, or of the newest log: the update's record takes the unit's last six.
const LINES: usize = 3;

/// The lists; without one the end of the log that was written last.
pub fn told(cluster: &Path) -> Vec<String> {
    let mut files = Vec::new();
    collect(&cluster.join("pg_upgrade_output.d"), &mut files);
    let ends_in = |path: &&PathBuf, ending: &str| path.extension().is_some_and(|e| e == ending);
    let mut lines = Vec::new();
    for list in files.iter().filter(|path| ends_in(path, "txt")) {
        lines.extend(show(list, |all| all.iter().take(LINES).cloned().collect()));
    }
    if lines.is_empty() {
        let logs = files.iter().filter(|path| ends_in(path, "log"));
        let newest =
            logs.max_by_key(|path| path.metadata().and_then(|about| about.modified()).ok());
        lines.extend(newest.into_iter().flat_map(|log| {
            show(log, |all| {
                all.get(all.len().saturating_sub(LINES)..)
                    .unwrap_or_default()
                    .to_vec()
            })
        }));
    }
    lines
}

fn show(path: &Path, choose: fn(&[String]) -> Vec<String>) -> Vec<String> {
    let text = std::fs::read(path).unwrap_or_default();
    let all: Vec<String> = String::from_utf8_lossy(&text)
        .lines()
        .map(str::to_owned)
        .collect();
    let name = path
        .file_name()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned();
    let shown = choose(&all);
    shown.iter().map(|line| format!("{name}: {line}")).collect()
}

fn collect(directory: &Path, files: &mut Vec<PathBuf>) {
    let mut entries: Vec<PathBuf> = (std::fs::read_dir(directory).into_iter().flatten().flatten())
        .map(|entry| entry.path())
        .collect();
    entries.sort();
    for path in entries {
        if path.is_dir() {
            collect(&path, files);
        } else {
            files.push(path);
        }
    }
}
