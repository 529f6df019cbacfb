//! `AWS_SIGV4`: each request is signed, for a server behind AWS IAM.

use std::cell::RefCell;

use serde::Deserialize;

use super::secret_source::SecretSource;
use super::{Applied, Credential, Kind, Refused, ServerTokens, challenge};
use crate::aws::keys::{self, Keys};
use crate::aws::signer::{HEADERS, Signer};
use crate::config::error::{Checks, Rule};
use crate::config::rules::signed_header_name;
use crate::config::whole::Bytes;
use crate::header_name::HeaderName;
use crate::refusal::Reason;
use crate::request::{Attributes, Headers, Request};

/// What `maxBodyBytes` is if not given: as much as Envoy holds back by default.
const MAX_BODY: u64 = 1024 * 1024;

/// The keys of `AWS_SIGV4`.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct AwsSigV4 {
    /// The region that the server is in.
    region: String,
    /// The service that the server belongs to, as in `bedrock-agentcore`, `execute-api`, `lambda`.
    service: String,
    /// Whether the body is signed; it is if not given.
    payload: Option<SignedPayload>,
    /// The longest body that is held back to be signed; 1048576 if not given.
    max_body_bytes: Option<Bytes>,
    /// Headers to be signed beside Host, Content-Type and those whose names begin with X-Amz-.
    sign_headers: Option<Vec<String>>,
    /// The name of the access key.
    access_key_id: Option<SecretSource>,
    /// The access key.
    secret_access_key: Option<SecretSource>,
    /// The session token of a temporary access key.
    session_token: Option<SecretSource>,
}

/// What a signature says of the body.
#[derive(Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", expecting = "a string")]
#[cfg_attr(test, derive(schemars::JsonSchema))]
enum SignedPayload {
    Signed,
    Unsigned,
}

impl Kind for AwsSigV4 {
    fn compile(self, checks: &mut Checks<'_>, _: ServerTokens<'_>) -> Option<Box<dyn Credential>> {
        let usage = self.signed_requests(checks);
        let keys = self.keys(checks);
        Some(Box::new(WithKeys { usage: usage?, keys: keys? }))
    }
}

impl AwsSigV4 {
    fn signed_requests(&self, checks: &mut Checks<'_>) -> Option<SignedRequests> {
        let region = checks.at("region").accept(name(&self.region));
        let service = checks.at("service").accept(name(&self.service));
        let signs_payload = self.payload != Some(SignedPayload::Unsigned);
        if self.max_body_bytes.is_some() && !signs_payload {
            checks.at("maxBodyBytes").fail("has no meaning with this payload");
            return None;
        }
        let mut also = Vec::new();
        for (index, name) in self.sign_headers.iter().flatten().enumerate() {
            also.push(checks.at("signHeaders").index(index).accept(signed_header_name(name)));
        }
        let signer = Signer {
            region: region?,
            service: service?,
            signs_payload,
            also: also.into_iter().collect::<Option<_>>()?,
            of_the_day: RefCell::default(),
        };
        Some(SignedRequests { signer, max_body: self.max_body_bytes.as_ref().map_or(MAX_BODY, Bytes::count) })
    }

    fn keys(self, checks: &mut Checks<'_>) -> Option<KeySource> {
        let part = |source: Option<SecretSource>, mut checks: Checks<'_>| {
            let source = checks.accept(source.ok_or("is required"))?;
            source.check(&mut checks, |text| keys::check(text).map_err(Rule::from))?;
            Some(source)
        };
        let id = part(self.access_key_id, checks.at("accessKeyId"));
        let secret = part(self.secret_access_key, checks.at("secretAccessKey"));
        let token = match self.session_token {
            Some(source) => part(Some(source), checks.at("sessionToken")).map(Some),
            None => Some(None),
        };
        Some(KeySource::new(id?, secret?, token?))
    }
}

/// Checks that `text` can be the name of a region or of a service, as it stands in ARNs.
fn name(text: &str) -> Result<String, &'static str> {
    let is_legal = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    if !text.is_empty() && text.bytes().all(is_legal) {
        Ok(text.to_owned())
    } else {
        Err("must be of lower case letters, digits and hyphens, such as us-east-1")
    }
}

/// How the requests to a server are signed, and what its answers mean.
struct SignedRequests {
    signer: Signer,
    max_body: u64,
}

impl SignedRequests {
    fn payload_limit(&self) -> Option<u64> {
        self.signer.signs_payload.then_some(self.max_body)
    }

    /// AWS says 403 whatever it is about, and names that in a header.
    fn refused_by(&self, status: &[u8], response: &dyn Headers) -> Option<Refused> {
        /// What another key, or another time, may help.
        const NOT_ACCEPTED: [&str; 11] = [
            "ExpiredToken",
            "ExpiredTokenException",
            "IncompleteSignatureException",
            "InvalidAccessKeyId",
            "InvalidClientTokenId",
            "InvalidSignatureException",
            "MissingAuthenticationTokenException",
            "RequestTimeTooSkewed",
            "SignatureDoesNotMatch",
            "UnrecognizedClientException",
            "RequestExpired",
        ];
        let kind = if status == b"403" { response.get("x-amzn-errortype") } else { None };
        let Some(kind) = kind else { return challenge(status, response) };
        let kind = kind.split(|byte| *byte == b':').next().unwrap_or_default();
        let is_not_accepted = NOT_ACCEPTED.iter().any(|name| name.as_bytes() == kind);
        Some(if is_not_accepted { Refused::Unauthorized } else { Refused::Forbidden })
    }
}

/// Where keys are that are not fetched.
enum KeySource {
    Written(Keys),
    Read { id: SecretSource, secret: SecretSource, token: Option<SecretSource> },
}

impl KeySource {
    fn new(id: SecretSource, secret: SecretSource, token: Option<SecretSource>) -> Self {
        let source = Self::Read { id, secret, token };
        match source.read(&|_| None) {
            Ok(keys) => Self::Written(keys),
            Err(_) => source,
        }
    }

    /// Reads the keys, some of them from `attributes`.
    fn read(&self, attributes: Attributes<'_>) -> Result<Keys, Reason> {
        let Self::Read { id, secret, token } = self else { return Err(Reason::Internal) };
        let part = |source: &SecretSource| source.secret(attributes, |_| Ok(()));
        let token = token.as_ref().map(part).transpose()?;
        let token = token.as_ref().map(|token| token.expose());
        Keys::new(part(id)?.expose(), part(secret)?.expose(), token).map_err(|_| Reason::SecretInvalid)
    }
}

/// The credential of a server whose keys are not fetched.
struct WithKeys {
    usage: SignedRequests,
    keys: KeySource,
}

impl Credential for WithKeys {
    fn apply(&self, request: &mut Request<'_>) -> Result<Applied, Reason> {
        match &self.keys {
            KeySource::Written(keys) => self.usage.signer.sign(keys, request)?,
            source => self.usage.signer.sign(&source.read(request.attributes)?, request)?,
        }
        Ok(Applied::Injected(None))
    }

    fn payload_limit(&self) -> Option<u64> {
        self.usage.payload_limit()
    }

    fn header_names(&self) -> &[HeaderName] {
        HEADERS
    }

    fn refused_by(&self, status: &[u8], response: &dyn Headers) -> Option<Refused> {
        self.usage.refused_by(status, response)
    }
}
