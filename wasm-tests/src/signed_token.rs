//! Tokens that one process issues and another checks: both know a key, so neither has to ask the other.

use std::fmt::{self, Debug, Formatter};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

/// How long after its end a token is still taken: whoever holds it counts from when it came, and in parts of seconds.
const LEEWAY: Duration = Duration::from_secs(2);

/// What signs tokens, and checks them.
#[derive(Clone)]
pub struct SigningKey(Hmac<Sha256>);

impl SigningKey {
    /// The key made of this secret.
    ///
    /// # Errors
    /// If the secret is empty: anybody could sign with that.
    pub fn new(secret: &str) -> Result<Self, String> {
        if secret.is_empty() {
            return Err("the key that signs tokens is empty".to_owned());
        }
        Hmac::new_from_slice(secret.as_bytes()).map(Self).map_err(|error| error.to_string())
    }

    /// The token number `number`, good for `lifetime` seconds from now.
    pub fn sign(&self, number: usize, lifetime: u64) -> String {
        self.sign_until(number, now().as_secs().saturating_add(lifetime))
    }

    fn sign_until(&self, number: usize, expiry: u64) -> String {
        let claims = format!("{expiry}.{number}");
        let signature = self.signing(&claims).finalize().into_bytes();
        format!("{claims}.{}", URL_SAFE_NO_PAD.encode(signature))
    }

    /// Whether `token` was signed with this key and has not expired.
    pub fn accepts(&self, token: &str) -> bool {
        let Some((claims, signature)) = token.rsplit_once('.') else { return false };
        let expiry = claims.split('.').next().and_then(|expiry| expiry.parse().ok());
        let signature = URL_SAFE_NO_PAD.decode(signature).unwrap_or_default();
        let is_signed = self.signing(claims).verify_slice(&signature).is_ok();
        is_signed && expiry.is_some_and(|expiry| now() < Duration::from_secs(expiry) + LEEWAY)
    }

    fn signing(&self, claims: &str) -> Hmac<Sha256> {
        self.0.clone().chain_update(claims)
    }
}

impl Debug for SigningKey {
    fn fmt(&self, formatter: &mut Formatter<'_>) -> fmt::Result {
        formatter.write_str("SigningKey")
    }
}

fn now() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_good_for_its_key_and_its_time() {
        let (key, other) = (SigningKey::new("key").unwrap(), SigningKey::new("other").unwrap());
        let token = key.sign(1, 60);
        assert!(key.accepts(&token));
        assert!(!other.accepts(&token));
        assert!(key.accepts(&key.sign_until(1, now().as_secs())), "just expired");
        assert!(!key.accepts(&key.sign_until(1, now().as_secs() - 2 * LEEWAY.as_secs())), "expired");
        assert_ne!(token, key.sign(2, 60));
    }

    #[test]
    fn what_was_changed_or_never_signed_is_no_token() {
        let key = SigningKey::new("key").unwrap();
        let token = key.sign(1, 60);
        let (_, signature) = token.rsplit_once('.').unwrap();
        for forged in
            [&format!("99999999999.1.{signature}"), &token[1..], &token[..token.len() - 1], "", ".", "token-1"]
        {
            assert!(!key.accepts(forged), "{forged}");
        }
        assert!(SigningKey::new("").is_err());
    }
}
