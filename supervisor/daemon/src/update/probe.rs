//! What the probe's report means for an update. Pure. Before: whatever fails refuses the update, because afterwards nobody could tell whose
//! fault it is. In the trial: it fails the trial, except that what could not be cleaned away only alarms, and a step that went before must not
//! be left out now.

use serde::Deserialize;

/// The step that the unit `probe-clean` takes. What is left behind harms nobody.
const CLEANING: &str = "delete";

#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Report {
    pub steps: Vec<Step>,
}

#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Step {
    pub step: String,
    pub ok: bool,
    #[serde(default)]
    pub error: Option<String>,
    #[serde(default)]
    pub skipped: Option<String>,
}

/// What went well enough.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Passed {
    /// Steps that the configuration rules out.
    pub skipped: Vec<String>,
    /// What somebody should know.
    pub alarms: Vec<String>,
}

/// Understands the last line of the unit `probe`.
///
/// # Errors
/// It is no report: what it says instead.
pub fn parse(line: &str) -> Result<Report, String> {
    let shown: String = line.chars().take(200).collect();
    match serde_json::from_str::<Report>(line) {
        Ok(report) if !report.steps.is_empty() => Ok(report),
        Ok(_) | Err(_) if line.is_empty() => Err("the probe said nothing".to_owned()),
        Ok(_) | Err(_) => Err(format!("the probe gave no report: {shown}")),
    }
}

impl Report {
    /// How the removal of what was posted has ended; an error says why not.
    pub fn cleaned(&mut self, error: Option<String>) {
        self.steps.push(Step {
            step: CLEANING.to_owned(),
            ok: error.is_none(),
            error,
            skipped: None,
        });
    }
}

/// On the running version.
///
/// # Errors
/// The first step that has failed, with its reason.
pub fn assess_before(report: &Report) -> Result<Passed, String> {
    first_failure(report, |_| true)?;
    Ok(Passed {
        skipped: skipped(report),
        alarms: Vec::new(),
    })
}

/// On the new version. `skipped_before` are the steps that were skipped on the old one.
///
/// # Errors
/// The first step that has failed, with its reason.
pub fn assess_trial(report: &Report, skipped_before: &[String]) -> Result<Passed, String> {
    first_failure(report, |step| step.step != CLEANING)?;
    let skipped = skipped(report);
    if let Some(new) = skipped.iter().find(|step| !skipped_before.contains(step)) {
        return Err(format!(
            "the probe's step {new} went well before the update and is left out now: the configuration has become another"
        ));
    }
    let alarms = (report.steps.iter().filter(|step| !step.ok))
        .map(|step| format!("the probe could not clean up: {}", why(step)))
        .collect();
    Ok(Passed { skipped, alarms })
}

fn first_failure(report: &Report, counts: impl Fn(&Step) -> bool) -> Result<(), String> {
    match report.steps.iter().find(|step| !step.ok && counts(step)) {
        Some(step) => Err(format!("the probe failed at {}: {}", step.step, why(step))),
        None => Ok(()),
    }
}

fn why(step: &Step) -> &str {
    step.error.as_deref().unwrap_or("it did not say why")
}

fn skipped(report: &Report) -> Vec<String> {
    let skipped = report.steps.iter().filter(|step| step.skipped.is_some());
    skipped.map(|step| step.step.clone()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(failed: &[&str], left_out: &[&str]) -> Report {
        let step = |name: &&str| {
            let (ok, skipped) = (!failed.contains(name), left_out.contains(name));
            let error = (!ok).then(|| "the server answered 500".to_owned());
            let skipped = skipped.then(|| "switched off".to_owned());
            Step {
                step: (*name).to_owned(),
                ok,
                error,
                skipped,
            }
        };
        Report {
            steps: ["log-in", "post", "delete"].iter().map(step).collect(),
        }
    }

    #[test]
    fn the_removal_is_a_step_as_well() {
        for (error, expected) in [(None, true), (Some("no such socket".to_owned()), false)] {
            let mut report = report(&[], &[]);
            report.steps.pop();
            report.cleaned(error);
            assert_eq!(report.steps.len(), 3);
            assert_eq!(assess_before(&report).is_ok(), expected);
            let passed = assess_trial(&report, &[]).unwrap();
            assert_eq!(passed.alarms.is_empty(), expected);
        }
    }

    #[test]
    fn before_the_update_every_failure_refuses_and_what_is_ruled_out_is_named() {
        assert_eq!(assess_before(&report(&[], &[])), Ok(Passed::default()));
        let passed = assess_before(&report(&[], &["log-in"])).unwrap();
        assert_eq!(passed.skipped, ["log-in"]);
        for step in ["log-in", "post", "delete"] {
            let error = assess_before(&report(&[step], &[])).unwrap_err();
            assert_eq!(
                error,
                format!("the probe failed at {step}: the server answered 500")
            );
        }
    }

    #[test]
    fn in_the_trial_what_cannot_be_cleaned_away_alarms_and_all_else_fails_it() {
        let passed = assess_trial(&report(&["delete"], &[]), &[]).unwrap();
        assert_eq!(
            passed.alarms,
            ["the probe could not clean up: the server answered 500"]
        );
        assert!(assess_trial(&report(&["post"], &[]), &[]).is_err());
        assert!(assess_trial(&report(&["log-in"], &[]), &[]).is_err());
    }

    #[test]
    fn a_step_that_went_before_is_not_left_out_in_the_trial() {
        let before = ["log-in".to_owned()];
        assert!(assess_trial(&report(&[], &["log-in"]), &before).is_ok());
        assert!(assess_trial(&report(&[], &["log-in"]), &[]).is_err());
    }

    #[test]
    fn only_a_report_is_one() {
        let line = r#"{"ok":true,"steps":[{"step":"post","ok":true,"ms":3,"error":null}]}"#;
        assert_eq!(parse(line).unwrap().steps[0].step, "post");
        assert_eq!(parse("").unwrap_err(), "the probe said nothing");
        for line in ["failed to read", r#"{"steps":[]}"#] {
            assert!(
                parse(line)
                    .unwrap_err()
                    .starts_with("the probe gave no report: "),
                "{line}"
            );
        }
    }
}
