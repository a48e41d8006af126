//! What atalayad leaves with PID 1 for its successor: named records with descriptors. Bookkeeping only; the records'
//! content is atalayad's business.

use atalaya_core::link::{MAX_FDS, MAX_NAME, StopOrder};
use std::collections::BTreeMap;

/// A thousand units with five records each (unit, run, stderr, sockets, store), and room for what belongs to none.
const MAX_RECORDS: usize = 8192;

/// One record.
#[derive(Debug)]
pub struct Record<F> {
    pub record: String,
    /// How the run is ended without atalayad.
    pub stop: Option<StopOrder>,
    pub fds: Vec<F>,
}

/// All of them, by name. `F` is the descriptor type; dropping it closes it.
#[derive(Debug)]
pub struct Kept<F> {
    records: BTreeMap<String, Record<F>>,
}

impl<F> Default for Kept<F> {
    fn default() -> Self {
        Self {
            records: BTreeMap::new(),
        }
    }
}

/// Why a record is not kept; what was kept under that name before still is.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeepError {
    #[error("name of {0} bytes is empty or too long")]
    Name(usize),
    #[error("{0} descriptors are too many")]
    Fds(usize),
    #[error("there are {MAX_RECORDS} records already")]
    Full,
}

impl<F> Kept<F> {
    /// Replaces what is kept under `name`; the old descriptors are closed.
    pub fn keep(
        &mut self,
        name: String,
        record: String,
        stop: Option<StopOrder>,
        fds: Vec<F>,
    ) -> Result<(), KeepError> {
        if name.is_empty() || name.len() > MAX_NAME {
            return Err(KeepError::Name(name.len()));
        }
        if fds.len() > MAX_FDS {
            return Err(KeepError::Fds(fds.len()));
        }
        if self.records.len() >= MAX_RECORDS && !self.records.contains_key(&name) {
            return Err(KeepError::Full);
        }
        self.records.insert(name, Record { record, stop, fds });
        Ok(())
    }

    pub fn drop(&mut self, name: &str) {
        self.records.remove(name);
    }

    pub fn find(&self, name: &str) -> Option<&Record<F>> {
        self.records.get(name)
    }

    pub fn all(&self) -> impl Iterator<Item = (&String, &Record<F>)> {
        self.records.iter()
    }

    pub fn names(&self) -> impl Iterator<Item = &String> {
        self.records.keys()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::rc::Rc;

    #[test]
    fn a_replaced_or_dropped_record_closes_its_descriptors() {
        let fd = Rc::new(());
        let mut kept = Kept::default();
        kept.keep("a".into(), "1".into(), None, vec![fd.clone()])
            .unwrap();
        kept.keep("a".into(), "2".into(), None, vec![fd.clone(), fd.clone()])
            .unwrap();
        assert_eq!(
            (
                kept.find("a").unwrap().record.as_str(),
                Rc::strong_count(&fd)
            ),
            ("2", 3)
        );
        kept.drop("a");
        kept.drop("never there");
        assert_eq!((kept.names().count(), Rc::strong_count(&fd)), (0, 1));
    }

    #[test]
    fn a_refused_record_leaves_the_old_one() {
        let mut kept = Kept::default();
        kept.keep("a".into(), "1".into(), None, vec![()]).unwrap();
        assert_eq!(
            kept.keep("a".into(), "2".into(), None, vec![(); 9]),
            Err(KeepError::Fds(9))
        );
        assert_eq!(
            kept.keep(String::new(), "2".into(), None, vec![]),
            Err(KeepError::Name(0))
        );
        assert_eq!(kept.find("a").unwrap().record, "1");
        for number in 0..MAX_RECORDS {
            drop(kept.keep(format!("n{number}"), String::new(), None, vec![]));
        }
        assert_eq!(
            kept.keep("one more".into(), String::new(), None, vec![]),
            Err(KeepError::Full)
        );
        kept.keep("a".into(), "3".into(), None, vec![]).unwrap();
    }
}
