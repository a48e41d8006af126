//! A steady stream of posts and log-ins with the right password, and what became of each. While units are killed the
//! client may be refused for a moment; what it was told must stay true.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};

use crate::client::Client;
use crate::story::eventually;

/// Between two posts: a person's pace, and enough to have one under way at any moment of a restart.
const PACE: Duration = Duration::from_millis(50);

/// What became of the requests.
#[derive(Debug, Default)]
pub struct Tally {
    /// Messages that the server acknowledged.
    pub acknowledged: Vec<String>,
    /// Posts by status; 0: no answer.
    pub posts: BTreeMap<u16, usize>,
    /// Log-ins by status; 0: no answer.
    pub log_ins: BTreeMap<u16, usize>,
    /// Every status with its time, of posts.
    pub course: Vec<(Instant, u16)>,
}

impl Tally {
    /// Every acknowledged message is in the channel.
    pub fn check_kept(&self, client: &Client, channel: &str) -> anyhow::Result<()> {
        let kept: HashSet<String> = client.messages(channel)?.into_iter().collect();
        let lost: Vec<&String> = self
            .acknowledged
            .iter()
            .filter(|message| !kept.contains(*message))
            .collect();
        ensure!(
            lost.is_empty(),
            "{} of {} acknowledged posts are gone: {lost:?}",
            lost.len(),
            self.acknowledged.len()
        );
        Ok(())
    }

    /// A right password was never called wrong, and nothing but the edge's own refusal was ever answered.
    pub fn check_honest(&self) -> anyhow::Result<()> {
        ensure!(
            !self.log_ins.contains_key(&401),
            "a right password was refused: {:?}",
            self.log_ins
        );
        let allowed = |status: &u16| matches!(status, 0 | 200 | 201 | 500..=504);
        ensure!(
            self.posts.keys().all(allowed),
            "posts were answered with {:?}",
            self.posts
        );
        ensure!(
            self.log_ins.keys().all(allowed),
            "log-ins were answered with {:?}",
            self.log_ins
        );
        Ok(())
    }
}

/// A stream under way.
#[derive(Debug)]
pub struct Stream {
    stop: Arc<AtomicBool>,
    acknowledged: Arc<AtomicUsize>,
    poster: JoinHandle<Tally>,
    visitor: JoinHandle<BTreeMap<u16, usize>>,
}

impl Stream {
    /// Begins to post into a channel with the client's session, and to log in as `user` beside it.
    #[must_use]
    pub fn begin(
        client: &Client,
        channel: &str,
        label: &str,
        user: &str,
        password: &str,
    ) -> Stream {
        let stop = Arc::new(AtomicBool::new(false));
        let (client, channel, label) = (client.clone(), channel.to_owned(), label.to_owned());
        let visitor = {
            let (client, stop) = (client.clone(), Arc::clone(&stop));
            let (user, password) = (user.to_owned(), password.to_owned());
            thread::spawn(move || visit(&client, &user, &password, &stop))
        };
        let acknowledged = Arc::new(AtomicUsize::new(0));
        let poster = {
            let (stop, acknowledged) = (Arc::clone(&stop), Arc::clone(&acknowledged));
            thread::spawn(move || post(&client, &channel, &label, &stop, &acknowledged))
        };
        Stream {
            stop,
            acknowledged,
            poster,
            visitor,
        }
    }

    /// Waits until three more posts were acknowledged: the stream flows (again).
    pub fn wait_flow(&self, limit: Duration) -> anyhow::Result<()> {
        let wanted = self.acknowledged.load(Ordering::Relaxed) + 3;
        eventually("three more acknowledged posts", limit, || {
            Ok((self.acknowledged.load(Ordering::Relaxed) >= wanted).then_some(()))
        })
    }

    /// Ends it.
    pub fn end(self) -> anyhow::Result<Tally> {
        self.stop.store(true, Ordering::Relaxed);
        let mut tally = self
            .poster
            .join()
            .ok()
            .context("the stream of posts broke")?;
        tally.log_ins = self
            .visitor
            .join()
            .ok()
            .context("the stream of log-ins broke")?;
        Ok(tally)
    }
}

fn post(
    client: &Client,
    channel: &str,
    label: &str,
    stop: &AtomicBool,
    acknowledged: &AtomicUsize,
) -> Tally {
    let mut tally = Tally::default();
    for number in 0.. {
        if stop.load(Ordering::Relaxed) {
            break;
        }
        let message = format!("{label} {number}");
        let post = serde_json::json!({"channel_id": channel, "message": message});
        let status = client
            .post_json("/api/v4/posts", &post)
            .map_or(0, |answer| answer.status);
        if status == 201 {
            tally.acknowledged.push(message);
            acknowledged.fetch_add(1, Ordering::Relaxed);
        }
        *tally.posts.entry(status).or_default() += 1;
        tally.course.push((Instant::now(), status));
        thread::sleep(PACE);
    }
    tally
}

fn visit(client: &Client, user: &str, password: &str, stop: &AtomicBool) -> BTreeMap<u16, usize> {
    let mut statuses = BTreeMap::new();
    while !stop.load(Ordering::Relaxed) {
        let status = client
            .try_log_in(user, password)
            .map_or(0, |answer| answer.status);
        *statuses.entry(status).or_default() += 1;
        thread::sleep(4 * PACE);
    }
    statuses
}
