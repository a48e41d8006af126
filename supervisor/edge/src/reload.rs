//! The settings that hold now. A request or a connection takes them once and keeps them to its end, so that a change never meets it halfway.

use std::sync::Arc;

use arc_swap::ArcSwap;

use crate::settings::Settings;

/// Shared by everything that is told something; cheap to clone and to read.
#[derive(Clone)]
pub struct Current(Arc<ArcSwap<Settings>>);

impl Current {
    pub fn new(settings: Settings) -> Self {
        Self(Arc::new(ArcSwap::from_pointee(settings)))
    }

    pub fn load(&self) -> Arc<Settings> {
        self.0.load_full()
    }
}
