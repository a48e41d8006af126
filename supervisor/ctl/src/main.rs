//! The command line. Asks atalayad over the control socket and shows the answer; decides nothing. Exit status 0 only when
//! what was asked for has succeeded.
#![allow(clippy::print_stdout)] // its purpose

mod client;
mod show;

use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use clap::{Parser, Subcommand};
use serde_json::Value;

use client::Client;

#[derive(Parser)]
#[command(name = "atalaya", version, about = "Shows and steers this machine")]
struct Arguments {
    /// Print JSON, for programs.
    #[arg(long, global = true)]
    json: bool,
    /// The control socket.
    #[arg(
        long,
        global = true,
        env = "ATALAYA_SOCKET",
        default_value = "/run/atalaya/control.sock"
    )]
    socket: std::path::PathBuf,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// The machine and its services, on one screen.
    Status,
    /// One service, or all.
    Unit {
        #[command(subcommand)]
        command: UnitCommand,
    },
    /// What services have said.
    Logs {
        /// Only of this service.
        #[arg(short, long)]
        unit: Option<String>,
        /// Only from then on, as in 2026-01-31T12:00:00Z.
        #[arg(long)]
        since: Option<String>,
        /// 0 for this boot, -1 for the one before, or the beginning of its id.
        #[arg(long, allow_hyphen_values = true)]
        boot: Option<String>,
        /// Go on with what comes.
        #[arg(short, long)]
        follow: bool,
    },
    /// Log in and post as a user would, and tell how it went.
    Probe,
    /// Stop all services in order and start the machine again.
    Reboot,
    /// Stop all services in order and switch the machine off.
    Poweroff,
}

#[derive(Subcommand)]
enum UnitCommand {
    List,
    Show { name: String },
    Start { name: String },
    Stop { name: String },
    Restart { name: String },
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match run(&arguments) {
        Ok(code) => code,
        Err(error) => {
            if arguments.json {
                println!("{}", serde_json::json!({ "error": format!("{error:#}") }));
            } else {
                eprintln!("{error:#}");
            }
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> Result<ExitCode> {
    let client = Client::new(&arguments.socket);
    match &arguments.command {
        Command::Status => {
            print_answer(arguments, &client.get("/v1/status")?, show::status);
        }
        Command::Unit { command } => {
            let (answer, show): (Value, fn(&Value) -> String) = match command {
                UnitCommand::List => (client.get("/v1/units")?, show::units),
                UnitCommand::Show { name } => {
                    (client.get(&format!("/v1/units/{name}"))?, show::unit)
                }
                UnitCommand::Start { name } => {
                    (client.post(&format!("/v1/units/{name}/start"))?, show::line)
                }
                UnitCommand::Stop { name } => {
                    (client.post(&format!("/v1/units/{name}/stop"))?, show::line)
                }
                UnitCommand::Restart { name } => (
                    client.post(&format!("/v1/units/{name}/restart"))?,
                    show::line,
                ),
            };
            print_answer(arguments, &answer, show);
        }
        Command::Logs {
            unit,
            since,
            boot,
            follow,
        } => {
            let mut query = vec![format!("follow={follow}")];
            for (key, value) in [("unit", unit), ("since", since), ("boot", boot)] {
                if let Some(value) = value {
                    query.push(format!("{key}={}", client::escape(value)));
                }
            }
            client.stream(&format!("/v1/logs?{}", query.join("&")), |line| {
                if arguments.json {
                    println!("{line}");
                } else if let Ok(value) = serde_json::from_str(line) {
                    println!("{}", show::log_line(&value));
                }
            })?;
        }
        Command::Probe => return probe(arguments, &client),
        Command::Reboot => print_answer(arguments, &client.post("/v1/reboot")?, |_| {
            "The services are being stopped; then the machine starts again.".to_owned()
        }),
        Command::Poweroff => print_answer(arguments, &client.post("/v1/poweroff")?, |_| {
            "The services are being stopped; then the machine switches off.".to_owned()
        }),
    }
    Ok(ExitCode::SUCCESS)
}

fn print_answer(arguments: &Arguments, answer: &Value, show: impl Fn(&Value) -> String) {
    if arguments.json {
        println!("{answer}");
    } else {
        println!("{}", show(answer).trim_end());
    }
}

/// The unit `probe` is a one-shot; its last line is the result.
fn probe(arguments: &Arguments, client: &Client) -> Result<ExitCode> {
    const LIMIT: Duration = Duration::from_secs(300);
    let started = client.post("/v1/units/probe/restart")?;
    let run = started.get("run").and_then(Value::as_u64).unwrap_or(0);
    let begin = Instant::now();
    loop {
        let unit = client.get("/v1/units/probe")?;
        let text = |key: &str| {
            unit.get(key)
                .and_then(Value::as_str)
                .unwrap_or_default()
                .to_owned()
        };
        let is_new = unit
            .get("run")
            .and_then(Value::as_u64)
            .is_some_and(|now| now >= run);
        match (text("state").as_str(), is_new) {
            ("Done", true) => {
                print_probe(arguments, &text("result"));
                return Ok(ExitCode::SUCCESS);
            }
            ("Failed" | "Stopped", true) => {
                if text("result").is_empty() {
                    bail!("the probe did not run: {}", text("words"));
                }
                print_probe(arguments, &text("result"));
                return Ok(ExitCode::FAILURE);
            }
            _ if begin.elapsed() > LIMIT => bail!(
                "the probe has not ended within {} s ({}). Nothing was changed. See: atalaya logs -u probe",
                LIMIT.as_secs(),
                text("words")
            ),
            _ => std::thread::sleep(Duration::from_millis(200)),
        }
    }
}

fn print_probe(arguments: &Arguments, result: &str) {
    match serde_json::from_str::<Value>(result) {
        Ok(value) if arguments.json => println!("{value}"),
        Ok(value) => println!("{}", show::probe(&value).trim_end()),
        Err(_) => println!("{}", show::harmless(result)),
    }
}
