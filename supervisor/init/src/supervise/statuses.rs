//! Exit statuses until atalayad has understood them: numbered, told in order, told again to the next atalayad.

use atalaya_core::link::{FromInit, Status};
use std::collections::VecDeque;

/// So many at most while nobody listens; some 100 bytes each.
const LIMIT: usize = 16_384;

#[derive(Debug)]
struct Exited {
    seq: u64,
    pid: i32,
    cgroup: String,
    status: Status,
    /// Of a unit's own process, not of one that it orphaned.
    main: bool,
}

/// The unacknowledged ones.
#[derive(Debug, Default)]
pub struct Statuses {
    waiting: VecDeque<Exited>,
    last_seq: u64,
    /// Up to here they have been told to the atalayad that listens now.
    told: u64,
    lost: u64,
}

impl Statuses {
    /// When there are too many, the oldest of an orphan goes: a unit's own is what its state hangs on.
    pub fn add(&mut self, pid: i32, cgroup: String, status: Status, main: bool) {
        self.last_seq += 1;
        if self.waiting.len() >= LIMIT {
            let orphan = self.waiting.iter().position(|exited| !exited.main);
            self.waiting.remove(orphan.unwrap_or(0));
            self.lost += 1;
        }
        self.waiting.push_back(Exited {
            seq: self.last_seq,
            pid,
            cgroup,
            status,
            main,
        });
    }

    /// `seq` need not be told again. Unknown numbers change nothing.
    pub fn acknowledge(&mut self, seq: u64) {
        // Mostly the first one.
        if let Some(index) = self.waiting.iter().position(|exited| exited.seq == seq) {
            self.waiting.remove(index);
        }
    }

    /// A new atalayad listens: all over again.
    pub fn rewind(&mut self) {
        self.told = 0;
    }

    /// The next one to tell.
    pub fn next(&self) -> Option<(u64, FromInit)> {
        let index = self
            .waiting
            .partition_point(|exited| exited.seq <= self.told);
        let exited = self.waiting.get(index)?;
        let message = FromInit::Exited {
            seq: exited.seq,
            pid: exited.pid,
            cgroup: exited.cgroup.clone(),
            status: exited.status,
        };
        Some((exited.seq, message))
    }

    pub fn mark_told(&mut self, seq: u64) {
        self.told = self.told.max(seq);
    }

    /// How many were lost because nobody listened for too long; asked once, then forgotten.
    pub fn take_lost(&mut self) -> u64 {
        std::mem::take(&mut self.lost)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn tell_all(statuses: &mut Statuses) -> Vec<u64> {
        let mut told = Vec::new();
        while let Some((seq, _)) = statuses.next() {
            statuses.mark_told(seq);
            told.push(seq);
        }
        told
    }

    #[test]
    fn what_was_not_acknowledged_is_told_again() {
        let mut statuses = Statuses::default();
        for pid in 1..=3 {
            statuses.add(pid, "a.1".into(), Status::Code(0), true);
        }
        assert_eq!(tell_all(&mut statuses), [1, 2, 3]);
        assert!(tell_all(&mut statuses).is_empty());
        statuses.acknowledge(2);
        statuses.acknowledge(77);
        statuses.rewind();
        assert_eq!(tell_all(&mut statuses), [1, 3]);
    }

    #[test]
    fn a_flood_that_nobody_hears_is_bounded_and_counted() {
        let mut statuses = Statuses::default();
        statuses.add(-1, "postgres.1".into(), Status::Code(0), true);
        for pid in 1..LIMIT as i32 + 10 {
            statuses.add(pid, String::new(), Status::Code(0), false);
        }
        assert_eq!(statuses.waiting.len(), LIMIT);
        assert_eq!(statuses.waiting[0].pid, -1, "the unit's own is still there");
        assert_eq!((statuses.take_lost(), statuses.take_lost()), (10, 0));
    }

    proptest! {
        #[test]
        fn none_is_lost_and_none_is_told_twice_to_the_same_listener(
            steps in proptest::collection::vec(0u8..4, 0..200)
        ) {
            let mut statuses = Statuses::default();
            let (mut added, mut acknowledged, mut told) = (0u64, Vec::new(), Vec::new());
            for step in steps {
                match step {
                    0 => { statuses.add(1, String::new(), Status::Code(0), false); added += 1; }
                    1 => if let Some((seq, _)) = statuses.next() {
                        prop_assert!(!told.contains(&seq));
                        statuses.mark_told(seq);
                        told.push(seq);
                    },
                    2 => if let Some(seq) = told.pop() { statuses.acknowledge(seq); acknowledged.push(seq); },
                    _ => { statuses.rewind(); told.clear(); }
                }
            }
            statuses.rewind();
            let mut all = tell_all(&mut statuses);
            all.extend(acknowledged);
            all.sort_unstable();
            all.dedup();
            prop_assert_eq!(all, (1..=added).collect::<Vec<_>>());
        }
    }
}
