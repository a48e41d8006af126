use super::*;
use proptest::prelude::*;

const NOW: i64 = 1_800_000_000;
const HOUR: i64 = 3600;

fn facts(attempts: &Attempts, now: i64) -> Facts<'_> {
    Facts {
        now,
        clock_trusted: true,
        life: None,
        window: None,
        attempts,
        chance: 0,
    }
}

fn life(days: i64) -> Life {
    Life {
        not_before: NOW,
        not_after: NOW + days * DAY,
    }
}

/// An authority that refuses every time: when it was asked, from `start` on for `span` seconds, looked at once a minute.
fn refused(start: i64, span: i64, life: Option<Life>, chance: u64) -> Vec<i64> {
    let mut attempts = Attempts::default();
    let mut asked = Vec::new();
    for now in (start..start + span).step_by(60) {
        let plan = plan(&Facts {
            life,
            chance,
            ..facts(&attempts, now)
        });
        if plan == Next::Now {
            attempts = attempts.begun(now);
            asked.push(now);
        }
    }
    asked
}

#[test]
fn without_a_certificate_one_is_asked_for_at_once() {
    assert_eq!(plan(&facts(&Attempts::default(), NOW)), Next::Now);
}

#[test]
fn ninety_day_and_six_day_certificates_are_renewed_at_two_thirds() {
    for (days, two_thirds) in [(90, 60 * DAY), (6, 4 * DAY)] {
        let due = plan_renewal(life(days), None, 0);
        assert_eq!(due, NOW + two_thirds);
        let early = plan_renewal(life(days), None, u64::MAX);
        assert!((due - days * DAY / 50..=due).contains(&early), "{early}");
    }
}

#[test]
fn the_authoritys_window_is_followed_but_not_beyond_the_end() {
    let window = |start, end| Some(Window { start, end });
    let soon = plan_renewal(life(90), window(NOW + DAY, NOW + 2 * DAY), u64::MAX);
    assert!((NOW + DAY..=NOW + 2 * DAY).contains(&soon), "{soon}");
    // A revoked certificate: the window has passed.
    assert!(plan_renewal(life(90), window(NOW - 9, NOW - 8), 7) < NOW);
    // An end before the start is no reason to wait.
    assert_eq!(plan_renewal(life(90), window(NOW + 9, NOW), 7), NOW + 9);
    let late = plan_renewal(life(90), window(NOW + 900 * DAY, NOW + 901 * DAY), 7);
    assert!(late < life(90).not_after, "{late}");
}

#[test]
fn no_order_before_the_clock_is_trusted() {
    let attempts = Attempts::default();
    let mut known = facts(&attempts, NOW);
    known.clock_trusted = false;
    assert_eq!(plan(&known), Next::ClockNotTrusted);
    // A certificate from the future: the clock was set back far behind the authority's.
    let back = Facts {
        life: Some(life(90)),
        ..facts(&attempts, NOW - 2 * DAY)
    };
    assert_eq!(plan(&back), Next::ClockNotTrusted);
}

#[test]
fn an_authority_that_is_down_for_days_is_asked_once_a_day_in_the_end() {
    let asked = refused(NOW, 10 * DAY, None, 0);
    assert!(
        asked.iter().filter(|at| **at < NOW + HOUR).count() <= 4,
        "{asked:?}"
    );
    assert!(asked.len() <= 20, "{}", asked.len());
    let last = asked.windows(2).last().unwrap();
    assert!(last[1] - last[0] >= DAY, "{last:?}");
    assert!(asked.last().unwrap() + 2 * DAY > NOW + 10 * DAY);
}

#[test]
fn a_six_day_certificate_gets_several_attempts_before_its_end() {
    let life = life(6);
    let due = plan_renewal(life, None, 0);
    let asked = refused(due, life.not_after - due, Some(life), u64::MAX);
    assert!(asked.len() >= 8, "{}", asked.len());
}

#[test]
fn retry_after_is_honoured_and_an_absurd_one_is_not() {
    let begun = Attempts::default().begun(NOW);
    let held = begun.clone().held_back(NOW, 36 * HOUR);
    assert!(matches!(plan(&facts(&held, NOW + 35 * HOUR)), Next::At(_)));
    assert_eq!(plan(&facts(&held, NOW + 36 * HOUR + 61)), Next::Now);
    let absurd = begun.held_back(NOW, i64::MAX);
    assert_eq!(plan(&facts(&absurd, NOW + 9 * DAY)), Next::Now);
}

#[test]
fn a_clock_that_is_set_back_allows_one_attempt_and_no_storm() {
    let far = Attempts::default()
        .begun(NOW + 400 * DAY)
        .held_back(NOW + 400 * DAY, DAY);
    assert_eq!(plan(&facts(&far, NOW)), Next::Now);
    let after = far.begun(NOW);
    assert!(matches!(plan(&facts(&after, NOW + 60)), Next::At(_)));
}

proptest! {
    #[test]
    fn never_a_storm(chance: u64, days in 1_i64..400, has_life: bool) {
        let life = has_life.then(|| life(days));
        let start = life.map_or(NOW, |life| life.not_after);
        let asked = refused(start, 4 * DAY, life, chance);
        for pair in asked.windows(2) {
            prop_assert!(pair[1] - pair[0] >= FIRST_PAUSE);
        }
        prop_assert!(asked.len() <= 12 + usize::try_from(48 / days).unwrap(), "{}", asked.len());
    }

    #[test]
    fn whatever_the_numbers_an_answer_comes_and_the_last_attempt_is_respected(
        now in 0..i64::MAX / 2,
        not_before: i64,
        not_after: i64,
        window: Option<(i64, i64)>,
        last_at: Option<i64>,
        failures: u32,
        not_until: Option<i64>,
        chance: u64,
    ) {
        let attempts = Attempts { last_at, failures, not_until };
        let life = Some(Life { not_before, not_after });
        let window = window.map(|(start, end)| Window { start, end });
        let plan = plan(&Facts { life, window, chance, ..facts(&attempts, now) });
        if plan == Next::Now
            && failures > 0
            && let Some(last_at) = last_at.filter(|last_at| *last_at <= now)
        {
            prop_assert!(now - last_at.max(0) >= SHORTEST_PAUSE || last_at < 0);
        }
        if let Next::At(at) = plan {
            prop_assert!(at > now);
        }
    }

    #[test]
    fn a_renewal_is_due_within_the_certificates_life(
        length in 3600_i64..400 * DAY,
        chance: u64,
        start in -DAY..800 * DAY,
        span in 0..DAY,
    ) {
        let life = Life { not_before: NOW, not_after: NOW + length };
        let own = plan_renewal(life, None, chance);
        prop_assert!(own > NOW && own < life.not_after);
        let window = Window { start: NOW + start, end: NOW + start + span };
        prop_assert!(plan_renewal(life, Some(window), chance) < life.not_after);
    }
}
