//! What could not be done, at which stage: the one error that init's sequences return.

use std::error::Error;
use std::fmt::Write;

/// A stage of starting or ending that did not work out.
#[derive(Debug, thiserror::Error)]
#[error("failed at stage \"{stage}\"")]
pub struct Failure {
    /// In words for the console.
    pub stage: &'static str,
    #[source]
    pub source: Box<dyn Error + Send + Sync>,
}

impl Failure {
    pub fn new(stage: &'static str, source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self {
            stage,
            source: source.into(),
        }
    }
}

/// Names the stage of an error.
pub trait AtStage<T> {
    fn at(self, stage: &'static str) -> Result<T, Failure>;
}

impl<T, E: Into<Box<dyn Error + Send + Sync>>> AtStage<T> for Result<T, E> {
    fn at(self, stage: &'static str) -> Result<T, Failure> {
        self.map_err(|error| Failure::new(stage, error))
    }
}

/// An error and all its sources on one line.
pub fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(source) = next {
        // Writing to a String cannot fail.
        let _unused: Result<(), _> = write!(text, ": {source}");
        next = source.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_chain_is_told_once() {
        let io = std::io::Error::from_raw_os_error(2);
        let failure = Failure::new("root", atalaya_sys::Error::new("open", "/x", io));
        let text = chain(&failure);
        assert_eq!(
            text,
            "failed at stage \"root\": failed to open /x: No such file or directory (os error 2)"
        );
    }
}
