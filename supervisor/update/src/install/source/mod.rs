//! Where the bundle comes from. Gives bytes, counts them, and trusts none: whoever reads verifies.

mod http;
mod local;
mod patience;
mod usb;

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use atalaya_bundle::Source;
use atalaya_core::update::task;

pub use http::{GAP, Http, Waiter, shown};

/// Bytes that have been fetched, whether they were wanted or not.
#[derive(Debug, Clone, Default)]
pub struct Meter(Arc<AtomicU64>);

impl Meter {
    pub fn bytes(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    fn add(&self, bytes: usize) {
        self.0.fetch_add(bytes as u64, Ordering::Relaxed);
    }
}

/// Opens what the request names. `medium` is where a medium may be mounted for a moment.
///
/// # Errors
/// It is not there, or cannot be read from.
pub fn open(source: &task::Source, medium: &Path, meter: &Meter) -> io::Result<Box<dyn Source>> {
    match source {
        task::Source::File(path) => local::open(path.as_ref(), meter),
        task::Source::Http(address) => Ok(Box::new(Http::new(address, meter.clone())?)),
        task::Source::Usb(_) => Ok(local::counted(usb::open(medium)?, meter)),
    }
}
