//! From pictures to bytes: what differs from the picture before, as a VT100 understands it. Eight colours and nothing that
//! TERM=linux does not know.

use ratatui::buffer::{Buffer, Cell};
use ratatui::layout::Rect;
use ratatui::style::{Color, Modifier};

/// What stands on a terminal.
#[derive(Debug)]
pub struct Painter {
    shown: Buffer,
}

/// To the farthest cell there is, and what is that cell's place? Then back to where the cursor was.
pub const ASK: &str = "\u{1b}7\u{1b}[999;999H\u{1b}[6n\u{1b}8";
/// An empty page without a cursor. A line's terminal keeps what it showed aside (?1049); the machine's own screen cannot.
pub const ENTER: &str = "\u{1b}[?1049h\u{1b}[?25l\u{1b}[0m\u{1b}[2J";
/// As it was; where nothing was kept aside, an empty page.
pub const LEAVE: &str = "\u{1b}[0m\u{1b}[2J\u{1b}[H\u{1b}[?25h\u{1b}[?1049l";

impl Painter {
    /// For a terminal that was just cleared.
    pub fn new(area: Rect) -> Self {
        Self {
            shown: Buffer::empty(area),
        }
    }

    pub fn area(&self) -> Rect {
        self.shown.area
    }

    /// Nothing that stands on the terminal is relied upon any more.
    pub fn forget(&mut self) {
        let mut unknown = Cell::default();
        // No picture has it, so every cell differs.
        unknown.set_symbol("\u{0}");
        self.shown.content.fill(unknown);
    }

    /// The bytes that turn what is shown into `next`.
    pub fn paint(&mut self, next: Buffer) -> String {
        let mut text = String::new();
        let mut place = None;
        let mut style = None;
        let changes: Vec<(u16, u16, &Cell)> = self.shown.diff(&next);
        for (x, y, cell) in &changes {
            if place != Some((*x, *y)) {
                text.push_str(&format!("\u{1b}[{};{}H", y + 1, x + 1));
            }
            let wanted = (cell.fg, cell.modifier);
            if style != Some(wanted) {
                text.push_str(&select(cell.fg, cell.modifier));
                style = Some(wanted);
            }
            text.push_str(cell.symbol());
            // A character that is not one column wide leaves the cursor where only the terminal knows.
            place = cell.symbol().is_ascii().then_some((x + 1, *y));
        }
        if !changes.is_empty() {
            text.push_str("\u{1b}[0m");
        }
        self.shown = next;
        text
    }
}

fn select(color: Color, modifier: Modifier) -> String {
    let mut codes = String::from("\u{1b}[0");
    if modifier.contains(Modifier::BOLD) {
        codes.push_str(";1");
    }
    if modifier.contains(Modifier::REVERSED) {
        codes.push_str(";7");
    }
    match color {
        Color::Red => codes.push_str(";31"),
        Color::Green => codes.push_str(";32"),
        Color::Yellow => codes.push_str(";33"),
        Color::Cyan => codes.push_str(";36"),
        _ => {}
    }
    codes.push('m');
    codes
}

#[cfg(test)]
mod tests {
    use super::*;
    use ratatui::style::Style;

    fn picture(text: &str, style: Style) -> Buffer {
        let mut buffer = Buffer::empty(Rect::new(0, 0, 20, 4));
        for (row, line) in text.lines().enumerate() {
            buffer.set_string(0, u16::try_from(row).unwrap(), line, style);
        }
        buffer
    }

    fn screen(bytes: &[&str]) -> vt100::Parser {
        let mut parser = vt100::Parser::new(4, 20, 0);
        for part in bytes {
            parser.process(part.as_bytes());
        }
        parser
    }

    fn rows(parser: &vt100::Parser) -> Vec<String> {
        let rows = parser.screen().rows(0, 20);
        rows.map(|row| row.trim_end().to_owned()).collect()
    }

    #[test]
    fn only_what_differs_is_sent_and_the_terminal_shows_the_picture() {
        let mut painter = Painter::new(Rect::new(0, 0, 20, 4));
        let bold = Style::new().add_modifier(Modifier::REVERSED).fg(Color::Red);
        let first = painter.paint(picture("one\ntwo \u{e9}\u{4e2d}x", Style::new()));
        let second = painter.paint(picture("one\ntwo \u{e9}\u{4e2d}y", Style::new()));
        assert!(second.len() < 20, "{second:?}");
        assert_eq!(
            painter.paint(picture("one\ntwo \u{e9}\u{4e2d}y", Style::new())),
            ""
        );
        let third = painter.paint(picture("one\nthree", bold));
        let shown = screen(&[ENTER, &first, &second, &third]);
        assert_eq!(rows(&shown), ["one", "three", "", ""]);
        let cell = shown.screen().cell(1, 0).unwrap();
        assert!(cell.inverse());
        assert_eq!(cell.fgcolor(), vt100::Color::Idx(1));
    }

    #[test]
    fn a_picture_that_was_written_over_is_mended_by_painting_all() {
        let mut painter = Painter::new(Rect::new(0, 0, 20, 4));
        let first = painter.paint(picture("one\ntwo", Style::new()));
        painter.forget();
        let again = painter.paint(picture("one\ntwo", Style::new()));
        let shown = screen(&[ENTER, &first, "\u{1b}[3;1Hkernel: oops\r\n\nmore", &again]);
        assert_eq!(rows(&shown), ["one", "two", "", ""]);
    }
}
