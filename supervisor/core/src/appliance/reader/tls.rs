//! The keys of `[tls]`. Beside secrets nothing is shown in whose place one is easily pasted.

use super::super::tls::{Acme, Challenge, Dns, KeyAlgorithm, Mode, Secrets, Tls};
use super::super::value::network::{self, parse_dns_owner, parse_dns_server};
use super::super::value::{Email, pem, web};
use super::field::{Field, Reader};
use super::kept_secret;
use crate::appliance::Pem;

const KEYS: &str = "mode, [tls.acme], [tls.static]";
const STATIC_KEYS: &str = "certificate, key";
const ACME_KEYS: &str = "terms_agreed, directory, contact, authority, challenges, profile, [tls.acme.external_account], [tls.acme.dns]";
const ACCOUNT_KEYS: &str = "key_id, hmac";
const DNS_KEYS: &str = "server, zone, key_name, key_algorithm, key";

pub(super) fn tls(
    reader: &mut Reader<'_>,
    table: &Field<'_>,
    out: &mut Tls,
    secrets: &mut Secrets,
) {
    for field in reader.fields(table) {
        match field.name {
            "mode" => {
                let parse = |text: &str| Mode::parse(text).map(Some);
                reader.text(&field, web::MODE, parse, &mut out.mode);
            }
            "acme" => acme(reader, &field, &mut out.acme, secrets),
            "static" => fixed(reader, &field, out, secrets),
            _ => reader.unknown(&field, KEYS),
        }
    }
}

fn fixed(reader: &mut Reader<'_>, table: &Field<'_>, out: &mut Tls, secrets: &mut Secrets) {
    for field in reader.fields(table) {
        match field.name {
            "certificate" => {
                let parse = |text: &str| Pem::parse_certificates(text).map(Some);
                reader.hidden(&field, pem::CERTIFICATES, parse, &mut out.certificate);
            }
            "key" => kept_secret(
                reader,
                &field,
                pem::KEY,
                pem::parse_key,
                &mut secrets.static_key,
            ),
            _ => reader.unknown(&field, STATIC_KEYS),
        }
    }
}

fn acme(reader: &mut Reader<'_>, table: &Field<'_>, out: &mut Acme, secrets: &mut Secrets) {
    for field in reader.fields(table) {
        match field.name {
            "terms_agreed" => reader.flag(&field, &mut out.terms_agreed),
            "directory" => reader.hidden(
                &field,
                web::DIRECTORY,
                web::parse_directory,
                &mut out.directory,
            ),
            "contact" => reader.list(&field, web::CONTACT, Email::parse, &mut out.contact),
            "authority" => {
                let parse = |text: &str| Pem::parse_certificates(text).map(Some);
                reader.hidden(&field, pem::AUTHORITY, parse, &mut out.authority);
            }
            "challenges" => {
                let challenges = out.challenges.insert(Vec::new());
                reader.list(&field, web::CHALLENGES, Challenge::parse, challenges);
            }
            "profile" => {
                let parse = |text: &str| web::parse_profile(text).map(Some);
                reader.text(&field, web::PROFILE, parse, &mut out.profile);
            }
            "external_account" => {
                external_account(reader, &field, &mut out.external_account, secrets);
            }
            "dns" => dns(reader, &field, &mut out.dns, secrets),
            _ => reader.unknown(&field, ACME_KEYS),
        }
    }
}

fn external_account(
    reader: &mut Reader<'_>,
    table: &Field<'_>,
    key_id: &mut Option<String>,
    secrets: &mut Secrets,
) {
    for field in reader.fields(table) {
        match field.name {
            "key_id" => {
                let parse = |text: &str| web::parse_key_id(text).map(Some);
                reader.hidden(&field, web::KEY_ID, parse, key_id);
            }
            "hmac" => kept_secret(
                reader,
                &field,
                web::HMAC,
                web::parse_hmac,
                &mut secrets.external_account_hmac,
            ),
            _ => reader.unknown(&field, ACCOUNT_KEYS),
        }
    }
}

fn dns(reader: &mut Reader<'_>, table: &Field<'_>, out: &mut Option<Dns>, secrets: &mut Secrets) {
    let before = reader.problems.len();
    let (mut server, mut zone, mut key_name) = (None, None, None);
    let mut key_algorithm = KeyAlgorithm::default();
    for field in reader.fields(table) {
        match field.name {
            "server" => {
                let parse = |text: &str| parse_dns_server(text).map(Some);
                reader.text(&field, network::DNS_SERVER, parse, &mut server);
            }
            "zone" => {
                let parse = |text: &str| parse_dns_owner(text).map(Some);
                reader.text(&field, network::ZONE, parse, &mut zone);
            }
            // Tools write name and key as one text.
            "key_name" => {
                let parse = |text: &str| parse_dns_owner(text).map(Some);
                reader.hidden(&field, network::KEY_NAME, parse, &mut key_name);
            }
            "key_algorithm" => reader.text(
                &field,
                web::KEY_ALGORITHM,
                KeyAlgorithm::parse,
                &mut key_algorithm,
            ),
            "key" => kept_secret(
                reader,
                &field,
                web::DNS_KEY,
                web::parse_dns_key,
                &mut secrets.dns_key,
            ),
            _ => reader.unknown(&field, DNS_KEYS),
        }
    }
    match (server, key_name) {
        (Some(server), Some(key_name)) => {
            *out = Some(Dns {
                server,
                zone,
                key_name,
                key_algorithm,
            });
        }
        // Something else about it was wrong already.
        (_, _) if reader.problems.len() > before => {}
        (None, _) => reader.missing(table, "server", network::DNS_SERVER),
        (Some(_), None) => reader.missing(table, "key_name", network::KEY_NAME),
    }
}
