//! Signature Version 4: what is put into a request to prove who sends it, and that nobody changed it.
//!
//! The steps are those of "Create a signed AWS API request" in the AWS IAM User Guide.

use std::cell::RefCell;
use std::time::{Duration, UNIX_EPOCH};

use humantime::format_rfc3339_seconds;
use zeroize::Zeroizing;

use super::canonical::{CanonicalRequest, PathRule};
use super::keys::Keys;
use crate::digest::{hex, hmac_sha256, sha256};
use crate::http::body::Payload;
use crate::http::header_name::{AUTHORIZATION, HeaderName};
use crate::http::request::{AUTHORITY, METHOD, PATH, Request};
use crate::http::validation::credential_header_name;
use crate::refusal::Reason;
use crate::secret::Secret;
use crate::time::Time;

const ALGORITHM: &str = "AWS4-HMAC-SHA256";
const DATE: HeaderName = HeaderName::known("x-amz-date");
const CONTENT_SHA256: HeaderName = HeaderName::known("x-amz-content-sha256");
const SECURITY_TOKEN: HeaderName = HeaderName::known("x-amz-security-token");

/// The headers that a signature consists of.
pub const HEADERS: &[HeaderName] = &[AUTHORIZATION, DATE, CONTENT_SHA256, SECURITY_TOKEN];

/// What stands in place of the hash of a body that is not signed.
const UNSIGNED: &str = "UNSIGNED-PAYLOAD";

/// The last second of a year with four digits.
const LAST_SECOND: u64 = 253_402_300_799;

/// How requests to one server are signed.
pub struct Signer {
    /// The region that it is in.
    pub region: String,
    /// The service that it belongs to, as its ARNs have it.
    pub service: String,
    /// Whether the body is signed.
    pub signs_payload: bool,
    /// Headers to be signed beside those that always are.
    pub also: Vec<HeaderName>,
    /// The key of the day, as it is the same for all its requests.
    pub of_the_day: RefCell<Option<SigningKey>>,
}

/// A key for the requests of one day to one server.
pub struct SigningKey {
    keys: Keys,
    day: String,
    key: Zeroizing<[u8; 32]>,
}

/// The steps to a signature, so that each can be looked at.
pub struct Signature {
    /// The headers that are set, beside `Authorization`.
    pub headers: Vec<(HeaderName, Secret)>,
    /// The request in its canonical form.
    pub canonical: CanonicalRequest,
    /// What the signature is a keyed digest of.
    pub string_to_sign: String,
    /// The value of `Authorization`.
    pub authorization: Secret,
}

impl Signer {
    /// Signs the request: in its headers, those of a caller's signature are replaced.
    ///
    /// # Errors
    /// For a request without a path, and for one whose body has not been read, if that is signed.
    pub fn sign(&self, keys: &Keys, request: &mut Request<'_>) -> Result<(), Reason> {
        let all = request.headers.all();
        let hash = match self.signs_payload {
            true => hex(&request.payload.sha256().ok_or(Reason::Internal)?),
            false => UNSIGNED.to_owned(),
        };
        let signature = self.signature(keys, &all, &hash, (request.now)()).ok_or(Reason::NoPath)?;
        if keys.session_token.is_none() && all.iter().any(|(name, _)| name == SECURITY_TOKEN.as_str()) {
            request.headers.remove(SECURITY_TOKEN.as_str());
        }
        for (name, value) in &signature.headers {
            request.headers.set(name.as_str(), value.expose().as_bytes());
        }
        // Some services want it, and all of the body is at hand.
        if let (true, Payload::Read { length, .. }) = (self.signs_payload, request.payload) {
            request.headers.set("content-length", length.to_string().as_bytes());
        }
        request.headers.set(AUTHORIZATION.as_str(), signature.authorization.expose().as_bytes());
        Ok(())
    }

    /// The signature of a request with these headers, the pseudo-headers among them, and this hash of its body; none if
    /// it has no path.
    pub fn signature(&self, keys: &Keys, all: &[(String, Vec<u8>)], hash: &str, now: Time) -> Option<Signature> {
        let pseudo = |wanted| all.iter().find(|(name, _)| name == wanted).map(|(_, value)| value.as_slice());
        let path = pseudo(PATH).filter(|path| path.starts_with(b"/"))?;
        let time = timestamp(now);
        let day = time.get(..8)?;
        let mut headers = vec![(DATE, Secret::new(time.clone())), (CONTENT_SHA256, Secret::new(hash.to_owned()))];
        headers.extend(keys.session_token.as_ref().map(|token| (SECURITY_TOKEN, token.copy())));
        let ours = headers.iter().map(|(name, value)| (name.as_str(), value.expose().as_bytes()));
        let host = pseudo(AUTHORITY).map(|host| ("host", host));
        let theirs =
            all.iter().filter(|(name, _)| self.is_signed(name)).map(|(name, value)| (name.as_str(), value.as_slice()));
        let signed: Vec<_> = ours.chain(host).chain(theirs).collect();
        let canonical = CanonicalRequest::new(pseudo(METHOD)?, path, &signed, hash, self.path_rule());

        let scope = format!("{day}/{}/{}/aws4_request", self.region, self.service);
        let string_to_sign = [ALGORITHM, &time, &scope, &hex(&sha256(&canonical.text))].join("\n");
        let signature = hex(&self.with_key(keys, day, |key| hmac_sha256(key, string_to_sign.as_bytes())));
        let authorization = format!(
            "{ALGORITHM} Credential={}/{scope}, SignedHeaders={}, Signature={signature}",
            keys.access_key_id.expose(),
            canonical.signed_headers,
        );
        Some(Signature { headers, canonical, string_to_sign, authorization: Secret::new(authorization) })
    }

    /// Of the caller's headers, AWS wants signed what is its own, and the type of the body.
    fn is_signed(&self, name: &str) -> bool {
        let is_wanted = name.starts_with("x-amz-") || name == "content-type";
        let is_replaced = HEADERS.iter().any(|own| own.as_str() == name);
        (is_wanted || self.also.iter().any(|own| own.as_str() == name)) && !is_replaced
    }

    fn path_rule(&self) -> PathRule {
        match self.service.as_str() {
            "s3" | "s3express" | "s3-object-lambda" | "s3-outposts" => PathRule::AsIs,
            _ => PathRule::Normalized,
        }
    }

    /// Uses the key for this day. It is derived when the day or the keys are others than before.
    fn with_key<T>(&self, keys: &Keys, day: &str, sign: impl FnOnce(&[u8]) -> T) -> T {
        let mut latest = self.of_the_day.borrow_mut();
        match &*latest {
            Some(known) if known.day == day && known.keys.sign_as(keys) => sign(&*known.key),
            _ => sign(&*latest.insert(SigningKey::new(keys, day, &self.region, &self.service)).key),
        }
    }
}

impl SigningKey {
    fn new(keys: &Keys, day: &str, region: &str, service: &str) -> Self {
        let first = Secret::new(format!("AWS4{}", keys.secret_access_key.expose()));
        let mut key = Zeroizing::new(hmac_sha256(first.expose().as_bytes(), day.as_bytes()));
        for part in [region, service, "aws4_request"] {
            key = Zeroizing::new(hmac_sha256(&*key, part.as_bytes()));
        }
        let keys = Keys {
            access_key_id: keys.access_key_id.copy(),
            secret_access_key: keys.secret_access_key.copy(),
            session_token: None,
        };
        Self { keys, day: day.to_owned(), key }
    }
}

/// Reads `text` as the name of a header to be signed.
///
/// # Errors
/// As [`credential_header_name`], and for those that a signature consists of.
pub fn signed_header_name(text: &str) -> Result<HeaderName, &'static str> {
    let name = credential_header_name(text)?;
    if HEADERS.contains(&name) { Err("must not be a header of the signature itself") } else { Ok(name) }
}

/// As `20150830T123600Z`.
fn timestamp(now: Time) -> String {
    let since_epoch = Duration::from_secs(now.as_secs().min(LAST_SECOND));
    format_rfc3339_seconds(UNIX_EPOCH + since_epoch).to_string().replace(['-', ':'], "")
}
