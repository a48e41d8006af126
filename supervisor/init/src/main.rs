//! One program, four roles: stage 1, PID 1, a child of PID 1 for what may block, and poweroff/reboot/halt.

use atalaya_init::{ask, console::Console, data, ending, reactor, stage1};
use nix::sys::reboot::{RebootMode, reboot};
use std::ffi::OsString;
use std::path::Path;
use std::process::exit;
use std::time::Duration;

fn main() {
    let arguments: Vec<OsString> = std::env::args_os().collect();
    if std::process::id() == 1 {
        std::panic::set_hook(Box::new(last_words));
        if Path::new(stage1::MODULES).exists() {
            stage1::run();
        }
        reactor::run();
    }
    let words: Vec<&str> = arguments.iter().filter_map(|word| word.to_str()).collect();
    exit(match words.as_slice() {
        [_, "prepare-data"] => data::run(),
        [_, "effect", rest @ ..] => ending::effect::run(rest),
        [name, ..] => ask::run(name),
        [] => 2,
    });
}

/// No code here panics on purpose; should it happen, the machine restarts instead of hanging.
fn last_words(panic: &std::panic::PanicHookInfo<'_>) {
    let mut console = Console::new();
    console.say(
        "init",
        &format!("internal error: {panic}; the machine restarts in 10 seconds"),
    );
    std::thread::sleep(Duration::from_secs(10));
    // Should this fail too, the abort that follows makes the kernel panic, and panic= restarts.
    let Err(_errno) = reboot(RebootMode::RB_AUTOBOOT);
}
