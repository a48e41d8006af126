//! atalaya-console: a screen on each of the kernel's consoles. Arguments, for tests: --socket PATH, --locks DIRECTORY, and
//! --line DEVICE or --screen DEVICE instead of the kernel's consoles.

use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use atalaya_console::run::{Paths, Place, attend, look};
use atalaya_console::session::Kind;
use sd_notify::NotifyState;
use tokio::sync::watch;

const SOCKET: &str = "/run/atalaya/control.sock";
const ACTIVE: &str = "/sys/class/tty/console/active";

struct Options {
    socket: PathBuf,
    locks: PathBuf,
    places: Vec<Place>,
}

impl Options {
    fn parse(mut arguments: impl Iterator<Item = String>) -> Result<Self> {
        let mut options = Self {
            socket: SOCKET.into(),
            locks: atalaya_sys::screen::DIRECTORY.into(),
            places: Vec::new(),
        };
        while let Some(flag) = arguments.next() {
            let value = arguments
                .next()
                .with_context(|| format!("{flag} needs a value"))?;
            match flag.as_str() {
                "--socket" => options.socket = value.into(),
                "--locks" => options.locks = value.into(),
                "--line" | "--screen" => options.places.push(Place {
                    console: value.rsplit('/').next().unwrap_or_default().to_owned(),
                    device: value.into(),
                    kind: if flag == "--line" {
                        Kind::Line
                    } else {
                        Kind::Screen
                    },
                }),
                _ => bail!("unknown argument {flag}"),
            }
        }
        if options.places.is_empty() {
            let active = std::fs::read_to_string(ACTIVE)
                .with_context(|| format!("failed to read {ACTIVE}"))?;
            options.places = active.split_whitespace().map(Place::of).collect();
        }
        Ok(options)
    }
}

fn main() -> Result<()> {
    let options = Options::parse(std::env::args().skip(1))?;
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?
        .block_on(serve(options))
}

async fn serve(options: Options) -> Result<()> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut terminate = signal(SignalKind::terminate())?;
    let (news, receiver) = watch::channel(None);
    let (stop, stopped) = watch::channel(false);
    tokio::spawn(look(options.socket.clone(), news));
    let paths = Paths {
        socket: options.socket,
        locks: options.locks,
    };
    let desks: Vec<_> = options
        .places
        .into_iter()
        .map(|place| {
            let paths = paths.clone();
            tokio::spawn(attend(place, paths, receiver.clone(), stopped.clone()))
        })
        .collect();
    // Without a parent who listens there is nobody to tell.
    sd_notify::notify(&[NotifyState::Ready]).ok();
    terminate.recv().await;
    stop.send_replace(true);
    for desk in desks {
        desk.await.context("a terminal's task broke")?;
    }
    Ok(())
}
