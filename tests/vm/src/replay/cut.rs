//! What may be on a disk when the power goes: pure. A cut is the requests that reached it, in the order in which they
//! did, each perhaps only in part.

use super::log::LogEntry;

/// What a disk writes whole or not at all, in bytes: the physical sector of nearly all that are sold. A file system relies on it: an XFS with
/// a block of 4 KiB torn in its middle cannot be mounted (its recovery leaves alone what looks newer than the log).
const PHYSICAL_SECTOR: u64 = 4096;

/// Numbers that look random and are the same in every run that begins with the same one (splitmix64).
#[derive(Debug, Clone)]
pub struct Dice(u64);

impl Dice {
    /// The series that this number stands for.
    #[must_use]
    pub fn new(seed: u64) -> Dice {
        Dice(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `limit`; 0 if there is none.
    pub fn below(&mut self, limit: u64) -> u64 {
        self.next().checked_rem(limit).unwrap_or(0)
    }

    fn below_index(&mut self, limit: usize) -> usize {
        let number = self.below(u64::try_from(limit).unwrap_or(u64::MAX));
        usize::try_from(number).unwrap_or(0)
    }
}

/// A moment at which the power goes, and what of the latest requests has reached the disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cut {
    /// So many requests had been made.
    pub position: usize,
    /// So many of them are on the disk for certain.
    pub durable: usize,
    /// Which of the others have reached the disk, in their order, and how many bytes of each.
    pub kept: Vec<(usize, u64)>,
}

/// How much of what was not flushed is kept: the ends are as likely as all between.
enum Luck {
    Nothing,
    Everything,
    Some,
}

impl Cut {
    /// The power goes when `position` requests have been made.
    #[must_use]
    pub fn at(entries: &[LogEntry], position: usize, dice: &mut Dice) -> Cut {
        let made = &entries[..position.min(entries.len())];
        let durable = made
            .iter()
            .rposition(|entry| entry.flush)
            .map_or(0, |flush| flush + 1);
        let luck = match dice.below(4) {
            0 => Luck::Nothing,
            1 => Luck::Everything,
            _ => Luck::Some,
        };
        let mut kept = Vec::new();
        for (index, entry) in made.iter().enumerate().skip(durable) {
            let keep = match luck {
                Luck::Nothing => false,
                Luck::Everything => true,
                Luck::Some => dice.below(2) == 0,
            };
            if entry.forced || keep {
                let torn = !entry.forced && matches!(luck, Luck::Some) && dice.below(8) == 0;
                let length = match torn {
                    true => torn_at(entry, dice),
                    false => entry.length,
                };
                kept.push((index, length));
            }
        }
        if matches!(luck, Luck::Some) {
            shuffle(&mut kept, dice);
        }
        Cut {
            position: made.len(),
            durable,
            kept,
        }
    }

    /// So many cuts between two marks, spread over the stretches between flushes: many of those are short, and it is they
    /// that matter, while most requests are the bulk of a slot.
    #[must_use]
    pub fn spread(
        entries: &[LogEntry],
        between: std::ops::Range<usize>,
        count: usize,
        dice: &mut Dice,
    ) -> Vec<Cut> {
        let end = between.end.min(entries.len());
        let flushes = (between.start..end).filter(|&index| entries[index].flush);
        let mut ends: Vec<usize> = flushes.map(|index| index + 1).collect();
        ends.push(end);
        let mut positions: Vec<usize> = (0..count)
            .map(|number| {
                let stretch = number * ends.len() / count.max(1);
                let from = match stretch {
                    0 => between.start,
                    some => ends[some - 1],
                };
                from + dice.below_index(ends[stretch] - from + 1)
            })
            .collect();
        positions.sort_unstable();
        let cut = |position| Cut::at(entries, position, dice);
        positions.into_iter().map(cut).collect()
    }
}

/// How many bytes of a request were written when the power went: it ends between two physical sectors.
fn torn_at(entry: &LogEntry, dice: &mut Dice) -> u64 {
    let end = entry.offset + dice.below(entry.length);
    let whole = end - end % PHYSICAL_SECTOR;
    whole.saturating_sub(entry.offset)
}

fn shuffle<T>(list: &mut [T], dice: &mut Dice) {
    for last in (1..list.len()).rev() {
        list.swap(last, dice.below_index(last + 1));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two physical sectors, and half of a third.
    const LENGTH: u64 = 10 * 1024;

    fn write(sector: u64) -> LogEntry {
        LogEntry {
            offset: sector * PHYSICAL_SECTOR + 2048,
            length: LENGTH,
            data: Some(0),
            flush: false,
            forced: false,
        }
    }

    fn flush() -> LogEntry {
        LogEntry {
            length: 0,
            flush: true,
            ..write(0)
        }
    }

    #[test]
    fn what_was_flushed_is_there_and_what_was_not_asked_for_is_not() {
        let entries = [write(0), flush(), write(1), write(2), write(3)];
        for seed in 0..200 {
            let cut = Cut::at(&entries, 4, &mut Dice::new(seed));
            assert_eq!((cut.position, cut.durable), (4, 2));
            assert!(cut.kept.iter().all(|&(index, length)| {
                (2..4).contains(&index) && [0, 2048, 2048 + 4096, LENGTH].contains(&length)
            }));
        }
    }

    #[test]
    fn everything_between_nothing_and_all_in_any_order_is_met() {
        let entries = [write(1), write(2), write(3)];
        let mut met = std::collections::HashSet::new();
        let mut torn = false;
        for seed in 0..500 {
            let cut = Cut::at(&entries, 3, &mut Dice::new(seed));
            torn |= cut.kept.iter().any(|&(_, length)| length < LENGTH);
            let order: Vec<usize> = cut.kept.iter().map(|&(index, _)| index).collect();
            met.insert(order);
        }
        // 1 empty, 3 single, 6 pairs, 6 of all three.
        assert_eq!(met.len(), 16);
        assert!(torn);
    }

    #[test]
    fn a_forced_write_is_never_lost() {
        let forced = LogEntry {
            forced: true,
            ..write(1)
        };
        let entries = [write(0), forced];
        for seed in 0..100 {
            let cut = Cut::at(&entries, 2, &mut Dice::new(seed));
            assert!(cut.kept.contains(&(1, LENGTH)));
        }
    }

    #[test]
    fn cuts_are_spread_over_the_stretches() {
        let mut entries = vec![write(0); 1000];
        entries.extend([flush(), write(1), flush(), write(2), flush(), write(3)]);
        let cuts = Cut::spread(&entries, 0..entries.len(), 40, &mut Dice::new(1));
        let late = cuts.iter().filter(|cut| cut.position > 1000).count();
        assert_eq!(cuts.len(), 40);
        assert!((25..=32).contains(&late), "{late} of 40 are late");
        let early = Cut::spread(&entries, 10..20, 5, &mut Dice::new(1));
        assert!(early.iter().all(|cut| (10..=20).contains(&cut.position)));
    }
}
