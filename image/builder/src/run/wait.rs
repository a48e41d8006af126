//! Follows a boot, stage by stage, by what the machine reports.

use super::RunError;
use super::credentials::Credentials;
use super::place::Place;
use super::stop::StopSignal;
use crate::error::Result;
use crate::progress::Progress;
use atalaya_vm::{Snapshot, Vm};
use std::time::{Duration, Instant};

/// No stage of a boot takes this long, even translated on a busy machine.
const LIMIT: Duration = Duration::from_secs(240);
/// How often a signal is looked for.
const LOOK: Duration = Duration::from_millis(250);

type Reached = fn(&Snapshot) -> bool;

/// What is waited for, in this order.
const STAGES: [(&str, Reached); 4] = [
    ("boot", |state| state.boot.is_some()),
    ("PostgreSQL", |state| state.is_ready("postgres")),
    ("Mattermost", |state| state.is_ready("mattermost")),
    ("page served", |state| state.admit && state.ca.is_some()),
];

pub fn until_served(
    vm: &Vm,
    place: &Place,
    stop: &StopSignal,
    progress: &mut Progress,
    credentials: &Credentials,
) -> Result<Snapshot> {
    let mut state = Snapshot::default();
    for (name, reached) in STAGES {
        let stage = progress.stage(name);
        let begun = Instant::now();
        state = loop {
            stop.check(&format!("stage {name} was reached"))?;
            if let Some(state) = vm.status().wait_for(LOOK, reached) {
                break state;
            }
            stage.say(&vm.status().snapshot().summary());
            if vm.exit().is_some() || begun.elapsed() > LIMIT {
                return Err(failed(vm, place, name, begun.elapsed()).into());
            }
        };
        if name == "page served" {
            let answer = credentials
                .client(&state, vm.https_port())
                .and_then(|client| client.check_server_status());
            if let Err(error) = answer {
                return Err(RunError::Machine {
                    stage: name.to_owned(),
                    folder: place.folder().to_owned(),
                    detail: format!("{error}\n{}", vm.console().tail(30)),
                }
                .into());
            }
        }
        stage.finish("");
    }
    Ok(state)
}

fn failed(vm: &Vm, place: &Place, stage: &str, waited: Duration) -> RunError {
    RunError::Machine {
        stage: stage.to_owned(),
        folder: place.folder().to_owned(),
        detail: vm.deadline(stage, waited).to_string(),
    }
}
