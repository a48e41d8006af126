//! When a unit that failed is started again, and when it is given up. Time and chance are passed in.

use crate::unit::Restart;

/// How long to wait before the start that follows `failures` failures in a row (0 for the first), in milliseconds:
/// `min_ms` doubled each time, at most `max_ms`, a quarter of it either way by `chance`, and still at most `max_ms`.
pub fn plan_pause_ms(policy: &Restart, failures: u32, chance: u64) -> u64 {
    let doubled = policy
        .min_ms
        .saturating_mul(1_u64.checked_shl(failures.min(40)).unwrap_or(u64::MAX))
        .min(policy.max_ms);
    let spread = doubled / 2;
    let jittered = doubled - spread / 2
        + if spread == 0 {
            0
        } else {
            chance % (spread + 1)
        };
    jittered.min(policy.max_ms)
}

/// Forgets starts that have left the window.
pub fn forget_old_starts(policy: &Restart, starts: &mut Vec<u64>, now_ms: u64) {
    let window_ms = policy.window_s.saturating_mul(1000);
    starts.retain(|start| now_ms.saturating_sub(*start) < window_ms);
}

/// Whether the window has no room for another start.
pub fn is_spent(policy: &Restart, starts: &[u64], now_ms: u64) -> bool {
    let window_ms = policy.window_s.saturating_mul(1000);
    let within = starts
        .iter()
        .filter(|start| now_ms.saturating_sub(**start) < window_ms)
        .count();
    u32::try_from(within).unwrap_or(u32::MAX) >= policy.limit
}

/// A number that differs between units and runs, so that units that die together do not come back together. Not for
/// secrets.
pub fn chance(name: &str, run: u32, now_ms: u64) -> u64 {
    // FNV-1a, 64 bits.
    name.bytes()
        .chain(run.to_le_bytes())
        .chain(now_ms.to_le_bytes())
        .fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pause_grows_and_is_bounded() {
        let policy = Restart {
            min_ms: 100,
            max_ms: 10_000,
            ..Restart::default()
        };
        for failures in 0..200 {
            for chance in [0, 7, u64::MAX] {
                let pause = plan_pause_ms(&policy, failures, chance);
                assert!((75..=10_000).contains(&pause), "{failures}: {pause}");
            }
        }
        assert!(plan_pause_ms(&policy, 3, 0) > plan_pause_ms(&policy, 0, u64::MAX));
    }

    #[test]
    fn without_a_first_pause_there_is_none_at_all() {
        let policy = Restart {
            min_ms: 0,
            ..Restart::default()
        };
        for failures in [0, 1, 63, 200] {
            assert_eq!(plan_pause_ms(&policy, failures, u64::MAX), 0);
        }
    }

    #[test]
    fn starts_outside_the_window_do_not_count() {
        let policy = Restart {
            limit: 2,
            window_s: 10,
            ..Restart::default()
        };
        assert!(!is_spent(&policy, &[0, 500], 10_000));
        assert!(is_spent(&policy, &[500, 600], 10_000));
    }
}
