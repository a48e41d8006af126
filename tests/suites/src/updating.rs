//! What every suite of updates asks of a machine: which version it runs, what became of the last update, and its administrator's session.

use anyhow::Context;
use atalaya_vm::{Snapshot, Vm};
use serde_json::Value;

use crate::appliance::{ADMINISTRATOR, Appliance, PASSWORD, run};
use crate::client::Client;
use crate::place::Image;

/// The administrator's session.
pub fn log_in(appliance: &Appliance, state: &Snapshot) -> anyhow::Result<Client> {
    let mut client = appliance.client(state)?;
    client.log_in(ADMINISTRATOR, PASSWORD)?;
    Ok(client)
}

/// The version that a booted machine reports.
#[must_use]
pub fn version(state: &Snapshot) -> &str {
    state.boot.as_ref().map_or("none", |boot| &boot.version)
}

/// An image's own.
pub fn version_of(image: &Image) -> anyhow::Result<&str> {
    let version = image.manifest()["version"].as_str();
    version.context("the image's manifest has no version")
}

/// The last entry of `atalaya update history`.
pub fn last_update(vm: &Vm) -> anyhow::Result<Value> {
    let text = run(vm, &["/usr/bin/atalaya", "--json", "update", "history"])?;
    let list: Value = serde_json::from_str(&text).context("the history is no JSON")?;
    let list = list.as_array().or_else(|| list["history"].as_array());
    let last = list.and_then(|list| list.last());
    Ok(last.context("the history is empty")?.clone())
}
