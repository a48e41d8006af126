//! The agent of a test image: waits for requests on the virtio-serial port `atalaya.agent` and carries them out, each
//! in its own thread; with words behind its name it does one thing to the machine and ends. It keeps no state, and no
//! production image contains it.

use std::fs::{self, File, OpenOptions};
use std::io::{BufRead, BufReader, Write};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use anyhow::Context;
use atalaya_agent::{Request, calls, mischief};

const PORT: &str = "atalaya.agent";

fn main() -> anyhow::Result<()> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    if !words.is_empty() {
        let said = mischief::act(&words)?;
        return writeln!(std::io::stdout(), "{said}").context("failed to answer");
    }
    let path =
        find_port().with_context(|| format!("this machine has no virtio-serial port {PORT}"))?;
    let port = OpenOptions::new()
        .read(true)
        .write(true)
        .open(&path)
        .with_context(|| format!("failed to open {}", path.display()))?;
    let writer = Arc::new(Mutex::new(
        port.try_clone().context("failed to duplicate the port")?,
    ));
    let mut reader = BufReader::new(port);
    let mut line = Vec::new();
    loop {
        line.clear();
        if reader
            .read_until(b'\n', &mut line)
            .context("failed to read the port")?
            == 0
        {
            // Nobody is connected on the host's side. The port reports that for as long as it lasts and has no event
            // for its end.
            thread::sleep(Duration::from_millis(100));
            continue;
        }
        // The rest of a request that was cut by a restart of this machine is not a request.
        let Ok(request) = serde_json::from_slice::<Request>(&line) else {
            continue;
        };
        let writer = Arc::clone(&writer);
        thread::spawn(move || answer(request, &writer));
    }
}

fn answer(request: Request, writer: &Mutex<File>) {
    let Ok(mut line) = serde_json::to_vec(&calls::respond(request)) else {
        return;
    };
    line.push(b'\n');
    // The one who asked may be gone.
    writer
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .write_all(&line)
        .ok();
}

/// udev's link, else what the kernel says: the agent should answer where udev is what is being tested.
fn find_port() -> Option<PathBuf> {
    let link = PathBuf::from("/dev/virtio-ports").join(PORT);
    if link.exists() {
        return Some(link);
    }
    let ports = fs::read_dir("/sys/class/virtio-ports").ok()?;
    let port = ports.flatten().find(|port| {
        fs::read_to_string(port.path().join("name")).is_ok_and(|name| name.trim() == PORT)
    })?;
    Some(PathBuf::from("/dev").join(port.file_name()))
}
