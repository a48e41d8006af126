//! `atalaya update`: hands a bundle over, follows how far it is, asks before a step that costs something. What is decided is decided by the
//! supervisor; a file is sent again if the supervisor was started anew meanwhile, because the slot keeps what it already has.

use std::fs::File;
use std::io::{BufRead, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::mpsc::{Receiver, TryRecvError, channel};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use atalaya_bundle::{Seekable, Trust};
use clap::{Args, Subcommand};
use serde_json::{Value, json};

use crate::client::{Client, broke_off, escape};
use crate::show::{self, text};

/// Between two looks at how far it is.
const PAUSE: Duration = Duration::from_millis(500);
/// So often a file is sent again whose transfer broke off without a refusal.
const AGAIN: u32 = 5;
/// A supervisor that was started anew answers within seconds; a slow machine may take longer.
const SUPERVISOR_LIMIT: Duration = Duration::from_secs(60);
/// The key sets that the image's maker knew, and newer ones that were accepted.
const TRUST: &str = "/usr/lib/atalaya/update-trust.json";
const ACCEPTED: &str = "/data/update/keysets.json";
/// The boot partition is compared within seconds; its unit has five minutes.
const SETTLE_LIMIT: Duration = Duration::from_secs(300);
/// A stick with this label is found by itself.
const USB_LABEL: &str = "ATALAYA-UPDATE";

#[derive(Subcommand)]
pub enum UpdateCommand {
    /// What a bundle holds and who signed it. Installs nothing.
    Inspect { file: PathBuf },
    /// Write a bundle to the slot that is not running, restart into it, and keep it if a real post goes through.
    Install(Install),
    /// How far an update is, what may be rolled back to, what is not tried again.
    Status,
    /// Past updates: versions, times, why they ended.
    History,
    /// Restart into the version before this one, with its own data.
    Rollback {
        /// Do not ask.
        #[arg(short, long)]
        yes: bool,
    },
    /// Stop an update that has not restarted the machine yet.
    Cancel,
}

#[derive(Args)]
pub struct Install {
    /// A file, an http or https address, or `usb`: the stick labelled ATALAYA-UPDATE.
    source: String,
    /// Do not ask.
    #[arg(short, long)]
    yes: bool,
    /// Take an older version too.
    #[arg(long)]
    allow_downgrade: bool,
    /// Try a version again that was rolled back.
    #[arg(long)]
    again: bool,
    /// With an external database: what backup of it there is. It cannot be rolled back.
    #[arg(long, value_name = "NOTE")]
    external_backup: Option<String>,
    /// Tell when it has begun, and do not wait.
    #[arg(long)]
    no_wait: bool,
}

pub fn run(client: &Client, json: bool, command: &UpdateCommand) -> Result<ExitCode> {
    let told = |answer: &Value, show: fn(&Value) -> String| {
        if json {
            println!("{answer}");
        } else {
            println!("{}", show(answer).trim_end());
        }
    };
    match command {
        UpdateCommand::Inspect { file } => {
            told(&inspect(file)?, show::bundle);
        }
        UpdateCommand::Install(install) => return begin(client, json, install),
        UpdateCommand::Status => told(&client.get("/v1/update")?, show::update),
        UpdateCommand::History => told(&client.get("/v1/update/history")?, show::update_history),
        UpdateCommand::Rollback { yes } => {
            let before = wait_until_settled(client)?;
            let way_back = before.get("rollback").cloned().unwrap_or_default();
            let why = text(&way_back, "refused");
            if !why.is_empty() {
                bail!("{why} {}", text(&way_back, "next"));
            }
            confirm(
                &format!(
                    "The machine restarts into version {} with the data of {}. What was written since then is lost for it.",
                    text(&way_back, "version"),
                    show::moment(&way_back, "until")
                ),
                *yes,
            )?;
            client.post("/v1/update/rollback")?;
            return follow(client, json, None);
        }
        UpdateCommand::Cancel => told(&client.delete("/v1/update")?, show::update),
    }
    Ok(ExitCode::SUCCESS)
}

/// Reads it here; the supervisor need not be there. By the keys that this machine trusts, where it trusts any.
fn inspect(file: &Path) -> Result<Value> {
    let cannot = || {
        format!(
            "failed to inspect the bundle {}. Nothing was changed",
            file.display()
        )
    };
    let opened = File::open(file).with_context(cannot)?;
    let trust = trust().with_context(cannot)?;
    let summary = atalaya_bundle::inspect::inspect(Seekable(opened), trust.as_ref(), None);
    serde_json::to_value(summary.with_context(cannot)?).with_context(cannot)
}

/// `None` on another machine than an appliance.
fn trust() -> Result<Option<Trust>> {
    let Ok(text) = std::fs::read(TRUST) else {
        return Ok(None);
    };
    let image = serde_json::from_slice(&text).context("failed to understand the image's keys")?;
    let accepted = match std::fs::read(ACCEPTED) {
        Ok(text) => {
            Some(serde_json::from_slice(&text).context("failed to understand the accepted keys")?)
        }
        Err(_) => None,
    };
    Ok(Some(
        Trust::new(image, accepted.as_ref()).context("failed to trust the machine's own keys")?,
    ))
}

/// Asks on a terminal; elsewhere somebody must have said yes before.
fn confirm(what: &str, yes: bool) -> Result<()> {
    if yes {
        return Ok(());
    }
    if !std::io::stdin().is_terminal() {
        bail!("{what} Nothing was changed. Say --yes to go on without being asked");
    }
    print!("{what}\nGo on? [y/N] ");
    std::io::stdout().flush().context("failed to ask")?;
    let mut answer = String::new();
    std::io::stdin()
        .lock()
        .read_line(&mut answer)
        .context("failed to read the answer")?;
    if matches!(answer.trim(), "y" | "Y" | "yes") {
        return Ok(());
    }
    bail!("Nothing was changed.")
}

/// After a start the boot partition is compared for a moment, and nothing else can be begun.
fn wait_until_settled(client: &Client) -> Result<Value> {
    let begin = Instant::now();
    loop {
        let answer = client.get("/v1/update")?;
        let is_settling = answer.get("settling") == Some(&Value::Bool(true));
        if !is_settling || begin.elapsed() > SETTLE_LIMIT {
            return Ok(answer);
        }
        std::thread::sleep(PAUSE);
    }
}

fn begin(client: &Client, json: bool, install: &Install) -> Result<ExitCode> {
    confirm(
        "The update is written while users go on. Then they are kept out for some minutes, the machine restarts, and if a real post does not \
         go through, everything comes back as it was.",
        install.yes,
    )?;
    wait_until_settled(client)?;
    let is_address = ["http://", "https://"]
        .iter()
        .any(|scheme| install.source.starts_with(scheme));
    let sending = if is_address || install.source == "usb" {
        let source = if is_address {
            json!({ "http": install.source })
        } else {
            json!({ "usb": USB_LABEL })
        };
        let wish = json!({
            "source": source, "allow_downgrade": install.allow_downgrade, "again": install.again,
            "external_backup": install.external_backup,
        });
        client.post_json("/v1/update", &wish)?;
        None
    } else {
        Some(Sending::begin(client, install)?)
    };
    if install.no_wait && sending.is_none() {
        println!("The update has begun. See: atalaya update status");
        return Ok(ExitCode::SUCCESS);
    }
    follow(client, json, sending)
}

/// A file on its way.
struct Sending {
    client: Client,
    file: PathBuf,
    path: String,
    outcome: Receiver<Result<Value>>,
    tries: u32,
}

impl Sending {
    fn begin(client: &Client, install: &Install) -> Result<Self> {
        let file = PathBuf::from(&install.source);
        let name = file
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        let mut path = format!("/v1/update?name={}", escape(&name));
        if install.allow_downgrade {
            path.push_str("&allow_downgrade=true");
        }
        if install.again {
            path.push_str("&again=true");
        }
        if let Some(note) = &install.external_backup {
            path.push_str(&format!("&external_backup={}", escape(note)));
        }
        let outcome = send(client, &file, &path)?;
        let client = client.clone();
        Ok(Self {
            client,
            file,
            path,
            outcome,
            tries: 1,
        })
    }

    /// Whether it has arrived. A refusal ends it; a connection that broke off is a supervisor that was started anew.
    fn look(&mut self) -> Result<bool> {
        match self.outcome.try_recv() {
            Ok(Ok(_)) => Ok(true),
            Ok(Err(error)) if broke_off(&error) && self.tries < AGAIN => {
                wait_for_supervisor(&self.client)?;
                self.tries += 1;
                self.outcome = send(&self.client, &self.file, &self.path)?;
                Ok(false)
            }
            Ok(Err(error)) => Err(error),
            Err(TryRecvError::Empty) => Ok(false),
            Err(TryRecvError::Disconnected) => {
                bail!("The file could not be sent. Nothing was changed. Try again")
            }
        }
    }
}

/// In a thread of its own, so that the progress can be asked for meanwhile.
fn send(client: &Client, file: &PathBuf, path: &str) -> Result<Receiver<Result<Value>>> {
    let cannot = || {
        format!(
            "failed to read the bundle {}. Nothing was changed",
            file.display()
        )
    };
    let opened = File::open(file).with_context(cannot)?;
    let bytes = opened.metadata().with_context(cannot)?.len();
    let (client, path) = (client.clone(), path.to_owned());
    let (done, outcome) = channel();
    std::thread::spawn(move || drop(done.send(client.post_file(&path, opened, bytes))));
    Ok(outcome)
}

fn wait_for_supervisor(client: &Client) -> Result<()> {
    let begin = Instant::now();
    // What was sent before it went is given up first.
    while client.get("/v1/update").map_or(true, |answer| {
        answer.get("busy") == Some(&Value::Bool(true))
    }) {
        if begin.elapsed() > SUPERVISOR_LIMIT {
            bail!(
                "The supervisor does not answer {} s after the transfer broke off. What runs goes on as it is. See: atalaya status",
                SUPERVISOR_LIMIT.as_secs()
            );
        }
        std::thread::sleep(PAUSE);
    }
    Ok(())
}

/// Until the machine restarts, the update has failed, or there is nothing more to wait for.
fn follow(client: &Client, json: bool, mut sending: Option<Sending>) -> Result<ExitCode> {
    let on_terminal = std::io::stdout().is_terminal() && !json;
    let mut shown = String::new();
    let mut missed: Option<Instant> = None;
    loop {
        if let Some(file) = &mut sending
            && file.look()?
        {
            sending = None;
        }
        let answer = match client.get("/v1/update") {
            Ok(answer) => answer,
            // Started anew, or it goes down with the machine.
            Err(_) if !client.is_there() => {
                if missed.get_or_insert_with(Instant::now).elapsed() < SUPERVISOR_LIMIT {
                    std::thread::sleep(PAUSE);
                    continue;
                }
                println!(
                    "{}The machine restarts. Afterwards: atalaya update status",
                    end_of_line(on_terminal)
                );
                return Ok(ExitCode::SUCCESS);
            }
            Err(error) => return Err(error),
        };
        missed = None;
        if json {
            println!("{answer}");
        } else {
            let line = show::update_progress(&answer);
            if on_terminal {
                print!("\r\u{1b}[K{line}");
                std::io::stdout()
                    .flush()
                    .context("failed to show how far it is")?;
            } else if line != shown {
                println!("{line}");
            }
            shown = line;
        }
        let is = |key: &str| answer.get(key) == Some(&Value::Bool(true));
        if sending.is_none() && !is("busy") {
            print!("{}", end_of_line(on_terminal));
            return ended(&answer);
        }
        std::thread::sleep(PAUSE);
    }
}

fn end_of_line(on_terminal: bool) -> &'static str {
    if on_terminal { "\n" } else { "" }
}

fn ended(answer: &Value) -> Result<ExitCode> {
    let error = answer.get("error").cloned().unwrap_or_default();
    if text(&error, "what").is_empty() {
        return Ok(ExitCode::SUCCESS);
    }
    bail!(
        "{}. {} {}",
        atalaya_core::words::capital(&text(&error, "what")),
        text(&error, "data"),
        text(&error, "next")
    )
}
