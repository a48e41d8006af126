//! Failed log-ins, counted by address and by (address, log-in id), so that guessing ends before Mattermost locks the guessed account.
//! Decides whether a log-in may be tried; `now` is passed in, and the body is only read, never changed.

use std::collections::HashMap;
use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hash};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::address::group;
use crate::settings::Login;

/// Bytes of a log-in's body. What clients send are a few hundred.
pub const BODY_LIMIT: u64 = 64 * 1024;
/// What is remembered at most, of addresses and of accounts each: 4 MiB.
const REMEMBERED: usize = 32 * 1024;

/// A log-in id by an address. Its hash is keyed, so that nobody can make two meet.
type Account = (IpAddr, u64);

#[derive(Debug, Default, Clone)]
pub struct Logins {
    hasher: RandomState,
    counts: Arc<Mutex<Counts>>,
}

#[derive(Debug, Default)]
struct Counts {
    accounts: HashMap<Account, Count>,
    addresses: HashMap<IpAddr, Count>,
}

#[derive(Debug, Clone, Copy)]
struct Count {
    failures: u32,
    /// Log-ins that Mattermost is looking at: they may all fail.
    pending: u32,
    /// The window begins with the first failure.
    since: Instant,
}

/// A log-in under way. Its outcome is told by `failed` or `succeeded`; dropped, it was neither.
#[derive(Debug)]
pub struct Attempt {
    counts: Arc<Mutex<Counts>>,
    account: Account,
}

/// Too many log-ins failed; the next may be tried after so long.
#[derive(Debug, PartialEq, Eq)]
pub struct TooMany(pub Duration);

#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("the body of the log-in is not one JSON object that names one log-in id")]
pub struct Unreadable;

/// Whom a log-in's body is about; empty if it names nobody. Mattermost reads the last of several equal keys and nothing behind the object;
/// a body that could be read in another way is no client's.
pub fn login_id(body: &[u8]) -> Result<String, Unreadable> {
    let body: serde_json::Map<String, serde_json::Value> =
        serde_json::from_slice(body).map_err(|_| Unreadable)?;
    let named = |key: &str| {
        let mut values = body
            .iter()
            .filter(|(name, _)| name.eq_ignore_ascii_case(key))
            .map(|(_, value)| value.as_str().unwrap_or_default());
        let value = values.next().unwrap_or_default();
        values.next().is_none().then_some(value).ok_or(Unreadable)
    };
    // As Mattermost does: by the user's id where there is one. Names and addresses are looked up without regard to case.
    let (id, name) = (named("id")?, named("login_id")?);
    let whom = if id.is_empty() { name } else { id };
    Ok(whom.trim().to_lowercase())
}

impl Logins {
    pub fn begin(
        &self,
        limits: &Login,
        client: IpAddr,
        login_id: &str,
        now: Instant,
    ) -> Result<Attempt, TooMany> {
        let client = group(client);
        let account = (client, self.hasher.hash_one(login_id));
        let window = Duration::from_secs(limits.window_seconds);
        let mut counts = lock(&self.counts);
        if let Some(count) = current(&mut counts.addresses, &client, window, now)
            && count.failures >= limits.failures_per_address
        {
            return Err(TooMany(count.left(window, now)));
        }
        if let Some(count) = current(&mut counts.accounts, &account, window, now) {
            if count.failures >= limits.failures_per_account {
                return Err(TooMany(count.left(window, now)));
            }
            if count.failures + count.pending >= limits.failures_per_account {
                return Err(TooMany(Duration::from_secs(1)));
            }
        }
        remember(&mut counts.accounts, account, window, now).pending += 1;
        Ok(Attempt {
            counts: Arc::clone(&self.counts),
            account,
        })
    }
}

impl Attempt {
    /// The password was wrong.
    pub fn failed(self, limits: &Login, now: Instant) {
        let window = Duration::from_secs(limits.window_seconds);
        let mut counts = lock(&self.counts);
        count_failure(
            remember(&mut counts.accounts, self.account, window, now),
            now,
        );
        count_failure(
            remember(&mut counts.addresses, self.account.0, window, now),
            now,
        );
    }

    /// The password was right: as in Mattermost, what this account's owner got wrong before is forgotten.
    pub fn succeeded(self) {
        if let Some(count) = lock(&self.counts).accounts.get_mut(&self.account) {
            count.failures = 0;
        }
    }
}

impl Drop for Attempt {
    fn drop(&mut self) {
        let mut counts = lock(&self.counts);
        if let Some(count) = counts.accounts.get_mut(&self.account) {
            count.pending = count.pending.saturating_sub(1);
            if count.pending == 0 && count.failures == 0 {
                counts.accounts.remove(&self.account);
            }
        }
    }
}

impl Count {
    fn left(&self, window: Duration, now: Instant) -> Duration {
        window.saturating_sub(now.saturating_duration_since(self.since))
    }
}

fn lock(counts: &Mutex<Counts>) -> MutexGuard<'_, Counts> {
    // Each count is changed in one step: a panic elsewhere leaves none half done.
    counts.lock().unwrap_or_else(PoisonError::into_inner)
}

fn count_failure(count: &mut Count, now: Instant) {
    if count.failures == 0 {
        count.since = now;
    }
    count.failures = count.failures.saturating_add(1);
}

/// A count whose failures are still within the window.
fn current<K: Eq + Hash>(
    counts: &mut HashMap<K, Count>,
    key: &K,
    window: Duration,
    now: Instant,
) -> Option<Count> {
    let count = counts.get_mut(key)?;
    if count.left(window, now).is_zero() {
        count.failures = 0;
    }
    Some(*count)
}

/// The count of a key. With no room left, first what is over is forgotten, then what began first: to make room, somebody has to fail as
/// often as there are places.
fn remember<K: Eq + Hash + Copy>(
    counts: &mut HashMap<K, Count>,
    key: K,
    window: Duration,
    now: Instant,
) -> &mut Count {
    if counts.len() >= REMEMBERED && !counts.contains_key(&key) {
        counts.retain(|_, count| count.pending > 0 || !count.left(window, now).is_zero());
        if counts.len() >= REMEMBERED
            && let Some(oldest) = counts
                .iter()
                .min_by_key(|(_, count)| (count.pending > 0, count.since))
                .map(|(key, _)| *key)
        {
            counts.remove(&oldest);
        }
    }
    counts.entry(key).or_insert(Count {
        failures: 0,
        pending: 0,
        since: now,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: Login = Login {
        failures_per_account: 3,
        failures_per_address: 5,
        window_seconds: 600,
    };

    fn address(last: u8) -> IpAddr {
        IpAddr::from([192, 0, 2, last])
    }

    fn fail(logins: &Logins, client: IpAddr, id: &str, now: Instant) -> Result<(), TooMany> {
        logins
            .begin(&LIMITS, client, id, now)
            .map(|attempt| attempt.failed(&LIMITS, now))
    }

    #[test]
    fn an_account_trips_for_one_address_and_opens_after_the_window() {
        let (logins, start) = (Logins::default(), Instant::now());
        for second in 0..3 {
            fail(
                &logins,
                address(1),
                "a",
                start + Duration::from_secs(second),
            )
            .unwrap();
        }
        let later = start + Duration::from_secs(100);
        let refused = fail(&logins, address(1), "a", later);
        assert_eq!(refused, Err(TooMany(Duration::from_secs(500))));
        fail(&logins, address(1), "b", later).unwrap();
        fail(&logins, address(2), "a", later).unwrap();
        fail(&logins, address(1), "a", start + Duration::from_secs(600)).unwrap();
    }

    #[test]
    fn an_address_trips_for_all_accounts_together() {
        let (logins, now) = (Logins::default(), Instant::now());
        for id in ["a", "b", "c", "d", "e"] {
            fail(&logins, address(1), id, now).unwrap();
        }
        assert!(fail(&logins, address(1), "f", now).is_err());
        fail(&logins, address(2), "f", now).unwrap();
    }

    #[test]
    fn guesses_at_the_same_moment_count_before_they_are_answered() {
        let (logins, now) = (Logins::default(), Instant::now());
        let begin = || logins.begin(&LIMITS, address(1), "a", now);
        let three = [begin().unwrap(), begin().unwrap(), begin().unwrap()];
        assert_eq!(begin().unwrap_err(), TooMany(Duration::from_secs(1)));
        // Neither right nor wrong: the database was away.
        drop(three);
        begin().unwrap().failed(&LIMITS, now);
        let two = [begin().unwrap(), begin().unwrap()];
        assert!(begin().is_err());
        drop(two);
    }

    #[test]
    fn a_right_password_forgives() {
        let (logins, now) = (Logins::default(), Instant::now());
        for _ in 0..4 {
            fail(&logins, address(1), "a", now).unwrap();
            logins
                .begin(&LIMITS, address(1), "a", now)
                .unwrap()
                .succeeded();
        }
        assert_eq!(lock(&logins.counts).accounts.len(), 0);
    }

    #[test]
    fn memory_is_bounded_and_keeps_what_is_newest() {
        let (logins, now) = (Logins::default(), Instant::now());
        let client = |number: usize| {
            let bits = u128::try_from(number).unwrap() << 64;
            IpAddr::from(std::net::Ipv6Addr::from_bits(bits))
        };
        for number in 0..REMEMBERED + 10 {
            let at = now + Duration::from_millis(u64::try_from(number).unwrap());
            // A second each, so that the window is never over.
            fail(&logins, client(number), "a", at).unwrap();
        }
        let counts = lock(&logins.counts);
        assert_eq!(
            (counts.accounts.len(), counts.addresses.len()),
            (REMEMBERED, REMEMBERED)
        );
        assert!(!counts.addresses.contains_key(&client(0)));
        assert!(counts.addresses.contains_key(&client(REMEMBERED + 9)));
    }

    #[test]
    fn the_log_in_id_is_read_as_mattermost_reads_it() {
        for (body, id) in [
            (r#"{"login_id":"Admin ","password":"x"}"#, "admin"),
            (r#"{"id":"abc","login_id":"admin"}"#, "abc"),
            (r#"{"id":"","login_id":"admin"}"#, "admin"),
            (r#"{"login_id":"a","login_id":"b"}"#, "b"),
            (r#"{"LOGIN_ID":"a"}"#, "a"),
            (r#"{"login_id":5}"#, ""),
            ("{}", ""),
        ] {
            assert_eq!(login_id(body.as_bytes()).unwrap(), id, "{body}");
        }
        for body in [
            "",
            "[]",
            "login_id=a",
            r#"{"login_id":"a"} trailing"#,
            r#"{"login_id":"a","Login_Id":"b"}"#,
            r#"{"login_id":"a","password":"\ud800"}"#,
        ] {
            assert_eq!(login_id(body.as_bytes()), Err(Unreadable), "{body}");
        }
        assert!(login_id(b"{\"login_id\":\"\xff\"}").is_err());
    }
}
