//! The machine, its site, its first administrator, and its updates.

use crate::appliance::DnsName;
use crate::appliance::key::{Form, Key, Number, Secrecy, hidden, maybe, place, several, text};
use crate::appliance::value::{self, Email, Hostname, SiteAddress, Username, network};

pub(super) static KEYS: &[Key] = &[
    Key::new(
        "hostname",
        &text(
            place!(appliance.hostname),
            Hostname::parse,
            Form::Text(value::HOSTNAME),
        ),
        "the machine's name",
    ),
    Key::new(
        "site.address",
        &maybe(
            place!(appliance.site.address),
            SiteAddress::parse,
            Form::Text(value::SITE_ADDRESS),
        ),
        "what people type; Mattermost's SiteURL. Every other name and address is sent on to it",
    )
    .absent("`https://` and the machine's first address"),
    Key::new(
        "site.names",
        &several(
            place!(appliance.site.names),
            DnsName::parse,
            Form::List(network::NAMES),
        ),
        "others that the certificate is for, at most 100",
    ),
    Key::new(
        "administrator.username",
        &text(
            place!(appliance.administrator.username),
            Username::parse,
            Form::Text(value::USERNAME),
        ),
        "the first administrator, made once",
    ),
    Key::new(
        "administrator.email",
        &text(
            place!(appliance.administrator.email),
            Email::parse,
            Form::Text(value::EMAIL),
        ),
        "their e-mail address",
    ),
    Key::new(
        "administrator.password",
        &hidden(
            place!(password),
            value::parse_password,
            Form::Text(value::PASSWORD),
        ),
        "their first password",
    )
    .secret(Secrecy::Once)
    .absent("a random one, shown on the console"),
];

pub(super) static UPDATE: &[Key] = &[Key::new(
    "update.migration_patience_seconds",
    // Less than a minute is an ordinary pause of a busy disk.
    &Number(
        place!(appliance.update.migration_patience_seconds),
        60..=86_400,
        "s",
    ),
    "so long a migration may neither write nor compute in the trial of an update; then the former version comes back \
     ([updates.md](updates.md))",
)];
