//! What the supervisor answers, as far as a screen shows it, and the shares that only two answers tell. Pure.

use std::collections::BTreeMap;

use serde::Deserialize;

/// What is missing is empty: a screen shows what there is.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct Answer {
    pub state: String,
    pub wrong: Vec<String>,
    pub admit: bool,
    /// How the machine is to end, if it is ending.
    pub stopping: Option<String>,
    pub version: String,
    pub build: String,
    pub slot: String,
    pub mattermost: String,
    pub standin: bool,
    pub site: Option<String>,
    pub addresses: Vec<String>,
    pub fingerprint: Option<String>,
    pub first_log_in: Option<String>,
    pub data: bool,
    pub disk: Option<Disk>,
    pub figures: Figures,
    pub last_boot: Option<LastBoot>,
    pub update: Option<Update>,
    /// RFC 3339.
    pub time: String,
    pub zone: String,
    pub up_ms: u64,
    pub units: Vec<Unit>,
    pub messages: Vec<Message>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct Disk {
    pub total: u64,
    pub free: u64,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct Figures {
    pub cpu_busy: u64,
    pub cpu_all: u64,
    pub memory_total: u64,
    pub memory_available: u64,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct LastBoot {
    pub cause: String,
    pub words: String,
}

/// How an update stands.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct Update {
    pub stage: String,
    pub busy: bool,
    pub words: String,
    /// None: no stick with an update is in.
    pub stick: Option<Offer>,
}

/// What a stick holds. Without a version it is being looked at still, or was refused.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Offer {
    pub version: String,
    pub mattermost: String,
    pub postgresql: String,
    pub refused: Option<Refusal>,
}

/// Why not, in three sentences.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Refusal {
    #[serde(alias = "error")]
    pub what: String,
    pub data: String,
    pub next: String,
}

impl Offer {
    /// What the overview says of it.
    pub fn words(&self) -> String {
        match &self.refused {
            Some(refusal) => refusal.what.clone(),
            None if self.version.is_empty() => "is being looked at".to_owned(),
            None => format!("holds version {}. To install it: press u", self.version),
        }
    }
}

impl Update {
    /// Whether somebody in front of the machine should know.
    pub fn is_news(&self) -> bool {
        self.busy || matches!(self.stage.as_str(), "staged" | "rolled_back")
    }
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct Unit {
    pub name: String,
    pub state: String,
    pub words: String,
    pub ready: bool,
    pub wrong: bool,
    pub run: u32,
    pub running_for_ms: Option<u64>,
    pub usage: Option<Usage>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct Usage {
    pub cpu_us: Option<u64>,
    pub memory: Option<u64>,
    pub tasks: Option<u64>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct Message {
    /// RFC 3339.
    pub t: String,
    pub text: String,
}

/// An answer with the shares since the one before it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct View {
    pub answer: Answer,
    /// Of all processors, in per cent.
    pub cpu_percent: Option<u64>,
    /// Of one processor, in per cent, by unit.
    pub unit_percent: BTreeMap<String, u64>,
}

impl View {
    pub fn new(before: Option<&Answer>, answer: Answer) -> Self {
        let mut view = Self::default();
        if let Some(before) = before {
            let all = answer
                .figures
                .cpu_all
                .saturating_sub(before.figures.cpu_all);
            let busy = answer
                .figures
                .cpu_busy
                .saturating_sub(before.figures.cpu_busy);
            view.cpu_percent = (busy * 100).checked_div(all);
            let passed_us = answer.up_ms.saturating_sub(before.up_ms) * 1000;
            for unit in &answer.units {
                let former = before
                    .units
                    .iter()
                    .find(|former| former.name == unit.name && former.run == unit.run);
                let cpu_us = |unit: &Unit| unit.usage.as_ref()?.cpu_us;
                if let (Some(now), Some(then)) = (cpu_us(unit), former.and_then(cpu_us))
                    && let Some(percent) = (now.saturating_sub(then) * 100).checked_div(passed_us)
                {
                    view.unit_percent.insert(unit.name.clone(), percent);
                }
            }
        }
        view.answer = answer;
        view
    }
}

impl Answer {
    /// As a person types it.
    pub fn address(&self) -> Option<String> {
        self.site
            .clone()
            .filter(|site| !site.is_empty())
            .or_else(|| {
                self.addresses
                    .first()
                    .map(|address| format!("https://{address}"))
            })
    }

    /// Whether others need the terminal: lines tell how far the end is.
    pub fn is_ending(&self) -> bool {
        self.stopping.is_some()
    }
}

impl Unit {
    /// How it is, in a word.
    pub fn mark(&self) -> &'static str {
        match self.state.as_str() {
            "Running" if self.ready => "ok",
            "Done" => "done",
            "Failed" => "FAILED",
            "Stopped" => "off",
            _ if self.wrong => "wrong",
            _ => "...",
        }
    }

    /// What is not well comes first, one-shots that are done last.
    pub fn rank(&self) -> u8 {
        match self.mark() {
            "FAILED" => 0,
            "wrong" => 1,
            "..." => 2,
            "done" => 4,
            _ => 3,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_of_the_time_between_two_answers_and_of_the_same_run() {
        let answer = |up_ms: u64, busy: u64, all: u64, run: u32, cpu_us: u64| -> Answer {
            let text = format!(
                r#"{{"up_ms": {up_ms}, "figures": {{"cpu_busy": {busy}, "cpu_all": {all}}}, "site": null,
                    "units": [{{"name": "a", "run": {run}, "usage": {{"cpu_us": {cpu_us}, "memory": null}}}},
                              {{"name": "b", "run": 1, "usage": null}}]}}"#
            );
            serde_json::from_str(&text).unwrap()
        };
        let first = answer(1000, 10, 100, 1, 0);
        assert_eq!(View::new(None, first.clone()).cpu_percent, None);
        let view = View::new(Some(&first), answer(3000, 60, 300, 1, 500_000));
        assert_eq!(view.cpu_percent, Some(25));
        assert_eq!(view.unit_percent, BTreeMap::from([("a".to_owned(), 25)]));
        let view = View::new(Some(&first), answer(3000, 10, 100, 2, 500_000));
        assert_eq!((view.cpu_percent, view.unit_percent.len()), (None, 0));
    }
}
