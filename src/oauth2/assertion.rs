//! The assertion by which a client proves who it is (RFC 7523 §3), a signed JWT (RFC 7515).

use std::cell::RefCell;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Serialize;

use super::private_key::{Algorithm, PrivateKey};
use crate::digest::hmac_sha256;
use crate::secret::Secret;
use crate::time::Time;
use crate::token::Sign;

/// It is used at once, and once.
const LIFETIME: Duration = Duration::from_secs(60);

/// What assertions are made of.
#[derive(Debug)]
pub struct Assertion {
    /// What they are signed with.
    pub key: SigningKey,
    /// Whom they are for: the token URL or the issuer, as the server wants it.
    pub audience: String,
    /// The last one that was sent, as no log may show it.
    last: RefCell<Option<Secret>>,
}

/// What an assertion is signed with.
#[derive(Debug)]
pub enum SigningKey {
    /// The client's secret: `client_secret_jwt`, HS256.
    Secret(Secret),
    /// A private key: `private_key_jwt`, with the name that the server knows its public half by.
    Private(PrivateKey, Option<String>),
}

#[derive(Serialize)]
struct Header<'a> {
    alg: &'a str,
    typ: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    kid: Option<&'a str>,
}

#[derive(Serialize)]
struct Claims<'a> {
    iss: &'a str,
    sub: &'a str,
    aud: &'a str,
    jti: String,
    iat: u64,
    exp: u64,
}

impl Assertion {
    /// Assertions that are signed with `key`, for `audience`.
    pub fn new(key: SigningKey, audience: String) -> Self {
        Self { key, audience, last: RefCell::default() }
    }

    /// An assertion to be sent. No log may show it from now on.
    ///
    /// # Errors
    /// If the private key cannot sign.
    pub fn send(&self, id: &str, now: Time, random: [u64; 2], sign: Sign<'_>) -> Result<Secret, String> {
        let assertion = self.sign(id, now, random, sign)?;
        *self.last.borrow_mut() = Some(assertion.copy());
        Ok(assertion)
    }

    /// An assertion that this is the client `id`. `random` must not come twice.
    ///
    /// # Errors
    /// If the private key cannot sign.
    pub fn sign(&self, id: &str, now: Time, random: [u64; 2], sign: Sign<'_>) -> Result<Secret, String> {
        let (alg, kid) = match &self.key {
            SigningKey::Secret(_) => ("HS256", None),
            SigningKey::Private(key, kid) => (key.algorithm().name(), kid.as_deref()),
        };
        let header = Header { alg, typ: "JWT", kid };
        let [high, low] = random;
        let claims = Claims {
            iss: id,
            sub: id,
            aud: &self.audience,
            jti: format!("{high:016x}{low:016x}"),
            iat: now.as_secs(),
            exp: now.after(LIFETIME).as_secs(),
        };
        let input = format!("{}.{}", encode(&header), encode(&claims));
        let signature = match &self.key {
            SigningKey::Secret(secret) => hmac_sha256(secret.expose().as_bytes(), input.as_bytes()).to_vec(),
            SigningKey::Private(key, _) => {
                let signature = sign(key.pem(), input.as_bytes())?;
                match key.algorithm() {
                    Algorithm::Rs256 => signature,
                    Algorithm::Es256 => raw_ecdsa(&signature).ok_or("Envoy gave no ECDSA signature")?,
                }
            }
        };
        Ok(Secret::new(format!("{input}.{}", URL_SAFE_NO_PAD.encode(signature))))
    }

    /// The name of the method, and what tells this assertion from others, beside the secret.
    pub fn identity(&self) -> [&str; 3] {
        match &self.key {
            SigningKey::Secret(_) => ["client_secret_jwt", "", &self.audience],
            SigningKey::Private(_, id) => ["private_key_jwt", id.as_deref().unwrap_or_default(), &self.audience],
        }
    }

    /// All that no log may show. The lines around a key in PEM are not secret, and have words that descriptions have.
    pub fn hidden(&self) -> Vec<Secret> {
        let secret = match &self.key {
            SigningKey::Secret(secret) => secret.copy(),
            SigningKey::Private(key, _) => {
                let lines = key.pem().expose().lines().filter(|line| !line.trim_start().starts_with("-----"));
                Secret::new(lines.collect())
            }
        };
        let last = self.last.borrow().as_ref().map(Secret::copy);
        [secret].into_iter().chain(last).collect()
    }

    /// What they are signed with, as text.
    pub fn secret(&self) -> &Secret {
        match &self.key {
            SigningKey::Secret(secret) => secret,
            SigningKey::Private(key, _) => key.pem(),
        }
    }
}

fn encode(part: &impl Serialize) -> String {
    URL_SAFE_NO_PAD.encode(serde_json::to_vec(part).unwrap_or_default())
}

/// Makes r‖s, of 32 bytes each (RFC 7518 §3.4), of a signature in DER: a sequence of two integers.
fn raw_ecdsa(der: &[u8]) -> Option<Vec<u8>> {
    let [0x30, length, integers @ ..] = der else { return None };
    if usize::from(*length) != integers.len() {
        return None;
    }
    let (r, rest) = integer(integers)?;
    let (s, rest) = integer(rest)?;
    if !rest.is_empty() {
        return None;
    }
    let mut raw = vec![0; 32usize.checked_sub(r.len())?];
    raw.extend_from_slice(r);
    raw.resize(raw.len() + 32usize.checked_sub(s.len())?, 0);
    raw.extend_from_slice(s);
    Some(raw)
}

/// The value of the integer that `der` begins with, without leading zeros, and what is behind it.
fn integer(der: &[u8]) -> Option<(&[u8], &[u8])> {
    let [0x02, length, rest @ ..] = der else { return None };
    let (mut value, rest) = rest.split_at_checked(usize::from(*length))?;
    while let [0, less @ ..] = value {
        value = less;
    }
    Some((value, rest))
}

#[cfg(test)]
mod tests {
    use super::raw_ecdsa;

    #[test]
    fn an_ecdsa_signature_in_der_becomes_two_numbers_of_32_bytes() {
        let full = [&[0x30, 70, 0x02, 33, 0][..], &[0x80; 32], &[0x02, 33, 0], &[0xff; 32]].concat();
        assert_eq!(raw_ecdsa(&full).unwrap(), [[0x80; 32], [0xff; 32]].concat());
        let short = [0x30, 7, 0x02, 1, 5, 0x02, 2, 1, 2];
        let mut expected = [0; 64];
        expected[31] = 5;
        expected[62] = 1;
        expected[63] = 2;
        assert_eq!(raw_ecdsa(&short).unwrap(), expected);
        let long = [&[0x30, 38, 0x02, 33][..], &[1; 33], &[0x02, 1, 1]].concat();
        for broken in [&[][..], &[0x30], &[0x30, 3, 0x02, 1, 5], &[0x30, 4, 0x02, 1, 5, 0], &short[..8], &long] {
            assert_eq!(raw_ecdsa(broken), None, "{broken:?}");
        }
    }
}
