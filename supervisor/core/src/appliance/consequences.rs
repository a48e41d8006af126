//! What a change of the configuration means for certificates, and so for the people who trust them.
//!
//! Decides whether the machine's own authority still covers what it would have to sign. It signs only for the names that
//! it was made for and what is below them (RFC 5280, 4.2.1.10), and for private networks; what it may sign can never be
//! changed afterwards, so a name outside means another authority. It must not know how a certificate is made.

use std::fmt;

use super::tls::Mode;
use super::{Appliance, Host};
use crate::authority::{base, covers, is_private};

/// What follows from a change, the gravest only.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CertificateConsequence {
    /// The certificate stays as it is.
    None,
    /// Another certificate that the same devices trust.
    Renewed,
    /// Devices will have to trust the machine's own authority, which nobody needed before.
    OwnAuthority,
    /// The machine's own authority does not cover these names and addresses: a new one, that every device must trust.
    NewAuthority { outside: Vec<String> },
}

/// Compares what holds with what would.
#[must_use]
pub fn certificate_consequences(old: &Appliance, new: &Appliance) -> CertificateConsequence {
    let (before, after) = (old.tls.mode(), new.tls.mode());
    if after != Mode::Internal {
        return if old.tls == new.tls && names(old) == names(new) {
            CertificateConsequence::None
        } else {
            CertificateConsequence::Renewed
        };
    }
    if before != Mode::Internal {
        return CertificateConsequence::OwnAuthority;
    }
    let covered = names(old);
    let outside: Vec<String> = names(new)
        .into_iter()
        .filter(|name| !covers(&covered, name))
        .chain(public_address(new).filter(|_| public_address(old) != public_address(new)))
        .collect();
    if !outside.is_empty() {
        CertificateConsequence::NewAuthority { outside }
    } else if names(old) == names(new) && old.site.address == new.site.address {
        CertificateConsequence::None
    } else {
        CertificateConsequence::Renewed
    }
}

/// All DNS names of the certificate; a `*.` in front changes nothing about whom it belongs to.
fn names(appliance: &Appliance) -> Vec<String> {
    let site = match appliance.site.address.as_ref().map(|site| site.host()) {
        Some(Host::Name(name)) => Some(name.as_str()),
        Some(Host::Address(_)) | None => None,
    };
    let further = appliance.site.names.iter().map(|name| base(name.as_str()));
    let mut names: Vec<String> = site
        .into_iter()
        .chain(further)
        .chain([appliance.hostname.as_str(), "localhost"])
        .map(str::to_owned)
        .collect();
    names.sort();
    names.dedup();
    names
}

/// The site's address if it is one that the authority does not cover in any case.
fn public_address(appliance: &Appliance) -> Option<String> {
    match appliance.site.address.as_ref()?.host() {
        Host::Address(address) if !is_private(*address) => Some(address.to_string()),
        Host::Address(_) | Host::Name(_) => None,
    }
}

impl fmt::Display for CertificateConsequence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::None => f.write_str("the certificate stays as it is"),
            Self::Renewed => f.write_str("another certificate, trusted by the same devices"),
            Self::OwnAuthority => f.write_str(
                "the certificate will come from this machine's own authority: every device must trust it (http://MACHINE/ca)",
            ),
            Self::NewAuthority { outside } => write!(
                f,
                "this machine's authority does not cover {}: it gets a new one, and every device must trust it again (http://MACHINE/ca)",
                outside.join(", ")
            ),
        }
    }
}
