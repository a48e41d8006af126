//! A runner for steps that share one machine. Booting takes most of a test's time, so steps that do not disturb each
//! other follow one another in the same machine: the order is part of the story.
//!
//! The command line is that of Rust's own runner as far as it is used: names (or parts of names) choose steps, options
//! are accepted and change nothing. The machine is prepared in any case. A failed step does not stop the story unless
//! the machine is gone; there is no way to skip one.

use std::env;
use std::process::ExitCode;
use std::time::{Duration, Instant};

/// One step.
pub struct Step<T> {
    /// What it shows, as a name.
    pub name: &'static str,
    /// Shows it.
    pub run: fn(&mut T) -> anyhow::Result<()>,
}

/// Prepares, runs the chosen steps, and says how it went.
#[allow(clippy::print_stdout, reason = "the runner of a test program")]
pub fn run<T>(
    story: &str,
    prepare: impl FnOnce() -> anyhow::Result<T>,
    steps: &[Step<T>],
) -> ExitCode {
    let wanted: Vec<String> = env::args()
        .skip(1)
        .filter(|word| !word.starts_with('-'))
        .collect();
    let chosen = |step: &Step<T>| {
        wanted.is_empty() || wanted.iter().any(|part| step.name.contains(part.as_str()))
    };
    if env::args().any(|word| word == "--list") {
        steps
            .iter()
            .for_each(|step| println!("{}: test", step.name));
        return ExitCode::SUCCESS;
    }
    let steps: Vec<&Step<T>> = steps.iter().filter(|step| chosen(step)).collect();
    if steps.is_empty() {
        return ExitCode::SUCCESS;
    }
    println!("\nrunning the story {story}: {} steps", steps.len());
    let begun = Instant::now();
    let mut subject = match prepare() {
        Ok(subject) => subject,
        Err(error) => {
            println!(
                "preparation of {story} ... FAILED ({})\n{error:#}",
                seconds(begun.elapsed())
            );
            return ExitCode::FAILURE;
        }
    };
    println!("prepared {story} ({})", seconds(begun.elapsed()));
    let failed = steps
        .iter()
        .filter(|step| !show(step, &mut subject))
        .count();
    drop(subject);
    let result = if failed == 0 { "ok" } else { "FAILED" };
    let passed = steps.len() - failed;
    println!(
        "story result: {result}. {passed} passed; {failed} failed; finished in {}\n",
        seconds(begun.elapsed())
    );
    if failed == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

#[allow(clippy::print_stdout, reason = "the runner of a test program")]
fn show<T>(step: &Step<T>, subject: &mut T) -> bool {
    let begun = Instant::now();
    let result = (step.run)(subject);
    let time = seconds(begun.elapsed());
    match &result {
        Ok(()) => println!("test {} ... ok ({time})", step.name),
        Err(error) => println!("test {} ... FAILED ({time})\n{error:#}", step.name),
    }
    result.is_ok()
}

fn seconds(time: Duration) -> String {
    format!("{:.1} s", time.as_secs_f64())
}

/// Asks until there is something, for what can only be asked and not be waited on.
pub fn eventually<T>(
    what: &str,
    limit: Duration,
    ask: impl Fn() -> anyhow::Result<Option<T>>,
) -> anyhow::Result<T> {
    let begun = Instant::now();
    loop {
        if let Some(found) = ask()? {
            return Ok(found);
        }
        anyhow::ensure!(
            begun.elapsed() < limit,
            "waited {} for {what}",
            seconds(begun.elapsed())
        );
        std::thread::sleep(Duration::from_millis(100));
    }
}
