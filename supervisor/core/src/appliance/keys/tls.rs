//! Where certificates come from. Beside secrets nothing is shown in whose place one is easily pasted.

use crate::appliance::Pem;
use crate::appliance::key::{
    Flag, Form, Key, Secrecy, hidden, maybe, maybe_several, place, several, text,
};
use crate::appliance::tls::{Challenge, KeyAlgorithm, Mode};
use crate::appliance::value::{Email, network, pem, web};

pub(super) static KEYS: &[Key] = &[
    Key::new(
        "tls.mode",
        &maybe(place!(appliance.tls.mode), Mode::parse, Form::Word(Mode::WORDS)),
        "where the certificate comes from: the machine's own authority, an ACME authority, this file. Needed only where two of them stand in \
         the file",
    )
    .absent("`\"acme\"` if its terms are agreed to, `\"static\"` if there is a pair, else `\"internal\"`"),
    Key::new(
        "tls.acme.terms_agreed",
        &Flag(place!(appliance.tls.acme.terms_agreed)),
        "you have read the authority's terms and agree; nothing is asked of it before",
    ),
    Key::new(
        "tls.acme.directory",
        &text(place!(appliance.tls.acme.directory), web::parse_directory, Form::Text(web::DIRECTORY)),
        "the authority",
    )
    .unshown(),
    Key::new(
        "tls.acme.contact",
        &several(place!(appliance.tls.acme.contact), Email::parse, Form::List(web::CONTACT)),
        "told to the authority",
    ),
    Key::new(
        "tls.acme.authority",
        &maybe(place!(appliance.tls.acme.authority), Pem::parse_certificates, Form::Text(pem::AUTHORITY)),
        "whom to trust for the directory's own TLS: for an authority inside",
    )
    .unshown()
    .absent("the public ones"),
    Key::new(
        "tls.acme.challenges",
        &maybe_several(place!(appliance.tls.acme.challenges), Challenge::parse, Form::Words(Challenge::WORDS)),
        "how the names are proved: on port 443, on port 80, in the DNS",
    )
    .absent("`[\"dns-01\"]` with `[tls.acme.dns]`, else `[\"tls-alpn-01\", \"http-01\"]`"),
    Key::new(
        "tls.acme.profile",
        &maybe(place!(appliance.tls.acme.profile), web::parse_profile, Form::Text(web::PROFILE)),
        "a profile that the authority offers",
    ),
    Key::new(
        "tls.acme.external_account.key_id",
        &maybe(place!(appliance.tls.acme.external_account), web::parse_key_id, Form::Text(web::KEY_ID)),
        "where an authority asks for an account with it (External Account Binding)",
    )
    .unshown(),
    Key::new(
        "tls.acme.external_account.hmac",
        &hidden(place!(secrets.external_account_hmac), web::parse_hmac, Form::Text(web::HMAC)),
        "the key that belongs to it",
    )
    .secret(Secrecy::Kept),
    Key::new(
        "tls.acme.dns.server",
        &maybe(place!(appliance.tls.acme.dns.server), network::parse_dns_server, Form::Text(network::DNS_SERVER)),
        "takes updates by RFC 2136",
    )
    .absent("required for dns-01"),
    Key::new(
        "tls.acme.dns.zone",
        &maybe(place!(appliance.tls.acme.dns.zone), network::parse_dns_owner, Form::Text(network::ZONE)),
        "the zone to update. Where `_acme-challenge.NAME` is a CNAME, that of its target",
    )
    .absent("the server is asked"),
    Key::new(
        "tls.acme.dns.key_name",
        // Tools write name and key as one text.
        &maybe(place!(appliance.tls.acme.dns.key_name), network::parse_dns_owner, Form::Text(network::KEY_NAME)),
        "the TSIG key",
    )
    .unshown()
    .absent("required for dns-01"),
    Key::new(
        "tls.acme.dns.key_algorithm",
        &text(place!(appliance.tls.acme.dns.key_algorithm), KeyAlgorithm::parse, Form::Word(KeyAlgorithm::WORDS)),
        "how updates are signed",
    ),
    Key::new(
        "tls.acme.dns.key",
        &hidden(place!(secrets.dns_key), web::parse_dns_key, Form::Text(web::DNS_KEY)),
        "the TSIG key itself",
    )
    .secret(Secrecy::Kept)
    .absent("required for dns-01"),
    Key::new(
        "tls.static.certificate",
        &maybe(place!(appliance.tls.certificate), Pem::parse_certificates, Form::Text(pem::CERTIFICATES)),
        "text between the blocks is left out",
    )
    .unshown(),
    Key::new(
        "tls.static.key",
        &hidden(place!(secrets.static_key), pem::parse_key, Form::Text(pem::KEY)),
        "the certificate's key",
    )
    .secret(Secrecy::Kept),
];
