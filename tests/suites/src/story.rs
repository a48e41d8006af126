//! A runner for steps that share one machine. Booting takes most of a test's time, so steps that do not disturb each
//! other follow one another in the same machine: the order is part of the story.
//!
//! The command line is that of Rust's own runner as far as it is used: names (or parts of names) choose steps, options
//! are accepted and change nothing. The machine is prepared in any case. A failed step does not stop the story unless
//! the machine is gone; there is no way to skip one.

use std::env;
use std::process::ExitCode;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::{Duration, Instant};

/// One step.
pub struct Step<T> {
    /// What it shows, as a name.
    pub name: &'static str,
    /// Shows it.
    pub run: fn(&mut T) -> anyhow::Result<()>,
}

/// Steps that need nothing of each other, each on a subject of its own.
pub struct Branches<'a, T> {
    /// A subject like this one, for one after the other of them.
    pub branch: &'a (dyn Fn(&T) -> anyhow::Result<T> + Sync),
    /// The longest first.
    pub steps: &'a [Step<T>],
}

/// As many machines as have a processor each on the smallest machine that runs this.
const WIDTH: usize = 2;

/// Prepares, runs the chosen steps, and says how it went.
pub fn run<T: Send + Sync>(
    story: &str,
    prepare: impl FnOnce() -> anyhow::Result<T>,
    steps: &[Step<T>],
) -> ExitCode {
    let none = Branches {
        branch: &|_| anyhow::bail!("the story has no branches"),
        steps: &[],
    };
    run_with_branches(story, prepare, steps, &none)
}

/// The same, and then what branches off, two at a time. The branches stand on all the steps: these run if one of them is chosen.
#[allow(clippy::print_stdout, reason = "the runner of a test program")]
pub fn run_with_branches<T: Send + Sync>(
    story: &str,
    prepare: impl FnOnce() -> anyhow::Result<T>,
    steps: &[Step<T>],
    branches: &Branches<'_, T>,
) -> ExitCode {
    let wanted: Vec<String> = env::args()
        .skip(1)
        .filter(|word| !word.starts_with('-'))
        .collect();
    if env::args().any(|word| word == "--list") {
        let all = steps.iter().chain(branches.steps);
        all.for_each(|step| println!("{}: test", step.name));
        return ExitCode::SUCCESS;
    }
    let chosen = |step: &&Step<T>| {
        wanted.is_empty() || wanted.iter().any(|part| step.name.contains(part.as_str()))
    };
    let aside: Vec<&Step<T>> = branches.steps.iter().filter(chosen).collect();
    let steps: Vec<&Step<T>> = steps
        .iter()
        .filter(|step| !aside.is_empty() || chosen(step))
        .collect();
    let count = steps.len() + aside.len();
    if count == 0 {
        return ExitCode::SUCCESS;
    }
    println!("\nrunning the story {story}: {count} steps");
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
    let mut passed = steps.iter().filter(|step| show(step, &mut subject)).count();
    passed += show_aside(&subject, branches.branch, &aside);
    drop(subject);
    let failed = count - passed;
    let result = if failed == 0 { "ok" } else { "FAILED" };
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

/// How many of them passed.
fn show_aside<T: Send + Sync>(
    subject: &T,
    branch: &(dyn Fn(&T) -> anyhow::Result<T> + Sync),
    steps: &[&Step<T>],
) -> usize {
    let (next, passed) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let work = || {
        let mut own = None;
        while let Some(step) = steps.get(next.fetch_add(1, Relaxed)) {
            let begun = Instant::now();
            let made = match own.take() {
                Some(own) => Ok(own),
                None => branch(subject),
            };
            let is_ok = match made {
                Ok(made) => show(step, own.insert(made)),
                Err(error) => tell(step.name, begun.elapsed(), &Err(error)),
            };
            passed.fetch_add(usize::from(is_ok), Relaxed);
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..WIDTH.min(steps.len()) {
            scope.spawn(work);
        }
    });
    passed.into_inner()
}

fn show<T>(step: &Step<T>, subject: &mut T) -> bool {
    let begun = Instant::now();
    let result = (step.run)(subject);
    tell(step.name, begun.elapsed(), &result)
}

#[allow(clippy::print_stdout, reason = "the runner of a test program")]
fn tell(name: &str, time: Duration, result: &anyhow::Result<()>) -> bool {
    let time = seconds(time);
    match result {
        Ok(()) => println!("test {name} ... ok ({time})"),
        Err(error) => println!("test {name} ... FAILED ({time})\n{error:#}"),
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
