//! `esp`: makes the boot partition hold what is wanted, in an order in which a power cut at any point leaves something that boots. The order is
//! planned in [`atalaya_core::update::esp`]; here it is looked, done, and looked again.

mod act;
mod failure;
mod image;
mod keep;
mod listing;
mod volume;

#[cfg(test)]
mod tests;

use std::path::Path;

use atalaya_core::update::esp::{Listing, Problem, has_lost_loader, plan};
use atalaya_core::update::task::{self, Esp, EspReport, Numbered, Outcome};

use crate::exchange;
use act::{act, describe};
use failure::Failure;
pub use keep::Store;
use volume::Access;
pub use volume::Volume;

const NAME: &str = "esp";

/// Does what is asked; `say` is told each step before it is done.
///
/// # Errors
/// Why it is not as wanted. What is there then boots as before.
fn run(
    volume: &Volume,
    store: &Store,
    wanted: &Esp,
    say: &dyn Fn(&str),
) -> Result<EspReport, Failure> {
    let before = volume.open(Access::Read)?;
    let found = listing::read(before.top())?;
    // A second copy that cannot be made now, on a full disk for one, must not keep the partition from being put right.
    if let Err(error) = store.keep(before.top(), &found, wanted) {
        say(&error.chain());
    }
    let kept = store.kept()?;
    let lost_loader = has_lost_loader(&found, wanted, &kept);
    let wanted = &Esp {
        loader: wanted.loader.clone().filter(|_| !lost_loader),
        ..wanted.clone()
    };
    let steps = plan(&found, wanted, &kept).map_err(|problem| why(problem, &found))?;
    let report = listing::report(before.top(), &found, Vec::new());
    before.close()?;
    let report = if steps.is_empty() {
        report
    } else {
        let during = volume.open(Access::Write)?;
        for step in &steps {
            say(&describe(step));
            act(during.top(), step, store)?;
        }
        during.close()?;
        // Mounted anew, it is read from the disk.
        let after = volume.open(Access::Read)?;
        let found = listing::read(after.top())?;
        let left = plan(&found, wanted, &store.kept()?).map_err(|problem| why(problem, &found))?;
        if let Some(step) = left.first() {
            return Err(Failure::Unfinished(describe(step)));
        }
        let report = listing::report(after.top(), &found, steps.iter().map(describe).collect());
        after.close()?;
        report
    };
    if let Some(needed) = &wanted.needed {
        let entries = wanted.entries.iter().map(|entry| entry.uki.as_str());
        let needed: Vec<&str> = needed.iter().map(String::as_str).chain(entries).collect();
        store.prune(&needed)?;
    }
    Ok(EspReport {
        lost_loader,
        ..report
    })
}

fn why(problem: Problem, found: &Listing) -> Failure {
    match problem {
        Problem::Space { needed, free } => Failure::Space {
            needed,
            free,
            foreign: listing::foreign(found),
        },
        Problem::NoGood | Problem::Twice(_) | Problem::Missing(_) => Failure::Plan(problem),
    }
}

/// The unit `update-esp`.
///
/// # Errors
/// There is no request, or the result cannot be left.
pub fn unit(say: &dyn Fn(&str)) -> Result<(), String> {
    let Numbered {
        number,
        content: request,
    } = exchange::read_request::<Esp>(&exchange::request_directory(), NAME)?;
    let done = Volume::find().and_then(|volume| run(&volume, &Store::of_machine(), &request, say));
    let outcome = match done {
        Ok(report) => Outcome::Done(report),
        Err(failure) => {
            let refusal = failure.refusal();
            say(&refusal.what);
            Outcome::Refused(refusal)
        }
    };
    exchange::write_result(Path::new(task::DIRECTORY), NAME, number, outcome)
}
