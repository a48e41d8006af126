//! Who a connection is from, and how many are open. Counts; what is too many is said by the caller.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::drain::Drain;

/// The way in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Door {
    /// The ports that everybody may knock at.
    Public,
    /// The local socket of the appliance's own probe: open while the edge is closed, and past what only concerns networks.
    Probe,
}

/// A connection as its requests see it. Its place is free again when the last of them has let go: a WebSocket holds it longer than HTTP.
pub struct Client {
    pub address: IpAddr,
    pub door: Door,
    /// As it is logged: `TLSv1.3`, empty without TLS.
    pub tls: &'static str,
    /// It was given a certificate that browsers trust without being told to.
    pub trusted: bool,
    /// The end of the process waits for it.
    pub drain: Drain,
    pub _place: Place,
    /// Its place among the connections of one client; none for those that are not counted.
    pub _share: Option<crate::guard::per_client::Place>,
}

/// How many connections are open, both ports together.
#[derive(Clone, Default)]
pub struct Connections(Arc<AtomicUsize>);

/// One among the open ones.
pub struct Place(Connections);

impl Connections {
    /// A place if fewer than `limit` are taken.
    pub fn take(&self, limit: usize) -> Option<Place> {
        self.0
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |open| {
                (open < limit).then_some(open + 1)
            })
            .ok()
            .map(|_| Place(self.clone()))
    }

    pub fn open(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_free_again_when_it_is_dropped_and_the_limit_may_change() {
        let connections = Connections::default();
        let first = connections.take(2).unwrap();
        let second = connections.take(2).unwrap();
        assert!(connections.take(2).is_none() && connections.open() == 2);
        // A lower limit ends nothing, it only admits nobody.
        assert!(connections.take(1).is_none());
        drop(first);
        assert!(connections.take(1).is_none() && connections.take(2).is_some());
        drop(second);
        assert_eq!(connections.open(), 0);
    }
}
