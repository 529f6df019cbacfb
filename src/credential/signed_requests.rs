//! Requests that are signed for AWS: with keys of the configuration, or with such as are fetched.

use super::fetched_token::TokenUse;
use super::secret_source::SecretSource;
use super::{Applied, Credential, Refused, challenge};
use crate::aws::keys::Keys;
use crate::aws::signer::{HEADERS, Signer};
use crate::http::body::BodyLimits;
use crate::http::header_name::HeaderName;
use crate::http::request::{Attributes, Request};
use crate::http::response::ResponseHead;
use crate::refusal::Reason;
use crate::secret::Secret;

/// How the requests to a server are signed, and what its answers mean.
pub struct SignedRequests {
    /// How.
    pub signer: Signer,
    /// The limits of a body that is signed.
    pub limits: BodyLimits,
}

impl TokenUse for SignedRequests {
    /// A token is keys as text.
    fn apply(&self, token: &Secret, request: &mut Request<'_>) -> Result<(), Reason> {
        let keys = Keys::from_text(token).ok_or(Reason::Internal)?;
        self.signer.sign(&keys, request)
    }

    fn header_names(&self) -> &[HeaderName] {
        HEADERS
    }

    fn body_limits(&self) -> Option<BodyLimits> {
        self.signer.signs_payload.then_some(self.limits)
    }

    /// AWS says 403 whatever it is about, and names that in a header.
    fn refused_by(&self, response: &ResponseHead) -> Option<Refused> {
        let error = response.aws_error().filter(|_| response.status() == b"403");
        let Some(error) = error else { return challenge(response) };
        match error_name(error) {
            b"ExpiredTokenException"
            | b"ExpiredToken"
            | b"InvalidClientTokenId"
            | b"InvalidAccessKeyId"
            | b"UnrecognizedClientException" => Some(Refused::Unauthorized),
            b"IncompleteSignatureException"
            | b"InvalidSignatureException"
            | b"SignatureDoesNotMatch"
            | b"RequestTimeTooSkewed"
            | b"RequestExpired" => Some(Refused::Unaccepted),
            // What Amazon API Gateway answers where it has no such path or method.
            b"MissingAuthenticationTokenException" => None,
            _ => Some(Refused::Forbidden),
        }
    }
}

/// The name of an error in `x-amzn-errortype`, without its namespace before a `#` and the URL behind a `:`, which services may
/// add (restJson1 protocol of Smithy, "Operation error serialization").
fn error_name(error: &[u8]) -> &[u8] {
    let name = error.split(|byte| *byte == b':').next().unwrap_or_default();
    name.rsplit(|byte| *byte == b'#').next().unwrap_or_default()
}

/// Where keys are that are not fetched.
pub enum KeySource {
    /// In the configuration.
    Written(Keys),
    /// Some of their parts are in the filter state of each request.
    Read {
        /// The name of the key.
        id: SecretSource,
        /// The key.
        secret: SecretSource,
        /// The session token of a temporary key.
        token: Option<SecretSource>,
    },
}

impl KeySource {
    /// These parts.
    pub fn new(id: SecretSource, secret: SecretSource, token: Option<SecretSource>) -> Self {
        let source = Self::Read { id, secret, token };
        match source.read(&|_| None) {
            Ok(keys) => Self::Written(keys),
            Err(_) => source,
        }
    }

    /// Reads the keys, some of them from `attributes`.
    fn read(&self, attributes: Attributes<'_>) -> Result<Keys, Reason> {
        let Self::Read { id, secret, token } = self else { return Err(Reason::Internal) };
        let part = |source: &SecretSource| source.secret(attributes, &|_| Ok(()));
        let token = token.as_ref().map(part).transpose()?;
        let token = token.as_ref().map(|token| token.expose());
        Keys::new(part(id)?.expose(), part(secret)?.expose(), token).map_err(|_| Reason::SecretInvalid)
    }
}

/// The credential of a server whose keys are not fetched.
pub struct WithKeys {
    /// How its requests are signed.
    pub usage: SignedRequests,
    /// With what.
    pub keys: KeySource,
}

impl Credential for WithKeys {
    fn apply(&self, request: &mut Request<'_>) -> Result<Applied, Reason> {
        match &self.keys {
            KeySource::Written(keys) => self.usage.signer.sign(keys, request)?,
            source => self.usage.signer.sign(&source.read(request.attributes)?, request)?,
        }
        Ok(Applied::Injected(None))
    }

    fn body_limits(&self) -> Option<BodyLimits> {
        self.usage.body_limits()
    }

    fn header_names(&self) -> &[HeaderName] {
        self.usage.header_names()
    }

    fn refused_by(&self, response: &ResponseHead) -> Option<Refused> {
        self.usage.refused_by(response)
    }
}
