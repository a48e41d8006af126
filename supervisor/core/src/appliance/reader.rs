//! Reads `appliance.toml` by hand, key by key, so that every mistake is found in one pass and has its line.
//!
//! Decides which keys exist and which type each has; what a value may be is decided in [`super::value`], and what may
//! stand together in [`super::check`].

mod edge;
mod field;
mod tls;

use toml::de::DeTable;

use self::field::{Field, Reader, line_of, one_line};
use super::value::{self, Email, Hostname, SiteAddress, Username, network};
use super::{
    Administrator, Appliance, Invalid, MAX_BYTES, Problem, Secret, Seed, Site, Stored, Update,
};
use super::{DnsName, check};

const KEYS: &str = "hostname, [site], [administrator], [tls], [edge], [update]";
const SITE_KEYS: &str = "address, names";
const UPDATE_KEYS: &str = "migration_patience_seconds";
const ADMINISTRATOR_KEYS: &str = "username, email";
const ADMINISTRATOR_SEED_KEYS: &str = "username, email, password";

/// Which of its readers a text is for: each knows which secrets may stand in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum File {
    /// With all secrets.
    Seed,
    /// With those that must be kept.
    Stored,
    /// With none.
    Public,
}

/// Reads a seed, which may hold the administrator's password.
///
/// # Errors
/// Every mistake in it.
pub fn parse_seed(bytes: &[u8]) -> Result<Seed, Invalid> {
    parse(bytes, File::Seed)
}

/// Reads the file that is kept on the machine. A password in it is a mistake.
///
/// # Errors
/// Every mistake in it.
pub fn parse_stored(bytes: &[u8]) -> Result<Stored, Invalid> {
    let Seed {
        appliance, secrets, ..
    } = parse(bytes, File::Stored)?;
    Ok(Stored { appliance, secrets })
}

/// Reads what everybody on the machine may read. Any secret in it is a mistake.
///
/// # Errors
/// Every mistake in it.
pub fn parse_public(bytes: &[u8]) -> Result<Appliance, Invalid> {
    parse(bytes, File::Public).map(|seed| seed.appliance)
}

fn parse(bytes: &[u8], file: File) -> Result<Seed, Invalid> {
    let text = decode(bytes)?;
    let table = DeTable::parse(text).map_err(|error| {
        // The parser's message names the character it met, never the rest of the line, which may be a password.
        let span = error.span().unwrap_or(0..0);
        Invalid(vec![Problem {
            key: String::new(),
            line: line_of(text, span.start),
            value: None,
            wrong: format!(
                "this is not TOML: {}",
                one_line(error.message().lines().next().unwrap_or_default())
            ),
            allowed: "KEY = \"VALUE\" lines under [TABLE] lines (example: hostname = \"atalaya\")"
                .to_owned(),
        }])
    })?;
    let mut reader = Reader::new(text, file);
    let seed = whole(&mut reader, table.get_ref());
    // Which keys go together is asked only once each is right by itself: else one mistake would be told twice.
    if reader.problems.is_empty() {
        let lines = &reader.lines;
        reader.problems = check::problems(&seed.appliance, &seed.secrets, file, lines);
    }
    if reader.problems.is_empty() {
        Ok(seed)
    } else {
        reader.problems.sort_by_key(|problem| problem.line);
        Err(Invalid(reader.problems))
    }
}

fn decode(bytes: &[u8]) -> Result<&str, Invalid> {
    let whole = |line, wrong: String, allowed: &str| {
        Invalid(vec![Problem {
            key: String::new(),
            line,
            value: None,
            wrong,
            allowed: allowed.to_owned(),
        }])
    };
    if bytes.len() > MAX_BYTES {
        return Err(whole(
            0,
            format!("the file has {} bytes", bytes.len()),
            "at most 65536 bytes",
        ));
    }
    // Editors on Windows put a byte order mark in front.
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    std::str::from_utf8(bytes).map_err(|error| {
        let line = 1 + bytes[..error.valid_up_to()]
            .iter()
            .filter(|b| **b == b'\n')
            .count();
        whole(
            line,
            "a byte is not UTF-8".to_owned(),
            "text in UTF-8, without NUL or other binary data",
        )
    })
}

fn whole(reader: &mut Reader<'_>, table: &DeTable<'_>) -> Seed {
    let mut out = Seed::default();
    for field in reader.fields_of("", table) {
        match field.name {
            "hostname" => reader.text(
                &field,
                value::HOSTNAME,
                Hostname::parse,
                &mut out.appliance.hostname,
            ),
            "site" => site(reader, &field, &mut out.appliance.site),
            "administrator" => administrator(reader, &field, &mut out),
            "tls" => tls::tls(reader, &field, &mut out.appliance.tls, &mut out.secrets),
            "edge" => edge::edge(reader, &field, &mut out.appliance.edge),
            "update" => update(reader, &field, &mut out.appliance.update),
            _ => reader.unknown(&field, KEYS),
        }
    }
    out
}

fn site(reader: &mut Reader<'_>, table: &Field<'_>, out: &mut Site) {
    for field in reader.fields(table) {
        match field.name {
            "address" => {
                let parse = |text: &str| SiteAddress::parse(text).map(Some);
                reader.text(&field, value::SITE_ADDRESS, parse, &mut out.address);
            }
            "names" => reader.list(&field, network::NAMES, DnsName::parse, &mut out.names),
            _ => reader.unknown(&field, SITE_KEYS),
        }
    }
}

fn administrator(reader: &mut Reader<'_>, table: &Field<'_>, out: &mut Seed) {
    let Administrator { username, email } = &mut out.appliance.administrator;
    for field in reader.fields(table) {
        match field.name {
            "username" => reader.text(&field, value::USERNAME, Username::parse, username),
            "email" => reader.text(&field, value::EMAIL, Email::parse, email),
            "password" if reader.file == File::Seed => {
                let parse = |text: &str| value::parse_password(text).map(Some);
                reader.hidden(&field, value::PASSWORD, parse, &mut out.password);
            }
            "password" => reader.push(
                &field,
                None,
                "a password is never kept in this file",
                "only in a seed, for the first boot",
            ),
            _ => {
                let allowed = match reader.file {
                    File::Seed => ADMINISTRATOR_SEED_KEYS,
                    File::Stored | File::Public => ADMINISTRATOR_KEYS,
                };
                reader.unknown(&field, allowed);
            }
        }
    }
}

fn update(reader: &mut Reader<'_>, table: &Field<'_>, out: &mut Update) {
    for field in reader.fields(table) {
        match field.name {
            // Less than a minute is an ordinary pause of a busy disk.
            "migration_patience_seconds" => {
                reader.number(&field, 60..=86_400, &mut out.migration_patience_seconds);
            }
            _ => reader.unknown(&field, UPDATE_KEYS),
        }
    }
}

/// A secret that the stored file keeps.
fn kept_secret(
    reader: &mut Reader<'_>,
    field: &Field<'_>,
    allowed: &str,
    parse: fn(&str) -> Result<Secret, &'static str>,
    out: &mut Option<Secret>,
) {
    if reader.file == File::Public {
        reader.push(
            field,
            None,
            "a secret is never in this file",
            "only in a seed and in the file that is kept",
        );
    } else {
        reader.hidden(field, allowed, |text| parse(text).map(Some), out);
    }
}
