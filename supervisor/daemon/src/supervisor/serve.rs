//! Answers to the control API, from the state. Every refusal says what happened, what it means for the data, and what to do.

use atalaya_core::link::Action;
use atalaya_core::machine::{Desired, Machine};
use atalaya_core::system::Input;
use atalaya_core::unit::{Kind, Unit};
use serde_json::{Value, json};

use super::Supervisor;
use crate::clock::boottime_ms;
use crate::upstream::describe;

/// What may be asked of the owner of state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Request {
    Status,
    Units,
    Unit(String),
    Start(String),
    Stop(String),
    Restart(String),
    /// The chain from cause to state.
    Why(String),
    /// What it needs and what needs it.
    Deps(String),
    /// What took how long at the start.
    Boot,
    /// All that the screens on the consoles show.
    Screen,
    End(Action),
}

/// An HTTP status and a body.
#[derive(Clone, Debug, PartialEq)]
pub struct Answer {
    pub status: u16,
    pub body: Value,
}

impl Answer {
    fn ok(body: Value) -> Self {
        Self { status: 200, body }
    }

    /// The three sentences.
    pub fn refusal(status: u16, error: &str, data: &str, next: &str) -> Self {
        Self {
            status,
            body: json!({ "error": error, "data": data, "next": next }),
        }
    }
}

impl Supervisor {
    pub(super) fn serve(&mut self, request: Request) -> Answer {
        match request {
            Request::Status => Answer::ok(self.status()),
            Request::Units => {
                let units: Vec<Value> = self
                    .system
                    .units()
                    .map(|(unit, machine)| self.view(unit, machine))
                    .collect();
                Answer::ok(json!({ "units": units }))
            }
            Request::Unit(name) => match self.system.unit(&name) {
                Some((unit, machine)) => {
                    let mut view = self.view(unit, machine);
                    if let Some(fields) = view.as_object_mut() {
                        fields.insert("definition".to_owned(), json!(unit));
                    }
                    Answer::ok(view)
                }
                None => self.no_such(&name),
            },
            Request::Start(name) => self.act(&name, Input::Start(name.clone())),
            Request::Stop(name) => self.act(&name, Input::Stop(name.clone())),
            Request::Restart(name) => self.act(&name, Input::Restart(name.clone())),
            Request::Why(_) | Request::Deps(_) | Request::Boot | Request::Screen => {
                Answer::refusal(
                    501,
                    "this release cannot answer that",
                    "Nothing was changed.",
                    "See: atalaya unit list",
                )
            }
            Request::End(action) => {
                self.end(action, "a command");
                Answer {
                    status: 202,
                    body: json!({ "action": action }),
                }
            }
        }
    }

    fn act(&mut self, name: &str, input: Input) -> Answer {
        if self.system.unit(name).is_none() {
            return self.no_such(name);
        }
        if self.system.end().is_some() {
            return Answer::refusal(
                409,
                "the machine is being stopped",
                "Nothing was changed.",
                "Wait until it has started again.",
            );
        }
        self.apply(input);
        self.keep_system();
        self.serve(Request::Unit(name.to_owned()))
    }

    fn no_such(&self, name: &str) -> Answer {
        let names: Vec<&str> = self
            .system
            .units()
            .map(|(unit, _)| unit.name.as_str())
            .collect();
        Answer::refusal(
            404,
            &format!("there is no service named {name}"),
            "Nothing was changed.",
            &format!("Choose one of: {}.", names.join(", ")),
        )
    }

    fn status(&self) -> Value {
        let facts = &self.report.facts;
        let units: Vec<Value> = self
            .system
            .units()
            .map(|(unit, machine)| self.view(unit, machine))
            .collect();
        json!({
            "state": self.words(),
            "admit": self.is_admitting(),
            "stopping": self.system.end(),
            "version": self.release.version,
            "build": self.release.build,
            "slot": self.options.slot,
            "boot_id": self.hub.boot(),
            "mattermost": self.release.mattermost.version,
            "standin": self.release.is_standin(),
            "postgresql": self.release.postgresql,
            "site": facts.site,
            "addresses": facts.addresses,
            "ca_sha256": facts.ca.as_ref().map(|ca| &ca.sha256),
            "seed": facts.seed,
            "probe_user": facts.probe_user,
            "data": self.options.data.is_some(),
            "up_ms": boottime_ms(),
            "units": units,
        })
    }

    fn view(&self, unit: &Unit, machine: &Machine) -> Value {
        let now = boottime_ms();
        let live = self.lives.get(&unit.name);
        json!({
            "name": unit.name,
            "description": unit.description,
            "type": unit.kind,
            "state": machine.state().word(),
            "words": describe(machine),
            "desired": match machine.desired() { Desired::Up => "up", Desired::Down => "down" },
            "ready": machine.is_ready(),
            "ready_since_ms": machine.ready_since_ms(),
            "running_for_ms": machine.running_since_ms().map(|since| now.saturating_sub(since)),
            "reason": machine.reason(),
            "pid": machine.pid(),
            "run": machine.run(),
            "last_exit": machine.last_exit().map(|status| status.to_string()),
            "says": live.and_then(|live| live.words.as_deref()),
            "result": match unit.kind {
                Kind::Oneshot => self.report.voices.get(&unit.name).map(|voice| voice.last()),
                Kind::Service => None,
            },
        })
    }
}
