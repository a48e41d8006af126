//! What a boot begins with, before any unit starts: whose data are used, and whether users and the network have to wait. A restarted atalayad
//! finds it in /run.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::path::PathBuf;
use std::time::Duration;

use atalaya_core::update::assess::{Mode, OtherSlot, Plan, assess};
use atalaya_core::update::machine::{self, Effect, Phase};
use atalaya_core::update::record::Record;

use super::super::Supervisor;
use super::{Course, KeptRun, look, now_s, run_file, stick};
use crate::maintenance::{self, Maintenance};
use crate::release::Release;
use crate::update::boot::{self, Places};
use crate::update::network::{self, Before};
use crate::update::store::{self, Newest};

/// How long the disk may take. Without the record nobody knows which data are the right ones, so nothing starts on them.
const LIMIT: Duration = Duration::from_secs(25);

/// What was found and decided.
struct Begun {
    plan: Plan,
    record: Option<Record>,
    newest: Newest,
    other: OtherSlot,
    before: Before,
    trouble: Option<String>,
}

impl Supervisor {
    /// Before anything is started or taken over.
    pub(in crate::supervisor) async fn begin_updates(&mut self) {
        let (Some(data), Some(directory)) =
            (self.options.data.clone(), self.options.update_record())
        else {
            return;
        };
        let update = self.options.update();
        self.updates.hold = maintenance::read(&update.join("hold.json"));
        let places = self.slot_places(data.clone());
        let (release, kept) = (self.release.clone(), boot::read_plan(&update));
        let is_taken_up = kept.is_some();
        let look = tokio::task::spawn_blocking(move || begin(&places, &directory, &release, kept));
        let begun = match tokio::time::timeout(LIMIT, look).await {
            Ok(Ok(None)) => return,
            Ok(Ok(Some(begun))) => begun,
            Ok(Err(_)) | Err(_) => Begun::failed("the disk of /data does not answer".to_owned()),
        };
        if let Some(trouble) = &begun.trouble {
            self.say("atalayad", trouble);
        }
        if let Err(error) = boot::keep_plan(&update, &begun.plan) {
            self.say(
                "atalayad",
                &format!("the plan of this boot could not be kept: {error}"),
            );
        }
        self.options.generation = begun.plan.generation;
        let Some(record) = begun.record else {
            // Nothing can be recorded, so nothing can be updated.
            if let Mode::Stranded { why, .. } = begun.plan.mode {
                self.shut_out_for_good(&why);
            }
            return;
        };
        let run = std::fs::read(run_file(&update))
            .ok()
            .and_then(|text| serde_json::from_slice::<KeptRun>(&text).ok())
            .filter(|_| is_taken_up);
        let is_resumed = run.is_some();
        let (run, asked, step) = match run {
            Some(KeptRun { run, asked }) => {
                let step = machine::resume(&record, &run, now_s());
                (run, asked, step)
            }
            None => {
                let step = machine::boot(&record, &begun.plan.mode);
                (step.run.clone(), BTreeMap::new(), step)
            }
        };
        if is_trial(&begun.plan.mode)
            && let Err(error) = network::hold(&update, &begun.before.addresses)
        {
            self.say("atalayad", &error);
        }
        self.updates.course = Some(Course {
            directory: data.join("update"),
            record,
            newest: begun.newest,
            mode: begun.plan.mode,
            run,
            other: begun.other,
            next: Some(step.run),
            effects: step.effects.into(),
            events: VecDeque::new(),
            is_writing: false,
            is_resumed,
            awaited: BTreeMap::new(),
            preparing: BTreeSet::new(),
            asked,
            probed: None,
            services: None,
            later: Vec::new(),
            is_broken: false,
            before: begun.before,
            migration: look::Migration::default(),
            stall: look::Stall::default(),
            tidied_ms: 0,
            released_ms: None,
            stick: stick::Stick::default(),
        });
        // Users must not come in for a moment on the word of the units alone.
        let admits = |effect: &Effect| matches!(effect, Effect::Admit { open: false, .. });
        let course = self.updates.course.as_mut();
        let first = course.and_then(|course| {
            let at = course.effects.iter().position(admits)?;
            course.effects.remove(at)
        });
        if let Some(effect) = first {
            self.carry_out_update(effect);
        }
    }

    /// What is started before the course of this boot says more. `started`: an earlier atalayad has done so, and the units live.
    pub(in crate::supervisor) fn begin_update_start(&mut self, started: bool) {
        let Some(course) = &self.updates.course else {
            return;
        };
        let says_it_itself = course.effects.contains(&Effect::StartServices);
        if started || says_it_itself {
            return;
        }
        if course.is_resumed && has_services(course.phase()) {
            self.start_services();
        } else {
            self.start_without_data();
        }
    }

    pub(in crate::supervisor) fn slot_places(&self, data: PathBuf) -> Places {
        Places {
            boot_record: self.options.run.join("boot.json"),
            variables: self.options.variables.clone(),
            data,
            trust: self.options.release.with_file_name("update-trust.json"),
        }
    }

    fn shut_out_for_good(&mut self, why: &str) {
        self.say("atalayad", why);
        self.updates.alarms.push(why.to_owned());
        self.updates.hold = Some(Maintenance {
            message: Some("This server needs its administrator.".to_owned()),
            since: crate::clock::wall_now(),
        });
    }

    /// Whether the units of this boot are started by an update's course; else all wanted ones are, as ever.
    pub(in crate::supervisor) fn is_on_course(&self) -> bool {
        self.updates.course.is_some()
    }
}

/// Whether the units that use the data are up in this phase.
fn has_services(phase: Phase) -> bool {
    match phase {
        Phase::Rest
        | Phase::Finding
        | Phase::Healing
        | Phase::Installing
        | Phase::Baseline
        | Phase::Beforehand
        | Phase::Starting
        | Phase::Probing
        | Phase::Blessing
        | Phase::Looking
        | Phase::TakingBack
        | Phase::Returning => true,
        Phase::Closing
        | Phase::Copying
        | Phase::Arming
        | Phase::Disarming
        | Phase::Leaving
        | Phase::Recounting
        | Phase::CopyingAnew
        | Phase::GivingUp
        | Phase::Stranded => false,
    }
}

pub(super) fn is_trial(mode: &Mode) -> bool {
    matches!(mode, Mode::Trial { .. })
}

impl Begun {
    fn failed(why: String) -> Self {
        Self {
            plan: Plan {
                generation: None,
                mode: Mode::Stranded {
                    why: format!(
                        "{why}. Nothing was started on the data and nothing was changed. Check the disk and restart"
                    ),
                    previous: false,
                    heals: false,
                },
                record: None,
            },
            record: None,
            newest: None,
            other: OtherSlot::Unknown,
            before: Before::default(),
            trouble: None,
        }
    }
}

/// Reads the disk; writes the record if this boot changes it.
fn begin(
    places: &Places,
    directory: &std::path::Path,
    release: &Release,
    kept: Option<Plan>,
) -> Option<Begun> {
    let facts = boot::look(places, release, now_s())?;
    let other = facts.other.clone();
    let found = store::read(directory);
    let (newest, trouble) = match &found {
        Ok(found) => (found.newest, found.trouble.clone()),
        Err(_) => (None, None),
    };
    let record = found.map(|found| found.record);
    let plan = match kept {
        Some(plan) => plan,
        None => assess(record.clone(), &facts),
    };
    let mut begun = Begun {
        record: plan.record.clone().or(record.unwrap_or_default()),
        plan,
        newest,
        other,
        before: network::read(&places.data),
        trouble,
    };
    if let Some(changed) = begun.plan.record.take() {
        match store::write(directory, newest, &changed) {
            Ok(newest) => begun.newest = newest,
            Err(error) => {
                return Some(Begun::failed(format!(
                    "the update record could not be written: {error}"
                )));
            }
        }
    }
    Some(begun)
}
