//! One attempt to get a certificate: which library speaks, which challenge is tried, when an account is made anew.

use std::sync::Arc;
use std::time::Duration;

use atalaya_core::renewal::Window;
use rcgen::{CertificateParams, DistinguishedName, KeyPair, PKCS_ECDSA_P256_SHA256};

use super::Wanted;
use super::cache::{Account, Cache, Pair, Record};
use super::client::{Client, Failed, Failure, NEW_ORDER, Order};
use super::dns::Zones;
use super::extended::Extended;
use super::held::Held;
use super::ordinary::Ordinary;
use super::proof::Proofs;
use super::transport;
use crate::settings::Challenge;
use crate::tls::challenges::Challenges;

/// For one order, with all its waiting.
const LIMIT: Duration = Duration::from_secs(600);
/// For the window.
const WINDOW_LIMIT: Duration = Duration::from_secs(60);
/// Orders within an attempt that begin again for a reason that is gone then: a stale nonce, an account that is no more.
const MOST_ROUNDS: usize = 6;

pub struct Outcome {
    pub result: Result<Held, Failed>,
    /// The index in the settings' list with which the next attempt begins.
    pub challenge: usize,
}

/// The first attempt tries all challenges; later ones take turns, so that failed validations do not add up to a limit.
pub async fn place(
    wanted: &Wanted,
    cache: &Cache,
    challenges: &Challenges,
    record: &Record,
    replaces: Option<&[u8]>,
) -> Outcome {
    let list = &wanted.acme.challenges;
    let tries = if record.attempts.failures == 0 {
        list.len()
    } else {
        1
    };
    let mut next = record.challenge;
    let mut result = Err(Failed::from(Failure::Settings {
        what: "an empty list of challenges",
    }));
    for _ in 0..tries {
        let Some(challenge) = list.get(next % list.len().max(1)) else {
            break;
        };
        result = place_one(wanted, cache, challenges, record, *challenge, replaces).await;
        match &result {
            Err(failed) if failed.failure.is_about_the_challenge() => {
                next = (next + 1) % list.len()
            }
            _ => break,
        }
    }
    Outcome {
        result,
        challenge: next,
    }
}

/// When the authority wants the certificate renewed; None where it does not say.
pub async fn window(wanted: &Wanted, cache: &Cache, leaf: &[u8]) -> Option<(Window, i64)> {
    let account = known_account(wanted, cache)?;
    let client = extended(wanted).ok()?;
    let asked = tokio::time::timeout(WINDOW_LIMIT, client.window(&account, leaf));
    asked.await.ok()?.ok()
}

async fn place_one(
    wanted: &Wanted,
    cache: &Cache,
    challenges: &Challenges,
    record: &Record,
    challenge: Challenge,
    replaces: Option<&[u8]>,
) -> Result<Held, Failed> {
    let zones = match (challenge, &wanted.acme.dns) {
        (Challenge::Dns, Some(dns)) => {
            let key = wanted.secrets.dns_key.as_deref().unwrap_or_default();
            Some(Zones::new(dns, key).map_err(Failure::from)?)
        }
        _ => None,
    };
    let proofs = Proofs::new(challenges.clone(), zones);
    let (key, request) = make_request(&wanted.names)?;
    let mut replaces = replaces;
    let mut renewed = false;
    let mut rounds = 0;
    loop {
        rounds += 1;
        let client = choose(wanted, record, challenge, replaces.is_some())?;
        let order = Order {
            names: &wanted.names,
            request: &request,
            challenge,
            replaces,
        };
        let signed = place_round(wanted, cache, client.as_ref(), order, &proofs).await;
        proofs.clear().await;
        let failed = match signed {
            Ok(chain) => {
                let pair = Pair::new(&wanted.acme.directory, key, chain);
                let held = Held::read(pair).map_err(|why| Failure::Unusable { why })?;
                if !held.covers(&wanted.names) {
                    let why = "it is not for all of the names";
                    return Err(Failure::Unusable { why }.into());
                }
                return Ok(held);
            }
            Err(failed) => failed,
        };
        let failure = &failed.failure;
        if rounds >= MOST_ROUNDS {
            return Err(failed);
        } else if failure.is_account_gone() && !renewed {
            cache.forget_account().map_err(Failure::from)?;
            renewed = true;
        } else if refuses_replacement(failure) && replaces.is_some() {
            replaces = None;
        } else if !failure.is_stale_nonce() {
            return Err(failed);
        }
    }
}

async fn place_round(
    wanted: &Wanted,
    cache: &Cache,
    client: &dyn Client,
    order: Order<'_>,
    proofs: &Proofs,
) -> Result<String, Failed> {
    let placed = async {
        let account = match known_account(wanted, cache) {
            Some(account) => account,
            None => {
                let account = client.register().await?;
                cache.write_account(&account).map_err(Failure::from)?;
                account
            }
        };
        client.order(&account, order, proofs).await
    };
    tokio::time::timeout(LIMIT, placed)
        .await
        .unwrap_or_else(|_| Err(Failure::TooSlow.into()))
}

/// An account is good for the directory and the binding that it was made with.
fn known_account(wanted: &Wanted, cache: &Cache) -> Option<Account> {
    cache.account().filter(|account| {
        account.directory == wanted.acme.directory
            && account.external_account == wanted.acme.external_account
    })
}

fn choose(
    wanted: &Wanted,
    record: &Record,
    challenge: Challenge,
    replaces: bool,
) -> Result<Box<dyn Client>, Failure> {
    let needs_more = wanted.acme.external_account.is_some()
        || wanted.acme.profile.is_some()
        || challenge == Challenge::Dns
        || record.asked_for_patience
        || replaces;
    if needs_more {
        return Ok(Box::new(extended(wanted)?));
    }
    Ok(Box::new(Ordinary {
        tls: transport::trust(wanted.acme.authority.as_deref())?,
        directory: wanted.acme.directory.clone(),
        contact: contact(wanted),
    }))
}

fn extended(wanted: &Wanted) -> Result<Extended, Failure> {
    let key = wanted.secrets.external_account_hmac.clone();
    let external_account = match (&wanted.acme.external_account, key) {
        (Some(id), Some(key)) => Some((id.clone(), key)),
        (Some(_), None) => {
            return Err(Failure::Settings {
                what: "tls.acme.external_account without its hmac",
            });
        }
        (None, _) => None,
    };
    Ok(Extended {
        tls: Arc::clone(&transport::trust(wanted.acme.authority.as_deref())?),
        directory: wanted.acme.directory.clone(),
        contact: contact(wanted),
        profile: wanted.acme.profile.clone(),
        external_account,
    })
}

fn contact(wanted: &Wanted) -> Vec<String> {
    let addresses = wanted.acme.contact.iter();
    addresses
        .map(|address| format!("mailto:{}", address.trim_start_matches("mailto:")))
        .collect()
}

/// The authority does not want the order as a replacement: it has one already, or has forgotten the certificate (RFC 9773 section 5).
fn refuses_replacement(failure: &Failure) -> bool {
    matches!(failure, Failure::Refused { what, status, .. } if *what == NEW_ORDER && !matches!(status, 429 | 503))
}

/// A key of its own for each certificate, PEM, and the request for it, DER.
fn make_request(names: &[String]) -> Result<(String, Vec<u8>), Failure> {
    let make = |source| Failure::Key { source };
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(make)?;
    let mut params = CertificateParams::new(names).map_err(make)?;
    params.distinguished_name = DistinguishedName::new();
    let request = params.serialize_request(&key).map_err(make)?;
    Ok((key.serialize_pem(), request.der().to_vec()))
}
