//! How many connections each client holds, so that one alone cannot take all places.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::address::group;

/// Counts by client; holds nothing for one without a connection.
#[derive(Debug, Default, Clone)]
pub struct PerClient(Arc<Mutex<HashMap<IpAddr, Count>>>);

#[derive(Debug, Default)]
struct Count {
    open: usize,
    /// Whether its refusals were already spoken of.
    told: bool,
}

/// One connection's place; given back when dropped.
#[derive(Debug)]
pub struct Place {
    counts: PerClient,
    client: IpAddr,
}

/// This client holds as many as it may. `first` is true once until it has none open any more.
#[derive(Debug, PartialEq, Eq)]
pub struct TooMany {
    pub first: bool,
}

impl PerClient {
    pub fn enter(&self, client: IpAddr, limit: usize) -> Result<Place, TooMany> {
        let client = group(client);
        let mut counts = self.lock();
        let count = counts.entry(client).or_default();
        if count.open >= limit {
            let first = !std::mem::replace(&mut count.told, true);
            return Err(TooMany { first });
        }
        count.open += 1;
        Ok(Place {
            counts: self.clone(),
            client,
        })
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<IpAddr, Count>> {
        // Counts are changed in one step: a panic elsewhere leaves none half done.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if let Entry::Occupied(mut entry) = self.counts.lock().entry(self.client) {
            let count = entry.get_mut();
            count.open = count.open.saturating_sub(1);
            if count.open == 0 {
                entry.remove();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_takes_only_its_share_and_gives_it_back() {
        let counts = PerClient::default();
        let at = |text: &str| counts.enter(text.parse().unwrap(), 2);
        let first = at("2001:db8::1").unwrap();
        let second = at("2001:db8::2").unwrap();
        assert_eq!(at("2001:db8::3").unwrap_err(), TooMany { first: true });
        assert_eq!(at("2001:db8::4").unwrap_err(), TooMany { first: false });
        let other = at("2001:db8:0:1::1").unwrap();
        drop(first);
        let third = at("2001:db8::5").unwrap();
        drop((second, third, other));
        assert!(counts.lock().is_empty());
    }
}
