//! instant-acme: accounts that need an External Account Binding, profiles, DNS-01, orders that replace a certificate (ARI), and whatever
//! has to honour Retry-After.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine;
use instant_acme::{
    Account as Registered, AccountCredentials, AuthorizationStatus, CertificateIdentifier,
    ChallengeType, Error, ExternalAccountKey, Identifier, NewAccount, NewOrder, Order as Placed,
    OrderStatus, RetryPolicy,
};
use rustls::ClientConfig;
use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer};

use super::cache::Account;
use super::client::{
    AUTHORIZATION, Answer, CERTIFICATE, CHALLENGE, Client, FINALIZE, Failed, Failure, NEW_ACCOUNT,
    NEW_ORDER, Order, kind,
};
use super::proof::Proofs;
use super::transport::{Transport, seconds_of};
use crate::settings::Challenge;
use atalaya_core::renewal::Window;

/// How long the authority may take to look at proofs, and again to sign.
const PATIENCE: RetryPolicy = RetryPolicy::new().timeout(Duration::from_secs(180));
/// Until the next question about the window: RFC 9773 section 4.3 wants it bounded.
const WINDOW_PAUSE: (i64, i64) = (60, 86_400);

pub struct Extended {
    pub tls: Arc<ClientConfig>,
    pub directory: String,
    pub contact: Vec<String>,
    pub profile: Option<String>,
    /// Key identifier, and HMAC key in base64url.
    pub external_account: Option<(String, String)>,
}

impl Extended {
    /// When the authority wants `certificate` (DER) renewed, and the seconds until that should be asked again.
    pub async fn window(
        &self,
        account: &Account,
        certificate: &[u8],
    ) -> Result<(Window, i64), Failure> {
        let transport = Transport::new(Arc::clone(&self.tls));
        let account = self.known(account, transport).await?;
        let certificate = CertificateDer::from(certificate);
        let identifier = CertificateIdentifier::try_from(&certificate)
            .map_err(|error| self.failure(NEW_ORDER, Error::Other(error.into())))?;
        let (info, again) = account
            .renewal_info(&identifier)
            .await
            .map_err(|error| self.failure(NEW_ORDER, error))?;
        let window = Window {
            start: info.suggested_window.start.unix_timestamp(),
            end: info.suggested_window.end.unix_timestamp(),
        };
        let again = i64::try_from(again.as_secs()).unwrap_or(i64::MAX);
        Ok((window, again.clamp(WINDOW_PAUSE.0, WINDOW_PAUSE.1)))
    }

    async fn known(&self, account: &Account, transport: Transport) -> Result<Registered, Failure> {
        let key = base64::engine::general_purpose::STANDARD
            .decode(&account.key)
            .map_err(|_| Failure::Settings {
                what: "the account's stored key",
            })?;
        Registered::builder_with_http(Box::new(transport))
            .from_parts(
                account.id.clone(),
                PrivatePkcs8KeyDer::from(key),
                self.directory.clone(),
            )
            .await
            .map_err(|error| self.failure(NEW_ACCOUNT, error))
    }

    async fn registered(&self, transport: Transport) -> Result<Account, Failure> {
        let binding = match &self.external_account {
            Some((id, key)) => {
                let key = base64::engine::general_purpose::URL_SAFE_NO_PAD
                    .decode(key.trim().trim_end_matches('='))
                    .map_err(|_| Failure::Settings {
                        what: "tls.acme.external_account.hmac",
                    })?;
                Some(ExternalAccountKey::new(id.clone(), &key))
            }
            None => None,
        };
        let contact: Vec<&str> = self.contact.iter().map(String::as_str).collect();
        let wanted = NewAccount {
            contact: &contact,
            terms_of_service_agreed: true,
            only_return_existing: false,
        };
        let (account, credentials): (Registered, AccountCredentials) =
            Registered::builder_with_http(Box::new(transport))
                .create(&wanted, self.directory.clone(), binding.as_ref())
                .await
                .map_err(|error| self.failure(NEW_ACCOUNT, error))?;
        let external = self.external_account.as_ref().map(|(id, _)| id.as_str());
        Ok(Account::new(
            &self.directory,
            external,
            account.id().to_owned(),
            credentials.private_key().secret_pkcs8_der(),
        ))
    }

    async fn placed(
        &self,
        account: &Account,
        order: Order<'_>,
        proofs: &Proofs,
        transport: Transport,
    ) -> Result<String, Failure> {
        let account = self.known(account, transport).await?;
        let identifiers: Vec<Identifier> =
            order.names.iter().cloned().map(Identifier::Dns).collect();
        let mut wanted = NewOrder::new(&identifiers);
        if let Some(profile) = &self.profile {
            wanted = wanted.profile(profile);
        }
        let replaced = order.replaces.map(CertificateDer::from);
        if let Some(identifier) = replaced
            .as_ref()
            .and_then(|certificate| CertificateIdentifier::try_from(certificate).ok())
        {
            wanted = wanted.replaces(identifier);
        }
        let mut placed = account
            .new_order(&wanted)
            .await
            .map_err(|error| self.failure(NEW_ORDER, error))?;
        if placed.state().status == OrderStatus::Pending {
            self.prove(&mut placed, order.challenge, proofs).await?;
        }
        placed
            .finalize_csr(order.request)
            .await
            .map_err(|error| self.failure(FINALIZE, error))?;
        placed
            .poll_certificate(&PATIENCE)
            .await
            .map_err(|error| self.failure(CERTIFICATE, error))
    }

    /// Places the proofs of all names, then has the authority look at them.
    async fn prove(
        &self,
        order: &mut Placed,
        challenge: Challenge,
        proofs: &Proofs,
    ) -> Result<(), Failure> {
        let kind = match challenge {
            Challenge::Http => ChallengeType::Http01,
            Challenge::TlsAlpn => ChallengeType::TlsAlpn01,
            Challenge::Dns => ChallengeType::Dns01,
        };
        // First all of them: two names of one zone share the time that its servers take.
        for place in [true, false] {
            let mut authorizations = order.authorizations();
            while let Some(authorization) = authorizations.next().await {
                let mut authorization =
                    authorization.map_err(|error| self.failure(AUTHORIZATION, error))?;
                if authorization.status != AuthorizationStatus::Pending {
                    continue;
                }
                let name = authorization.identifier().to_string();
                let Some(mut offered) = authorization.challenge(kind.clone()) else {
                    return Err(Failure::NotOffered {
                        name,
                        challenge: challenge.name(),
                    });
                };
                if place {
                    let authorization = offered.key_authorization();
                    proofs
                        .place(challenge, &name, &offered.token, authorization.as_str())
                        .await?;
                } else {
                    offered
                        .set_ready()
                        .await
                        .map_err(|error| self.failure(CHALLENGE, error))?;
                }
            }
        }
        let outcome = order.poll_ready(&PATIENCE).await;
        if matches!(outcome, Ok(OrderStatus::Ready)) {
            return Ok(());
        }
        // The order says that it failed, its authorizations say why.
        let mut authorizations = order.authorizations();
        while let Some(Ok(mut authorization)) = authorizations.next().await {
            let name = authorization.identifier().to_string();
            let Ok(state) = authorization.refresh().await else {
                continue;
            };
            let refused = state
                .challenges
                .iter()
                .find_map(|offered| offered.error.as_ref());
            if let Some(problem) = refused {
                return Err(Failure::NotProved {
                    name,
                    challenge: challenge.name(),
                    detail: problem.detail.clone().unwrap_or_default(),
                });
            }
        }
        match outcome {
            Ok(_) => Err(Failure::TooSlow),
            Err(error) => Err(self.failure(CHALLENGE, error)),
        }
    }

    fn failure(&self, what: &'static str, error: Error) -> Failure {
        match error {
            Error::Api(problem) => Failure::Refused {
                what,
                kind: kind(problem.r#type.as_deref()),
                detail: problem.detail.unwrap_or_default(),
                status: problem.status.unwrap_or_default(),
            },
            Error::Timeout(_) => Failure::TooSlow,
            error => Failure::Unreachable {
                directory: self.directory.clone(),
                source: Box::new(error),
            },
        }
    }
}

impl Client for Extended {
    fn register(&self) -> Answer<'_, Account> {
        Box::pin(async move {
            let transport = Transport::new(Arc::clone(&self.tls));
            let registered = self.registered(transport.clone()).await;
            registered.map_err(|failure| held_back(failure, &transport))
        })
    }

    fn order<'a>(
        &'a self,
        account: &'a Account,
        order: Order<'a>,
        proofs: &'a Proofs,
    ) -> Answer<'a, String> {
        Box::pin(async move {
            let transport = Transport::new(Arc::clone(&self.tls));
            let placed = self.placed(account, order, proofs, transport.clone()).await;
            placed.map_err(|failure| held_back(failure, &transport))
        })
    }
}

fn held_back(failure: Failure, transport: &Transport) -> Failed {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).ok();
    let now = now.and_then(|now| i64::try_from(now.as_secs()).ok());
    let said = transport.retry_after();
    Failed {
        retry_after: said.and_then(|said| seconds_of(&said, now.unwrap_or(0))),
        failure,
    }
}
