//! `atalaya-edge [FILE]`: the edge, with its settings from FILE (default /run/atalaya/conf/edge.toml).

use std::path::PathBuf;

use anyhow::{Context, bail};

const SETTINGS: &str = "/run/atalaya/conf/edge.toml";

fn main() -> anyhow::Result<()> {
    let mut arguments = std::env::args_os().skip(1);
    let path = arguments
        .next()
        .map_or_else(|| PathBuf::from(SETTINGS), PathBuf::from);
    if arguments.next().is_some() {
        bail!("usage: atalaya-edge [FILE], where FILE is the edge's settings (default {SETTINGS})");
    }
    let sockets =
        atalaya_edge::Inherited::take().context("failed to take over the listening sockets")?;
    let files = atalaya_edge::Files {
        settings: path,
        secrets: std::env::var_os("CREDENTIALS_DIRECTORY")
            .map(|directory| PathBuf::from(directory).join("edge-secrets.toml")),
    };
    // Users are served by threads of their own (`workers`); this one does the rest.
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .context("failed to start the runtime")?;
    let outcome = runtime.block_on(atalaya_edge::run(files, sockets));
    // What was not finished in the drain's time is not waited for.
    runtime.shutdown_background();
    Ok(outcome?)
}
