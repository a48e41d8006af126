//! What waits for the disk, and what is remembered. Pure: no clock, no lock, no thread.
//!
//! Two rings over the same batches. `waiting` holds what is not on disk yet; when it is full, the batch that comes is dropped
//! (so a gap has one place), and its lines are counted per unit, exactly. The count stands in the log where the gap is, as a
//! line of its own, as soon as there is room. No unit takes more than its share, so that one that floods the disk does not
//! silence the others. `recent` holds the newest lines whatever the disk does, and is all there is without one.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use super::line::{Batch, Level, Stream};

/// In bytes.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// What may wait for the disk.
    pub waiting: usize,
    /// Of it, for one unit.
    pub share: usize,
    /// What is remembered.
    pub recent: usize,
}

impl Limits {
    pub const SHIPPED: Self = Self {
        waiting: 2 << 20,
        share: 3 << 19,
        recent: 512 << 10,
    };
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Dropped {
    pub lines: u64,
    pub bytes: u64,
}

#[derive(Debug, Default)]
struct Account {
    waiting: usize,
    dropped: Dropped,
}

#[derive(Debug)]
pub struct Queue {
    limits: Limits,
    has_disk: bool,
    waiting: VecDeque<Arc<Batch>>,
    waiting_bytes: usize,
    accounts: HashMap<Arc<str>, Account>,
    recent: VecDeque<Arc<Batch>>,
    recent_bytes: usize,
    last_us: u64,
    /// Of the newest line that is in neither ring any more.
    forgotten_us: u64,
}

impl Queue {
    pub fn new(limits: Limits, has_disk: bool) -> Self {
        Self {
            limits,
            has_disk,
            waiting: VecDeque::new(),
            waiting_bytes: 0,
            accounts: HashMap::new(),
            recent: VecDeque::new(),
            recent_bytes: 0,
            last_us: 0,
            forgotten_us: 0,
        }
    }

    /// Takes a batch that comes at `now_us`.
    ///
    /// # Errors
    /// There is no room: it comes back.
    pub fn offer(&mut self, batch: Batch, now_us: u64) -> Result<(), Batch> {
        if self.has_disk && !self.has_room(&batch) {
            return Err(batch);
        }
        self.report(&batch.unit, batch.wall_ms, now_us);
        self.accept(batch, now_us);
        Ok(())
    }

    /// Takes a batch, or drops and counts it. It is remembered in any case.
    pub fn offer_or_drop(&mut self, batch: Batch, now_us: u64) {
        if let Err(mut batch) = self.offer(batch, now_us) {
            let dropped = &mut self.account(&batch.unit).dropped;
            dropped.lines += batch.lines_ended();
            dropped.bytes += batch.bytes.len() as u64;
            self.number(&mut batch, now_us);
            self.remember(Arc::new(batch));
        }
    }

    fn has_room(&self, batch: &Batch) -> bool {
        let cost = batch.cost();
        let own = self.accounts.get(&batch.unit).map_or(0, |a| a.waiting);
        // A line may be longer than all the room there is.
        let fits = |used: usize, limit: usize| used == 0 || used + cost <= limit;
        fits(self.waiting_bytes, self.limits.waiting) && fits(own, self.limits.share)
    }

    fn account(&mut self, unit: &Arc<str>) -> &mut Account {
        self.accounts.entry(Arc::clone(unit)).or_default()
    }

    fn number(&mut self, batch: &mut Batch, now_us: u64) {
        batch.us = now_us.max(self.last_us + 1);
        self.last_us = batch.last_us();
    }

    fn accept(&mut self, mut batch: Batch, now_us: u64) {
        self.number(&mut batch, now_us);
        let batch = Arc::new(batch);
        if self.has_disk {
            self.waiting_bytes += batch.cost();
            self.account(&batch.unit).waiting += batch.cost();
            self.waiting.push_back(Arc::clone(&batch));
        }
        self.remember(batch);
    }

    fn remember(&mut self, batch: Arc<Batch>) {
        self.recent_bytes += batch.cost();
        self.recent.push_back(batch);
        while self.recent_bytes > self.limits.recent && self.recent.len() > 1 {
            if let Some(old) = self.recent.pop_front() {
                self.recent_bytes -= old.cost();
                if self.waiting.front().is_none_or(|first| first.us > old.us) {
                    self.forgotten_us = self.forgotten_us.max(old.last_us());
                }
            }
        }
    }

    /// Puts the count of what a unit has lost where the gap is.
    fn report(&mut self, unit: &Arc<str>, wall_ms: u64, now_us: u64) {
        let Some(account) = self.accounts.get_mut(unit) else {
            return;
        };
        let dropped = std::mem::take(&mut account.dropped);
        if dropped != Dropped::default() {
            let text = format!(
                "{} lines ({} bytes) were dropped: the disk took them too slowly",
                dropped.lines, dropped.bytes
            );
            let level = Some(Level::Warning);
            let mut batch =
                Batch::new(Arc::clone(unit), Stream::Atalayad, level, text.into_bytes());
            batch.wall_ms = wall_ms;
            self.accept(batch, now_us);
        }
    }

    /// The next batches for the disk, of about `limit` bytes. They stay until [`Self::written`].
    pub fn peek(&self, limit: usize) -> Vec<Arc<Batch>> {
        let mut taken = 0;
        self.waiting
            .iter()
            .take_while(|batch| {
                let fits = taken == 0 || taken + batch.cost() <= limit;
                taken += batch.cost();
                fits
            })
            .cloned()
            .collect()
    }

    /// The first `count` batches are on disk. What was dropped meanwhile is told now that there is room.
    pub fn written(&mut self, count: usize, wall_ms: u64, now_us: u64) {
        for batch in self.waiting.drain(..count.min(self.waiting.len())) {
            self.waiting_bytes -= batch.cost();
            if self.recent.front().is_none_or(|first| first.us > batch.us) {
                self.forgotten_us = self.forgotten_us.max(batch.last_us());
            }
            if let Some(account) = self.accounts.get_mut(&batch.unit) {
                account.waiting -= batch.cost();
            }
        }
        let owed: Vec<Arc<str>> = self
            .accounts
            .iter()
            .filter(|(_, account)| account.dropped != Dropped::default())
            .map(|(unit, _)| Arc::clone(unit))
            .collect();
        if self.waiting_bytes * 2 <= self.limits.waiting {
            for unit in owed {
                self.report(&unit, wall_ms, now_us);
            }
            self.accounts
                .retain(|_, account| account.waiting > 0 || account.dropped != Dropped::default());
        }
    }

    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// What is not on disk, or was a short while ago, oldest first, behind `after` (microseconds).
    pub fn snapshot(&self, after: u64) -> Vec<Arc<Batch>> {
        let first_recent = self.recent.front().map_or(u64::MAX, |batch| batch.us);
        self.waiting
            .iter()
            .take_while(|batch| batch.us < first_recent)
            .chain(&self.recent)
            .filter(|batch| batch.last_us() > after)
            .cloned()
            .collect()
    }

    /// Whether a line behind `after` (microseconds) is in memory no more.
    pub fn has_forgotten(&self, after: u64) -> bool {
        self.forgotten_us > after
    }

    pub fn last_us(&self) -> u64 {
        self.last_us
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: Limits = Limits {
        waiting: 4000,
        share: 3000,
        recent: 1000,
    };

    fn batch(unit: &str, text: &str) -> Batch {
        Batch::new(unit.into(), Stream::Stdout, None, text.as_bytes().to_vec())
    }

    fn texts(batches: &[Arc<Batch>]) -> Vec<String> {
        batches
            .iter()
            .flat_map(|batch| batch.texts().map(|text| format!("{}: {text}", batch.unit)))
            .collect()
    }

    #[test]
    fn what_does_not_fit_is_counted_exactly_and_told_where_the_gap_is() {
        let mut queue = Queue::new(LIMITS, true);
        let (mut kept, mut dropped, mut bytes) = (0, 0, 0);
        for number in 0..100_u64 {
            let text = format!("{number}\nx");
            let before = queue.waiting.len();
            queue.offer_or_drop(batch("loud", &text), number);
            if queue.waiting.len() > before {
                kept += 2;
            } else {
                dropped += 2;
                bytes += text.len();
            }
        }
        assert!(kept > 0 && kept + dropped == 200);
        // The others still find room.
        queue.offer_or_drop(batch("quiet", "a word"), 200);
        let first = queue.peek(usize::MAX);
        assert_eq!(texts(&first).last().unwrap(), "quiet: a word");
        queue.written(first.len(), 0, 300);
        queue.offer_or_drop(batch("loud", "again"), 400);
        assert_eq!(
            texts(&queue.peek(usize::MAX)),
            [
                format!(
                    "loud: {dropped} lines ({bytes} bytes) were dropped: the disk took them too slowly"
                ),
                "loud: again".to_owned()
            ]
        );
        queue.written(2, 0, 500);
        assert!(queue.is_empty() && queue.accounts.is_empty());
        assert_eq!(queue.waiting_bytes, 0);
    }

    #[test]
    fn the_newest_lines_are_remembered_even_if_they_were_dropped() {
        let mut queue = Queue::new(LIMITS, true);
        for number in 0..1000 {
            queue.offer_or_drop(batch("u", &number.to_string()), number);
        }
        let all = queue.snapshot(0);
        assert_eq!(texts(&all).last().unwrap(), "u: 999");
        assert!(all.is_sorted_by_key(|batch| batch.us));
        assert!(queue.recent_bytes <= LIMITS.recent);
    }

    #[test]
    fn without_a_disk_the_newest_lines_are_all_there_is() {
        let mut queue = Queue::new(LIMITS, false);
        for number in 0..1000 {
            queue.offer_or_drop(batch("u", &number.to_string()), 5);
        }
        assert!(queue.is_empty() && queue.recent_bytes <= LIMITS.recent);
        assert_eq!(texts(&queue.snapshot(0)).last().unwrap(), "u: 999");
        // Numbered one by one although the clock stood still.
        assert_eq!(queue.last_us(), 1004);
    }

    #[test]
    fn a_line_longer_than_all_room_is_taken_when_nothing_else_waits() {
        let mut queue = Queue::new(LIMITS, true);
        queue.offer_or_drop(batch("u", &"x".repeat(9000)), 1);
        assert_eq!(queue.peek(10).len(), 1);
        queue.offer_or_drop(batch("u", "next"), 2);
        assert_eq!(queue.peek(usize::MAX).len(), 1);
    }

    #[test]
    fn an_unfinished_line_is_not_counted_twice() {
        let mut queue = Queue::new(LIMITS, true);
        queue.offer_or_drop(batch("u", &"x".repeat(9000)), 1);
        let mut piece = batch("u", "beginning");
        piece.more = true;
        queue.offer_or_drop(piece, 2);
        queue.offer_or_drop(batch("u", "end"), 3);
        queue.written(1, 0, 4);
        assert_eq!(
            texts(&queue.peek(usize::MAX)),
            ["u: 1 lines (12 bytes) were dropped: the disk took them too slowly"]
        );
    }
}
