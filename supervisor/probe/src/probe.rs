//! The probe: what a user does, in order, each step timed. What it posts is removed for good afterwards, by the unit
//! `probe-clean`: a user cannot. A step that needs a failed one is not tried and says so; one
//! that the server's configuration rules out is skipped and says so, and that is no failure.

use std::time::{Instant, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use crate::client::Client;
use crate::connection::Target;
use crate::error::ClientError;
use crate::model::{Channel, Team};

/// Who the probe is. The password is of an ordinary user and serves the log-in step alone; all else is the bot's.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Credentials {
    pub username: String,
    pub password: String,
    pub bot_token: String,
    /// Names as they stand in addresses.
    pub team: String,
    pub channel: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProbeReport {
    pub steps: Vec<StepReport>,
    pub ok: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StepReport {
    pub step: String,
    pub ok: bool,
    pub ms: u64,
    pub error: Option<String>,
    /// Why the server's configuration rules this step out; it was not tried then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub skipped: Option<String>,
}

/// Runs all steps. Never fails: what goes wrong stands in the report.
pub fn run_probe(target: &Target, credentials: &Credentials) -> ProbeReport {
    let mut steps = Steps::default();
    // A server that does not tell its configuration has ruled out nothing.
    let configuration = Client::new(target).and_then(|client| client.configuration());
    let is_off = |key| {
        (configuration.as_ref()).is_ok_and(|all| all.get(key).is_some_and(|is| is == "false"))
    };
    if is_off("EnableSignInWithUsername") {
        for step in ["log-in", "log-out"] {
            steps.rule_out(
                step,
                "signing in with a name and a password is switched off",
            );
        }
    } else {
        log_in_and_out(&mut steps, target, credentials);
    }

    let bot = steps.run("channel", None, || enter(target, credentials));
    let missing = blocked(bot.is_none(), "channel");
    // Made of letters and digits only, so that full-text search takes it for one word.
    let word = format!(
        "probe{:x}",
        SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default()
            .as_nanos()
    );
    if let Some(bot) = bot {
        run_as_bot(&mut steps, &bot, &word, is_off("EnableFileAttachments"));
    } else {
        for step in BOT_STEPS {
            steps.skip(step, missing.clone().unwrap_or_default());
        }
    }
    steps.report()
}

fn log_in_and_out(steps: &mut Steps, target: &Target, credentials: &Credentials) {
    let mut user = steps.run("log-in", None, || {
        let mut client = Client::new(target)?;
        client.login(&credentials.username, &credentials.password)?;
        Ok(client)
    });
    let log_out = user.as_mut().map(Client::logout);
    steps.run("log-out", blocked(log_out.is_none(), "log-in"), || {
        log_out.unwrap_or(Ok(()))
    });
}

const BOT_STEPS: [&str; 6] = [
    "websocket",
    "upload",
    "post",
    "receive",
    "download",
    "search",
];

struct Bot {
    client: Client,
    team: Team,
    channel: Channel,
}

fn enter(target: &Target, credentials: &Credentials) -> Result<Bot, ClientError> {
    let mut client = Client::new(target)?;
    client.set_token(&credentials.bot_token);
    let absent = |what: &str, name: &str| ClientError::Answer {
        action: format!("find the probe's {what}"),
        why: format!("there is none with the name {name:?}"),
    };
    let team = client
        .find_team(&credentials.team)?
        .ok_or_else(|| absent("team", &credentials.team))?;
    let channel = client
        .find_channel(&team, &credentials.channel)?
        .ok_or_else(|| absent("channel", &credentials.channel))?;
    Ok(Bot {
        client,
        team,
        channel,
    })
}

fn run_as_bot(steps: &mut Steps, bot: &Bot, word: &str, no_files: bool) {
    let Bot {
        client,
        team,
        channel,
    } = bot;
    // Beyond one buffer of anything on the way, and not compressible into one.
    let content: Vec<u8> = (0..200_000_u32)
        .flat_map(|n| n.wrapping_mul(2_654_435_761).to_le_bytes())
        .collect();

    let mut socket = steps.run("websocket", None, || client.open_socket());
    const NO_FILES: &str = "files in posts are switched off";
    let file = if no_files {
        steps.rule_out("upload", NO_FILES);
        None
    } else {
        steps.run("upload", None, || {
            client.upload_file(channel, "probe.bin", &content)
        })
    };
    let files: Vec<_> = file.iter().collect();
    let post = steps.run("post", None, || {
        client.create_post(channel, &format!("Atalaya's probe {word}"), &files)
    });
    let id = post.as_ref().map_or("", |post| post.id.as_str());

    let why = blocked(socket.is_none(), "websocket").or_else(|| blocked(post.is_none(), "post"));
    steps.run("receive", why, || {
        let received = socket
            .as_mut()
            .map(|socket| socket.wait_for_post(id))
            .transpose()?;
        check(
            "receive the post by WebSocket",
            received.is_some_and(|post| post.message.contains(word)),
            "the post has another text",
        )
    });
    if no_files {
        steps.rule_out("download", NO_FILES);
    } else {
        steps.run("download", blocked(file.is_none(), "upload"), || {
            let Some(file) = &file else { return Ok(()) };
            check(
                "compare the file",
                client.download_file(&file.id)? == content,
                "it came back changed",
            )
        });
    }
    steps.run("search", blocked(post.is_none(), "post"), || {
        let found = client.search_posts(team, word)?;
        check(
            "search",
            found.iter().any(|post| post.id == id),
            "the post is not among the results",
        )
    });
}

fn check(action: &str, good: bool, why: &str) -> Result<(), ClientError> {
    if good {
        Ok(())
    } else {
        Err(ClientError::Answer {
            action: action.to_owned(),
            why: why.to_owned(),
        })
    }
}

fn blocked(is_blocked: bool, by: &str) -> Option<String> {
    is_blocked.then(|| format!("not tried, because {by} failed"))
}

#[derive(Default)]
struct Steps(Vec<StepReport>);

impl Steps {
    /// Runs a step unless something before it failed.
    fn run<T>(
        &mut self,
        step: &str,
        blocked: Option<String>,
        act: impl FnOnce() -> Result<T, ClientError>,
    ) -> Option<T> {
        if let Some(why) = blocked {
            self.skip(step, why);
            return None;
        }
        let started = Instant::now();
        let outcome = act();
        let ms = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
        let error = outcome.as_ref().err().map(ClientError::chain);
        self.0.push(StepReport {
            step: step.to_owned(),
            ok: error.is_none(),
            ms,
            error,
            skipped: None,
        });
        outcome.ok()
    }

    fn rule_out(&mut self, step: &str, why: &str) {
        self.0.push(StepReport {
            step: step.to_owned(),
            ok: true,
            ms: 0,
            error: None,
            skipped: Some(why.to_owned()),
        });
    }

    fn skip(&mut self, step: &str, why: String) {
        self.0.push(StepReport {
            step: step.to_owned(),
            ok: false,
            ms: 0,
            error: Some(why),
            skipped: None,
        });
    }

    fn report(self) -> ProbeReport {
        ProbeReport {
            ok: self.0.iter().all(|step| step.ok),
            steps: self.0,
        }
    }
}
