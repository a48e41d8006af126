//! Answers to the control API, from the state. Every refusal says what happened, what it means for the data, and what to do.

use atalaya_core::link::Action;
use atalaya_core::system::Input;
use serde_json::{Value, json};

use super::Supervisor;
use crate::maintenance::Maintenance;
use crate::update::Wish;

/// What may be asked of the owner of state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Request {
    Status,
    Units,
    Unit(String),
    Start(String),
    Stop(String),
    Restart(String),
    /// Read its configuration anew.
    Reload(String),
    /// Forget a failure.
    Reset(String),
    /// The chain from cause to state.
    Why(String),
    /// What it needs and what needs it.
    Deps(String),
    /// What took how long at the start.
    Boot,
    /// All that the screens on the consoles show.
    Screen,
    /// Whether users are to stay out.
    Maintenance,
    /// Let them stay out, or in again. It has been kept already.
    SetMaintenance(Option<Maintenance>),
    /// How far an update is, and what there is to roll back to.
    Update,
    /// Past updates.
    UpdateHistory,
    /// Another version is to be installed.
    Install(Wish),
    /// What a stick offers, by somebody who was shown this version.
    InstallStick(String),
    CancelUpdate,
    /// Back to the version before this one.
    RollBack,
    /// Read the unit files anew.
    ReloadUnits,
    End(Action),
}

/// An HTTP status and a body.
#[derive(Clone, Debug, PartialEq)]
pub struct Answer {
    pub status: u16,
    pub body: Value,
}

impl Answer {
    pub(super) fn ok(body: Value) -> Self {
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
        let found =
            |name: &str, view: Option<Value>| view.map_or_else(|| self.no_such(name), Answer::ok);
        match request {
            Request::Status => Answer::ok(self.status()),
            Request::Screen => Answer::ok(self.screen()),
            Request::Boot => Answer::ok(self.boot()),
            Request::Units => Answer::ok(json!({ "units": self.units() })),
            Request::Unit(name) => found(&name, self.view_of(&name)),
            Request::Why(name) => found(&name, self.why(&name)),
            Request::Deps(name) => found(&name, self.deps(&name)),
            Request::Start(name) => self.act(&name, Input::Start(name.clone())),
            Request::Stop(name) => self.act(&name, Input::Stop(name.clone())),
            Request::Restart(name) => self.act(&name, Input::Restart(name.clone())),
            Request::Reload(name) => self.reload(&name),
            Request::Reset(name) => self.act(&name, Input::Reset(name.clone())),
            Request::ReloadUnits => match self.reload_units() {
                Ok(count) => Answer::ok(json!({ "units": count })),
                Err(error) => Answer::refusal(
                    409,
                    &format!("the unit files are refused: {error}"),
                    "Nothing was changed: services run on as they were configured.",
                    "Put the file right that is named here, and ask again.",
                ),
            },
            Request::Update => Answer::ok(self.update_view()),
            Request::UpdateHistory => Answer::ok(self.update_history()),
            Request::Install(wish) => self.install(wish),
            Request::InstallStick(version) => self.install_stick(&version),
            Request::CancelUpdate => self.cancel_update(),
            Request::RollBack => self.roll_back(),
            Request::Maintenance => Answer::ok(self.maintenance()),
            Request::SetMaintenance(maintenance) => {
                let words = match &maintenance {
                    Some(Maintenance {
                        message: Some(message),
                        ..
                    }) => format!("closed for maintenance: {message}"),
                    Some(_) => "closed for maintenance".to_owned(),
                    None => "the maintenance is over".to_owned(),
                };
                self.say("atalayad", &words);
                self.maintenance = maintenance;
                self.publish();
                Answer::ok(self.maintenance())
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

    fn maintenance(&self) -> Value {
        json!({
            "on": self.maintenance.is_some(),
            "message": self.maintenance.as_ref().and_then(|wish| wish.message.as_ref()),
            "since": self.maintenance.as_ref().map(|wish| &wish.since),
            "kept": self.options.data.is_some(),
            "admit": self.is_admitting(),
            "state": self.words(),
        })
    }

    fn view_of(&self, name: &str) -> Option<Value> {
        let (unit, machine) = self.system.unit(name)?;
        let mut view = self.view_with_usage(unit, machine);
        if let Some(fields) = view.as_object_mut() {
            fields.insert("definition".to_owned(), json!(unit));
            let sandbox = crate::run::describe(&self.options, unit);
            fields.insert("sandbox".to_owned(), sandbox);
        }
        Some(view)
    }

    fn reload(&mut self, name: &str) -> Answer {
        match self.system.unit(name) {
            Some((unit, machine)) if unit.reload.is_some() && machine.is_ready() => {
                self.act(name, Input::Reload(name.to_owned()))
            }
            Some((unit, _)) if unit.reload.is_none() => Answer::refusal(
                409,
                &format!("{name} cannot read its configuration anew while it runs"),
                "Nothing was changed.",
                &format!("Restart it: atalaya unit restart {name}"),
            ),
            Some(_) => Answer::refusal(
                409,
                &format!(
                    "{name} is not ready, so it cannot be told to read its configuration anew"
                ),
                "Nothing was changed.",
                &format!("It reads it when it starts. See: atalaya unit why {name}"),
            ),
            None => self.no_such(name),
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
}
