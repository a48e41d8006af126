//! How much room a new generation may come to need. The copy itself takes next to nothing; what is changed in it is written anew: a migration
//! may do that to all of the database, and to its largest table a second time before it gives the first copy back. Pure.

use atalaya_core::words::size;

/// Left over for everything else: what the copy's own directories take (675 bytes a file), logs, what users upload next.
pub const SPARE: u64 = 1 << 30;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Need {
    pub database: u64,
    /// The largest table with its indexes. None where it was asked for before, and the room found.
    pub largest: Option<(String, u64)>,
}

impl Need {
    pub fn bytes(&self) -> u64 {
        let largest = self.largest.as_ref().map_or(0, |(_, bytes)| *bytes);
        self.database.saturating_add(largest).saturating_add(SPARE)
    }

    /// One sentence, with the figures; none if there is enough.
    pub fn lack(&self, free: u64) -> Option<String> {
        let missing = self.bytes().checked_sub(free).filter(|bytes| *bytes > 0)?;
        let largest = self
            .largest
            .as_ref()
            .map_or(String::new(), |(name, bytes)| {
                format!(
                    ", {} for its largest table ({name}) with its indexes",
                    size(*bytes)
                )
            });
        Some(format!(
            "The update needs {} free on /data and there are {}: {} more are needed. It reckons with {} for the database once \
             more{largest}, and {} to spare.",
            size(self.bytes()),
            size(free),
            size(missing),
            size(self.database),
            size(SPARE)
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GIB: u64 = 1 << 30;

    #[test]
    fn the_figures_are_told() {
        let need = Need {
            database: 20 * GIB,
            largest: Some(("posts".to_owned(), 7 * GIB)),
        };
        assert_eq!(need.bytes(), 28 * GIB);
        assert_eq!(need.lack(28 * GIB), None);
        assert_eq!(
            need.lack(13 * GIB).unwrap(),
            "The update needs 28 GiB free on /data and there are 13 GiB: 15 GiB more are needed. It reckons with 20 GiB for the \
             database once more, 7.0 GiB for its largest table (posts) with its indexes, and 1.0 GiB to spare."
        );
    }

    #[test]
    fn sizes_beyond_all_disks_do_not_overflow() {
        let need = Need {
            database: u64::MAX,
            largest: Some(("t".to_owned(), u64::MAX)),
        };
        assert!(need.lack(GIB).is_some());
    }
}
