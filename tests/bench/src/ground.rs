//! A machine without a kernel of its own: init and atalayad as in the image, in new namespaces and a cgroup, with units
//! that the benchmark writes. Nothing of this machine's disks is mounted inside but the folder itself; at the end init is
//! killed, never asked, because at its own end PID 1 would unmount and remount what it finds.

use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use atalaya_sys::cgroup::Cgroup;
use serde_json::Value;
use tempfile::TempDir;

use crate::process;
use crate::programs::Programs;
use crate::reports::Reports;

/// Nothing waits so long unless it is broken.
const LIMIT: Duration = Duration::from_secs(60);
/// The benchmark's program, as units see it.
pub const UNIT: &str = "/usr/bin/bench-unit";

pub struct Ground {
    root: TempDir,
    cgroup: PathBuf,
    /// unshare(1), init's parent.
    process: Option<Child>,
    report: String,
}

impl Ground {
    /// The folders and programs; nothing runs yet.
    pub fn new(programs: &Programs, reports: &Reports) -> anyhow::Result<Ground> {
        // A disk, not memory: the logs lie on it as they do on /data.
        let root = tempfile::Builder::new()
            .prefix("atalaya-bench-")
            .tempdir_in("/var/tmp")?;
        fs::set_permissions(root.path(), fs::Permissions::from_mode(0o755))?;
        let ground = Ground {
            cgroup: make_cgroup(root.path())?,
            root,
            process: None,
            report: reports.address().to_owned(),
        };
        for folder in [
            "proc",
            "sys",
            "dev",
            "run",
            "tmp",
            "data",
            "t",
            "etc",
            "bin",
            "usr/bin",
            "usr/sbin",
            "usr/lib/atalaya/units",
            "usr/lib/atalaya/private",
        ] {
            fs::create_dir_all(ground.inside(folder))?;
        }
        for (source, target) in [
            (programs.init.as_path(), "usr/lib/atalaya/atalaya-init"),
            (&programs.sandbox, "usr/lib/atalaya/atalaya-sandbox"),
            (&programs.atalayad, "t/atalayad"),
            (&programs.unit, "usr/bin/bench-unit"),
            (Path::new("/bin/sh"), "bin/sh"),
        ] {
            copy_with_libraries(source, ground.root.path(), &ground.inside(target))?;
        }
        ground.write(
            "usr/lib/atalaya/atalayad",
            &format!(
                "#!/bin/sh\nATALAYA_DATA=present BENCH_REPORT={} BENCH_NAME=atalayad BENCH_ROLE=launch exec {UNIT} /t/atalayad --no-consoles \
                 --data /data \"$@\"\n",
                ground.report
            ),
            0o755,
        )?;
        ground.write("t/console", "", 0o644)?;
        ground.write("etc/passwd", "root:x:0:0::/:\nbench:x:200:200::/:\n", 0o644)?;
        ground.write("etc/group", "root:x:0:\nbench:x:200:\n", 0o644)?;
        Ok(ground)
    }

    fn inside(&self, path: &str) -> PathBuf {
        self.root.path().join(path.trim_start_matches('/'))
    }

    fn write(&self, path: &str, text: &str, mode: u32) -> anyhow::Result<()> {
        let path = self.inside(path);
        let mut file = fs::File::create(&path)
            .with_context(|| format!("failed to write {}", path.display()))?;
        file.write_all(text.as_bytes())?;
        file.set_permissions(fs::Permissions::from_mode(mode))?;
        Ok(())
    }

    /// A unit that runs the benchmark's program in this role; `more` goes into its file as it is.
    pub fn unit(&self, name: &str, role: &str, more: &str) -> anyhow::Result<()> {
        let report = &self.report;
        let kind = if role == "once" { "oneshot" } else { "service" };
        let text = format!(
            "description = \"{name}\"\ntype = \"{kind}\"\nexec = [\"{UNIT}\"]\nenvironment = {{ BENCH_REPORT = \"{report}\", \
             BENCH_NAME = \"{name}\", BENCH_ROLE = \"{role}\" }}\n{more}"
        );
        self.write(&format!("usr/lib/atalaya/units/{name}.toml"), &text, 0o644)
    }

    /// Starts init.
    pub fn start(&mut self) -> anyhow::Result<()> {
        let process = Command::new("/bin/sh")
            .args(["-ec", OUTSIDE, "sh"])
            .args([self.root.path(), &self.cgroup])
            .arg(INSIDE)
            .stdin(Stdio::null())
            .spawn()
            .context("failed to start init")?;
        self.process = Some(process);
        Ok(())
    }

    /// Init's pid, as this machine sees it.
    pub fn init(&self) -> anyhow::Result<i32> {
        let parent = self.process.as_ref().context("it has not been started")?;
        let parent = i32::try_from(parent.id())?;
        self.until("init", || {
            let init = process::children(parent)?.first().copied();
            Ok(init.filter(|pid| process::name(*pid).is_ok_and(|name| name == "atalaya-init")))
        })
    }

    /// atalayad's pid, as this machine sees it.
    pub fn atalayad(&self) -> anyhow::Result<i32> {
        let init = self.init()?;
        self.until("atalayad", || {
            Ok(process::children(init)?
                .into_iter()
                .find(|pid| process::name(*pid).is_ok_and(|name| name == "atalayad")))
        })
    }

    /// The process of a unit that has one.
    pub fn pid(&self, unit: &str) -> anyhow::Result<i32> {
        for entry in fs::read_dir(self.cgroup.join("units"))? {
            let entry = entry?;
            let name = entry.file_name().to_string_lossy().into_owned();
            let text = match name.rsplit_once('.') {
                Some((known, _)) if known == unit => {
                    fs::read_to_string(entry.path().join("cgroup.procs")).unwrap_or_default()
                }
                _ => continue,
            };
            if let Some(pid) = text.lines().next() {
                return Ok(pid.parse()?);
            }
        }
        bail!("{unit} has no process\n{}", self.console())
    }

    /// Asks the control socket; none while nobody answers.
    pub fn ask(&self, init: i32, path: &str) -> Option<Value> {
        serde_json::from_str(&self.text(init, path)?).ok()
    }

    /// The same, as text.
    pub fn text(&self, init: i32, path: &str) -> Option<String> {
        let (head, body) = self.request(init, "GET", path)?;
        head.contains(" 200").then_some(body)
    }

    /// Orders something.
    pub fn post(&self, init: i32, path: &str) -> anyhow::Result<()> {
        let (head, body) = self
            .request(init, "POST", path)
            .context("atalayad does not answer")?;
        ensure!(head.contains(" 200"), "{path}: {head}: {body}");
        Ok(())
    }

    fn request(&self, init: i32, method: &str, path: &str) -> Option<(String, String)> {
        // Through init's own mounts: /run is a file system that only the machine sees.
        let socket = format!("/proc/{init}/root/run/atalaya/control.sock");
        let mut stream = UnixStream::connect(socket).ok()?;
        stream.set_read_timeout(Some(LIMIT)).ok()?;
        stream
            .write_all(format!("{method} {path} HTTP/1.0\r\n\r\n").as_bytes())
            .ok()?;
        let mut bytes = Vec::new();
        stream.read_to_end(&mut bytes).ok()?;
        let text = String::from_utf8_lossy(&bytes);
        let (head, body) = text.split_once("\r\n\r\n")?;
        Some((head.lines().next()?.to_owned(), body.to_owned()))
    }

    /// Waits until all these units are ready, or Done. Asks without a pause: use it where nothing else is measured.
    pub fn wait_ready(&self, count: usize) -> anyhow::Result<()> {
        let init = self.init()?;
        let begun = Instant::now();
        loop {
            let units = self.ask(init, "/v1/units").unwrap_or_default();
            if ready(&units) == count {
                return Ok(());
            }
            ensure!(
                begun.elapsed() < LIMIT,
                "{} of {count} units are ready; {}\n{}",
                ready(&units),
                first_reason(&units),
                self.console()
            );
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    /// What the machine has said.
    pub fn console(&self) -> String {
        let text = fs::read(self.inside("t/console")).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(20)..].join("\n")
    }

    /// The folder that is /data inside.
    pub fn data(&self) -> PathBuf {
        self.inside("data")
    }

    fn until<T>(
        &self,
        what: &str,
        mut probe: impl FnMut() -> anyhow::Result<Option<T>>,
    ) -> anyhow::Result<T> {
        let begun = Instant::now();
        loop {
            if let Some(found) = probe()? {
                return Ok(found);
            }
            ensure!(
                begun.elapsed() < LIMIT,
                "waited in vain for {what}\n{}",
                self.console()
            );
            std::thread::sleep(Duration::from_millis(2));
        }
    }
}

/// Why one that is not ready is not.
fn first_reason(units: &Value) -> String {
    let units = units["units"].as_array().into_iter().flatten();
    let mut reasons = units.filter(|unit| unit["ready"] != true && unit["state"] != "Done");
    reasons.next().map_or(String::new(), |unit| {
        format!("{}: {}", unit["name"], unit["reason"])
    })
}

/// How many units of an answer of `/v1/units` others may rely on.
pub fn ready(units: &Value) -> usize {
    let list = units["units"].as_array();
    list.into_iter()
        .flatten()
        .filter(|unit| unit["ready"] == true || unit["state"] == "Done")
        .count()
}

impl Drop for Ground {
    fn drop(&mut self) {
        if let Some(process) = &mut self.process {
            // --kill-child: PID 1 dies with it, and with PID 1 all that is in its namespace.
            drop(process.kill());
            drop(process.wait());
        }
        let cgroup = Cgroup::at(&self.cgroup);
        drop(cgroup.kill());
        let begun = Instant::now();
        while cgroup.populated().unwrap_or(false) && begun.elapsed() < LIMIT {
            std::thread::sleep(Duration::from_millis(5));
        }
        drop(cgroup.remove());
    }
}

/// Enters the cgroup, then new namespaces. $1 root, $2 cgroup, $3 what runs inside. The network is this machine's: the
/// units report through its loopback.
const OUTSIDE: &str = r#"echo $$ > "$2/cgroup.procs"
exec unshare --fork --kill-child --pid --mount --propagation private --uts --ipc --cgroup /bin/sh -ec "$3" sh "$1""#;

/// The root is a mount of its own, because sandboxes make it read-only. /dev is a small one, without this machine's
/// consoles and watchdog.
const INSIDE: &str = r#"mount --bind "$1" "$1"
mount -t tmpfs tmpfs "$1/dev"
for node in null:3 zero:5 full:7 random:8 urandom:9; do mknod -m 666 "$1/dev/${node%:*}" c 1 "${node#*:}"; done
ln -s /t/console "$1/dev/console"
exec chroot "$1" /usr/lib/atalaya/atalaya-init"#;

/// A cgroup v2, wherever this machine has v2 mounted (hybrid ones: not at the usual place).
fn make_cgroup(root: &Path) -> anyhow::Result<PathBuf> {
    let mounts = fs::read_to_string("/proc/self/mounts")?;
    let v2 = mounts
        .lines()
        .map(|line| line.split(' ').collect::<Vec<_>>())
        .find(|fields| fields.get(2) == Some(&"cgroup2"));
    let v2 = v2.context("this machine has no cgroup v2")?;
    let path = Path::new(v2[1]).join(root.file_name().context("the folder has no name")?);
    fs::create_dir(&path).with_context(|| format!("failed to make {}", path.display()))?;
    Ok(path)
}

fn copy_with_libraries(program: &Path, root: &Path, target: &Path) -> anyhow::Result<()> {
    fs::copy(program, target).with_context(|| format!("failed to copy {}", program.display()))?;
    fs::set_permissions(target, fs::Permissions::from_mode(0o755))?;
    let output = Command::new("ldd")
        .arg(program)
        .output()
        .context("failed to run ldd")?;
    for library in String::from_utf8_lossy(&output.stdout)
        .split_whitespace()
        .filter(|word| word.starts_with('/'))
    {
        let inside = root.join(library.trim_start_matches('/'));
        if !inside.exists() {
            fs::create_dir_all(inside.parent().context("a library has a folder")?)?;
            fs::copy(library, inside)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn ready_units_are_counted() {
        let units = json!([
            {"name": "a", "state": "Running", "ready": true},
            {"name": "b", "state": "Done", "ready": false},
            {"name": "c", "state": "Starting", "ready": false},
        ]);
        let units = json!({"units": units});
        assert_eq!(ready(&units), 2);
        assert!(first_reason(&units).starts_with("\"c\""));
        assert_eq!(ready(&Value::Null), 0);
    }
}
