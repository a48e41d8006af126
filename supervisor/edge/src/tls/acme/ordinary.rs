//! rustls-acme's low-level calls: orders that need nothing but HTTP-01 or TLS-ALPN-01. The library does not repeat a request whose nonce was
//! stale, and hides Retry-After: the former is done here, for the latter the next order after such a refusal goes by `extended`.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use rustls::ClientConfig;
use rustls_acme::acme::{
    Account as Registered, AcmeError, AuthStatus, Challenge as Offered, ChallengeType, Directory,
    Identifier, OrderStatus,
};
use serde::Deserialize;

use super::cache::Account;
use super::client::{
    AUTHORIZATION, Answer, CERTIFICATE, CHALLENGE, Client, FINALIZE, Failed, Failure, NEW_ACCOUNT,
    NEW_ORDER, Order, kind,
};
use super::proof::Proofs;
use crate::settings::Challenge;

/// Requests that are sent again because their nonce was not taken.
const MOST_NONCES: usize = 10;
/// Between two looks at an authorization or an order: the first, and the longest.
const FIRST_LOOK: Duration = Duration::from_millis(250);
const LONGEST_LOOK: Duration = Duration::from_secs(10);

pub struct Ordinary {
    pub tls: Arc<ClientConfig>,
    pub directory: String,
    pub contact: Vec<String>,
}

impl Ordinary {
    async fn registered(&self, key: &[u8]) -> Result<Registered, Failure> {
        let directory = self
            .ask(NEW_ACCOUNT, || {
                Directory::discover(&self.tls, &self.directory)
            })
            .await?;
        self.ask(NEW_ACCOUNT, || {
            let directory = directory.clone();
            Registered::create_with_keypair(&self.tls, directory, &self.contact, key)
        })
        .await
    }

    async fn placed(
        &self,
        account: &Account,
        order: Order<'_>,
        proofs: &Proofs,
    ) -> Result<String, Failure> {
        let key = base64::engine::general_purpose::STANDARD
            .decode(&account.key)
            .map_err(|_| Failure::Settings {
                what: "the account's stored key",
            })?;
        let account = self.registered(&key).await?;
        let (url, mut state) = self
            .ask(NEW_ORDER, || {
                account.new_order(&self.tls, order.names.to_vec())
            })
            .await?;
        let mut pause = FIRST_LOOK;
        loop {
            match state.status {
                OrderStatus::Pending => {
                    for authorization in &state.authorizations {
                        self.prove(&account, authorization, order.challenge, proofs)
                            .await?;
                    }
                }
                OrderStatus::Ready => {
                    state = self
                        .ask(FINALIZE, || {
                            account.finalize(&self.tls, &state.finalize, order.request)
                        })
                        .await?;
                    continue;
                }
                OrderStatus::Processing => {}
                OrderStatus::Valid { certificate } => {
                    return self
                        .ask(CERTIFICATE, || account.certificate(&self.tls, &certificate))
                        .await;
                }
                OrderStatus::Invalid => {
                    let problem = state.error;
                    let detail = problem.as_ref().and_then(|problem| problem.detail.clone());
                    return Err(Failure::Refused {
                        what: FINALIZE,
                        kind: kind(problem.and_then(|problem| problem.typ).as_deref()),
                        detail: detail.unwrap_or_default(),
                        status: 0,
                    });
                }
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(LONGEST_LOOK);
            state = self
                .ask(NEW_ORDER, || account.order(&self.tls, &url))
                .await?;
        }
    }

    /// Places one name's proof and waits until the authority has seen it.
    async fn prove(
        &self,
        account: &Registered,
        url: &str,
        challenge: Challenge,
        proofs: &Proofs,
    ) -> Result<(), Failure> {
        let look = || account.auth(&self.tls, url);
        let mut state = self.ask(AUTHORIZATION, look).await?;
        let Identifier::Dns(name) = &state.identifier;
        let name = name.clone();
        if let AuthStatus::Pending = state.status {
            let none = |_| Failure::NotOffered {
                name: name.clone(),
                challenge: challenge.name(),
            };
            let offered = match challenge {
                Challenge::Http => {
                    let (offered, authorization) =
                        account.http_01(&state.challenges).map_err(none)?;
                    proofs
                        .place(challenge, &name, &offered.token, &authorization)
                        .await?;
                    offered
                }
                Challenge::TlsAlpn => {
                    let (offered, certified) = account
                        .tls_alpn_01(&state.challenges, name.clone())
                        .map_err(none)?;
                    proofs.place_certificate(&name, certified);
                    offered
                }
                Challenge::Dns => return Err(none(AcmeError::NoHttp01Challenge)),
            };
            self.ask(CHALLENGE, || account.challenge(&self.tls, &offered.url))
                .await?;
        }
        let mut pause = FIRST_LOOK;
        loop {
            match state.status {
                AuthStatus::Valid => return Ok(()),
                AuthStatus::Pending => {
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).min(LONGEST_LOOK);
                    state = self.ask(AUTHORIZATION, look).await?;
                }
                AuthStatus::Invalid
                | AuthStatus::Revoked
                | AuthStatus::Expired
                | AuthStatus::Deactivated => {
                    return Err(Failure::NotProved {
                        name,
                        challenge: challenge.name(),
                        detail: reason(&state.challenges),
                    });
                }
            }
        }
    }

    /// One call, again with a new nonce where the authority did not take the first.
    async fn ask<T, F: Future<Output = Result<T, AcmeError>>>(
        &self,
        what: &'static str,
        mut call: impl FnMut() -> F,
    ) -> Result<T, Failure> {
        let mut asked = 1;
        loop {
            match call().await {
                Ok(answer) => return Ok(answer),
                Err(error) => {
                    let failure = self.failure(what, error);
                    if !failure.is_stale_nonce() || asked >= MOST_NONCES {
                        return Err(failure);
                    }
                }
            }
            asked += 1;
        }
    }

    fn failure(&self, what: &'static str, error: AcmeError) -> Failure {
        if let AcmeError::HttpRequest(refused) = &error
            && let Some((status, problem)) = parse_refusal(&refused.to_string())
        {
            // A gateway's error page is no word of the authority's, but 429 and 503 mean the same from anybody.
            if problem.r#type.is_none() && !matches!(status, 429 | 503) {
                return Failure::Unreachable {
                    directory: self.directory.clone(),
                    source: format!("it answers with the status {status}").into(),
                };
            }
            return Failure::Refused {
                what,
                kind: kind(problem.r#type.as_deref()),
                detail: problem.detail.unwrap_or_default(),
                status,
            };
        }
        Failure::Unreachable {
            directory: self.directory.clone(),
            // Its text holds its cause's already.
            source: error.to_string().into(),
        }
    }
}

impl Client for Ordinary {
    fn register(&self) -> Answer<'_, Account> {
        Box::pin(async move {
            let key = Registered::generate_key_pair();
            let id = self.registered(&key).await?.kid;
            Ok(Account::new(&self.directory, None, id, &key))
        })
    }

    fn order<'a>(
        &'a self,
        account: &'a Account,
        order: Order<'a>,
        proofs: &'a Proofs,
    ) -> Answer<'a, String> {
        Box::pin(async move {
            self.placed(account, order, proofs)
                .await
                .map_err(Failed::from)
        })
    }
}

/// A problem document (RFC 7807).
#[derive(Debug, Default, Deserialize)]
struct Problem {
    r#type: Option<String>,
    detail: Option<String>,
}

/// The library's error type cannot be named outside of it: its text is `non 2xx http status: STATUS BODY`, the body in quotes.
fn parse_refusal(text: &str) -> Option<(u16, Problem)> {
    let rest = text.strip_prefix("non 2xx http status: ")?;
    let (status, body) = rest.split_once(' ')?;
    let body = serde_json::from_str::<String>(body).unwrap_or_default();
    let problem = serde_json::from_str(&body).unwrap_or_default();
    Some((status.parse().ok()?, problem))
}

fn reason(challenges: &[Offered]) -> String {
    challenges
        .iter()
        .filter(|offered| offered.typ != ChallengeType::Unknown)
        .find_map(|offered| offered.error.as_ref()?.detail.clone())
        .unwrap_or_else(|| "it gives no reason".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_is_read_out_of_the_librarys_words() {
        let body = "{\n  \"type\": \"urn:ietf:params:acme:error:rateLimited\",\n  \"detail\": \"too \\\"many\\\"\"\n}";
        let (status, problem) =
            parse_refusal(&format!("non 2xx http status: 429 {body:?}")).unwrap();
        assert_eq!(status, 429);
        assert_eq!(kind(problem.r#type.as_deref()), "rateLimited");
        assert_eq!(problem.detail.unwrap(), "too \"many\"");
        let (status, problem) = parse_refusal("non 2xx http status: 502 \"<html>\"").unwrap();
        assert_eq!((status, problem.detail), (502, None));
        assert!(parse_refusal("io error: broken").is_none());
    }
}
