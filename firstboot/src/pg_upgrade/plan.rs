//! Whether there is a database to carry over, and whether that may be done here and now. Pure.

/// What is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Found<'a> {
    /// The major version of this image's PostgreSQL.
    pub own: u32,
    /// Those of the clusters that are there.
    pub clusters: &'a [u32],
    /// Those whose programs are in the image.
    pub installed: &'a [u32],
    /// In the trial of an update: on a copy, with the data as they were beside it.
    pub on_trial: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Plan {
    /// The database is this version's already.
    Ready,
    /// There is none yet.
    Absent,
    /// The database of this major version becomes one of the image's own.
    CarryOver(u32),
}

/// Nothing was changed in any of them.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    #[error(
        "there are databases of PostgreSQL {0} and {1}, and which one holds the data is not known. Nothing was changed. Restore a backup, \
         or go back to the version before: atalaya update rollback"
    )]
    Several(u32, u32),
    #[error(
        "the database was made by PostgreSQL {from}, which this image (PostgreSQL {own}) cannot read or carry over. Nothing was changed. \
         Start an image that has PostgreSQL {from}"
    )]
    Unknown { from: u32, own: u32 },
    #[error(
        "the database was made by PostgreSQL {from}, and this image has {own}. It is carried over in the trial of an update only, because only \
         that can be taken back. Nothing was changed. Start the version that made it, and update to this one"
    )]
    NotOnTrial { from: u32, own: u32 },
}

/// # Errors
/// Why the database can be neither used nor carried over.
pub fn plan(found: &Found<'_>) -> Result<Plan, Refusal> {
    let own = found.own;
    match found.clusters {
        clusters if clusters.contains(&own) => Ok(Plan::Ready),
        [] => Ok(Plan::Absent),
        &[from] if from > own || !found.installed.contains(&from) => {
            Err(Refusal::Unknown { from, own })
        }
        &[from] if !found.on_trial => Err(Refusal::NotOnTrial { from, own }),
        &[from] => Ok(Plan::CarryOver(from)),
        &[first, second, ..] => Err(Refusal::Several(first, second)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn planned(clusters: &[u32], installed: &[u32], on_trial: bool) -> Result<Plan, Refusal> {
        plan(&Found {
            own: 18,
            clusters,
            installed,
            on_trial,
        })
    }

    #[test]
    fn only_an_older_database_whose_programs_are_here_is_carried_over_and_only_on_trial() {
        let both = [17, 18];
        assert_eq!(planned(&[], &both, false), Ok(Plan::Absent));
        assert_eq!(planned(&[18], &both, false), Ok(Plan::Ready));
        assert_eq!(planned(&[17, 18], &both, true), Ok(Plan::Ready));
        assert_eq!(planned(&[17], &both, true), Ok(Plan::CarryOver(17)));
        assert_eq!(
            planned(&[17], &both, false),
            Err(Refusal::NotOnTrial { from: 17, own: 18 })
        );
        assert_eq!(
            planned(&[17], &[18], true),
            Err(Refusal::Unknown { from: 17, own: 18 })
        );
        assert_eq!(
            planned(&[19], &[18, 19], true),
            Err(Refusal::Unknown { from: 19, own: 18 })
        );
        assert_eq!(
            planned(&[16, 17], &both, true),
            Err(Refusal::Several(16, 17))
        );
    }
}
