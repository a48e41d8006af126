//! Boots a disk of the test image and lets a person look into the machine:
//!
//! ```text
//! cp --sparse=always build/image-test/atalaya.raw /tmp/disk.raw && truncate -s 16G /tmp/disk.raw
//! cargo run --release -p atalaya-vm --example look -- /tmp/disk.raw [appliance.toml]
//! ```
//!
//! Each line of its input is a command: `ps`, `ls DIR`, `tree DIR`, `cat FILE`, `status`, `events`, `console`, `wait`
//! (for the page), `shot FILE`, `power`, `reset`, `quit`; anything else is a program of the machine and its arguments.
//! There is no shell in there.

#![allow(clippy::print_stdout, reason = "a program for people")]

use std::error::Error;
use std::io::{self, BufRead, Write};
use std::time::Duration;

use atalaya_vm::{Cache, Machine, ToolsTree, Vm};

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let disk = arguments.next().ok_or("which disk?")?;
    let tools = std::env::var("ATALAYA_CACHE").unwrap_or_else(|_| "cache".to_owned());
    let mut machine = Machine::new(ToolsTree::at(format!("{tools}/tools"))?, disk)
        .cache(Cache::Unsafe)
        .display(true)
        .agent(true);
    if let Some(seed) = arguments.next() {
        machine = machine.seed(seed);
    }
    let vm = machine.start()?;
    println!(
        "https://localhost:{} http://localhost:{}",
        vm.https_port(),
        vm.http_port()
    );
    for line in io::stdin().lock().lines() {
        let line = line?;
        let words: Vec<&str> = line.split_whitespace().collect();
        if words == ["quit"] || vm.exit().is_some() {
            break;
        }
        if let Err(error) = obey(&vm, &words) {
            println!("{error}");
        }
        io::stdout().flush()?;
    }
    Ok(())
}

fn obey(vm: &Vm, words: &[&str]) -> Result<(), Box<dyn Error>> {
    match words {
        [] => {}
        ["ps"] => {
            for process in vm
                .agent()?
                .processes()?
                .iter()
                .filter(|process| !process.argv.is_empty())
            {
                let argv = process.argv.join(" ");
                println!(
                    "{:5} {:5} {:5} {} {argv}",
                    process.pid, process.ppid, process.uid, process.cgroup
                );
            }
        }
        [list @ ("ls" | "tree"), path] => {
            for entry in vm.agent()?.list(path, *list == "tree")? {
                println!(
                    "{:6o} {:5} {:5} {:10} {}",
                    entry.mode, entry.uid, entry.gid, entry.size, entry.path
                );
            }
        }
        ["cat", path] => println!("{}", String::from_utf8_lossy(&vm.agent()?.read_file(path)?)),
        ["pss", pid] => println!("{} KiB", vm.agent()?.pss_kib(pid.parse()?)?),
        ["kill", pid, signal] => vm.agent()?.kill(pid.parse()?, signal.parse()?)?,
        ["status"] => println!("{:#?}", vm.status().snapshot()),
        ["events"] => {
            for recorded in vm.status().events() {
                println!("{:7.2} {:?}", recorded.after.as_secs_f64(), recorded.event);
            }
            println!("unreadable: {:?}", vm.status().unreadable());
        }
        ["console"] => println!("{}", vm.console().text()),
        ["tail"] => println!("{}", vm.console().tail(40)),
        ["wait"] => {
            let state =
                vm.wait_status("users to be admitted", Duration::from_secs(240), |state| {
                    state.admit
                })?;
            println!(
                "{} s: {}",
                vm.started().elapsed().as_secs(),
                state.summary()
            );
        }
        ["agent"] => vm.agent()?.wait_ready(Duration::from_secs(120))?,
        ["shot", path] => vm.screenshot(std::path::Path::new(path))?,
        ["power"] => {
            vm.press_power_button()?;
            println!("{}", vm.wait_exit("power off", Duration::from_secs(120))?);
        }
        ["reset"] => vm.press_reset()?,
        argv => {
            let output = vm.agent()?.exec(argv)?;
            println!("{}{}", output.stdout, output.stderr);
            println!("exit status {:?}", output.code);
        }
    }
    Ok(())
}
