//! Which networks may come in: for the whole site, and for administrators' calls. Pure. An empty list admits everybody.

use std::net::IpAddr;

use hyper::Method;
use ipnet::IpNet;

use super::address::is_in;
use super::administrators;
use crate::settings::Access;

/// Where an authority looks for its challenge on port 80: open to everybody, as nobody knows from where it looks.
const CHALLENGES: &str = "/.well-known/acme-challenge/";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Denied {
    /// Everything of the site.
    Site,
    /// This call, which only administrators make.
    Administrators,
}

/// A request over TLS.
pub fn assess(access: &Access, client: IpAddr, method: &Method, path: &str) -> Result<(), Denied> {
    if !admits(&access.site, client) {
        return Err(Denied::Site);
    }
    if !admits(&access.administrators, client) && administrators::is_call(method, path) {
        return Err(Denied::Administrators);
    }
    Ok(())
}

/// A request on port 80, where nothing of Mattermost is.
pub fn assess_plain(access: &Access, client: IpAddr, path: &str) -> Result<(), Denied> {
    if admits(&access.site, client) || path.starts_with(CHALLENGES) {
        Ok(())
    } else {
        Err(Denied::Site)
    }
}

fn admits(networks: &[IpNet], client: IpAddr) -> bool {
    networks.is_empty() || is_in(networks, client)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn networks(list: &[&str]) -> Vec<IpNet> {
        list.iter().map(|net| net.parse().unwrap()).collect()
    }

    #[test]
    fn each_list_is_for_its_own() {
        let access = Access {
            site: networks(&["10.0.0.0/8", "2001:db8::/32"]),
            administrators: networks(&["10.0.5.0/24", "2001:db8:5::/48"]),
            ..Access::default()
        };
        for (client, page, config) in [
            ("10.0.5.7", Ok(()), Ok(())),
            ("2001:db8:5::7", Ok(()), Ok(())),
            ("10.1.1.1", Ok(()), Err(Denied::Administrators)),
            ("2001:db8:6::7", Ok(()), Err(Denied::Administrators)),
            ("192.0.2.1", Err(Denied::Site), Err(Denied::Site)),
            ("2001:db9::1", Err(Denied::Site), Err(Denied::Site)),
        ] {
            let client = client.parse().unwrap();
            let ask = |path| assess(&access, client, &Method::GET, path);
            assert_eq!(
                (ask("/"), ask("/api/v4/config")),
                (page, config),
                "{client}"
            );
            let plain = |path| assess_plain(&access, client, path);
            assert_eq!(plain("/"), page);
            assert_eq!(plain("/.well-known/acme-challenge/token"), Ok(()));
        }
    }

    #[test]
    fn no_list_closes_nothing() {
        let client = "192.0.2.1".parse().unwrap();
        let access = Access::default();
        assert_eq!(
            assess(&access, client, &Method::PUT, "/api/v4/config"),
            Ok(())
        );
        assert_eq!(assess_plain(&access, client, "/"), Ok(()));
    }
}
