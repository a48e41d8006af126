//! Runs the contract suite against a server: a line per check, then how many passed and failed.
#![allow(clippy::print_stdout, reason = "prints its results")]

use anyhow::Context;
use atalaya_contract::{Check, Target, run_telling};
use clap::Parser;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

/// Checks what the appliance relies on of Mattermost's API against any server.
#[derive(Parser)]
#[command(name = "atalaya-contract")]
struct Arguments {
    /// The server, https://host[:port]
    #[arg(long)]
    address: String,
    /// The certificate authority to trust (PEM); needed for https
    #[arg(long)]
    ca: Option<PathBuf>,
    /// An administrator's user name
    #[arg(long)]
    admin: String,
    /// A file with that administrator's password; one line end at its end is left out
    #[arg(long)]
    password_file: PathBuf,
    /// The local-mode socket, on the server's own machine: further checks, better cleaning
    #[arg(long)]
    local_socket: Option<PathBuf>,
    /// Seconds that one call may take
    #[arg(long, default_value_t = 30)]
    timeout: u64,
    /// Fields that the recordings do not have are failures, too
    #[arg(long)]
    strict: bool,
    /// Speak HTTP/2, for WebSockets too
    #[arg(long)]
    http2: bool,
    /// Print one JSON document instead of lines
    #[arg(long)]
    json: bool,
}

fn read(path: &PathBuf) -> anyhow::Result<String> {
    std::fs::read_to_string(path).with_context(|| format!("failed to read {}", path.display()))
}

fn main() -> anyhow::Result<ExitCode> {
    let arguments = Arguments::parse();
    let password = read(&arguments.password_file)?;
    let target = Target {
        address: arguments.address,
        ca_pem: arguments.ca.as_ref().map(read).transpose()?,
        admin: arguments.admin,
        password: password.strip_suffix('\n').unwrap_or(&password).to_owned(),
        local_socket: arguments.local_socket,
        timeout: Duration::from_secs(arguments.timeout),
        strict: arguments.strict,
        http2: arguments.http2,
    };
    let report = run_telling(&target, &mut |check: &Check| {
        if !arguments.json {
            let word = if check.passed { "pass" } else { "FAIL" };
            println!("{word} {:>6} ms  {}", check.milliseconds, check.name);
            if !check.passed {
                println!("     {}", check.detail);
            }
        }
    })?;
    if arguments.json {
        println!("{}", serde_json::to_string_pretty(&report)?);
    } else {
        println!("{} passed, {} failed", report.passed(), report.failed());
    }
    Ok(if report.all_passed() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}
