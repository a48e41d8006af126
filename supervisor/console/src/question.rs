//! The question that a stick with an update puts to whoever stands in front of the machine. Pure. There is no log-in here, so the answer is a
//! word: neither a stray key nor a cat gives it, and what it begins was verified by the machine itself.

use crate::keys::Key;
use crate::model::{Answer, Offer};

/// Begins the update. Its letters are where they are on any keyboard: the machine does not know of which country its own is.
pub const WORD: &str = "proceed";

/// What is being asked, and the answer so far.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Question {
    pub offer: Offer,
    pub typed: String,
    pub state: State,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum State {
    Open,
    /// The supervisor has been asked and has not answered yet.
    Asked,
    /// What happened, what it means for the data, what to do next.
    Refused(String),
}

/// What a key means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    Stay,
    /// Back to where one came from.
    Leave,
    /// The word was given.
    Install,
}

/// The version that can be asked about now.
pub fn offered(answer: &Answer) -> Option<&Offer> {
    let stick = answer.update.as_ref()?.stick.as_ref()?;
    (!stick.version.is_empty()).then_some(stick)
}

impl Question {
    pub fn new(offer: Offer) -> Self {
        Self {
            offer,
            typed: String::new(),
            state: State::Open,
        }
    }

    pub fn press(&mut self, key: Key) -> Step {
        match key {
            Key::Next | Key::Previous => return Step::Leave,
            _ if self.state == State::Asked => {}
            Key::Letter(letter) if self.typed.len() < 2 * WORD.len() => {
                self.state = State::Open;
                self.typed.push(letter);
            }
            Key::Erase => drop(self.typed.pop()),
            Key::Enter if self.typed == WORD => {
                self.state = State::Asked;
                return Step::Install;
            }
            Key::Enter => self.typed.clear(),
            Key::Letter(_)
            | Key::Up
            | Key::Down
            | Key::PageUp
            | Key::PageDown
            | Key::Redraw
            | Key::Other
            | Key::Cursor(..) => {}
        }
        Step::Stay
    }

    /// The supervisor has answered.
    pub fn refuse(&mut self, why: String) {
        self.typed.clear();
        self.state = State::Refused(why);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn typed(question: &mut Question, text: &str) -> Step {
        let keys = text.chars().map(|letter| match letter {
            '\r' => Key::Enter,
            '<' => Key::Erase,
            letter => Key::Letter(letter),
        });
        keys.fold(Step::Stay, |_, key| question.press(key))
    }

    #[test]
    fn only_the_whole_word_begins_an_update() {
        for text in [
            "\r",
            "y\r",
            "procee\r",
            "proceeds\r",
            "proceed",
            "x\r\r\r",
            "Proceed\r",
        ] {
            let step = typed(&mut Question::new(Offer::default()), text);
            assert_eq!(step, Step::Stay, "{text:?}");
        }
        for text in ["proceed\r", "prox<ceed\r", "no\rproceed\r"] {
            let mut question = Question::new(Offer::default());
            assert_eq!(typed(&mut question, text), Step::Install, "{text:?}");
            assert_eq!(question.state, State::Asked);
            assert_eq!(typed(&mut question, "\r"), Step::Stay, "once is enough");
        }
    }

    #[test]
    fn after_a_refusal_the_word_is_typed_anew() {
        let mut question = Question::new(Offer::default());
        typed(&mut question, "proceed\r");
        question.refuse("no".to_owned());
        assert_eq!(typed(&mut question, "\r"), Step::Stay);
        assert_eq!(question.state, State::Refused("no".to_owned()));
        assert_eq!(typed(&mut question, "proceed\r"), Step::Install);
        assert_eq!(question.press(Key::Next), Step::Leave);
    }

    #[test]
    fn what_is_typed_does_not_grow() {
        let mut question = Question::new(Offer::default());
        typed(&mut question, &"x".repeat(1000));
        assert!(question.typed.len() <= 2 * WORD.len());
    }
}
