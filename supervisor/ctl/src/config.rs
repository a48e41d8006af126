//! `appliance.toml` before it is given to a machine: what may stand in it, and whether a file is right. Asks no machine.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result};
use atalaya_core::appliance::{Invalid, MAX_BYTES, Problem, parse_seed, reference};
use clap::Subcommand;
use serde_json::{Value, json};

#[derive(Subcommand)]
pub enum ConfigCommand {
    /// Whether a file would be taken as a seed; every mistake in it, with line and what is allowed. `-` is standard input.
    Validate { file: PathBuf },
    /// The JSON Schema of the file, for editors that check while one types.
    Schema,
    /// A file in which everything is a comment: every key, what it is for and what is allowed.
    Example,
}

pub fn run(json: bool, command: &ConfigCommand) -> Result<ExitCode> {
    match command {
        ConfigCommand::Validate { file } => return validate(json, file),
        ConfigCommand::Schema => println!("{:#}", reference::schema()),
        ConfigCommand::Example if json => println!("{}", json!({ "text": reference::example() })),
        ConfigCommand::Example => print!("{}", reference::example()),
    }
    Ok(ExitCode::SUCCESS)
}

fn validate(json: bool, file: &Path) -> Result<ExitCode> {
    let bytes = read(file)?;
    let problems = match parse_seed(&bytes) {
        Ok(_) => Vec::new(),
        Err(Invalid(problems)) => problems,
    };
    if json {
        let told: Vec<Value> = problems.iter().map(as_json).collect();
        println!("{}", json!({ "valid": told.is_empty(), "problems": told }));
    } else if problems.is_empty() {
        println!("{} is valid.", file.display());
    } else {
        for problem in &problems {
            println!("{problem}");
        }
    }
    Ok(crate::exit_code(problems.is_empty()))
}

/// One byte more than is taken: a file that is too large is refused for its size, whatever it is.
fn read(file: &Path) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let limit = MAX_BYTES as u64 + 1;
    let read = match file.to_str() {
        Some("-") => std::io::stdin().lock().take(limit).read_to_end(&mut bytes),
        _ => std::fs::File::open(file).and_then(|file| file.take(limit).read_to_end(&mut bytes)),
    };
    read.with_context(|| format!("{} could not be read", file.display()))?;
    Ok(bytes)
}

fn as_json(problem: &Problem) -> Value {
    json!({
        "key": problem.key, "line": problem.line, "value": problem.value, "wrong": problem.wrong, "allowed": problem.allowed,
    })
}
