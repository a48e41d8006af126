//! Changes: asks for one and waits until it is so, or has failed.

use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use serde_json::{Value, json};

use crate::client::Client;
use crate::init::Init;
use crate::show;

/// Stops of PostgreSQL may take so long, and starts no longer.
const LIMIT: Duration = Duration::from_secs(400);
/// A supervisor that is started again answers within seconds; a slow machine may take longer.
const SUPERVISOR_LIMIT: Duration = Duration::from_secs(60);
const PAUSE: Duration = Duration::from_millis(100);

/// The unit after what was asked for, and whether that has succeeded.
pub fn settle(client: &Client, name: &str, verb: &str) -> Result<(Value, bool)> {
    let path = format!("/v1/units/{name}");
    // A restart gives another run, or in the same run another main process.
    let run = |unit: &Value| (unit.get("run").cloned(), unit.get("pid").cloned());
    let before = run(&client.get(&path)?);
    client.post(&format!("{path}/{verb}"))?;
    let begin = Instant::now();
    loop {
        let unit = client.get(&path)?;
        let is = |key: &str| unit.get(key) == Some(&Value::Bool(true));
        let is_new = verb != "restart" || run(&unit) != before;
        match (verb, show::text(&unit, "state").as_str()) {
            ("reset", _) => return Ok((unit, true)),
            ("reload", _) if is("reloading") => {}
            ("restart", _) if is("handing_over") => {}
            // It runs on as it was and says why.
            ("restart", "Running") if !is_new => return Ok((unit, false)),
            ("reload", _) => {
                let failed = !show::text(&unit, "reason").is_empty();
                return Ok((unit, !failed));
            }
            ("stop", "Stopped") => return Ok((unit, true)),
            ("stop", _) => {}
            (_, "Failed" | "Stopped") if is_new => return Ok((unit, false)),
            _ if is("ready") && is_new => return Ok((unit, true)),
            // What it waits for was given up: it would wait for ever.
            (_, "Waiting") if is_hopeless(client, name)? => return Ok((unit, false)),
            _ => {}
        }
        if begin.elapsed() > LIMIT {
            bail!(
                "{name} is not there after {} s: {}. Nothing else was changed. See: atalaya unit why {name}",
                LIMIT.as_secs(),
                show::text(&unit, "words")
            );
        }
        std::thread::sleep(PAUSE);
    }
}

/// Whether the cause of its waiting is a service that has failed for good.
fn is_hopeless(client: &Client, name: &str) -> Result<bool> {
    let why = client.get(&format!("/v1/units/{name}/why"))?;
    let cause = show::text(&why, "cause");
    if cause == name || why.get("wrong") != Some(&Value::Bool(true)) {
        return Ok(false);
    }
    let unit = client.get(&format!("/v1/units/{cause}"))?;
    Ok(show::text(&unit, "state") == "Failed")
}

/// What a stop of `name` would stop too, in words; empty if nothing.
pub fn stops_too(client: &Client, name: &str) -> Result<String> {
    let deps = client.get(&format!("/v1/units/{name}/deps"))?;
    let names: Vec<String> = show::list(&deps, "stops_too")
        .iter()
        .map(|unit| show::text(unit, "name"))
        .collect();
    Ok(match names.as_slice() {
        [] => String::new(),
        [one] => format!("{one} needs {name}: it is stopped first and comes back with it."),
        more => format!(
            "{} need {name}: they are stopped first and come back with it.",
            more.join(", ")
        ),
    })
}

/// Ends the supervisor and waits for the next one. The services do not notice.
pub fn restart_supervisor(client: &Client, init: &Init) -> Result<Value> {
    let pid = |client: &Client| {
        let status = client.get("/v1/status").ok()?;
        status.get("supervisor")?.get("pid")?.as_u64()
    };
    let before = pid(client);
    init.ask("supervisor-restart")?;
    let begin = Instant::now();
    loop {
        match pid(client) {
            Some(now) if Some(now) != before => return Ok(json!({ "pid": now, "former": before })),
            Some(_) | None => {}
        }
        if begin.elapsed() > SUPERVISOR_LIMIT {
            bail!(
                "The supervisor does not answer {} s after its restart. The services run on without it and no data is \
                 touched. See: atalaya status",
                SUPERVISOR_LIMIT.as_secs()
            );
        }
        std::thread::sleep(PAUSE);
    }
}
