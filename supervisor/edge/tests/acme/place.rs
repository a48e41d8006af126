//! An authority, a state directory and settings for both, and a clock that the test moves.

use std::path::PathBuf;
use std::time::{SystemTime, UNIX_EPOCH};

use atalaya_edge::settings::{self, Challenge, Secrets};
use atalaya_edge::tls::acme::{Acme, Moment, Step, Wanted};
use atalaya_edge::tls::challenges::Challenges;
use tempfile::TempDir;

use crate::front::Front;
use crate::machine::{Pebble, Setup, TestAuthority, own_address};

pub const NAME: &str = "chat.example.test";
pub const HOUR: i64 = 3600;
pub const DAY: i64 = 86_400;

/// Dropped in this order: the authority's door before the authority.
pub struct Place {
    pub front: Front,
    pub pebble: Option<Pebble>,
    pub authority: TestAuthority,
    pub setup: Setup,
    pub dir: TempDir,
    pub wanted: Wanted,
    pub challenges: Challenges,
}

impl Place {
    pub async fn new(setup: Setup) -> Self {
        let authority = TestAuthority::new();
        let ip = own_address();
        let pebble = Pebble::start(&authority, ip, &setup);
        let front = Front::start(&authority, ip, pebble.address).await;
        let dir = tempfile::tempdir().unwrap();
        let wanted = Wanted {
            names: vec![NAME.to_owned()],
            acme: settings::Acme {
                directory: format!("https://{}/dir", front.address),
                contact: vec!["admin@example.test".to_owned()],
                authority: Some(authority.pem()),
                challenges: vec![Challenge::Http],
                ..settings::Acme::default()
            },
            secrets: Secrets::default(),
            state_dir: dir.path().to_owned(),
        };
        Self {
            front,
            pebble: Some(pebble),
            authority,
            setup,
            dir,
            wanted,
            challenges: Challenges::default(),
        }
    }

    /// As after a start of the edge.
    pub fn open(&self) -> Acme {
        Acme::open(self.wanted.clone(), self.challenges.clone())
    }

    pub fn file(&self, name: &str) -> PathBuf {
        self.wanted.state_dir.join("acme").join(name)
    }

    /// The authority goes away; it forgets everything.
    pub fn take_down(&mut self) {
        self.pebble = None;
    }

    pub fn bring_back(&mut self) {
        let std::net::IpAddr::V4(ip) = self.front.address.ip() else {
            unreachable!()
        };
        self.pebble = Some(Pebble::start(&self.authority, ip, &self.setup));
    }
}

/// The machine's time and `later` seconds.
pub fn at(later: i64) -> Moment {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    Moment {
        now: i64::try_from(now.as_secs()).unwrap() + later,
        trusted: true,
    }
}

pub fn reason(step: Step) -> String {
    match step {
        Step::Failed(reason) => reason,
        other => panic!("it did not fail: {other:?}"),
    }
}
