//! DNS-01's record, placed by dynamic update (RFC 2136) signed with TSIG (RFC 8945). Follows `_acme-challenge` where it is delegated by
//! CNAME, finds the zone, and waits until the zone's servers show the record. Speaks TCP only: answers fit, and nobody can forge them blind.

use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use base64::Engine;
use hickory_proto::op::update_message::{append, delete_by_rdata};
use hickory_proto::op::{Message, Query, ResponseCode};
use hickory_proto::rr::rdata::TXT;
use hickory_proto::rr::rdata::tsig::TsigAlgorithm;
use hickory_proto::rr::{Name, RData, Record, RecordSet, RecordType, TSigner};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::settings::Dns;

const TTL: u32 = 60;
/// How far the server's clock may be away, in seconds: the value that RFC 8945 section 10 recommends.
const FUDGE: u16 = 300;
/// For one question.
const LIMIT: Duration = Duration::from_secs(10);
/// How long the zone's other servers may take to get the record. After that the authority decides.
const SPREAD_LIMIT: Duration = Duration::from_secs(120);
const SPREAD_PAUSE: Duration = Duration::from_secs(2);
/// CNAMEs in a row.
const MOST_ALIASES: usize = 8;
const RESOLVERS: &str = "/etc/resolv.conf";

#[derive(Debug, thiserror::Error)]
pub enum DnsError {
    #[error("{what} in tls.acme.dns cannot be used")]
    Settings { what: &'static str },
    #[error("{name:?} is not a name for the DNS")]
    Name { name: String },
    #[error("failed to ask the DNS server {server}")]
    Ask {
        server: SocketAddr,
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    #[error(
        "the DNS server {server} refuses to change {owner} in the zone {zone}: {code}{}", hint(*code)
    )]
    Refused {
        server: SocketAddr,
        owner: Box<Name>,
        zone: Box<Name>,
        code: ResponseCode,
    },
    #[error(
        "the DNS server {server} names no zone for {owner}; tell it by tls.acme.dns.zone, or delegate the name to a zone that it serves"
    )]
    NoZone {
        server: SocketAddr,
        owner: Box<Name>,
    },
}

/// What RFC 8945 and RFC 2136 say by these, for people.
fn hint(code: ResponseCode) -> &'static str {
    match code {
        ResponseCode::NotAuth => {
            "; it does not know the TSIG key by this name, algorithm and value, its clock is another, or it has no such zone"
        }
        ResponseCode::Refused => "; its policy does not let this TSIG key change that name",
        _ => "; its log says why",
    }
}

/// The server that takes updates.
pub struct Zones {
    server: SocketAddr,
    zone: Option<Name>,
    signer: TSigner,
    resolvers: Vec<SocketAddr>,
}

/// A record that has to be taken away again.
pub struct Placed {
    zone: Name,
    owner: Name,
    value: String,
}

impl Zones {
    /// `key` is base64, as BIND's and Knot's tools write it.
    pub fn new(dns: &Dns, key: &str) -> Result<Self, DnsError> {
        let algorithm = match dns.key_algorithm.as_str() {
            "hmac-sha256" => TsigAlgorithm::HmacSha256,
            "hmac-sha384" => TsigAlgorithm::HmacSha384,
            "hmac-sha512" => TsigAlgorithm::HmacSha512,
            _ => {
                return Err(DnsError::Settings {
                    what: "key_algorithm",
                });
            }
        };
        let key = base64::engine::general_purpose::STANDARD
            .decode(key.trim())
            .map_err(|_| DnsError::Settings { what: "key" })?;
        let signer = TSigner::new(key, algorithm, absolute(&dns.key_name)?, FUDGE)
            .map_err(|_| DnsError::Settings { what: "key" })?;
        Ok(Self {
            server: dns.server,
            zone: dns.zone.as_deref().map(absolute).transpose()?,
            signer,
            resolvers: std::fs::read_to_string(RESOLVERS)
                .map(|text| parse_resolvers(&text))
                .unwrap_or_default(),
        })
    }

    /// Adds `value` to the TXT records of the name's challenge and waits until it can be seen.
    pub async fn place(&self, name: &str, value: &str) -> Result<Placed, DnsError> {
        let name = name.trim_start_matches("*.");
        let owner = self
            .delegated(absolute(&format!("_acme-challenge.{name}"))?)
            .await?;
        let placed = Placed {
            zone: self.zone_of(&owner).await?,
            owner,
            value: value.to_owned(),
        };
        self.update(
            &placed,
            append(record(&placed), placed.zone.clone(), false, false),
        )
        .await?;
        self.wait_until_spread(&placed).await;
        Ok(placed)
    }

    pub async fn remove(&self, placed: Placed) -> Result<(), DnsError> {
        let message = delete_by_rdata(record(&placed), placed.zone.clone(), false);
        self.update(&placed, message).await
    }

    /// Where the record really belongs: the end of the CNAMEs that begin at `owner`.
    async fn delegated(&self, mut owner: Name) -> Result<Name, DnsError> {
        for _ in 0..MOST_ALIASES {
            let mut answer = self.ask(self.server, &owner, RecordType::CNAME).await?;
            if !answer.authoritative {
                // Not its zone: whoever serves it is found as always.
                for resolver in &self.resolvers {
                    if let Ok(found) = self.ask(*resolver, &owner, RecordType::CNAME).await {
                        answer = found;
                        break;
                    }
                }
            }
            let alias = answer.answers.iter().find_map(|record| match &record.data {
                RData::CNAME(target) if record.name == owner => Some(target.0.clone()),
                _ => None,
            });
            match alias {
                Some(target) => owner = target,
                None => break,
            }
        }
        Ok(owner)
    }

    async fn zone_of(&self, owner: &Name) -> Result<Name, DnsError> {
        let none = || DnsError::NoZone {
            server: self.server,
            owner: Box::new(owner.clone()),
        };
        let zone = match &self.zone {
            Some(zone) => Some(zone.clone()),
            None => {
                let answer = self.ask(self.server, owner, RecordType::SOA).await?;
                answer
                    .answers
                    .iter()
                    .chain(&answer.authorities)
                    .find(|record| record.record_type() == RecordType::SOA)
                    .map(|record| record.name.clone())
            }
        };
        zone.filter(|zone| zone.zone_of(owner)).ok_or_else(none)
    }

    async fn update(&self, placed: &Placed, mut message: Message) -> Result<(), DnsError> {
        let asked = |source| DnsError::Ask {
            server: self.server,
            source,
        };
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        let now = now.map_err(|error| asked(error.into()))?.as_secs();
        let verifier = message
            .finalize(&self.signer, now)
            .map_err(|error| asked(error.into()))?;
        let bytes = exchange(self.server, &message).await.map_err(asked)?;
        let code = Message::from_vec(&bytes)
            .map_err(|error| asked(error.into()))?
            .response_code;
        if code != ResponseCode::NoError {
            return Err(DnsError::Refused {
                server: self.server,
                owner: Box::new(placed.owner.clone()),
                zone: Box::new(placed.zone.clone()),
                code,
            });
        }
        // That it was done is believed only if the server's signature is right.
        if let Some(mut verifier) = verifier {
            verifier
                .verify(&bytes)
                .map_err(|error| asked(error.into()))?;
        }
        Ok(())
    }

    /// Every server of the zone that can be asked shows the record, or the time is over.
    async fn wait_until_spread(&self, placed: &Placed) {
        let mut lacking = vec![self.server];
        if let Ok(answer) = self.ask(self.server, &placed.zone, RecordType::NS).await {
            for record in &answer.answers {
                if let RData::NS(host) = &record.data {
                    let host = (host.0.to_ascii(), 53);
                    if let Ok(Ok(found)) =
                        tokio::time::timeout(LIMIT, tokio::net::lookup_host(host)).await
                    {
                        lacking.extend(found.take(1));
                    }
                }
            }
        }
        let end = Instant::now() + SPREAD_LIMIT;
        while Instant::now() < end {
            let mut still = Vec::new();
            for server in lacking {
                let answer = self.ask(server, &placed.owner, RecordType::TXT).await;
                // Who does not answer cannot be waited for.
                if answer.is_ok_and(|answer| !shows(&answer, &placed.value)) {
                    still.push(server);
                }
            }
            if still.is_empty() {
                return;
            }
            lacking = still;
            tokio::time::sleep(SPREAD_PAUSE).await;
        }
    }

    async fn ask(
        &self,
        server: SocketAddr,
        name: &Name,
        kind: RecordType,
    ) -> Result<Message, DnsError> {
        let mut message = Message::query();
        message.metadata.recursion_desired = true;
        message.add_query(Query::query(name.clone(), kind));
        let asked = |source| DnsError::Ask { server, source };
        let bytes = exchange(server, &message).await.map_err(asked)?;
        Message::from_vec(&bytes).map_err(|error| asked(error.into()))
    }
}

fn shows(answer: &Message, value: &str) -> bool {
    answer.answers.iter().any(|record| match &record.data {
        RData::TXT(text) => text.txt_data.concat() == value.as_bytes(),
        _ => false,
    })
}

fn record(placed: &Placed) -> RecordSet {
    let data = RData::TXT(TXT::new(vec![placed.value.clone()]));
    RecordSet::from(Record::from_rdata(placed.owner.clone(), TTL, data))
}

/// One question over TCP (RFC 7766): two bytes of length before each message.
async fn exchange(
    server: SocketAddr,
    message: &Message,
) -> Result<Vec<u8>, Box<dyn std::error::Error + Send + Sync>> {
    let bytes = message.to_vec()?;
    let length = u16::try_from(bytes.len())?.to_be_bytes();
    let spoken = async {
        let mut stream = TcpStream::connect(server).await?;
        stream.write_all(&[&length[..], &bytes].concat()).await?;
        let mut answer = vec![0; usize::from(stream.read_u16().await?)];
        stream.read_exact(&mut answer).await?;
        Ok::<_, std::io::Error>(answer)
    };
    let answer = tokio::time::timeout(LIMIT, spoken).await??;
    // The message's first two bytes are its number.
    if answer.get(..2) != bytes.get(..2) {
        return Err("the answer belongs to another question".into());
    }
    Ok(answer)
}

fn absolute(name: &str) -> Result<Name, DnsError> {
    let mut parsed = Name::from_utf8(name).map_err(|_| DnsError::Name {
        name: name.to_owned(),
    })?;
    parsed.set_fqdn(true);
    Ok(parsed)
}

/// `nameserver` lines of resolv.conf(5).
fn parse_resolvers(text: &str) -> Vec<SocketAddr> {
    text.lines()
        .filter_map(|line| {
            let mut words = line.split_whitespace();
            (words.next() == Some("nameserver")).then_some(())?;
            Some(SocketAddr::new(words.next()?.parse::<IpAddr>().ok()?, 53))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn name_servers_are_read_and_nothing_else() {
        let text = "# nameserver 9.9.9.9\nsearch example.com\nnameserver 127.0.0.53\noptions edns0\nnameserver fe80::1%2\nnameserver ::1\n";
        let expected: Vec<SocketAddr> = ["127.0.0.53:53", "[::1]:53"]
            .map(|address| address.parse().unwrap())
            .into();
        assert_eq!(parse_resolvers(text), expected);
    }

    #[test]
    fn a_key_that_is_none_is_refused_without_being_said() {
        let dns = |algorithm: &str| Dns {
            server: "127.0.0.1:53".parse().unwrap(),
            zone: None,
            key_name: "k".to_owned(),
            key_algorithm: algorithm.to_owned(),
        };
        let refused = |algorithm, key| Zones::new(&dns(algorithm), key).err().unwrap().to_string();
        assert!(refused("hmac-sha256", "secret!").contains("key in tls.acme.dns"));
        assert!(!refused("hmac-sha256", "secret!").contains("secret"));
        assert!(refused("hmac-md5", "AAAA").contains("key_algorithm"));
        assert!(Zones::new(&dns("hmac-sha512"), "AAAA").is_ok());
    }
}
