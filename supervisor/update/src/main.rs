//! `atalaya-update install|copy|esp|drop`: the one-shot units of an update.

use anyhow::bail;

fn main() -> anyhow::Result<()> {
    let name = std::env::args().nth(1).unwrap_or_default();
    bail!("usage: atalaya-update install|copy|esp|drop (not {name:?})")
}
