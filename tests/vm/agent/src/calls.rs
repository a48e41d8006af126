//! What the agent does for each call. It has every right in the machine: it exists only in a test image.

use std::fs::{self, Metadata, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;

use anyhow::{Context, bail};
use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use nix::sys::signal::{Signal, kill};
use nix::sys::statvfs::statvfs;
use nix::unistd::Pid;

use crate::{Answer, Call, Entry, ProcessInfo, Request, Response};

/// Carries out one request.
#[must_use]
pub fn respond(request: Request) -> Response {
    Response {
        id: request.id,
        result: answer(request.call).map_err(|error| format!("{error:#}")),
    }
}

fn answer(call: Call) -> anyhow::Result<Answer> {
    match call {
        Call::Ping => Ok(Answer::Done),
        Call::Exec { argv, stdin } => run(&argv, BASE64.decode(stdin)?),
        Call::Read { path } => {
            let content = fs::read(&path).with_context(|| format!("failed to read {path}"))?;
            Ok(Answer::Content {
                content: BASE64.encode(content),
            })
        }
        Call::Write {
            path,
            content,
            mode,
        } => write(&path, &BASE64.decode(content)?, mode),
        Call::List { path, recursive } => {
            let device = fs::metadata(&path)
                .with_context(|| format!("failed to look at {path}"))?
                .dev();
            let mut entries = Vec::new();
            list(Path::new(&path), recursive, device, &mut entries)?;
            Ok(Answer::Entries { entries })
        }
        Call::Stat { path } => {
            let found =
                fs::symlink_metadata(&path).with_context(|| format!("failed to look at {path}"))?;
            Ok(Answer::Entries {
                entries: vec![entry(Path::new(&path), &found)],
            })
        }
        Call::Processes => processes(),
        Call::Memory { pid } => memory(pid),
        Call::Kill { pid, signal } => {
            let signal = Signal::try_from(signal).context("no such signal")?;
            kill(Pid::from_raw(pid), signal)
                .with_context(|| format!("failed to send {signal} to {pid}"))?;
            Ok(Answer::Done)
        }
        Call::FileSystem { path } => {
            let found =
                statvfs(path.as_str()).with_context(|| format!("failed to look at {path}"))?;
            let unit = found.fragment_size();
            Ok(Answer::FileSystem {
                size: found.blocks() * unit,
                free: found.blocks_available() * unit,
            })
        }
    }
}

fn run(argv: &[String], input: Vec<u8>) -> anyhow::Result<Answer> {
    let Some((program, words)) = argv.split_first() else {
        bail!("no program was named")
    };
    let mut child = Command::new(program)
        .args(words)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("failed to start {program}"))?;
    // Written beside the reading, or a program that writes before it has read all would block for ever.
    let writer = child
        .stdin
        .take()
        .map(|mut stdin| thread::spawn(move || stdin.write_all(&input)));
    let output = child
        .wait_with_output()
        .with_context(|| format!("failed to wait for {program}"))?;
    // A program may end without having read its input; that is its own business.
    writer.map(thread::JoinHandle::join);
    Ok(Answer::Output {
        code: output.status.code(),
        signal: output.status.signal(),
        stdout: BASE64.encode(output.stdout),
        stderr: BASE64.encode(output.stderr),
    })
}

fn write(path: &str, content: &[u8], mode: u32) -> anyhow::Result<Answer> {
    let write = || -> std::io::Result<()> {
        let mut file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(mode)
            .open(path)?;
        file.set_permissions(fs::Permissions::from_mode(mode))?;
        file.write_all(content)
    };
    write().with_context(|| format!("failed to write {path}"))?;
    Ok(Answer::Done)
}

fn list(
    directory: &Path,
    recursive: bool,
    device: u64,
    entries: &mut Vec<Entry>,
) -> anyhow::Result<()> {
    let found = fs::read_dir(directory)
        .with_context(|| format!("failed to list {}", directory.display()))?;
    for item in found {
        let path = item
            .with_context(|| format!("failed to list {}", directory.display()))?
            .path();
        // It may be gone by now: a machine at work makes and removes files.
        let Ok(about) = fs::symlink_metadata(&path) else {
            continue;
        };
        entries.push(entry(&path, &about));
        if recursive && about.is_dir() && about.dev() == device {
            list(&path, recursive, device, entries)?;
        }
    }
    Ok(())
}

fn entry(path: &Path, about: &Metadata) -> Entry {
    Entry {
        path: path.to_string_lossy().into_owned(),
        mode: about.mode(),
        uid: about.uid(),
        gid: about.gid(),
        size: about.size(),
        target: fs::read_link(path)
            .ok()
            .map(|target| target.to_string_lossy().into_owned()),
    }
}

fn processes() -> anyhow::Result<Answer> {
    let mut processes: Vec<ProcessInfo> = fs::read_dir("/proc")
        .context("failed to list /proc")?
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        // Gone meanwhile: not a process any more.
        .filter_map(process)
        .collect();
    processes.sort_by_key(|process| process.pid);
    Ok(Answer::Processes { processes })
}

fn process(pid: i32) -> Option<ProcessInfo> {
    let read = |file: &str| fs::read_to_string(format!("/proc/{pid}/{file}")).ok();
    let status = read("status")?;
    let field = |name: &str| {
        let rest = status
            .lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        rest.and_then(|rest| rest.split_whitespace().next())
    };
    let arguments = read("cmdline").unwrap_or_default();
    Some(ProcessInfo {
        pid,
        ppid: field("PPid")?.parse().ok()?,
        uid: field("Uid")?.parse().ok()?,
        name: field("Name")?.to_owned(),
        argv: arguments
            .split_terminator('\0')
            .map(str::to_owned)
            .collect(),
        // The line of the unified hierarchy begins with "0::".
        cgroup: read("cgroup")?
            .lines()
            .find_map(|line| line.strip_prefix("0::"))?
            .to_owned(),
    })
}

fn memory(pid: i32) -> anyhow::Result<Answer> {
    let path = format!("/proc/{pid}/smaps_rollup");
    let text = fs::read_to_string(&path).with_context(|| format!("failed to read {path}"))?;
    let pss = text.lines().find_map(|line| {
        line.strip_prefix("Pss:")?
            .trim()
            .strip_suffix("kB")?
            .trim()
            .parse()
            .ok()
    });
    Ok(Answer::Memory {
        pss_kib: pss.with_context(|| format!("{path} has no Pss"))?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call(call: Call) -> Result<Answer, String> {
        respond(Request { id: 7, call }).result
    }

    #[test]
    fn a_program_gets_its_input_and_its_output_comes_back() {
        let answer = call(Call::Exec {
            argv: vec!["cat".into()],
            stdin: BASE64.encode("hello"),
        })
        .unwrap();
        let Answer::Output { code, stdout, .. } = answer else {
            panic!("{answer:?}")
        };
        assert_eq!((code, stdout), (Some(0), BASE64.encode("hello")));
    }

    #[test]
    fn a_program_that_is_not_there_is_an_error_with_its_name() {
        let error = call(Call::Exec {
            argv: vec!["/no/such".into()],
            stdin: String::new(),
        })
        .unwrap_err();
        assert!(error.starts_with("failed to start /no/such"), "{error}");
    }

    #[test]
    fn a_written_file_is_read_and_listed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file").to_string_lossy().into_owned();
        let content = BASE64.encode([0, 255, 10]);
        call(Call::Write {
            path: path.clone(),
            content: content.clone(),
            mode: 0o640,
        })
        .unwrap();
        assert_eq!(
            call(Call::Read { path: path.clone() }).unwrap(),
            Answer::Content { content }
        );
        let listed = call(Call::List {
            path: dir.path().to_string_lossy().into_owned(),
            recursive: true,
        })
        .unwrap();
        let Answer::Entries { entries } = listed else {
            panic!("{listed:?}")
        };
        assert_eq!(
            (
                entries[0].path.as_str(),
                entries[0].mode & 0o7777,
                entries[0].size
            ),
            (path.as_str(), 0o640, 3)
        );
    }

    #[test]
    fn this_process_is_among_the_processes_and_has_memory() {
        let pid = i32::try_from(std::process::id()).unwrap();
        let Answer::Processes { processes } = call(Call::Processes).unwrap() else {
            panic!()
        };
        assert!(
            processes
                .iter()
                .any(|process| process.pid == pid && !process.argv.is_empty())
        );
        let Answer::Memory { pss_kib } = call(Call::Memory { pid }).unwrap() else {
            panic!()
        };
        assert!(pss_kib > 0);
    }
}
