//! A script as a one-shot in a sandbox.

use super::Ground;

/// Runs a script in a unit of its own and returns its lines.
pub fn run(ground: &Ground, extra: &str, script: &str) -> Vec<String> {
    let script = script
        .replace('\\', "\\\\")
        .replace('"', "\\\"")
        .replace('\n', "; ");
    ground.unit(
        "probe",
        &format!("type = \"oneshot\"\nexec = [\"/bin/sh\", \"-c\", \"{script}\"]\n{extra}"),
    );
    finish(ground)
}

/// Lets this executable play a role in a unit of its own and returns its lines.
pub fn act(ground: &Ground, role: &str, extra: &str) -> Vec<String> {
    let program = super::program();
    ground.unit(
        "probe",
        &format!("type = \"oneshot\"\n{program}environment = {{ ROLE = \"{role}\" }}\n{extra}"),
    );
    finish(ground)
}

fn finish(ground: &Ground) -> Vec<String> {
    let atalayad = ground.start();
    let view = ground.wait("probe", |view| {
        view["state"] == "Done" || view["state"] == "Failed"
    });
    let lines = ground.log("probe");
    assert_eq!(view["state"], "Done", "{view:#}\n{lines:#?}");
    atalayad.stop();
    lines
}

/// Runs a unit that cannot start and returns the reason.
pub fn refused(ground: &Ground, extra: &str) -> String {
    ground.unit(
        "probe",
        &format!("type = \"oneshot\"\nexec = [\"/bin/true\"]\n{extra}\n[restart]\nlimit = 1\n"),
    );
    let atalayad = ground.start();
    let view = ground.wait_state("probe", "Failed");
    atalayad.stop();
    view["reason"].as_str().unwrap().to_owned()
}

pub fn has(lines: &[String], wanted: &str) -> bool {
    lines.iter().any(|line| line == wanted)
}

/// All of them are there.
pub fn says(lines: &[String], wanted: &[&str]) {
    for wanted in wanted {
        assert!(has(lines, wanted), "{wanted:?} is not in {lines:#?}");
    }
}
