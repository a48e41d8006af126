//! `atalaya-update install|look|copy|esp|drop`: the one-shot units of an update.
#![allow(clippy::print_stdout)] // a unit's standard output is its log

use anyhow::bail;
use atalaya_update::{copy, drop, esp, install, look};

fn main() -> anyhow::Result<()> {
    let name = std::env::args().nth(1).unwrap_or_default();
    let say = |line: &str| println!("{line}");
    let done = match name.as_str() {
        "install" => install::unit(&say),
        "look" => look::unit(&say),
        "copy" => copy::unit(&say),
        "esp" => esp::unit(&say),
        "drop" => drop::unit(&say),
        _ => bail!("usage: atalaya-update install|look|copy|esp|drop (not {name:?})"),
    };
    done.map_err(anyhow::Error::msg)
}
