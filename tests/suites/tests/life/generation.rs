//! The data's next generation, made and removed by the units of an update: in their sandboxes, on the machine's own file system.

use std::collections::BTreeMap;

use anyhow::{Context, ensure};
use atalaya_suites::appliance::{RECOVERY, run, wait_served};
use atalaya_vm::Vm;
use serde_json::{Value, json};

use crate::Life;

const ATALAYA: &str = "/usr/bin/atalaya";
const FOLDER: &str = "/run/atalaya/update";
/// What is in an upload that shows whether space was taken for a second one.
const LARGE: u64 = 64 << 20;

/// Nothing is copied of a database that runs; uploads are copied meanwhile, without taking space, and the rest when everything is stopped.
pub fn generation_is_copied_and_removed(life: &mut Life) -> anyhow::Result<()> {
    let (vm, agent) = (&life.vm, life.vm.agent()?);
    let generation = in_use(vm)?;
    let next = generation + 1;
    let (from, to) = (
        format!("/data/gen/{generation}"),
        format!("/data/gen/{next}"),
    );
    let large = format!("{from}/mattermost/files/large");
    let write = format!("pwrite -q 0 {LARGE}");
    agent.exec(&["/usr/sbin/xfs_io", "-f", "-c", &write, &large])?;
    let copy = |beforehand: bool| {
        let request = json!({"from": generation, "to": next, "beforehand": beforehand});
        ask(vm, "copy", &request)
    };

    let refused = copy(false)?;
    ensure!(
        refused["refused"]["code"] == "database",
        "a running database was copied: {refused}"
    );
    let (_, free) = agent.file_system("/data")?;
    let beforehand = copy(true)?;
    let files = |answer: &Value, what: &str| {
        let count = answer["done"][what].as_u64();
        count.with_context(|| format!("it was not copied: {answer}"))
    };
    ensure!(files(&beforehand, "bytes")? > LARGE, "{beforehand}");
    ensure!(
        agent
            .list("/data/gen", false)?
            .iter()
            .all(|it| it.path != to),
        "half a generation has a whole one's name"
    );

    run(vm, &[ATALAYA, "unit", "stop", "postgres"])?;
    let copied = copy(false)?;
    ensure!(
        files(&copied, "kept")? >= 1 && files(&copied, "files")? > files(&beforehand, "files")?,
        "beforehand {beforehand}, then {copied}"
    );
    let taken = free.saturating_sub(agent.file_system("/data")?.1);
    ensure!(
        taken < LARGE / 2,
        "the copy takes {taken} bytes of the disk"
    );
    let (first, second) = (tree(vm, &from)?, tree(vm, &to)?);
    ensure!(
        first == second,
        "the copy is another: {first:#?}\n{second:#?}"
    );
    for path in ["postgres", "postgres/17/base"] {
        let said = run(
            vm,
            &[
                "/usr/sbin/xfs_io",
                "-c",
                "cowextsize",
                &format!("{to}/{path}"),
            ],
        )?;
        ensure!(
            said.starts_with("[8192]"),
            "small writes into the copy's {path} would take much space: {said}"
        );
    }
    run(vm, &[ATALAYA, "unit", "start", "postgres"])?;

    let dropped = ask(vm, "drop", &json!({"generations": [next]}))?;
    ensure!(
        dropped["done"]["files"].as_u64() >= Some(second.len() as u64),
        "{dropped}"
    );
    let left = agent.list("/data/gen", false)?;
    ensure!(
        left.iter().all(|entry| entry.path == from),
        "something is left: {left:?}"
    );
    let last = ask(vm, "drop", &json!({"generations": [generation]}))?;
    ensure!(
        last["refused"]["code"] == "drop",
        "the only generation was removed: {last}"
    );
    agent.exec(&["/usr/sbin/xfs_io", "-c", "truncate 0", &large])?;
    wait_served(vm, RECOVERY)?;
    crate::check_kept(life)
}

/// The only one on a machine that was never updated.
fn in_use(vm: &Vm) -> anyhow::Result<u32> {
    let entries = vm.agent()?.list("/data/gen", false)?;
    let mut numbers = entries
        .iter()
        .filter_map(|entry| entry.path.rsplit('/').next()?.parse().ok());
    numbers.next().context("there is no generation")
}

/// What the supervisor does: leave a request, start the unit, read what it left.
fn ask(vm: &Vm, name: &str, request: &Value) -> anyhow::Result<Value> {
    let agent = vm.agent()?;
    let file = format!("{FOLDER}/{name}.request.json");
    agent.write_file(&file, request.to_string().as_bytes(), 0o600)?;
    let unit = format!("update-{name}");
    // As for `atalaya probe`: one that is done would not be run again by a start.
    run(vm, &[ATALAYA, "unit", "restart", &unit])?;
    let answer = agent.read_file(&format!("{FOLDER}/{name}/result.json"))?;
    Ok(serde_json::from_slice(&answer)?)
}

/// All below a folder: kind and mode, owner, a file's size, and where a link leads. How large a directory is depends on its past.
fn tree(vm: &Vm, folder: &str) -> anyhow::Result<BTreeMap<String, String>> {
    let entries = vm.agent()?.list(folder, true)?;
    let of = |path: &str| path.strip_prefix(folder).map(str::to_owned);
    entries
        .iter()
        .map(|entry| {
            let is_directory = entry.mode & 0o170_000 == 0o040_000;
            let size = if is_directory { 0 } else { entry.size };
            let about = format!(
                "{:o} {}:{} {size} {:?}",
                entry.mode, entry.uid, entry.gid, entry.target
            );
            Ok((of(&entry.path).context("not in the folder")?, about))
        })
        .collect()
}
