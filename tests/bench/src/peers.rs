//! The supervisors that ours is compared with: Debian's runit and s6, which `image/setup bench` installs. Each runs the
//! benchmark's program as its own users do: a folder with a file `run`.

use std::os::unix::fs::symlink;
use std::process::{Child, Command, Stdio};

use anyhow::Context;
use tempfile::TempDir;

use crate::process;
use crate::programs::Programs;
use crate::reports::Reports;

/// One of them, supervising one service; stopped when dropped.
pub struct Peer {
    child: Child,
    _folder: TempDir,
}

impl Peer {
    /// Starts `supervisor FOLDER`, with the benchmark's program as the folder's `run`.
    pub fn start(
        supervisor: &str,
        name: &str,
        programs: &Programs,
        reports: &Reports,
    ) -> anyhow::Result<Peer> {
        let folder = tempfile::Builder::new()
            .prefix("atalaya-bench-")
            .tempdir_in("/var/tmp")?;
        // A link: no shell between the supervisor and its service.
        symlink(&programs.unit, folder.path().join("run"))?;
        let child = Command::new(supervisor)
            .arg(folder.path())
            .env("BENCH_REPORT", reports.address())
            .env("BENCH_NAME", name)
            .env("BENCH_ROLE", "stay")
            .stdin(Stdio::null())
            .spawn()
            .with_context(|| format!("failed to start {supervisor}: `image/setup bench`?"))?;
        Ok(Peer {
            child,
            _folder: folder,
        })
    }

    /// The service's process.
    pub fn pid(&self) -> anyhow::Result<i32> {
        let own = i32::try_from(self.child.id())?;
        let service = process::children(own)?.first().copied();
        service.context("the supervisor has no child")
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        let service = self.pid();
        drop(self.child.kill());
        drop(self.child.wait());
        if let Ok(pid) = service {
            let pid = nix::unistd::Pid::from_raw(pid);
            nix::sys::signal::kill(pid, nix::sys::signal::SIGKILL).ok();
        }
    }
}

/// The version of a Debian package.
pub fn version(package: &str) -> String {
    let output = Command::new("dpkg-query")
        .args(["--showformat=${Version}", "--show", package])
        .output();
    output.map_or_else(
        |_| "?".to_owned(),
        |output| String::from_utf8_lossy(&output.stdout).into_owned(),
    )
}
