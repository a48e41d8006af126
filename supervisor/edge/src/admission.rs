//! Whether the upstream may be spoken to, and what is waited for: reads the supervisor's upstream.json into a value and judges it. No
//! files, no clock: times are CLOCK_BOOTTIME in milliseconds and passed in.

use serde::Deserialize;

/// upstream.json. Written by the supervisor of the same image, so unknown keys are no mistake of a person and are passed over.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
pub struct UpstreamState {
    pub admit: bool,
    pub postgres_ready: bool,
    #[serde(default)]
    pub postgres_ready_since_ms: Option<u64>,
    #[serde(default)]
    pub waiting_for: Option<String>,
    #[serde(default)]
    pub maintenance: Option<Maintenance>,
}

/// Somebody has closed the edge on purpose.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
pub struct Maintenance {
    /// What users are told, in the words of who closed it.
    #[serde(default)]
    pub message: Option<String>,
}

/// The state with the time since when it has been waiting for the same thing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Admission {
    pub state: UpstreamState,
    /// Since when `waiting_for` has been what it is.
    pub waiting_since_ms: u64,
}

/// What becomes of a refused log-in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RefusedLogin {
    /// The password was wrong: the client gets the 401.
    PassOn,
    /// The answer says nothing about the password, because the database was not there: the client gets 503.
    Unavailable,
}

/// Reads upstream.json; a text that cannot be read admits nobody.
pub fn parse_state(text: Option<&str>) -> UpstreamState {
    let unknown = |what: &str| UpstreamState {
        waiting_for: Some(what.to_owned()),
        ..UpstreamState::default()
    };
    match text.map(serde_json::from_str) {
        Some(Ok(state)) => state,
        Some(Err(_)) => unknown("the supervisor's report of what is running"),
        None => unknown("the supervisor"),
    }
}

impl Admission {
    pub fn new(state: UpstreamState, now_ms: u64) -> Self {
        Self {
            state,
            waiting_since_ms: now_ms,
        }
    }

    /// The next value after the file was read again.
    pub fn follow(&self, state: UpstreamState, now_ms: u64) -> Self {
        let same = self.state.waiting_for == state.waiting_for && self.is_open() == is_open(&state);
        Self {
            waiting_since_ms: if same { self.waiting_since_ms } else { now_ms },
            state,
        }
    }

    /// Whether requests go to the upstream.
    pub fn is_open(&self) -> bool {
        is_open(&self.state)
    }

    /// Whether it is closed on purpose; then nobody can say when it opens.
    pub fn maintenance(&self) -> Option<&Maintenance> {
        self.state.maintenance.as_ref()
    }

    pub fn waiting_for(&self) -> &str {
        match self.state.waiting_for.as_deref() {
            Some(what) if !what.is_empty() => what,
            _ => "Mattermost",
        }
    }
}

fn is_open(state: &UpstreamState) -> bool {
    state.admit && state.postgres_ready && state.maintenance.is_none()
}

/// Mattermost answers 401 to a right password while PostgreSQL is away. The 401 counts only if the server's own status was good afterwards
/// and PostgreSQL has been ready since before the request came in.
pub fn assess_refused_login(
    arrived_ms: u64,
    status_is_good: bool,
    state: &UpstreamState,
) -> RefusedLogin {
    let ready_all_along = state.postgres_ready
        && state
            .postgres_ready_since_ms
            .is_some_and(|since| since < arrived_ms);
    if status_is_good && ready_all_along {
        RefusedLogin::PassOn
    } else {
        RefusedLogin::Unavailable
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ready(since: u64) -> UpstreamState {
        UpstreamState {
            admit: true,
            postgres_ready: true,
            postgres_ready_since_ms: Some(since),
            waiting_for: None,
            maintenance: None,
        }
    }

    #[test]
    fn maintenance_closes_what_would_be_open() {
        let text = r#"{"admit":true,"postgres_ready":true,"maintenance":{"message":"Until 6.","since":5}}"#;
        let admission = Admission::new(parse_state(Some(text)), 0);
        assert!(!admission.is_open());
        let said = admission.maintenance().unwrap().message.as_deref();
        assert_eq!(said, Some("Until 6."));
        let text = r#"{"admit":true,"postgres_ready":true,"maintenance":null}"#;
        assert!(Admission::new(parse_state(Some(text)), 0).is_open());
    }

    #[test]
    fn only_admit_and_postgres_together_open() {
        for (admit, postgres_ready, open) in [
            (false, false, false),
            (true, false, false),
            (false, true, false),
            (true, true, true),
        ] {
            let state = UpstreamState {
                admit,
                postgres_ready,
                ..UpstreamState::default()
            };
            assert_eq!(Admission::new(state, 0).is_open(), open);
        }
    }

    #[test]
    fn missing_or_torn_reports_admit_nobody() {
        assert!(!Admission::new(parse_state(None), 0).is_open());
        let whole = r#"{"admit":true,"postgres_ready":true,"postgres_ready_since_ms":1,"mattermost_ready":true,"mattermost_ready_since_ms":2,"waiting_for":null}"#;
        assert!(Admission::new(parse_state(Some(whole)), 0).is_open());
        for cut in 0..whole.len() {
            assert!(
                !Admission::new(parse_state(Some(&whole[..cut])), 0).is_open(),
                "cut at {cut}"
            );
        }
    }

    #[test]
    fn a_refused_log_in_counts_only_if_the_database_was_there_all_along() {
        let gone = UpstreamState {
            postgres_ready: false,
            ..ready(5)
        };
        let unknown = UpstreamState {
            postgres_ready_since_ms: None,
            ..ready(5)
        };
        assert_eq!(
            assess_refused_login(10, true, &ready(5)),
            RefusedLogin::PassOn
        );
        assert_eq!(
            assess_refused_login(10, false, &ready(5)),
            RefusedLogin::Unavailable
        );
        assert_eq!(
            assess_refused_login(10, true, &ready(10)),
            RefusedLogin::Unavailable
        );
        assert_eq!(
            assess_refused_login(10, true, &ready(11)),
            RefusedLogin::Unavailable
        );
        assert_eq!(
            assess_refused_login(10, true, &gone),
            RefusedLogin::Unavailable
        );
        assert_eq!(
            assess_refused_login(10, true, &unknown),
            RefusedLogin::Unavailable
        );
    }

    #[test]
    fn waiting_since_moves_only_when_the_reason_does() {
        let wait = |what: &str| UpstreamState {
            waiting_for: Some(what.to_owned()),
            ..UpstreamState::default()
        };
        let first = Admission::new(wait("a"), 1);
        assert_eq!(first.follow(wait("a"), 5).waiting_since_ms, 1);
        assert_eq!(first.follow(wait("b"), 5).waiting_since_ms, 5);
        assert_eq!(first.follow(ready(2), 6).waiting_since_ms, 6);
    }
}
