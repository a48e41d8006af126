//! The command line. Asks atalayad over the control socket, or init where atalayad is not there, and shows the answer;
//! decides nothing. Exit status 0 only when what was asked for has succeeded.
#![allow(clippy::print_stdout)] // its purpose

mod act;
mod client;
mod config;
mod init;
mod logs;
mod show;
mod top;
mod update;

use std::io::IsTerminal;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Result, bail};
use clap::{Parser, Subcommand};
use serde_json::Value;

use client::Client;
use init::Init;

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
    /// The socket of init.
    #[arg(
        long,
        global = true,
        env = "ATALAYA_INIT_SOCKET",
        default_value = "/run/atalaya/init.sock"
    )]
    init_socket: std::path::PathBuf,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// The machine and its services, on one screen; what is wrong comes first.
    Status {
        /// Again every two seconds, until it is interrupted.
        #[arg(short, long)]
        watch: bool,
    },
    /// One service, or all.
    Unit {
        #[command(subcommand)]
        command: UnitCommand,
    },
    /// What services have said.
    Logs(logs::Arguments),
    /// What took how long at the start of the machine: the slowest chain.
    Boot {
        /// Every service, not only the slowest chain.
        #[arg(long)]
        all: bool,
    },
    /// The program that watches the services. They run on without it.
    Supervisor {
        #[command(subcommand)]
        command: SupervisorCommand,
    },
    /// Keep users out for a while, with a page that says so.
    Maintenance {
        #[command(subcommand)]
        command: MaintenanceCommand,
    },
    /// appliance.toml, the one file that says what a machine is.
    Config {
        #[command(subcommand)]
        command: config::ConfigCommand,
    },
    /// Another version of the whole: system, Mattermost, PostgreSQL and data, as one.
    Update {
        #[command(subcommand)]
        command: update::UpdateCommand,
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
    /// Every service: its state, and what it uses.
    List {
        /// Only those that have failed.
        #[arg(long)]
        failed: bool,
    },
    /// One service: its state, its definition and its sandbox.
    Show { name: String },
    /// Why it is as it is: the chain from its state to the cause, and what to do.
    Why { name: String },
    /// What it needs and what needs it.
    Deps { name: String },
    /// Processor, memory and disk, now.
    Top {
        /// Again every two seconds, until it is interrupted.
        #[arg(short, long)]
        watch: bool,
    },
    /// Start it and all that it needs.
    Start { name: String },
    /// Stop it, and first what needs it.
    Stop { name: String },
    /// Stop it and start it again.
    Restart { name: String },
    /// Let it read its configuration anew while it runs.
    Reload { name: String },
    /// Forget its failures. Starts nothing.
    Reset { name: String },
}

#[derive(Subcommand)]
enum MaintenanceCommand {
    /// Users see the maintenance page, until it is switched off, reboots included. Services run on.
    On {
        /// One line that users read on the page.
        #[arg(short, long, default_value = "")]
        message: String,
    },
    /// Users come in again.
    Off,
    /// Whether users are kept out, since when, and what they are told.
    Status,
}

#[derive(Subcommand)]
enum SupervisorCommand {
    /// End it and wait for the next one, also in safe mode. No service is touched.
    Restart,
    /// Read the unit files anew. What runs stays as it is until it is started again.
    Reload,
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
    let init = Init::new(&arguments.init_socket);
    match &arguments.command {
        Command::Status { watch } => return status(arguments, &client, &init, *watch),
        Command::Unit { command } => return unit(arguments, &client, command),
        Command::Logs(wanted) => logs::run(&client, arguments.json, wanted)?,
        Command::Boot { all } => {
            let boot = client.get("/v1/boot")?;
            print_answer(arguments, &boot, |boot| show::boot(boot, *all));
        }
        Command::Supervisor { command } => match command {
            SupervisorCommand::Restart => {
                let answer = act::restart_supervisor(&client, &init)?;
                print_answer(arguments, &answer, |answer| {
                    format!(
                        "The supervisor runs again, as process {}. No service was touched.",
                        show::text(answer, "pid")
                    )
                });
            }
            SupervisorCommand::Reload => {
                let answer = client.post("/v1/supervisor/reload")?;
                print_answer(arguments, &answer, show::reloaded);
            }
        },
        Command::Maintenance { command } => {
            let answer = match command {
                MaintenanceCommand::On { message } => client.post_json(
                    "/v1/maintenance/on",
                    &serde_json::json!({ "message": message }),
                )?,
                MaintenanceCommand::Off => client.post("/v1/maintenance/off")?,
                MaintenanceCommand::Status => client.get("/v1/maintenance")?,
            };
            print_answer(arguments, &answer, show::maintenance);
        }
        Command::Config { command } => return config::run(arguments.json, command),
        Command::Update { command } => return update::run(&client, arguments.json, command),
        Command::Probe => return probe(arguments, &client),
        Command::Reboot => return end(arguments, &client, &init, "reboot"),
        Command::Poweroff => return end(arguments, &client, &init, "poweroff"),
    }
    Ok(ExitCode::SUCCESS)
}

fn unit(arguments: &Arguments, client: &Client, command: &UnitCommand) -> Result<ExitCode> {
    let show_at = |path: &str, show: fn(&Value) -> String| -> Result<ExitCode> {
        print_answer(arguments, &client.get(path)?, show);
        Ok(ExitCode::SUCCESS)
    };
    match command {
        UnitCommand::List { failed } => {
            let mut answer = client.get("/v1/units")?;
            if *failed {
                show::retain_failed(&mut answer);
            }
            print_answer(arguments, &answer, |answer| show::units(answer, *failed));
            Ok(ExitCode::SUCCESS)
        }
        UnitCommand::Show { name } => show_at(&format!("/v1/units/{name}"), show::unit),
        UnitCommand::Why { name } => show_at(&format!("/v1/units/{name}/why"), show::why),
        UnitCommand::Deps { name } => show_at(&format!("/v1/units/{name}/deps"), show::deps),
        UnitCommand::Top { watch } => top(arguments, client, *watch),
        UnitCommand::Start { name } => act(arguments, client, name, "start"),
        UnitCommand::Stop { name } => {
            let too = act::stops_too(client, name)?;
            if !too.is_empty() && !arguments.json {
                println!("{too}");
            }
            act(arguments, client, name, "stop")
        }
        UnitCommand::Restart { name } => act(arguments, client, name, "restart"),
        UnitCommand::Reload { name } => act(arguments, client, name, "reload"),
        UnitCommand::Reset { name } => act(arguments, client, name, "reset"),
    }
}

/// Between two pictures of what changes.
const WATCH_PAUSE: Duration = Duration::from_secs(2);

/// Where the supervisor is not there, init says what it knows; that is not success.
fn status(arguments: &Arguments, client: &Client, init: &Init, watch: bool) -> Result<ExitCode> {
    loop {
        let asked = client.get("/v1/status");
        let is_there = asked.is_ok();
        let (answer, show): (Value, fn(&Value) -> String) = match asked {
            Ok(answer) => (answer, show::status),
            Err(error) if client.is_there() => return Err(error),
            // Neither of the two: what the first said is what counts.
            Err(error) => match init.ask("status") {
                Ok(answer) => (answer, show::init_status),
                Err(_) => return Err(error),
            },
        };
        begin_picture(arguments, watch);
        print_answer(arguments, &answer, show);
        if !watch {
            return Ok(exit_code(is_there));
        }
        std::thread::sleep(WATCH_PAUSE);
    }
}

fn top(arguments: &Arguments, client: &Client, watch: bool) -> Result<ExitCode> {
    let mut before = top::Sample::take(client)?;
    let mut pause = Duration::from_secs(1);
    loop {
        std::thread::sleep(pause);
        let now = top::Sample::take(client)?;
        begin_picture(arguments, watch);
        print_answer(arguments, &top::rates(&before, &now), top::show);
        if !watch {
            return Ok(ExitCode::SUCCESS);
        }
        before = now;
        pause = WATCH_PAUSE;
    }
}

/// On a terminal the new picture takes the place of the old one; elsewhere it follows it.
fn begin_picture(arguments: &Arguments, watch: bool) {
    if watch && !arguments.json && std::io::stdout().is_terminal() {
        print!("\u{1b}[H\u{1b}[2J");
    }
}

/// Where the supervisor is not there, init stops the services itself.
fn end(arguments: &Arguments, client: &Client, init: &Init, action: &str) -> Result<ExitCode> {
    let answer = match client.post(&format!("/v1/{action}")) {
        Err(_) if !client.is_there() => init.ask(action)?,
        other => other?,
    };
    print_answer(arguments, &answer, |_| {
        match action {
            "reboot" => "The services are being stopped; then the machine starts again.",
            _ => "The services are being stopped; then the machine switches off.",
        }
        .to_owned()
    });
    Ok(ExitCode::SUCCESS)
}

fn act(arguments: &Arguments, client: &Client, name: &str, verb: &str) -> Result<ExitCode> {
    let (unit, success) = act::settle(client, name, verb)?;
    print_answer(arguments, &unit, show::line);
    if !success && !arguments.json {
        println!("See: atalaya unit why {name}");
    }
    Ok(exit_code(success))
}

fn exit_code(success: bool) -> ExitCode {
    if success {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

fn print_answer(arguments: &Arguments, answer: &Value, show: impl Fn(&Value) -> String) {
    if arguments.json {
        println!("{answer}");
    } else {
        println!("{}", show(answer).trim_end());
    }
}

/// The unit `probe` is a one-shot; its last line is the result. Another one removes what it has posted.
fn probe(arguments: &Arguments, client: &Client) -> Result<ExitCode> {
    let (unit, success) = act::settle(client, "probe", "restart")?;
    let result = show::text(&unit, "result");
    if result.is_empty() {
        bail!(
            "The probe said nothing: {}. Nothing was changed. See: atalaya logs -u probe",
            show::text(&unit, "words")
        );
    }
    let (clean, is_clean) = act::settle(client, "probe-clean", "restart")?;
    match serde_json::from_str::<Value>(&result) {
        Ok(mut value) => {
            show::add_cleaning(&mut value, &clean, is_clean);
            print_answer(arguments, &value, show::probe);
        }
        Err(_) => println!("{}", show::harmless(&result)),
    }
    Ok(exit_code(success && is_clean))
}
