//! `make bench`: measures and prints Markdown tables for the README. It asserts nothing: figures are for people.

#![allow(clippy::print_stdout, reason = "its output is what it is for")]

mod boot;
mod build;
mod table;

use clap::Parser;

use atalaya_suites::place::Place;
use atalaya_vm::Accel;
use table::Table;

#[derive(Parser)]
#[command(about = "Measures the appliance and prints tables")]
struct Options {
    /// How many later boots to take the median of.
    #[arg(long, default_value_t = 3)]
    boots: usize,
    /// Don't build in a fresh clone with an empty cache, which takes several minutes and downloads about 500 MB.
    #[arg(long)]
    no_cold: bool,
    /// Don't build anything to measure how long it takes.
    #[arg(long)]
    no_build: bool,
}

fn main() -> anyhow::Result<()> {
    let options = Options::parse();
    let place = Place::from_environment();
    println!("{}\n", machine(&place)?);
    let boots = boot::measure(&place, options.boots.max(1))?;
    println!("{}", boots.phases());
    println!("{}", boots.memory());
    println!("{}", sizes(&place)?);
    if !options.no_build {
        println!("{}", build::measure(&place, !options.no_cold)?);
    }
    Ok(())
}

/// The machine that measures, in one line.
fn machine(place: &Place) -> anyhow::Result<String> {
    let cpuinfo = std::fs::read_to_string("/proc/cpuinfo")?;
    let model = cpuinfo
        .lines()
        .find_map(|line| line.strip_prefix("model name")?.split_once(':'));
    let model = model.map_or("unknown processor", |(_, name)| name.trim());
    let count = std::thread::available_parallelism()?;
    let date = std::process::Command::new("date")
        .arg("+%Y-%m-%d")
        .output()?;
    let accel = match place.accel()? {
        Accel::Kvm => "KVM",
        Accel::Tcg => "TCG",
    };
    Ok(format!(
        "Measured on {} with {count} processors ({model}), {accel}, guest with 2 processors and 1536 MiB.",
        String::from_utf8_lossy(&date.stdout).trim()
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
