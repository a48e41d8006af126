//! The question that a stick puts: what is there, what would happen, and how to say yes.

use atalaya_core::words::harmless;
use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::style::{Color, Style};

use super::{bold, frame, reversed, text};
use crate::model::View;
use crate::question::{Question, State, WORD};

pub fn draw(view: &View, question: &Question, area: Rect) -> Buffer {
    let mut buffer = Buffer::empty(area);
    let (body, keys) = frame(view, area, &mut buffer);
    let width = usize::from(body.width).min(76);
    let mut y = 1;
    for (line, style) in lines(view, question) {
        for part in wrapped(&harmless(&line), width) {
            text(&mut buffer, body, y, &part, style);
            y += 1;
        }
    }
    buffer.set_style(keys, reversed());
    let line = " Enter answer   Backspace erase   Tab back, install nothing";
    text(&mut buffer, keys, 0, line, reversed());
    buffer
}

fn lines(view: &View, question: &Question) -> Vec<(String, Style)> {
    let plain = Style::new();
    let offer = &question.offer;
    let mut lines = vec![
        (format!("Install version {}?", offer.version), bold()),
        (String::new(), plain),
        (format!("This machine   {}", view.answer.version), plain),
        (
            format!(
                "The stick      {}, with Mattermost {} and PostgreSQL {}",
                offer.version, offer.mattermost, offer.postgresql
            ),
            plain,
        ),
        (
            "               signed by keys that this machine trusts".to_owned(),
            plain,
        ),
        (String::new(), plain),
        (
            "It is written while users go on. Then they are kept out for some minutes, the machine restarts, and if a real post does not go \
             through, everything comes back as it was, with all data."
                .to_owned(),
            plain,
        ),
        (
            "Leave the stick in until the machine restarts.".to_owned(),
            plain,
        ),
        (String::new(), plain),
    ];
    match &question.state {
        State::Open => {}
        State::Asked => lines.push(("It is being begun.".to_owned(), bold())),
        State::Refused(why) => {
            lines.push((why.clone(), bold().fg(Color::Red)));
            lines.push((String::new(), plain));
        }
    }
    if question.state != State::Asked {
        lines.push((
            format!(
                "To install it, type {WORD} and press Enter:  {}_",
                question.typed
            ),
            bold(),
        ));
    }
    lines
}

/// Broken between words; one that is longer than a line is cut where it is drawn. What begins with blanks keeps them.
fn wrapped(line: &str, width: usize) -> Vec<String> {
    let indent: String = line.chars().take_while(|c| *c == ' ').collect();
    let mut lines = vec![indent];
    for word in line.trim_start().split(' ') {
        let used = lines.last().map_or(0, |line| line.chars().count());
        let is_first = lines.last().is_none_or(|line| line.trim().is_empty());
        if !is_first && used + 1 + word.chars().count() > width {
            lines.push(word.to_owned());
        } else if let Some(last) = lines.last_mut() {
            last.extend((!is_first).then_some(' '));
            last.push_str(word);
        }
    }
    lines
}
