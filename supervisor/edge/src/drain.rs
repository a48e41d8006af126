//! The sign to stop, and knowing when everything that was open has ended.

use tokio::sync::{mpsc, watch};

/// Held by everything that must end before the process does.
#[derive(Clone)]
pub struct Drain {
    begun: watch::Receiver<bool>,
    _open: mpsc::Sender<()>,
}

/// The side that gives the sign.
pub struct Drainer {
    begin: watch::Sender<bool>,
    open: mpsc::Receiver<()>,
}

pub fn channel() -> (Drainer, Drain) {
    let (begin, begun) = watch::channel(false);
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
    /// Resolves once the edge stops.
    pub async fn begun(&mut self) {
        // An error means that the other side is gone, which is the end as well.
        self.begun.wait_for(|begun| *begun).await.ok();
    }
}

impl Drainer {
    /// Gives the sign and waits until every holder is gone.
    pub async fn run(mut self) {
        self.begin.send_replace(true);
        while self.open.recv().await.is_some() {}
    }
}
