//! `make bench`: measures and prints Markdown tables. It asserts nothing: figures are for people. What is measured and how
//! is in docs/benchmarks.md.

#![allow(clippy::print_stdout, reason = "its output is what it is for")]

mod adoption;
mod boot;
mod build;
mod edge;
mod generation;
mod graph;
mod ground;
mod log;
mod memory;
mod peers;
mod phases;
mod process;
mod programs;
mod reports;
mod restart;
mod slot;
mod stats;
mod table;

use std::fs::File;
use std::io::{IsTerminal, Write};
use std::path::PathBuf;
use std::time::Instant;

use anyhow::Context;
use atalaya_suites::place::Place;
use atalaya_vm::Accel;
use clap::{Parser, ValueEnum};
use indicatif::{ProgressBar, ProgressStyle};
use programs::Programs;
use table::Table;

#[derive(Parser)]
#[command(about = "Measures the supervisor and the appliance, and prints tables")]
struct Options {
    /// What to measure; all of it by default
    names: Vec<Name>,
    /// Kills of each supervisor's service
    #[arg(long, default_value_t = 100)]
    kills: usize,
    /// Later boots to take the median of
    #[arg(long, default_value_t = 5)]
    boots: usize,
    /// Don't build in a fresh clone with an empty cache, which takes several minutes and downloads about 500 MB
    #[arg(long)]
    no_cold: bool,
    /// Take the images as they were built last
    #[arg(long)]
    as_built: bool,
    /// Take atalaya-init, atalayad, atalaya-sandbox and atalaya-bench-unit from this folder, to compare versions
    #[arg(long)]
    programs: Option<PathBuf>,
    #[command(flatten)]
    edge: edge::Options,
    #[command(flatten)]
    generation: generation::Options,
    /// The tables' file
    #[arg(long, default_value = "build/bench.md")]
    output: PathBuf,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Name {
    /// From kill -9 to the next instance, against runit and s6
    Restart,
    /// Start of graphs of 100 and 1,000 units
    Graph,
    /// Throughput, cost and stalls of logging, against svlogd
    Log,
    /// From atalayad's death to all units known again
    Adoption,
    /// PSS of init and atalayad with 10 and 1,000 units
    Memory,
    /// The TLS edge: processor, latency, memory, against nginx and HAProxy
    Edge,
    /// Copy of a generation of the data, against cp
    Generation,
    /// Filling a slot from a bundle, against zstd, sha256sum and dd; what another version needs, against xdelta3
    Slot,
    /// Second boot, against the same root under systemd and nginx
    Boot,
    /// The appliance's boot phases, memory and sizes
    Phases,
    /// How long building the image takes
    Build,
}

fn main() -> anyhow::Result<()> {
    let options = Options::parse();
    let place = Place::from_environment();
    let names = match options.names.as_slice() {
        [] => Name::value_variants(),
        some => some,
    };
    let about = machine(&place)?;
    println!("{about}\n");
    let mut text = format!("{about}\n");
    let mut programs = None;
    for name in names {
        let begun = Instant::now();
        eprintln!("{name:?} ...");
        let tables = match name {
            Name::Edge => edge::measure(&place, &options.edge)?,
            Name::Generation => generation::measure(&place, &options.generation)?,
            Name::Slot => slot::measure(&place)?,
            Name::Boot | Name::Phases | Name::Build => of_images(*name, &place, &options)?,
            Name::Restart | Name::Graph | Name::Log | Name::Adoption | Name::Memory => {
                let programs = match &programs {
                    Some(known) => known,
                    None => programs.insert(match &options.programs {
                        Some(folder) => Programs::of(folder)?,
                        None => Programs::build(&place)?,
                    }),
                };
                of_programs(*name, programs, &options)?
            }
        };
        eprintln!("{name:?}: {:.0} s", begun.elapsed().as_secs_f64());
        for table in tables {
            println!("{table}");
            text.push_str(&format!("\n{table}"));
        }
        // What is measured is kept, even if what comes next fails.
        let output = place.root().join(&options.output);
        File::create(&output)
            .and_then(|mut file| file.write_all(text.as_bytes()))
            .with_context(|| format!("failed to write {}", output.display()))?;
    }
    Ok(())
}

fn of_programs(name: Name, programs: &Programs, options: &Options) -> anyhow::Result<Vec<Table>> {
    match name {
        Name::Restart => restart::measure(programs, options.kills),
        Name::Graph => graph::measure(programs),
        Name::Log => log::measure(programs),
        Name::Adoption => adoption::measure(programs),
        Name::Memory => memory::measure(programs),
        Name::Edge | Name::Generation | Name::Slot | Name::Boot | Name::Phases | Name::Build => {
            Ok(Vec::new())
        }
    }
}

fn of_images(name: Name, place: &Place, options: &Options) -> anyhow::Result<Vec<Table>> {
    let build = |arguments: &[&str]| match options.as_built {
        true => Ok(()),
        false => programs::build_image(place, arguments),
    };
    let boots = options.boots.max(1);
    match name {
        Name::Boot => {
            build(&[])?;
            build(&["--baseline"])?;
            boot::measure(place, boots)
        }
        Name::Phases => {
            build(&[])?;
            build(&["--test"])?;
            let phases = phases::measure(place, boots)?;
            Ok(vec![phases.phases(), phases.memory(), sizes(place)?])
        }
        Name::Build => Ok(vec![build::measure(place, !options.no_cold)?]),
        Name::Restart
        | Name::Graph
        | Name::Log
        | Name::Adoption
        | Name::Memory
        | Name::Edge
        | Name::Generation
        | Name::Slot => Ok(Vec::new()),
    }
}

/// Shows how far a measurement is, where somebody looks.
fn progress(what: &'static str, steps: usize) -> ProgressBar {
    if !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let bar = ProgressBar::new(steps as u64).with_prefix(what);
    if let Ok(style) = ProgressStyle::with_template("{prefix} {wide_bar} {pos}/{len}, {eta} to go")
    {
        bar.set_style(style);
    }
    bar.tick();
    bar
}

/// The machine that measures and what is measured, in one line.
fn machine(place: &Place) -> anyhow::Result<String> {
    let cpuinfo = std::fs::read_to_string("/proc/cpuinfo")?;
    let model = cpuinfo
        .lines()
        .find_map(|line| line.strip_prefix("model name")?.split_once(':'));
    let model = model.map_or("unknown processor", |(_, name)| name.trim());
    let count = std::thread::available_parallelism()?;
    let output = |program: &str, arguments: &[&str]| -> anyhow::Result<String> {
        let output = std::process::Command::new(program)
            .args(arguments)
            .current_dir(place.root())
            .output()
            .with_context(|| format!("failed to run {program}"))?;
        Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
    };
    let date = output("date", &["+%Y-%m-%d %H:%M"])?;
    let commit = output(
        "git",
        &["-c", "safe.directory=*", "rev-parse", "--short", "HEAD"],
    )?;
    let accel = match place.accel()? {
        Accel::Kvm => "KVM",
        Accel::Tcg => "TCG",
    };
    Ok(format!(
        "Measured on {date}, commit {commit}, with {count} processors ({model}), {accel}, guest with 2 processors and 1536 MiB."
    ))
}

fn sizes(place: &Place) -> anyhow::Result<Table> {
    let image = place.production_image()?;
    let mut table = Table::new(["image", "MiB"]);
    for (what, name) in [
        ("root (erofs)", "atalaya.root"),
        ("verity", "atalaya.verity"),
        ("unified kernel image", "atalaya.efi"),
    ] {
        let size = std::fs::metadata(image.file(name)?)?.len();
        table.row([what, &mebibytes(size)]);
    }
    let disk = std::fs::metadata(image.disk()?)?;
    table.row(["raw disk", &mebibytes(disk.len())]);
    let used = std::os::unix::fs::MetadataExt::blocks(&disk) * 512;
    table.row(["raw disk, without its holes", &mebibytes(used)]);
    Ok(table)
}

fn mebibytes(bytes: u64) -> String {
    format!("{:.1}", bytes as f64 / f64::from(1 << 20))
}
