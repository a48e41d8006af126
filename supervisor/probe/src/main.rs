//! `atalaya-probe`: runs the probe once and prints its report as one line of JSON, last. Exit status 0 only if every step went well.
#![allow(clippy::print_stdout, reason = "the report is this program's output")]

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;
use atalaya_probe::{Credentials, Target, run_probe};
use clap::Parser;
use serde::Deserialize;

/// Logs in, posts, receives, uploads, downloads and searches once, through the TLS edge
#[derive(Parser)]
struct Arguments {
    /// File with the probe's user, bot token and channel, and where the site is
    #[arg(long, default_value = "/run/atalaya/probe/credentials.json")]
    credentials: PathBuf,
    /// Seconds that one step may take
    #[arg(long, default_value_t = 20)]
    timeout: u64,
}

/// The credentials file.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    username: String,
    password: String,
    bot_token: String,
    team: String,
    channel: String,
    site: String,
    connect: Option<String>,
    /// Path of the authority's certificate, PEM.
    ca: PathBuf,
}

fn main() -> anyhow::Result<ExitCode> {
    let arguments = Arguments::parse();
    let path = &arguments.credentials;
    let text = std::fs::read_to_string(path)
        .with_context(|| format!("failed to read the probe's credentials {}", path.display()))?;
    let written: Written = serde_json::from_str(&text)
        .with_context(|| format!("the probe's credentials {} are not valid", path.display()))?;
    let ca_pem = std::fs::read_to_string(&written.ca).with_context(|| {
        format!(
            "failed to read the authority's certificate {}",
            written.ca.display()
        )
    })?;
    let target = Target {
        site: written.site,
        connect: written.connect,
        ca_pem,
        timeout: Duration::from_secs(arguments.timeout),
    };
    let credentials = Credentials {
        username: written.username,
        password: written.password,
        bot_token: written.bot_token,
        team: written.team,
        channel: written.channel,
    };
    let report = run_probe(&target, &credentials);
    println!("{}", serde_json::to_string(&report)?);
    Ok(if report.ok {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}
