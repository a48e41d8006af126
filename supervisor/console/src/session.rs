//! When a terminal is drawn on. Pure: what happens comes in with the time, what to do comes out.
//!
//! ```text
//!            a key (serial line); at once (screen)       it answers (a screen need not)
//!   Plain ------------------------------------> Asking --------------------------------> Drawn
//!     ^                                            | no answer within a second             |
//!     +--------------------------------------------+---------------------------------------+
//!                                     key q, nobody answers any more, supervisor gone, machine ends
//! ```
//! A serial line may have a file, a printer or nobody at its other end, so nothing is sent to it until somebody there has
//! pressed a key, and no picture before that terminal has said where its cursor is. Plain means that others write lines to
//! it, as they do without this program.

/// What a terminal is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The machine's own screen: it understands TERM=linux.
    Screen,
    /// A line to somewhere.
    Line,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// Somebody pressed a key.
    Pressed,
    /// Somebody wants it plain.
    Quit,
    /// The terminal has said where its farthest cell is.
    Answered,
    /// Whether there is something to draw: the supervisor answers and the machine does not end.
    News {
        available: bool,
    },
    Tick,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Read keys one by one and ask the terminal for its size.
    Ask,
    /// Take the terminal from the others, clear it and draw.
    Enter,
    /// Draw all of it anew, and ask again: others (the kernel) may have written over it, and the terminal may be another.
    Repaint,
    /// Give it back as it was.
    Leave,
}

/// How long a terminal may take to answer, in milliseconds.
const ANSWER_LIMIT_MS: u64 = 1_000;
/// From one repaint of everything to the next, in milliseconds.
pub const REPAINT_MS: u64 = 10_000;
/// A line that has not answered for so long has nobody at its end, in milliseconds.
const SILENCE_LIMIT_MS: u64 = 3 * REPAINT_MS + ANSWER_LIMIT_MS;
/// So long without an answer of the supervisor, and others may need the terminal more, in milliseconds.
const ABSENCE_LIMIT_MS: u64 = 10_000;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Plain,
    Asking { since_ms: u64 },
    Drawn { answered_ms: u64, painted_ms: u64 },
}

#[derive(Debug)]
pub struct Session {
    kind: Kind,
    state: State,
    /// Somebody wants to see it.
    wanted: bool,
    /// When there was last something to draw.
    available_ms: Option<u64>,
}

impl Session {
    pub fn new(kind: Kind) -> Self {
        Self {
            kind,
            state: State::Plain,
            wanted: kind == Kind::Screen,
            available_ms: None,
        }
    }

    pub fn is_drawn(&self) -> bool {
        matches!(self.state, State::Drawn { .. })
    }

    pub fn step(&mut self, now_ms: u64, event: Event) -> Vec<Effect> {
        match (event, self.state) {
            (Event::News { available: true }, _) => self.available_ms = Some(now_ms),
            // The end of the machine is known at once; of an absence only its length.
            (Event::News { available: false }, State::Drawn { .. } | State::Asking { .. }) => {
                self.available_ms = None;
                return self.leave();
            }
            (Event::News { available: false }, State::Plain) => self.available_ms = None,
            (Event::Pressed, State::Plain) => self.wanted = true,
            (Event::Quit, State::Drawn { .. } | State::Asking { .. })
                if self.kind == Kind::Line =>
            {
                self.wanted = false;
                return self.leave();
            }
            (Event::Answered, State::Asking { .. }) => return self.enter(now_ms),
            (Event::Answered, State::Drawn { painted_ms, .. }) => {
                self.state = State::Drawn {
                    answered_ms: now_ms,
                    painted_ms,
                };
            }
            (Event::Pressed, State::Asking { .. } | State::Drawn { .. })
            | (Event::Quit, _)
            | (Event::Answered, State::Plain)
            | (Event::Tick, _) => {}
        }
        self.pass_time(now_ms)
    }

    fn pass_time(&mut self, now_ms: u64) -> Vec<Effect> {
        let available = self
            .available_ms
            .is_some_and(|at| now_ms.saturating_sub(at) < ABSENCE_LIMIT_MS);
        match self.state {
            State::Plain if self.wanted && available => {
                self.state = State::Asking { since_ms: now_ms };
                vec![Effect::Ask]
            }
            State::Plain => Vec::new(),
            State::Asking { .. } | State::Drawn { .. } if !available => self.leave(),
            State::Asking { since_ms } if now_ms.saturating_sub(since_ms) >= ANSWER_LIMIT_MS => {
                match self.kind {
                    Kind::Screen => self.enter(now_ms),
                    Kind::Line => {
                        self.wanted = false;
                        self.leave()
                    }
                }
            }
            State::Asking { .. } => Vec::new(),
            State::Drawn { answered_ms, .. }
                if self.kind == Kind::Line
                    && now_ms.saturating_sub(answered_ms) >= SILENCE_LIMIT_MS =>
            {
                self.wanted = false;
                self.leave()
            }
            State::Drawn {
                answered_ms,
                painted_ms,
            } if now_ms.saturating_sub(painted_ms) >= REPAINT_MS => {
                self.state = State::Drawn {
                    answered_ms,
                    painted_ms: now_ms,
                };
                vec![Effect::Repaint]
            }
            State::Drawn { .. } => Vec::new(),
        }
    }

    fn enter(&mut self, now_ms: u64) -> Vec<Effect> {
        self.state = State::Drawn {
            answered_ms: now_ms,
            painted_ms: now_ms,
        };
        vec![Effect::Enter]
    }

    fn leave(&mut self) -> Vec<Effect> {
        self.state = State::Plain;
        vec![Effect::Leave]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const HERE: Event = Event::News { available: true };
    const GONE: Event = Event::News { available: false };

    #[test]
    fn a_line_gets_nothing_until_a_key_is_pressed_and_it_answers() {
        let mut line = Session::new(Kind::Line);
        for second in 0..100 {
            assert_eq!(line.step(second * 1000, HERE), []);
        }
        assert_eq!(line.step(100_000, Event::Pressed), [Effect::Ask]);
        assert_eq!(line.step(100_500, Event::Answered), [Effect::Enter]);
        assert!(line.is_drawn());
    }

    #[test]
    fn a_dumb_line_stays_plain_and_is_asked_again_at_the_next_key() {
        let mut line = Session::new(Kind::Line);
        line.step(0, HERE);
        assert_eq!(line.step(0, Event::Pressed), [Effect::Ask]);
        assert_eq!(line.step(1000, HERE), [Effect::Leave]);
        assert_eq!(line.step(2000, HERE), []);
        assert_eq!(line.step(2500, Event::Pressed), [Effect::Ask]);
    }

    #[test]
    fn the_machines_own_screen_is_drawn_on_at_once_and_need_not_answer() {
        let mut screen = Session::new(Kind::Screen);
        assert_eq!(screen.step(0, Event::Tick), [], "nothing to draw yet");
        assert_eq!(screen.step(10, HERE), [Effect::Ask]);
        assert_eq!(screen.step(1010, HERE), [Effect::Enter]);
        assert_eq!(
            screen.step(1020, Event::Quit),
            [],
            "there is nothing behind it"
        );
        for second in 2..60 {
            let effects = screen.step(1010 + second * 1000, HERE);
            let due = second % 10 == 0;
            assert_eq!(effects, if due { vec![Effect::Repaint] } else { vec![] });
        }
    }

    #[test]
    fn a_line_whose_terminal_went_away_becomes_plain_again() {
        let mut line = Session::new(Kind::Line);
        line.step(0, HERE);
        line.step(0, Event::Pressed);
        line.step(100, Event::Answered);
        let mut left_at = None;
        for second in 1..60 {
            let effects = line.step(second * 1000, HERE);
            if second == 12 {
                line.step(12_500, Event::Answered);
            }
            if effects == [Effect::Leave] {
                left_at = Some(second);
                break;
            }
        }
        assert_eq!(left_at, Some(44), "31 s after its last answer");
    }

    #[test]
    fn the_terminal_is_given_back_when_the_machine_ends_or_the_supervisor_is_gone() {
        let mut screen = Session::new(Kind::Screen);
        screen.step(0, HERE);
        screen.step(100, Event::Answered);
        assert_eq!(screen.step(200, GONE), [Effect::Leave]);
        assert_eq!(screen.step(300, Event::Tick), []);
        assert_eq!(screen.step(400, HERE), [Effect::Ask], "it comes back");
        screen.step(500, Event::Answered);
        assert_eq!(screen.step(9_000, Event::Tick), []);
        assert_eq!(screen.step(10_400, Event::Tick), [Effect::Leave]);
    }

    proptest! {
        #[test]
        fn it_is_entered_and_left_in_turn(
            is_line in any::<bool>(),
            events in proptest::collection::vec((0_u64..20_000, 0_u8..6), 0..200),
        ) {
            let mut session = Session::new(if is_line { Kind::Line } else { Kind::Screen });
            let (mut now_ms, mut asked, mut drawn) = (0, false, false);
            for (pause_ms, number) in events {
                now_ms += pause_ms;
                let event = [Event::Pressed, Event::Quit, Event::Answered, HERE, GONE, Event::Tick][usize::from(number)];
                for effect in session.step(now_ms, event) {
                    match effect {
                        Effect::Ask => { prop_assert!(!asked && !drawn); asked = true; }
                        Effect::Enter => { prop_assert!(asked && !drawn); drawn = true; }
                        Effect::Repaint => prop_assert!(drawn),
                        Effect::Leave => { prop_assert!(asked); asked = false; drawn = false; }
                    }
                }
                prop_assert_eq!(session.is_drawn(), drawn);
            }
        }
    }
}
