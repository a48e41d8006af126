//! When a dead atalayad is started again. Pure.

use std::collections::VecDeque;

const WINDOW_MS: u64 = 60_000;
/// So many deaths within the window mean safe mode.
const LIMIT: usize = 5;
const FIRST_DELAY_MS: u64 = 100;
const MINUTE_MS: u64 = 60_000;
const LONGEST_MINUTES: u64 = 10;

/// The deaths so far.
#[derive(Debug, Default)]
pub struct Deaths {
    total: u32,
    recent: VecDeque<u64>,
    /// Attempts in safe mode; `None` outside it.
    slow_attempts: Option<u32>,
}

impl Deaths {
    /// Records a death at `now` after `lived` milliseconds; how long to wait before the next start.
    pub fn died(&mut self, now: u64, lived: u64) -> u64 {
        self.total = self.total.saturating_add(1);
        if lived >= WINDOW_MS {
            self.forgive();
        }
        self.recent.push_back(now);
        self.recent
            .retain(|death| now.saturating_sub(*death) < WINDOW_MS);
        if self.recent.len() >= LIMIT && self.slow_attempts.is_none() {
            self.slow_attempts = Some(0);
        }
        match &mut self.slow_attempts {
            Some(attempts) => {
                let minutes = 1u64
                    .checked_shl(*attempts)
                    .unwrap_or(LONGEST_MINUTES)
                    .min(LONGEST_MINUTES);
                *attempts = attempts.saturating_add(1).min(8);
                minutes * MINUTE_MS
            }
            // 0.1, 0.2, 0.4, 0.8 s: the fifth is safe mode.
            None => FIRST_DELAY_MS << (self.recent.len() - 1).min(LIMIT),
        }
    }

    pub fn safe_mode(&self) -> bool {
        self.slow_attempts.is_some()
    }

    pub fn total(&self) -> u32 {
        self.total
    }

    /// It has been healthy for a while: the past does not count any more.
    pub fn forgive(&mut self) {
        self.recent.clear();
        self.slow_attempts = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn back_off_then_safe_mode_with_ever_longer_pauses() {
        let mut deaths = Deaths::default();
        let quick: Vec<u64> = (0..4).map(|second| deaths.died(second * 1000, 0)).collect();
        assert_eq!(quick, [100, 200, 400, 800]);
        assert!(!deaths.safe_mode());
        let slow: Vec<u64> = (0..6)
            .map(|hour| deaths.died(5_000 + hour * 3_600_000, 10) / MINUTE_MS)
            .collect();
        assert_eq!(slow, [1, 2, 4, 8, 10, 10]);
        assert!(deaths.safe_mode());
        assert_eq!(deaths.died(99_999_999, WINDOW_MS), 100);
        assert_eq!(deaths.total(), 11);
    }

    #[test]
    fn deaths_far_apart_never_lead_to_safe_mode() {
        let mut deaths = Deaths::default();
        for day in 0..100 {
            assert_eq!(deaths.died(day * 86_400_000, 5), 100);
        }
    }
}
