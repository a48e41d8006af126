//! The end of the machine as a state machine of its own: the first wish counts, all units are stopped, and the end is told
//! once, when none is active any more or only some that cannot be killed. Which unit stops when is `settle`'s business.
//!
//! ```text
//! Up -- Requested --> Stopping -- Settled, none active --> Ended
//! ```

use crate::link::Action;

/// How far the end has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shutdown {
    Up,
    Stopping(Action),
    Ended(Action),
}

/// What happens to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    Requested(Action),
    /// All that follows from the last input has followed.
    Settled {
        /// A unit is active that can still be stopped.
        active: bool,
        /// Units that cannot be killed.
        stuck: Vec<String>,
    },
}

/// What follows from it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Order {
    StopAll,
    Tell { end: Action, stuck: Vec<String> },
}

impl Shutdown {
    /// The end that was asked for.
    pub fn action(self) -> Option<Action> {
        match self {
            Self::Up => None,
            Self::Stopping(action) | Self::Ended(action) => Some(action),
        }
    }

    pub fn step(&mut self, event: Event) -> Option<Order> {
        match (*self, event) {
            (Self::Up, Event::Requested(action)) => {
                *self = Self::Stopping(action);
                Some(Order::StopAll)
            }
            (
                Self::Stopping(end),
                Event::Settled {
                    active: false,
                    stuck,
                },
            ) => {
                *self = Self::Ended(end);
                Some(Order::Tell { end, stuck })
            }
            (Self::Up, Event::Settled { .. })
            | (Self::Stopping(_), Event::Requested(_) | Event::Settled { active: true, .. })
            | (Self::Ended(_), Event::Requested(_) | Event::Settled { .. }) => None,
        }
    }
}
