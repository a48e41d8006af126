//! `look`: what is on a stick that somebody has put in, and whether this machine would install it. Reads the beginning of the bundle, with the
//! rights and the care of an installation, and writes nothing: an installation verifies all of it again.

use std::path::{Path, PathBuf};

use atalaya_bundle::{Reader, Source, Trust, policy};
use atalaya_core::update::task::{self, Looked, Numbered, Outcome, Rules};
use atalaya_sys::medium::UPDATE;

use crate::exchange;
use crate::install::{Failure, KEY_SETS, Kept, Meter, TRUST, confine, read_trust, source};

const NAME: &str = "look";

/// The unit: its request is where the supervisor left it, its result goes where the supervisor looks.
///
/// # Errors
/// There is no request, or no result could be left.
pub fn unit(say: &dyn Fn(&str)) -> Result<(), String> {
    let Numbered { number, content } =
        exchange::read_request::<task::Look>(&exchange::request_directory(), NAME)?;
    let outcome = run(&content);
    match &outcome {
        Outcome::Done(looked) => say(&format!("the stick holds version {}", looked.version)),
        Outcome::Refused(refusal) => say(&format!("{} {}", refusal.what, refusal.next)),
    }
    exchange::write_result(Path::new(task::DIRECTORY), NAME, number, outcome)
}

fn run(request: &task::Look) -> Outcome<Looked> {
    let own = Path::new(task::DIRECTORY).join(NAME);
    let kept = Kept {
        ukis: task::UKIS.into(),
        loaders: task::LOADERS.into(),
        key_sets: KEY_SETS.into(),
    };
    let stick = task::Source::Usb(UPDATE.whole.to_owned());
    let looked = source::open(&stick, &own.join("medium"), &Meter::default())
        .map_err(Failure::Open)
        .and_then(|source| confine::to(&[&own]).map(|()| source))
        .and_then(|source| look(source, &request.rules, &kept, &PathBuf::from(TRUST)));
    match looked {
        Ok(looked) => Outcome::Done(looked),
        Err(failure) => Outcome::Refused(failure.told(false)),
    }
}

/// # Errors
/// Why it would not be installed.
pub fn look(
    source: Box<dyn Source>,
    rules: &Rules,
    kept: &Kept,
    trust: &Path,
) -> Result<Looked, Failure> {
    let trust = Trust::new(read_trust(trust)?, kept.accepted().as_ref())?;
    let reader = Reader::open(source, &trust)?;
    let manifest = &reader.head().manifest;
    policy::assess(manifest, rules)?;
    Ok(Looked {
        version: manifest.version.clone(),
        mattermost: manifest.mattermost.version.clone(),
        postgresql: manifest.postgresql.clone(),
    })
}
