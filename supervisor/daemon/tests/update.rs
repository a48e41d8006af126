//! Updates with a real atalayad and units that play their part: over two and three boots, each with a /run of its own.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // what a test needs is not only in #[test]

mod support;

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use support::updating::{NEW, OLD};
use support::{Alone, Ground, put};

#[test]
fn unit_program() {
    support::play();
}

/// The machine, and what its firmware says at each boot.
struct Machine {
    ground: Ground,
}

/// A loaded machine with two cores is slow; nothing waits so long unless it is broken.
const LIMIT: Duration = Duration::from_secs(120);
const SLEEPER: &str = "type = \"service\"\nexec = [\"/bin/sleep\", \"1000\"]\n";
const GENERATION: &str =
    "[sandbox]\ndata = [{ source = \"gen:NAME\", path = \"/mnt\", create = true }]\n";
const GOOD_PROBE: &str = r#"{"ok":true,"steps":[{"step":"post","ok":true,"ms":1,"error":null}]}"#;

impl Machine {
    fn new() -> Self {
        let ground = Ground::new();
        for unit in ["postgres", "mattermost"] {
            ground.unit(
                unit,
                &format!("{SLEEPER}{}", GENERATION.replace("NAME", unit)),
            );
        }
        for unit in ["first-administrator", "edge", "networkd"] {
            ground.unit(unit, SLEEPER);
        }
        ground.unit("resolved", &format!("{SLEEPER}requires = [\"networkd\"]\n"));
        for part in ["install", "look", "copy", "esp", "drop"] {
            let directory = ground.path("run/update");
            ground.unit(
                &format!("update-{part}"),
                &format!(
                    "type = \"oneshot\"\nwanted = false\n{}environment = {{ ROLE = \"update {part} {}\" }}\n\
                     [restart]\npolicy = \"never\"\n[sandbox]\nwritable = [\"GROUND/run\"]\n",
                    support::program(),
                    directory.display()
                ),
            );
        }
        let machine = Self { ground };
        machine.probe(GOOD_PROBE);
        let partition = json!([{
            "name": "atalaya_000001.efi", "number": 1, "left": null, "uki": "uki-old", "root_hash": OLD,
        }]);
        put(&machine.ground.path("run/esp.json"), &partition.to_string());
        machine
    }

    /// What the probe says from now on.
    fn probe(&self, report: &str) {
        put(&self.ground.path("probe.json"), report);
        let file = self.ground.path("probe.json");
        self.ground.unit(
            "probe",
            &format!(
                "type = \"oneshot\"\nwanted = false\nexec = [\"/bin/cat\", \"{}\"]\n[restart]\npolicy = \"never\"\n",
                file.display()
            ),
        );
    }

    /// Switches on: `slot` with its root hash, and the loader's counter if it counts this start.
    fn boot(&self, slot: &str, root_hash: &str, version: &str, counted: bool) -> Alone<'_> {
        let run = self.ground.path("run");
        let partition = fs::read(run.join("esp.json")).unwrap();
        fs::remove_dir_all(&run).unwrap();
        fs::create_dir_all(&run).unwrap();
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        put(&run.join("esp.json"), &text(&partition));
        let booted =
            json!({ "version": 1, "disk": "/dev/none", "slot": slot, "root_hash": root_hash });
        put(&run.join("boot.json"), &booted.to_string());
        let release = json!({ "version": version, "build": "b", "mattermost": { "version": "11.7.9", "kind": "standin" } });
        put(&self.ground.path("release.json"), &release.to_string());
        let variables = self.ground.path("efivars");
        fs::create_dir_all(&variables).unwrap();
        let name = "LoaderBootCountPath-4a67b082-0a4c-41cf-b6c7-440b29bb8c4f";
        let counter = variables.join(name);
        if counted {
            let path = "\\EFI\\Linux\\atalaya_000002+2-1.efi";
            let mut bytes = "\u{6}\0\0\0".to_owned();
            bytes.extend(path.chars().flat_map(|c| [c, '\0']));
            put(&counter, &bytes);
        } else {
            fs::remove_file(&counter).ok();
        }
        self.restart()
    }

    /// The supervisor alone is started anew.
    fn restart(&self) -> Alone<'_> {
        let text = |path: &Path| path.to_string_lossy().into_owned();
        let mut arguments = vec![
            "--release".to_owned(),
            text(&self.ground.path("release.json")),
            "--variables".to_owned(),
            text(&self.ground.path("efivars")),
            "--labels".to_owned(),
            text(&self.ground.path("labels")),
        ];
        if self.ground.path("patience").exists() {
            arguments.extend(["--patience-ms".to_owned(), "1".to_owned()]);
        }
        self.ground.start_more(&arguments)
    }

    fn update(&self) -> Value {
        let (status, body) = self.ground.request("GET", "/v1/update").unwrap_or_default();
        if status == 200 {
            serde_json::from_str(&body).unwrap()
        } else {
            Value::Null
        }
    }

    fn wait_for(&self, what: &str, is: impl Fn(&Value) -> bool) -> Value {
        let begin = Instant::now();
        loop {
            let last = self.update();
            if is(&last) {
                return last;
            }
            assert!(begin.elapsed() < LIMIT, "never: {what}: {last:#}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn wait_at_rest(&self) -> Value {
        self.wait_for("at rest", |update| {
            update["busy"] == false
                && update["words"]
                    .as_str()
                    .is_some_and(|words| words.starts_with("none is"))
        })
    }

    fn install(&self, bundle: &str) -> (u16, Value) {
        let path = "/v1/update?name=a.bundle";
        self.post(path, "application/octet-stream", bundle)
    }

    /// A bundle that the machine is to fetch.
    fn ask(&self, wish: &Value) -> (u16, Value) {
        self.post("/v1/update", "application/json", &wish.to_string())
    }

    fn post(&self, path: &str, kind: &str, body: &str) -> (u16, Value) {
        let head = format!("Content-Type: {kind}");
        let limit = Duration::from_secs(120);
        let ground = &self.ground;
        let (status, body) = ground
            .request_headed(limit, "POST", path, &head, body)
            .unwrap();
        (status, serde_json::from_str(&body).unwrap())
    }

    fn entries(&self) -> Vec<(u64, Value)> {
        let text = fs::read(self.ground.path("run/esp.json")).unwrap();
        let entries: Vec<Value> = serde_json::from_slice(&text).unwrap();
        let one = |entry: &Value| (entry["number"].as_u64().unwrap(), entry["left"].clone());
        entries.iter().map(one).collect()
    }

    fn is_admitting(&self) -> bool {
        self.ground.upstream()["admit"] == true
    }

    /// From the first version, in use, to the second one armed.
    fn update_to_armed(&self) {
        let atalayad = self.boot("a", OLD, "0.1.0", false);
        self.ground
            .until("users are admitted", || self.is_admitting());
        let update = self.wait_at_rest();
        assert_eq!(update["good"]["uki"], "uki-old", "{update:#}");
        put(&self.ground.path("data/gen/1/postgres/post"), "hello");
        let (status, answer) = self.install(&"x".repeat(1 << 20));
        assert_eq!(status, 200, "{answer:#}");
        // The machine goes down by itself: armed, with the entry that counts.
        atalayad.ended();
        assert_eq!(self.entries(), [(1, Value::Null), (2, json!(3))]);
    }
}

#[test]
fn a_version_that_passes_its_trial_is_opened_and_until_then_nobody_comes_in_and_nothing_goes_out() {
    let machine = Machine::new();
    machine.update_to_armed();
    // The trial is held up at its probe.
    fs::remove_file(machine.ground.path("probe.json")).unwrap();
    assert!(nix_fifo(&machine.ground.path("probe.json")));
    let atalayad = machine.boot("b", NEW, "0.2.0", true);
    machine.ground.wait_ready("mattermost");
    machine.wait_for("the probe", |update| update["stage"] == "trial");
    machine
        .ground
        .wait("probe", |view| view["state"] == "Starting");
    assert!(!machine.is_admitting());
    let told = machine.ground.upstream();
    assert_eq!(
        told["maintenance"]["message"],
        "The update to version 0.2.0 is being tried out."
    );
    for unit in ["networkd", "resolved"] {
        assert_eq!(
            machine.ground.view(unit).unwrap()["state"],
            "Stopped",
            "{unit}"
        );
    }
    assert!(machine.ground.path("run/update/held-network.json").exists());
    assert_eq!(machine.ground.post("/v1/update/rollback"), 409);
    // Only its own generation is written to.
    assert!(machine.ground.path("data/gen/2/mattermost").exists());

    put(&machine.ground.path("probe.json"), GOOD_PROBE);
    machine
        .ground
        .until("users are admitted", || machine.is_admitting());
    machine.ground.wait_ready("resolved");
    let update = machine.wait_at_rest();
    assert_eq!(
        (&update["stage"], &update["good"]["version"]),
        (&json!("opened"), &json!("0.2.0"))
    );
    assert!(machine.ground.path("run/blessed").exists());
    assert!(!machine.ground.path("run/update/held-network.json").exists());
    // The former one stays for whoever chooses it; both are good.
    assert_eq!(machine.entries(), [(1, Value::Null), (2, Value::Null)]);
    let (_, history) = machine.ground.request("GET", "/v1/update/history").unwrap();
    let history: Value = serde_json::from_str(&history).unwrap();
    let last = &history["history"][0];
    assert_eq!(
        (&last["from"], &last["to"], &last["outcome"]),
        (&json!("0.1.0"), &json!("0.2.0"), &json!("opened"))
    );
    assert!(last["downtime"].is_u64(), "{last:#}");
    atalayad.stop();

    // It is the good one, whatever else happens.
    let atalayad = machine.boot("b", NEW, "0.2.0", false);
    machine
        .ground
        .until("users are admitted", || machine.is_admitting());
    machine.ground.wait_ready("networkd");
    atalayad.stop();
}

#[test]
fn a_version_that_fails_its_probe_gives_way_and_the_former_one_says_why() {
    let machine = Machine::new();
    machine.update_to_armed();
    machine.probe(r#"{"ok":false,"steps":[{"step":"post","ok":false,"ms":1,"error":"the server answered 500"}]}"#);
    let atalayad = machine.boot("b", NEW, "0.2.0", true);
    atalayad.ended();
    assert_eq!(
        machine.entries(),
        [(1, Value::Null)],
        "its own entry is gone"
    );

    let atalayad = machine.boot("a", OLD, "0.1.0", false);
    machine
        .ground
        .until("users are admitted", || machine.is_admitting());
    let update = machine.wait_at_rest();
    assert_eq!(update["stage"], "rolled_back", "{update:#}");
    let error = &update["error"];
    assert_eq!(
        error["what"],
        "the probe failed at post: the server answered 500"
    );
    assert_eq!(
        error["data"],
        "Everything is as it was before the update, no data was lost."
    );
    assert_eq!(update["quarantine"][0]["version"], "0.2.0");
    assert!(machine.ground.path("data/gen/1/postgres/post").exists());
    atalayad.stop();
}

#[test]
fn a_unit_that_does_not_come_up_ends_the_trial_with_its_last_words() {
    for (unit, limit, says) in [
        ("edge", "limit = 2", "edge failed at readiness"),
        // As the real one: in the ordinary run it is never given up.
        (
            "edge",
            "policy = \"always\"",
            "edge was started 3 times and did not become ready: ",
        ),
        // Once: what a failed migration has left is not given to another one.
        (
            "mattermost",
            "limit = 2",
            "mattermost has ended in its start",
        ),
    ] {
        let machine = Machine::new();
        machine.update_to_armed();
        machine.ground.unit(
            unit,
            &format!(
                "type = \"service\"\nexec = [\"/bin/sh\", \"-c\", \"echo >>GROUND/run/starts; echo it failed >&2; exit 3\"]\n\
                 [ready]\nkind = \"notify\"\n[restart]\n{limit}\nmin_ms = 10\nmax_ms = 10\n\
                 [sandbox]\nwritable = [\"GROUND/run\"]\n"
            ),
        );
        machine.boot("b", NEW, "0.2.0", true).ended();
        let starts = fs::read_to_string(machine.ground.path("run/starts")).unwrap();
        assert_eq!(
            starts.lines().count() == 1,
            unit == "mattermost",
            "{starts:?}"
        );
        machine.ground.unit(unit, SLEEPER);
        let atalayad = machine.boot("a", OLD, "0.1.0", false);
        let update = machine.wait_at_rest();
        let error = &update["error"];
        let what = error["what"].as_str().unwrap();
        assert!(what.starts_with(says), "{update:#}");
        let log = error["log"].as_array().unwrap();
        assert!(log.contains(&json!("it failed")), "{update:#}");
        atalayad.stop();
    }
}

#[test]
fn a_migration_that_gets_nowhere_ends_the_trial() {
    let machine = Machine::new();
    machine.update_to_armed();
    let waits =
        "type = \"service\"\nexec = [\"/bin/sleep\", \"1000\"]\n[ready]\nkind = \"notify\"\n";
    machine.ground.unit("mattermost", waits);
    put(&machine.ground.path("patience"), "");
    machine.boot("b", NEW, "0.2.0", true).ended();
    machine.ground.unit("mattermost", SLEEPER);
    let atalayad = machine.boot("a", OLD, "0.1.0", false);
    let update = machine.wait_at_rest();
    let what = update["error"]["what"].as_str().unwrap();
    assert!(
        what.starts_with("nothing was written and nothing computed for"),
        "{update:#}"
    );
    atalayad.stop();
}

#[test]
fn a_silent_death_costs_nothing_and_the_next_boot_copies_anew() {
    let machine = Machine::new();
    machine.update_to_armed();
    // The first boot of it dies without a word.
    fs::remove_file(machine.ground.path("probe.json")).unwrap();
    assert!(nix_fifo(&machine.ground.path("probe.json")));
    let atalayad = machine.boot("b", NEW, "0.2.0", true);
    machine.wait_for("the trial", |update| update["stage"] == "trial");
    machine
        .ground
        .wait("probe", |view| view["state"] == "Starting");
    drop(atalayad);
    machine.ground.kill_all();
    fs::remove_file(machine.ground.path("probe.json")).unwrap();
    put(&machine.ground.path("probe.json"), GOOD_PROBE);
    let atalayad = machine.boot("b", NEW, "0.2.0", true);
    machine
        .ground
        .until("users are admitted", || machine.is_admitting());
    let copied = machine.ground.log("update-copy");
    assert!(
        copied.contains(&"copies 1 to 2 beforehand false".to_owned()),
        "{copied:#?}"
    );
    atalayad.stop();
}

#[test]
fn what_is_refused_changes_nothing_and_says_why() {
    let machine = Machine::new();
    let atalayad = machine.boot("a", OLD, "0.1.0", false);
    machine
        .ground
        .until("users are admitted", || machine.is_admitting());
    machine.wait_at_rest();
    let (status, answer) = machine.install("broken bundle");
    assert!(status == 409 || status == 200, "{answer:#}");
    let update = machine.wait_for("its end", |update| update["stage"] == "failed");
    let what = update["error"]["what"].as_str().unwrap();
    assert!(
        what.starts_with("the bundle is not signed by keys that this machine trusts"),
        "{what}"
    );
    assert!(machine.is_admitting());
    // A running version that fails its own probe is no place to start from.
    machine.probe(
        r#"{"ok":false,"steps":[{"step":"search","ok":false,"ms":1,"error":"nothing found"}]}"#,
    );
    assert_eq!(machine.ground.post("/v1/supervisor/reload"), 200);
    machine.install("good");
    let update = machine.wait_for("its end", |update| {
        update["error"]["what"]
            .as_str()
            .is_some_and(|what| what.contains("search"))
    });
    let what = update["error"]["what"].as_str().unwrap();
    assert_eq!(
        what,
        "the running version does not pass the probe itself: the probe failed at search: nothing found"
    );
    // One without space goes on as it was.
    machine.probe(GOOD_PROBE);
    put(
        &machine.ground.path("run/update/fault-copy"),
        "2 GiB are needed and 1 GiB is free",
    );
    machine.install("good");
    machine.wait_for("its end", |update| {
        update["error"]["what"]
            .as_str()
            .is_some_and(|what| what.contains("2 GiB"))
    });
    assert!(machine.is_admitting());
    assert_eq!(machine.entries(), [(1, Value::Null)]);
    for (method, path) in [("POST", "/v1/update/rollback"), ("DELETE", "/v1/update")] {
        let (status, body) = machine.ground.request(method, path).unwrap();
        let refusal: Value = serde_json::from_str(&body).unwrap();
        assert_eq!(
            (status, &refusal["data"]),
            (409, &json!("Nothing was changed.")),
            "{refusal:#}"
        );
    }
    atalayad.stop();
}

#[test]
fn an_installation_is_cancelled_and_nothing_was_changed() {
    let machine = Machine::new();
    let atalayad = machine.boot("a", OLD, "0.1.0", false);
    machine
        .ground
        .until("users are admitted", || machine.is_admitting());
    machine.wait_at_rest();
    // A sender that never ends: the unit reads for as long.
    let sender = machine.ground.begin_upload("/v1/update?name=slow");
    machine
        .ground
        .wait("update-install", |view| view["state"] == "Starting");
    let (status, answer) = machine.install("second");
    assert_eq!(status, 409, "{answer:#}");
    let (status, _) = machine.ground.request("DELETE", "/v1/update").unwrap();
    assert_eq!(status, 202);
    let update = machine.wait_for("its end", |update| update["stage"] == "failed");
    assert_eq!(update["error"]["what"], "it was cancelled");
    drop(sender);
    atalayad.stop();
}

/// The unit that writes is stopped with all others, which is not its own end.
#[test]
fn an_installation_that_a_reboot_interrupts_goes_on_by_itself() {
    let machine = Machine::new();
    let atalayad = machine.boot("a", OLD, "0.1.0", false);
    machine.wait_at_rest();
    put(&machine.ground.path("run/update/silent"), "");
    let wish = json!({ "source": { "http": "http://127.0.0.1/a.bundle" } });
    let (status, answer) = machine.ask(&wish);
    assert_eq!(status, 202, "{answer:#}");
    machine
        .ground
        .wait("update-install", |view| view["state"] == "Starting");
    atalayad.stop();
    let atalayad = machine.boot("a", OLD, "0.1.0", false);
    atalayad.ended();
    assert_eq!(machine.entries(), [(1, Value::Null), (2, json!(3))]);
}

#[test]
fn the_space_is_looked_at_when_what_nobody_needs_is_gone() {
    let machine = Machine::new();
    // A copy that was given up.
    fs::create_dir_all(machine.ground.path("data/gen/7.unfinished")).unwrap();
    machine.ground.unit(
        "update-drop",
        "type = \"oneshot\"\nwanted = false\n\
         exec = [\"/bin/sh\", \"-c\", \"while [ ! -e GROUND/run/go ]; do sleep 0.1; done; sleep 1; ls GROUND/run/update/copy >GROUND/run/seen 2>&1\"]\n\
         [restart]\npolicy = \"never\"\n[sandbox]\nwritable = [\"GROUND/run\"]\n",
    );
    let atalayad = machine.boot("a", OLD, "0.1.0", false);
    machine
        .ground
        .until("users are admitted", || machine.is_admitting());
    machine
        .ground
        .wait("update-drop", |view| view["state"] == "Starting");
    let (status, answer) = machine.install("a bundle");
    assert_eq!(status, 200, "{answer:#}");
    machine.wait_for("the copy", |update| {
        update["words"] == "uploads are being copied"
    });
    put(&machine.ground.path("run/go"), "");
    atalayad.ended();
    let seen = fs::read_to_string(machine.ground.path("run/seen")).unwrap();
    assert!(!seen.contains("result.json"), "{seen}");
}

#[test]
fn an_update_that_cannot_be_recorded_is_not_begun() {
    let machine = Machine::new();
    let atalayad = machine.boot("a", OLD, "0.1.0", false);
    machine
        .ground
        .until("users are admitted", || machine.is_admitting());
    machine.wait_at_rest();
    let (kept, aside) = (
        machine.ground.path("data/update"),
        machine.ground.path("data/aside"),
    );
    fs::rename(&kept, &aside).unwrap();
    put(&kept, "in the way");
    machine.install("good");
    let update = machine.wait_for("its end", |update| update["alarms"] != json!([]));
    let alarm = update["alarms"][0].as_str().unwrap();
    assert!(
        alarm.starts_with("the update record could not be written"),
        "{alarm}"
    );
    machine.wait_at_rest();
    assert!(machine.is_admitting());
    fs::remove_file(&kept).unwrap();
    fs::rename(&aside, &kept).unwrap();
    atalayad.stop();
    // The record that was there counts.
    let atalayad = machine.boot("a", OLD, "0.1.0", false);
    machine
        .ground
        .until("users are admitted", || machine.is_admitting());
    atalayad.stop();
}

#[test]
fn a_supervisor_that_is_started_anew_goes_on_with_the_trial() {
    let machine = Machine::new();
    machine.update_to_armed();
    fs::remove_file(machine.ground.path("probe.json")).unwrap();
    assert!(nix_fifo(&machine.ground.path("probe.json")));
    let atalayad = machine.boot("b", NEW, "0.2.0", true);
    machine
        .ground
        .wait("probe", |view| view["state"] == "Starting");
    drop(atalayad);
    // Without an init nothing outlives it but the files: what it had started is gone, as if its units had been killed too.
    machine.ground.kill_all();
    fs::remove_file(machine.ground.path("probe.json")).unwrap();
    put(&machine.ground.path("probe.json"), GOOD_PROBE);
    let atalayad = machine.restart();
    machine
        .ground
        .until("users are admitted", || machine.is_admitting());
    let update = machine.wait_for("its end", |update| update["stage"] == "opened");
    assert_eq!(
        update["candidate"]["boots"], 1,
        "it is the same boot: {update:#}"
    );
    machine.ground.wait_ready("networkd");
    atalayad.stop();
}

/// FAT has room for 11 characters.
#[test]
fn a_stick_is_looked_at_offered_and_installed_by_whoever_was_shown_its_version() {
    let machine = Machine::new();
    let atalayad = machine.boot("a", OLD, "0.1.0", false);
    machine.wait_at_rest();
    assert_eq!(machine.update()["stick"], Value::Null);
    let ask = |version: &str| {
        let path = format!("/v1/update/stick/{version}");
        machine.ground.request("POST", &path).unwrap()
    };
    assert_eq!(ask("0.2.0").0, 409, "nothing is offered");
    let stick = machine.ground.path("labels/ATALAYA-UPD");
    fs::create_dir(machine.ground.path("labels")).unwrap();
    put(&stick, "");
    machine.wait_for("an offer", |update| update["stick"]["version"] == "0.2.0");
    let said = machine.ground.log("update");
    assert!(
        said.iter()
            .any(|line| line.contains("the stick holds version 0.2.0")),
        "{said:#?}"
    );
    let (status, body) = ask("0.3.0");
    assert!(
        status == 409 && body.contains("no stick with version 0.3.0"),
        "{body}"
    );
    // It would restart the machine.
    put(
        &machine.ground.path("run/update/fault-copy"),
        "There is no room.",
    );
    let (status, body) = ask("0.2.0");
    assert_eq!(status, 202, "{body}");
    let update = machine.wait_for("its end", |update| update["stage"] == "failed");
    assert_eq!(update["source"], "a stick, at the console", "{update:#}");
    machine.wait_for("another offer", |update| {
        update["stick"]["version"] == "0.2.0"
    });
    atalayad.stop();
}

#[test]
fn a_stick_that_may_not_be_installed_says_why_and_is_forgotten_when_it_is_pulled_out() {
    let machine = Machine::new();
    let atalayad = machine.boot("a", OLD, "0.1.0", false);
    machine.wait_at_rest();
    let stick = machine.ground.path("labels/ATALAYA-UPDATE");
    fs::create_dir(machine.ground.path("labels")).unwrap();
    put(
        &machine.ground.path("run/update/fault-look"),
        "It is not signed by keys that this machine trusts.",
    );
    put(&stick, "");
    let update = machine.wait_for("a refusal", |update| !update["stick"]["refused"].is_null());
    let what = &update["stick"]["refused"]["what"];
    assert!(
        update["usb"] == true && what.as_str().unwrap().contains("not signed"),
        "{update:#}"
    );
    let (status, _) = machine
        .ground
        .request("POST", "/v1/update/stick/0.2.0")
        .unwrap();
    assert_eq!(status, 409);
    fs::remove_file(&stick).unwrap();
    machine.wait_for("no stick", |update| {
        update["usb"] == false && update["stick"].is_null()
    });
    atalayad.stop();
}

#[test]
fn an_image_that_the_data_do_not_belong_to_starts_nothing_on_them() {
    let machine = Machine::new();
    let atalayad = machine.boot("a", OLD, "0.1.0", false);
    machine
        .ground
        .until("users are admitted", || machine.is_admitting());
    machine.wait_at_rest();
    atalayad.stop();
    let _atalayad = machine.boot("b", "33", "0.9.0", false);
    machine.ground.wait_ready("edge");
    let (_, status) = machine.ground.request("GET", "/v1/status").unwrap();
    assert!(
        status.contains("the data belong to version 0.1.0"),
        "{status}"
    );
    assert!(!machine.is_admitting());
    assert_eq!(machine.ground.view("postgres").unwrap()["state"], "Stopped");
    // Nor does a person's wish.
    machine.ground.post("/v1/units/postgres/start");
    machine.ground.wait("postgres", |view| {
        view["reason"]
            .as_str()
            .is_some_and(|reason| reason.contains("belong to another version"))
    });
}

/// A file that holds up whoever reads it.
fn nix_fifo(path: &Path) -> bool {
    nix::unistd::mkfifo(path, nix::sys::stat::Mode::from_bits_truncate(0o600)).is_ok()
}
