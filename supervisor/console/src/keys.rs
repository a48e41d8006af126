//! What comes from a terminal: keys, and its answers to questions. Pure; what it does not know it drops.

/// What a person or the terminal itself said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Key {
    Next,
    Previous,
    Up,
    Down,
    PageUp,
    PageDown,
    Redraw,
    Enter,
    Erase,
    /// One that can be printed.
    Letter(char),
    /// Any other.
    Other,
    /// Where the cursor is: row and column, from 1. The answer to `ESC [ 6 n`.
    Cursor(u16, u16),
}

/// Longer sequences than this are no terminal's.
const LIMIT: usize = 32;

/// Keeps the beginning of a sequence until its end has come.
#[derive(Debug, Default)]
pub struct Reader {
    pending: Vec<u8>,
}

impl Reader {
    pub fn read(&mut self, bytes: &[u8]) -> Vec<Key> {
        bytes.iter().filter_map(|&byte| self.take(byte)).collect()
    }

    fn take(&mut self, byte: u8) -> Option<Key> {
        if byte == 0x1b {
            // A new one begins; what was before is not going to end.
            self.pending = vec![byte];
            return None;
        }
        match self.pending.as_slice() {
            [] => Some(plain(byte)),
            [_] if byte == b'[' || byte == b'O' => {
                self.pending.push(byte);
                None
            }
            // ESC and an ordinary key.
            [_] => {
                self.pending.clear();
                Some(Key::Other)
            }
            // Parameters and intermediates of a control sequence (ECMA-48, 5.4); the linux console's F1 to F5 begin with "[[".
            [_, rest @ ..]
                if (0x20..=0x3f).contains(&byte) || (byte == b'[' && rest.len() == 1) =>
            {
                self.pending.push(byte);
                if self.pending.len() > LIMIT {
                    self.pending.clear();
                }
                None
            }
            [_, _, parameters @ ..] => {
                let key = sequence(parameters, byte);
                self.pending.clear();
                Some(key)
            }
        }
    }
}

fn plain(byte: u8) -> Key {
    match byte {
        b'\t' => Key::Next,
        b'\r' | b'\n' => Key::Enter,
        0x08 | 0x7f => Key::Erase,
        0x0c => Key::Redraw,
        b' '..=b'~' => Key::Letter(char::from(byte)),
        _ => Key::Other,
    }
}

fn sequence(parameters: &[u8], last: u8) -> Key {
    match (parameters, last) {
        (b"", b'A') => Key::Up,
        (b"", b'B') => Key::Down,
        (b"", b'C') => Key::Next,
        (b"", b'D' | b'Z') => Key::Previous,
        (b"5", b'~') => Key::PageUp,
        (b"6", b'~') => Key::PageDown,
        (parameters, b'R') => cursor(parameters).unwrap_or(Key::Other),
        _ => Key::Other,
    }
}

fn cursor(parameters: &[u8]) -> Option<Key> {
    let text = std::str::from_utf8(parameters).ok()?;
    let (row, column) = text.split_once(';')?;
    Some(Key::Cursor(row.parse().ok()?, column.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn keys_and_answers_are_told_apart_however_they_arrive() {
        let text = b"\t\x1b[A\x1b[24;80Rq\x1b[6~\x1b[[A\x1bx\x0c\r\x7f";
        let expected = [
            Key::Next,
            Key::Up,
            Key::Cursor(24, 80),
            Key::Letter('q'),
            Key::PageDown,
            Key::Other,
            Key::Other,
            Key::Redraw,
            Key::Enter,
            Key::Erase,
        ];
        assert_eq!(Reader::default().read(text), expected);
        let mut reader = Reader::default();
        let one_by_one: Vec<Key> = text.iter().flat_map(|&byte| reader.read(&[byte])).collect();
        assert_eq!(one_by_one, expected);
    }

    proptest! {
        #[test]
        fn nothing_that_is_typed_breaks_it_or_grows(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
            let mut reader = Reader::default();
            reader.read(&bytes);
            prop_assert!(reader.pending.len() <= LIMIT);
            // A new sequence is always understood.
            prop_assert_eq!(reader.read(b"\x1b[24;80R"), vec![Key::Cursor(24, 80)]);
        }
    }
}
