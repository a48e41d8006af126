//! How long to go on with a server that does not answer. Pure.

use std::time::Duration;

/// As long as nothing ever came, the address is more likely wrong than the network slow.
const TRIES_BEFORE_ANYTHING: u32 = 3;
/// Some ten minutes without a byte.
const TRIES: u32 = 24;
const LONGEST: Duration = Duration::from_secs(30);
/// A server may ask for more, but not for any number.
const LONGEST_ASKED: Duration = Duration::from_secs(300);

#[derive(Debug, Default)]
pub(super) struct Patience {
    failures: u32,
    something_came: bool,
}

impl Patience {
    /// Something came: all is forgiven.
    pub fn renew(&mut self) {
        *self = Self {
            failures: 0,
            something_came: true,
        };
    }

    /// After one more failure: how long to wait, or none if it is enough. `asked` is what the server wants (Retry-After).
    pub fn pause(&mut self, asked: Option<Duration>) -> Option<Duration> {
        self.failures += 1;
        let tries = if self.something_came {
            TRIES
        } else {
            TRIES_BEFORE_ANYTHING
        };
        if self.failures >= tries {
            return None;
        }
        let doubled = Duration::from_secs(1 << (self.failures - 1).min(5)).min(LONGEST);
        Some(doubled.max(asked.unwrap_or_default().min(LONGEST_ASKED)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pauses(patience: &mut Patience) -> Vec<u64> {
        std::iter::from_fn(|| patience.pause(None))
            .map(|pause| pause.as_secs())
            .collect()
    }

    #[test]
    fn a_wrong_address_is_told_soon_and_a_network_that_went_away_is_waited_for() {
        let mut patience = Patience::default();
        assert_eq!(pauses(&mut patience), [1, 2]);
        patience.renew();
        let waited = pauses(&mut patience);
        assert_eq!(waited[..7], [1, 2, 4, 8, 16, 30, 30]);
        assert!((540..720).contains(&waited.iter().sum::<u64>()));
    }

    #[test]
    fn a_server_may_ask_for_more_time_within_reason() {
        let mut patience = Patience::default();
        let asked = |seconds| Some(Duration::from_secs(seconds));
        assert_eq!(patience.pause(asked(60)), asked(60));
        assert_eq!(patience.pause(asked(86_400)), asked(300));
    }
}
