//! Letters that are read from across the room: three cells wide and five high, drawn in reverse video, which every terminal
//! has. Where there is room, each point is two cells wide, so that the letters are not narrow.

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::style::{Modifier, Style};

/// Rows of a letter.
pub const HEIGHT: u16 = 5;

/// Rows from top to bottom, the left point in the highest of three bits.
const LETTERS: [(char, [u8; 5]); 39] = [
    ('0', [7, 5, 5, 5, 7]),
    ('1', [2, 6, 2, 2, 7]),
    ('2', [7, 1, 7, 4, 7]),
    ('3', [7, 1, 3, 1, 7]),
    ('4', [5, 5, 7, 1, 1]),
    ('5', [7, 4, 7, 1, 7]),
    ('6', [7, 4, 7, 5, 7]),
    ('7', [7, 1, 1, 2, 2]),
    ('8', [7, 5, 7, 5, 7]),
    ('9', [7, 5, 7, 1, 7]),
    ('a', [2, 5, 7, 5, 5]),
    ('b', [6, 5, 6, 5, 6]),
    ('c', [3, 4, 4, 4, 3]),
    ('d', [6, 5, 5, 5, 6]),
    ('e', [7, 4, 6, 4, 7]),
    ('f', [7, 4, 6, 4, 4]),
    ('g', [3, 4, 5, 5, 3]),
    ('h', [5, 5, 7, 5, 5]),
    ('i', [7, 2, 2, 2, 7]),
    ('j', [1, 1, 1, 5, 2]),
    ('k', [5, 5, 6, 5, 5]),
    ('l', [4, 4, 4, 4, 7]),
    ('m', [5, 7, 7, 5, 5]),
    ('n', [6, 5, 5, 5, 5]),
    ('o', [2, 5, 5, 5, 2]),
    ('p', [6, 5, 6, 4, 4]),
    ('q', [2, 5, 5, 6, 3]),
    ('r', [6, 5, 6, 5, 5]),
    ('s', [3, 4, 2, 1, 6]),
    ('t', [7, 2, 2, 2, 2]),
    ('u', [5, 5, 5, 5, 7]),
    ('v', [5, 5, 5, 5, 2]),
    ('w', [5, 5, 7, 7, 5]),
    ('x', [5, 5, 2, 5, 5]),
    ('y', [5, 5, 2, 2, 2]),
    ('z', [7, 1, 2, 4, 7]),
    ('-', [0, 0, 7, 0, 0]),
    (':', [0, 2, 0, 2, 0]),
    ('.', [0, 0, 0, 0, 2]),
];

/// Draws `text` at the top left of `area`, as large as fits; false if it does not fit or has other letters.
pub fn draw(text: &str, area: Rect, buffer: &mut Buffer) -> bool {
    let letters: Option<Vec<[u8; 5]>> = text.chars().map(letter).collect();
    let Some(letters) = letters else { return false };
    let Some(point) = [2_u16, 1].into_iter().find(|point| {
        // A point is one column where it says so: see `columns`.
        let width: usize = letters
            .iter()
            .map(|rows| columns(rows) * usize::from(*point) + 1)
            .sum();
        width <= usize::from(area.width) + 1
    }) else {
        return false;
    };
    if area.height < HEIGHT {
        return false;
    }
    let on = Style::new().add_modifier(Modifier::REVERSED);
    let mut x = area.x;
    for rows in &letters {
        let columns = u16::try_from(columns(rows)).unwrap_or(3);
        // The bit of the left column; of a narrow letter that is the middle one of the three.
        let first = if columns == 1 { 1 } else { 2 };
        for (y, row) in (area.y..).zip(rows) {
            for column in 0..columns {
                if row >> (first - column.min(first)) & 1 == 1 {
                    for cell in 0..point {
                        buffer.set_string(x + column * point + cell, y, " ", on);
                    }
                }
            }
        }
        x += columns * point + 1;
    }
    true
}

fn letter(c: char) -> Option<[u8; 5]> {
    LETTERS
        .iter()
        .find(|(name, _)| *name == c.to_ascii_lowercase())
        .map(|(_, rows)| *rows)
}

/// Points and colons need one only.
fn columns(rows: &[u8; 5]) -> usize {
    if rows.iter().all(|row| row & 0b101 == 0) {
        1
    } else {
        3
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drawn(text: &str, width: u16) -> Option<Vec<String>> {
        let area = Rect::new(0, 0, width, HEIGHT);
        let mut buffer = Buffer::empty(area);
        draw(text, area, &mut buffer).then(|| {
            (0..HEIGHT)
                .map(|y| {
                    (0..width)
                        .map(|x| {
                            let on = buffer[(x, y)].modifier.contains(Modifier::REVERSED);
                            if on { '#' } else { ' ' }
                        })
                        .collect::<String>()
                        .trim_end()
                        .to_owned()
                })
                .collect()
        })
    }

    #[test]
    fn an_address_is_drawn_as_large_as_fits() {
        assert_eq!(
            drawn("1.7", 10).unwrap(),
            [
                " #    ###",
                "##      #",
                " #      #",
                " #     #",
                "### #  #"
            ]
            .map(str::to_owned)
        );
        assert!(drawn("10.7", 30).unwrap()[0].starts_with("  ##"), "wide");
        assert!(drawn("192.168.100.100", 78).is_some());
        assert!(drawn("chat.example.org", 78).is_some());
        assert!(drawn("a-very-long-name.of.a.machine.example.org", 78).is_none());
        assert!(drawn("10.7", 5).is_none());
        assert!(drawn("b\u{fc}ro", 78).is_none());
    }
}
