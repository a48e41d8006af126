//! When a certificate that an authority signs is asked for: at two thirds of its life or in the window that the authority names (ARI,
//! RFC 9773), spread so that many machines do not come at once; after a failure later and later, at most once a day, and never before the
//! authority's own Retry-After. Times are seconds since 1970 by the machine's clock, which may jump; chance is passed in.

use serde::{Deserialize, Serialize};

/// The first pause after a failure. With doubling no more than four attempts fall into one hour: below Let's Encrypt's five failed
/// validations an hour for a name (<https://letsencrypt.org/docs/rate-limits/>).
const FIRST_PAUSE: i64 = 600;
const LONGEST_PAUSE: i64 = DAY;
/// Lives so short that two failures would outlast them get shorter pauses, but never below this.
const SHORTEST_PAUSE: i64 = 60;
/// Let's Encrypt's longest limit is a week; an answer that asks for more is not believed.
const LONGEST_RETRY_AFTER: i64 = 8 * DAY;
/// Authorities date a certificate back by about an hour. One that begins later than this from now means that the clock is wrong.
const CLOCK_TOLERANCE: i64 = DAY;
const DAY: i64 = 86_400;

/// The life of the certificate that there is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Life {
    pub not_before: i64,
    pub not_after: i64,
}

/// The authority's suggestion.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Window {
    pub start: i64,
    pub end: i64,
}

/// What was tried so far; kept on disk, so that a machine that restarts again and again asks no more often than another.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attempts {
    pub last_at: Option<i64>,
    /// Failures in a row.
    pub failures: u32,
    /// The authority's Retry-After, as a time.
    pub not_until: Option<i64>,
}

impl Attempts {
    /// One more begins; written down before the authority is asked, so it counts as failed until it is known to be good.
    #[must_use]
    pub fn begun(&self, now: i64) -> Self {
        Self {
            last_at: Some(now),
            failures: self.failures.saturating_add(1),
            not_until: None,
        }
    }

    /// The authority does not want to be asked again before `seconds` are over.
    #[must_use]
    pub fn held_back(self, now: i64, seconds: i64) -> Self {
        Self {
            not_until: Some(now.saturating_add(seconds.clamp(0, LONGEST_RETRY_AFTER))),
            ..self
        }
    }
}

/// What is known when the question is asked.
#[derive(Debug, Clone)]
pub struct Facts<'a> {
    pub now: i64,
    /// Synchronised, or later than the image's build.
    pub clock_trusted: bool,
    /// None: there is none, or it is not for the names that are wanted.
    pub life: Option<Life>,
    pub window: Option<Window>,
    pub attempts: &'a Attempts,
    /// The same number for the same certificate, so that the answer stands still while time passes.
    pub chance: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    Now,
    At(i64),
    /// Not before the clock is right.
    ClockNotTrusted,
}

/// What to do.
pub fn plan(facts: &Facts<'_>) -> Next {
    let Facts { now, life, .. } = *facts;
    let begins_later = life.is_some_and(|life| life.not_before > now + CLOCK_TOLERANCE);
    if !facts.clock_trusted || begins_later {
        return Next::ClockNotTrusted;
    }
    let due = life.map_or(now, |life| plan_renewal(life, facts.window, facts.chance));
    let allowed = allowed_from(facts);
    let at = due.max(allowed);
    if at <= now { Next::Now } else { Next::At(at) }
}

/// When a certificate's renewal is due: in the authority's window, else at two thirds of its life, earlier by up to a fiftieth of it.
pub fn plan_renewal(life: Life, window: Option<Window>, chance: u64) -> i64 {
    let length = life.not_after.saturating_sub(life.not_before).max(0);
    let own = life.not_before.saturating_add(length / 3 * 2);
    // A window that leaves no time for a second attempt is not believed.
    let latest = life.not_after.saturating_sub(length / 10);
    match window {
        Some(Window { start, end }) => start
            .saturating_add(share(end.saturating_sub(start), chance))
            .min(latest),
        None => own.saturating_sub(share(length / 50, chance)),
    }
}

/// A point from 0 to `length`.
fn share(length: i64, chance: u64) -> i64 {
    match u64::try_from(length) {
        Ok(length) => i64::try_from(chance % (length + 1)).unwrap_or(0),
        Err(_) => 0,
    }
}

/// The earliest time that what was tried before allows.
fn allowed_from(facts: &Facts<'_>) -> i64 {
    let Attempts {
        last_at,
        failures,
        not_until,
    } = *facts.attempts;
    // An attempt in the future was made under a clock that has been set back since: nothing follows from it. One more attempt, and the
    // record is right again.
    let Some(last_at) = last_at.filter(|last_at| *last_at <= facts.now) else {
        return facts.now;
    };
    let pause = last_at.saturating_add(pause_after(failures, facts.life, facts.chance));
    // Those that were told the same time do not all come in its first second.
    let retry_after = not_until.map_or(last_at, |until| {
        until
            .min(last_at.saturating_add(LONGEST_RETRY_AFTER))
            .saturating_add(share(60, facts.chance))
    });
    pause.max(retry_after)
}

/// Seconds between the last of `failures` failures in a row and the next attempt: doubled each time, up to a quarter more by chance.
fn pause_after(failures: u32, life: Option<Life>, chance: u64) -> i64 {
    if failures == 0 {
        return 0;
    }
    let length = life.map_or(i64::MAX, |life| {
        life.not_after.saturating_sub(life.not_before)
    });
    let first = (length / 12).clamp(SHORTEST_PAUSE, FIRST_PAUSE);
    let longest = (length / 12).clamp(first, LONGEST_PAUSE);
    let doubled = first
        .saturating_mul(1_i64 << (failures - 1).min(20))
        .min(longest);
    doubled.saturating_add(share(doubled / 4, chance))
}

#[cfg(test)]
mod tests;
