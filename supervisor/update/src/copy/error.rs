//! Why there is no copy, and in which words an administrator is told.

use std::path::PathBuf;

use atalaya_core::update::task::Refusal;

#[derive(Debug, thiserror::Error)]
pub enum CopyError {
    #[error("there is no generation {0} that could be copied")]
    NoSource(u32),
    #[error("the database {} was not shut down: {state}", cluster.display())]
    NotShutDown { cluster: PathBuf, state: String },
    #[error("the database {} cannot be read: {said}", cluster.display())]
    Unreadable { cluster: PathBuf, said: String },
    #[error("a part of the database {} lies elsewhere", .0.display())]
    Elsewhere(PathBuf),
    #[error("{0}")]
    Space(String),
    #[error("{0} was changed while it was copied")]
    Changed(String),
    #[error("the copy of the database in {} is not what it was made from", .0.display())]
    Differs(PathBuf),
    #[error("{0} is nested too deep")]
    TooDeep(String),
    #[error(transparent)]
    System(#[from] atalaya_sys::Error),
}

impl CopyError {
    /// The whole chain in one line.
    fn chain(&self) -> String {
        match self {
            Self::System(error) => error.chain(),
            other => other.to_string(),
        }
    }

    #[must_use]
    pub fn refusal(&self) -> Refusal {
        let (code, what, next) = match self {
            Self::Space(lack) => (
                "space",
                lack.clone(),
                "Enlarge the disk, or remove what is not needed, and start the update again.",
            ),
            Self::NotShutDown { .. } | Self::Unreadable { .. } | Self::Elsewhere(_) => (
                "database",
                self.sentence(),
                "Read the log: atalaya logs -u postgres. When the database starts and stops in order, start the update again.",
            ),
            Self::NoSource(_)
            | Self::Changed(_)
            | Self::Differs(_)
            | Self::TooDeep(_)
            | Self::System(_) => (
                "copy",
                self.sentence(),
                "Read the log: atalaya logs -u update-copy. When the cause is gone, start the update again.",
            ),
        };
        Refusal {
            code: code.to_owned(),
            what,
            data: "The data are as they were; the copy was not used.".to_owned(),
            next: next.to_owned(),
        }
    }

    fn sentence(&self) -> String {
        format!("The data could not be copied: {}.", self.chain())
    }
}
