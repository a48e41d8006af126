//! What a disk holds: a base, and over it stretches that come from elsewhere.

use std::collections::BTreeMap;

use super::cut::Cut;
use super::log::LogEntry;

/// Where the bytes of a stretch are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Source {
    /// In the base, at their own place.
    Base,
    /// In the log, from this byte on.
    Log(u64),
    /// In the scratch file, at their own place.
    Scratch,
    Zero,
}

impl Source {
    fn skip(self, bytes: u64) -> Source {
        match self {
            Source::Log(at) => Source::Log(at + bytes),
            other => other,
        }
    }
}

/// Stretches that do not overlap, by their beginning.
#[derive(Debug, Clone, Default)]
pub(super) struct Content {
    stretches: BTreeMap<u64, (u64, Source)>,
}

impl Content {
    /// The base with what of the log a cut has left.
    pub fn after(entries: &[LogEntry], cut: &Cut) -> Content {
        let mut content = Content::default();
        let durable = entries[..cut.durable].iter();
        let kept = cut.kept.iter().map(|&(index, length)| LogEntry {
            length,
            ..entries[index]
        });
        for entry in durable.copied().chain(kept) {
            let source = entry.data.map_or(Source::Zero, Source::Log);
            content.lay(entry.offset, entry.length, source);
        }
        content
    }

    /// Lays a stretch over what is there.
    pub fn lay(&mut self, from: u64, length: u64, source: Source) {
        let to = from + length;
        if length == 0 {
            return;
        }
        let before = self.stretches.range(..from).next_back();
        if let Some((&start, &(end, old))) = before
            && end > from
        {
            self.stretches.insert(start, (from, old));
            if end > to {
                self.stretches.insert(to, (end, old.skip(to - start)));
            }
        }
        let covered: Vec<u64> = self.stretches.range(from..to).map(|(&at, _)| at).collect();
        for start in covered {
            if let Some((end, old)) = self.stretches.remove(&start)
                && end > to
            {
                self.stretches.insert(to, (end, old.skip(to - start)));
            }
        }
        self.stretches.insert(from, (to, source));
    }

    /// Where the bytes from `from` on lie, and how many of them, at most `length`, lie there together.
    pub fn find(&self, from: u64, length: u64) -> (Source, u64) {
        if let Some((&start, &(end, source))) = self.stretches.range(..=from).next_back()
            && end > from
        {
            return (source.skip(from - start), length.min(end - from));
        }
        let next = self.stretches.range(from..).next();
        let free = next.map_or(length, |(&start, _)| start - from);
        (Source::Base, length.min(free))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn walk(content: &Content, from: u64, to: u64) -> Vec<(u64, Source, u64)> {
        let (mut at, mut list) = (from, Vec::new());
        while at < to {
            let (source, length) = content.find(at, to - at);
            list.push((at, source, length));
            at += length;
        }
        list
    }

    #[test]
    fn a_stretch_in_the_middle_parts_what_was_there() {
        let mut content = Content::default();
        content.lay(10, 20, Source::Log(100));
        content.lay(15, 5, Source::Zero);
        let expected = [
            (0, Source::Base, 10),
            (10, Source::Log(100), 5),
            (15, Source::Zero, 5),
            (20, Source::Log(110), 10),
            (30, Source::Base, 10),
        ];
        assert_eq!(walk(&content, 0, 40), expected);
    }

    /// Against the plainest model: an array of what each byte is.
    #[test]
    fn it_is_as_if_each_byte_were_written() {
        let mut dice = super::super::Dice::new(5);
        for _ in 0..200 {
            let (mut content, mut model) = (Content::default(), [Source::Base; 64]);
            for number in 0..12 {
                let from = dice.below(60);
                let length = dice.below(64 - from + 1);
                let source = match number % 3 {
                    0 => Source::Log(1000 * number),
                    1 => Source::Zero,
                    _ => Source::Scratch,
                };
                content.lay(from, length, source);
                for at in from..from + length {
                    model[at as usize] = source.skip(at - from);
                }
            }
            for (at, source, length) in walk(&content, 0, 64) {
                for step in 0..length {
                    assert_eq!(model[(at + step) as usize], source.skip(step));
                }
            }
        }
    }
}
