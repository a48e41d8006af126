//! Password hashes: PBKDF2 with HMAC-SHA-256, stored with their own cost and salt. Passwords are never stored or logged.

use base64::{Engine, engine::general_purpose::STANDARD_NO_PAD as B64};
use pbkdf2::pbkdf2_hmac_array;
use pbkdf2::sha2::Sha256;

/// Far below what a real server takes (600,000): this one is also run inside emulated machines.
const ROUNDS: u32 = 100_000;

/// The stored form of a password: `$pbkdf2$f=SHA256,w=ROUNDS,l=32$SALT$HASH`.
pub fn hash(password: &str) -> String {
    let salt = crate::ids::random::<16>();
    let hash = pbkdf2_hmac_array::<Sha256, 32>(password.as_bytes(), &salt, ROUNDS);
    format!(
        "$pbkdf2$f=SHA256,w={ROUNDS},l=32${}${}",
        B64.encode(salt),
        B64.encode(hash)
    )
}

/// Is this the password of that stored form? Anything unreadable is a plain no.
pub fn matches(password: &str, stored: &str) -> bool {
    let Some((rounds, salt, wanted)) = parse(stored) else {
        return false;
    };
    let hash = pbkdf2_hmac_array::<Sha256, 32>(password.as_bytes(), &salt, rounds);
    // No early return on the first different byte.
    wanted.len() == hash.len() && wanted.iter().zip(hash).fold(0, |d, (a, b)| d | (a ^ b)) == 0
}

fn parse(stored: &str) -> Option<(u32, Vec<u8>, Vec<u8>)> {
    let mut parts = stored.split('$').skip(1);
    if parts.next() != Some("pbkdf2") {
        return None;
    }
    let parameters = parts.next()?;
    let rounds = parameters
        .split(',')
        .find_map(|p| p.strip_prefix("w="))?
        .parse()
        .ok()?;
    let salt = B64.decode(parts.next()?).ok()?;
    let hash = B64.decode(parts.next()?).ok()?;
    Some((rounds, salt, hash))
}

#[cfg(test)]
mod tests {
    #[test]
    fn only_the_right_password_matches() {
        let stored = super::hash("Adm1n-Passw0rd!");
        assert!(!stored.contains("Adm1n"));
        assert!(super::matches("Adm1n-Passw0rd!", &stored));
        assert!(!super::matches("Adm1n-Passw0rd", &stored));
        assert!(!super::matches("", ""));
        assert!(!super::matches("x", "$pbkdf2$w=nonsense$$"));
    }
}
