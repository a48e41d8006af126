//! The checks in order, and what they hand on to each other.

mod access;
mod expect;
mod files;
mod live;
mod local_mode;
mod posts;

use crate::client::{Client, ClientError};
use crate::{Check, Report, Target};
use std::error::Error;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

/// Why a check failed.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    #[error(transparent)]
    Client(#[from] ClientError),
    #[error("{}", .0.join("; "))]
    Differs(Vec<String>),
    #[error("an earlier check that makes the {0} failed")]
    Unreached(&'static str),
}

impl Failure {
    /// The error and its causes on one line.
    fn told(&self) -> String {
        let mut text = self.to_string();
        let mut cause = self.source();
        while let Some(error) = cause {
            let more = error.to_string();
            if !text.ends_with(&more) {
                text = format!("{text}: {more}");
            }
            cause = error.source();
        }
        text
    }
}

pub type Outcome = Result<(), Failure>;

/// What the checks share: who asks, and what was made so far.
pub struct Run<'a> {
    pub target: &'a Target,
    /// Nobody.
    pub stranger: Client,
    /// The administrator, once logged in.
    pub admin: Option<Client>,
    pub admin_id: String,
    pub team: Option<String>,
    pub team_name: String,
    pub channel: Option<String>,
    pub channel_name: String,
    pub post: Option<String>,
    pub file: Option<String>,
    pub user: Option<String>,
    pub user_client: Option<Client>,
    /// Part of every name and searched word of this run.
    pub mark: String,
    report: Report,
    said: &'a mut dyn FnMut(&Check),
}

impl Run<'_> {
    pub fn check(&mut self, name: &str, check: impl FnOnce(&mut Self) -> Outcome) {
        let start = Instant::now();
        let outcome = check(self);
        let check = Check {
            name: name.to_owned(),
            passed: outcome.is_ok(),
            detail: outcome.err().map(|f| f.told()).unwrap_or_default(),
            milliseconds: u64::try_from(start.elapsed().as_millis()).unwrap_or(u64::MAX),
        };
        (self.said)(&check);
        self.report.checks.push(check);
    }

    pub fn admin(&self) -> Result<Client, Failure> {
        self.admin.clone().ok_or(Failure::Unreached("log-in"))
    }

    pub fn team(&self) -> Result<String, Failure> {
        self.team.clone().ok_or(Failure::Unreached("team"))
    }

    pub fn channel(&self) -> Result<String, Failure> {
        self.channel.clone().ok_or(Failure::Unreached("channel"))
    }
}

/// Letters only, so that full-text search takes it as one word; different for each run.
fn new_mark() -> String {
    let nanos = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |d| d.as_nanos());
    let mut rest = nanos ^ (u128::from(std::process::id()) << 64);
    let mut mark = String::new();
    while rest > 0 {
        // Without vowels no word comes out that the search's dictionary would change.
        mark.push(char::from(b"bcdfghjklmnpqrtvwxz"[(rest % 19) as usize]));
        rest /= 19;
    }
    mark.chars().take(16).collect()
}

pub fn run(target: &Target, said: &mut dyn FnMut(&Check)) -> Result<Report, ClientError> {
    let mark = new_mark();
    let mut run = Run {
        target,
        stranger: Client::new(target)?,
        admin: None,
        admin_id: String::new(),
        team: None,
        team_name: format!("contract-{mark}"),
        channel: None,
        channel_name: format!("room-{mark}"),
        post: None,
        file: None,
        user: None,
        user_client: None,
        mark,
        report: Report::default(),
        said,
    };
    access::before_login(&mut run);
    access::login(&mut run);
    posts::places(&mut run);
    live::run(&mut run);
    posts::run(&mut run);
    files::run(&mut run);
    posts::reading(&mut run);
    access::users(&mut run);
    if let Some(socket) = target.local_socket.clone() {
        local_mode::run(&mut run, &socket);
    }
    posts::cleaning(&mut run);
    access::after(&mut run);
    Ok(run.report)
}
