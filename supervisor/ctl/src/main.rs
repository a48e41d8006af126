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
        Command::Unit { command } => match command {
            UnitCommand::List => print_answer(arguments, &client.get("/v1/units")?, show::units),
            UnitCommand::Show { name } => {
                print_answer(
                    arguments,
                    &client.get(&format!("/v1/units/{name}"))?,
                    show::unit,
                );
            }
            UnitCommand::Start { name } => return act(arguments, &client, name, "start"),
            UnitCommand::Stop { name } => return act(arguments, &client, name, "stop"),
            UnitCommand::Restart { name } => return act(arguments, &client, name, "restart"),
        },
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

/// Stops of PostgreSQL may take so long, and starts no longer.
const LIMIT: Duration = Duration::from_secs(400);

/// Asks, and waits until it is so, or has failed.
fn act(arguments: &Arguments, client: &Client, name: &str, verb: &str) -> Result<ExitCode> {
    let (unit, success) = settle(client, name, verb)?;
    print_answer(arguments, &unit, show::line);
    Ok(if success {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// The unit after what was asked for, and whether that has succeeded.
fn settle(client: &Client, name: &str, verb: &str) -> Result<(Value, bool)> {
    let path = format!("/v1/units/{name}");
    let run = |unit: &Value| unit.get("run").and_then(Value::as_u64).unwrap_or(0);
    let before = run(&client.get(&path)?);
    client.post(&format!("{path}/{verb}"))?;
    let begin = Instant::now();
    loop {
        let unit = client.get(&path)?;
        let is_ready = unit.get("ready") == Some(&Value::Bool(true));
        let is_new = verb != "restart" || run(&unit) > before;
        match (verb, show::text(&unit, "state").as_str()) {
            ("stop", "Stopped") => return Ok((unit, true)),
            ("stop", _) => {}
            (_, "Failed" | "Stopped") if is_new => return Ok((unit, false)),
            _ if is_ready && is_new => return Ok((unit, true)),
            _ => {}
        }
        if begin.elapsed() > LIMIT {
            bail!(
                "{name} is not there after {} s: {}. Nothing else was changed. See: atalaya logs -u {name}",
                LIMIT.as_secs(),
                show::text(&unit, "words")
            );
        }
        std::thread::sleep(Duration::from_millis(100));
    }
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
    let (unit, success) = settle(client, "probe", "restart")?;
    let result = show::text(&unit, "result");
    if result.is_empty() {
        bail!(
            "The probe said nothing: {}. Nothing was changed. See: atalaya logs -u probe",
            show::text(&unit, "words")
        );
    }
    print_probe(arguments, &result);
    Ok(if success {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

fn print_probe(arguments: &Arguments, result: &str) {
    match serde_json::from_str::<Value>(result) {
        Ok(value) if arguments.json => println!("{value}"),
        Ok(value) => println!("{}", show::probe(&value).trim_end()),
        Err(_) => println!("{}", show::harmless(result)),
    }
}
