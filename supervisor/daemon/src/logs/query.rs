//! Reading logs back: by unit, boot and time. What cannot be read as a line is left out.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};

use super::Line;
use super::store::{boot_of, list_boots, list_segments};

/// Which lines. The default is all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    pub unit: Option<String>,
    /// RFC 3339 in UTC; compared as text, which for that form is comparing times.
    pub since: Option<String>,
    /// A boot's id or the beginning of one, or 0 for the newest, -1 for the one before, and so on.
    pub boot: Option<String>,
}

impl Filter {
    pub fn admits(&self, line: &Line) -> bool {
        self.unit.as_ref().is_none_or(|unit| line.unit == *unit)
            && self.since.as_ref().is_none_or(|since| line.t >= *since)
    }
}

/// Hands every stored line that `filter` admits to `each`, oldest first.
pub fn read_stored(root: &Path, filter: &Filter, each: &mut dyn FnMut(Line)) {
    for directory in choose_boots(list_boots(root), filter.boot.as_deref()) {
        for segment in list_segments(&directory) {
            let Ok(file) = File::open(segment) else {
                continue;
            };
            for bytes in BufReader::new(file).split(b'\n').map_while(Result::ok) {
                if let Ok(line) = serde_json::from_slice::<Line>(&bytes)
                    && filter.admits(&line)
                {
                    each(line);
                }
            }
        }
    }
}

fn choose_boots(boots: Vec<PathBuf>, wanted: Option<&str>) -> Vec<PathBuf> {
    let Some(wanted) = wanted else { return boots };
    if let Ok(back @ ..=0) = wanted.parse::<i64>() {
        let index = usize::try_from(back.unsigned_abs())
            .ok()
            .and_then(|back| boots.len().checked_sub(back + 1));
        return index
            .and_then(|index| boots.get(index).cloned())
            .into_iter()
            .collect();
    }
    boots
        .into_iter()
        .filter(|directory| boot_of(directory).is_some_and(|boot| boot.starts_with(wanted)))
        .collect()
}
