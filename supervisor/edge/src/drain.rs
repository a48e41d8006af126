//! The sign to stop, and knowing when everything that was open has ended.

use tokio::sync::{mpsc, watch};

/// Why no more connections are accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// Another process serves already: who has just come in is still answered here.
    HandedOver,
    /// The service stops.
    Stopping,
}

/// Held by everything that must end before the process does.
#[derive(Clone)]
pub struct Drain {
    begun: watch::Receiver<Option<Ending>>,
    _open: mpsc::Sender<()>,
}

/// The side that gives the sign.
pub struct Drainer {
    begin: watch::Sender<Option<Ending>>,
    open: mpsc::Receiver<()>,
}

pub fn channel() -> (Drainer, Drain) {
    let (begin, begun) = watch::channel(None);
    let (alive, open) = mpsc::channel(1);
    (
        Drainer { begin, open },
        Drain {
            begun,
            _open: alive,
        },
    )
}

impl Drain {
    /// Resolves once the edge stops, and says how.
    pub async fn begun(&mut self) -> Ending {
        // An error means that the other side is gone, which is the end as well.
        (self.begun.wait_for(Option::is_some).await)
            .ok()
            .and_then(|ending| *ending)
            .unwrap_or(Ending::Stopping)
    }

    /// Resolves once it stops for good; a handover is not waited for.
    pub async fn stopping(&mut self) {
        let stops = |ending: &Option<Ending>| *ending == Some(Ending::Stopping);
        self.begun.wait_for(stops).await.ok();
    }
}

impl Drainer {
    /// Gives the sign.
    pub fn begin(&self, ending: Ending) {
        self.begin.send_replace(Some(ending));
    }

    /// Waits until every holder is gone.
    pub async fn ended(&mut self) {
        while self.open.recv().await.is_some() {}
    }
}
