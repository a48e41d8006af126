//! Tells how far the pipeline is and how long each stage took: a moving line on a terminal, plain lines without one.

use indicatif::{ProgressBar, ProgressStyle};
use std::io::IsTerminal;
use std::time::{Duration, Instant};

/// How often the moving line is redrawn.
const TICK: Duration = Duration::from_millis(200);

pub struct Progress {
    terminal: bool,
    done: Vec<(String, Duration)>,
}

impl Progress {
    pub fn new() -> Self {
        Self {
            terminal: std::io::stderr().is_terminal(),
            done: Vec::new(),
        }
    }

    /// Begins a stage; it ends with [`Stage::finish`], or silently when dropped because of an error.
    pub fn stage(&mut self, name: &str) -> Stage<'_> {
        let bar = self.terminal.then(|| {
            let bar = ProgressBar::new_spinner();
            if let Ok(style) =
                ProgressStyle::with_template("{spinner} {prefix:<16} {elapsed:>4}  {wide_msg}")
            {
                bar.set_style(style);
            }
            bar.set_prefix(name.to_owned());
            bar.enable_steady_tick(TICK);
            bar
        });
        if bar.is_none() {
            eprintln!("{name} ...");
        }
        Stage {
            progress: self,
            name: name.to_owned(),
            bar,
            begun: Instant::now(),
        }
    }

    /// Adds a stage that was measured elsewhere.
    pub fn add(&mut self, name: &str, took: Duration) {
        self.done.push((name.to_owned(), took));
    }

    /// One line with the time of every stage.
    pub fn summary(&self) -> String {
        let total: Duration = self.done.iter().map(|(_, took)| *took).sum();
        let parts: Vec<String> = self
            .done
            .iter()
            .map(|(name, took)| format!("{name} {}", seconds(*took)))
            .collect();
        format!("{} in all: {}", seconds(total), parts.join(", "))
    }
}

pub struct Stage<'a> {
    progress: &'a mut Progress,
    name: String,
    bar: Option<ProgressBar>,
    begun: Instant,
}

impl Stage<'_> {
    /// What the stage does just now; shown on a terminal only, where it replaces what was said before.
    pub fn say(&self, text: &str) {
        if let Some(bar) = &self.bar {
            bar.set_message(text.to_owned());
        }
    }

    /// A line that stays.
    pub fn note(&self, text: &str) {
        match &self.bar {
            Some(bar) => bar.println(format!("  {text}")),
            None => eprintln!("  {text}"),
        }
    }

    pub fn is_terminal(&self) -> bool {
        self.bar.is_some()
    }

    pub fn finish(self, result: &str) {
        let took = self.begun.elapsed();
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
        eprintln!("{:<18} {:>8}  {result}", self.name, seconds(took));
        let name = self.name.clone();
        self.progress.add(&name, took);
    }
}

pub fn seconds(time: Duration) -> String {
    let seconds = time.as_secs_f64();
    if seconds < 60.0 {
        format!("{seconds:.1} s")
    } else {
        let whole = time.as_secs();
        format!("{} min {} s", whole / 60, whole % 60)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_readable() {
        assert_eq!(seconds(Duration::from_millis(1_240)), "1.2 s");
        assert_eq!(seconds(Duration::from_secs(125)), "2 min 5 s");
    }

    #[test]
    fn the_summary_names_every_stage() {
        let mut progress = Progress::new();
        progress.add("image", Duration::from_secs(30));
        progress.add("boot", Duration::from_secs(5));
        assert_eq!(
            progress.summary(),
            "35.0 s in all: image 30.0 s, boot 5.0 s"
        );
    }
}
