//! `AWS_SIGV4`: each request is signed, for a server behind AWS IAM.

use std::cell::RefCell;
use std::time::Duration;

use serde::Deserialize;

use super::fetched_token::{Fetching, PATIENCE, credential, endpoint};
use super::key_issuer_template::{KeyIssuerTemplate, SourceTemplate};
use super::secret_source::{SecretSource, required};
use super::signed_requests::{KeySource, SignedRequests, WithKeys};
use super::{Credential, Kind, ServerTokens};
use crate::aws::keys;
use crate::aws::signer::{Signer, signed_header_name};
use crate::http::body::BodyLimits;
use crate::http::validation::{Url, header_value, is_loopback, is_on_link, url};
use crate::json::error::{Checks, Rule};
use crate::json::whole::{Bytes, Millis};

/// What `maxBodyBytes` is if not given: as much as Envoy holds back by default.
const MAX_BODY: u64 = 1024 * 1024;

/// What `bodyTimeoutMs` is if not given: 1 MiB at 300 kbit/s.
const BODY_TIMEOUT: Duration = Duration::from_secs(30);

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
    /// The time in which a signed body must be complete; 30000 if not given.
    body_timeout_ms: Option<Millis>,
    /// Headers to be signed beside Host, Content-Type and those whose names begin with X-Amz-.
    sign_headers: Option<Vec<String>>,
    /// Where the keys come from: they stand here (`static`, the default), or are fetched.
    credentials: Option<Credentials>,
    /// `static`: the name of the access key.
    access_key_id: Option<SecretSource>,
    /// `static`: the access key.
    secret_access_key: Option<SecretSource>,
    /// `static`: the session token of a temporary access key.
    session_token: Option<SecretSource>,
    /// Where keys are fetched. `http` only on this machine or link, or with `allowInsecure`.
    credentials_url: Option<String>,
    /// The Envoy cluster that leads there; the host in `credentialsUrl` if not given.
    credentials_cluster: Option<String>,
    /// `container`: the value of Authorization that the endpoint wants.
    authorization_token: Option<SecretSource>,
    /// `imds`: the role of the machine; asked for if not given.
    role_name: Option<String>,
    /// `webIdentity`: the ARN of the role.
    role_arn: Option<String>,
    /// `webIdentity`: what the session is called in AWS' logs; `mcp-upstream-auth` if not given.
    role_session_name: Option<String>,
    /// `webIdentity`: the token of an identity provider that the role trusts.
    web_identity_token: Option<SecretSource>,
    /// Whether `credentialsUrl` may be `http` to another machine.
    allow_insecure: Option<bool>,
    /// How long a fetch may take; 5000 if not given.
    request_timeout_ms: Option<Millis>,
    /// How long a request may wait for keys; 5000 if not given.
    max_wait_ms: Option<Millis>,
}

/// Where keys come from.
#[derive(Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "camelCase", expecting = "a string")]
#[cfg_attr(test, derive(schemars::JsonSchema))]
enum Credentials {
    #[default]
    Static,
    Container,
    Imds,
    WebIdentity,
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
    fn compile(self, checks: &mut Checks<'_>, tokens: ServerTokens<'_>) -> Option<Box<dyn Credential>> {
        let usage = self.signed_requests(checks);
        let is_meant = self.check_meaning(checks);
        if self.credentials.unwrap_or_default() == Credentials::Static {
            let keys = self.keys(checks);
            is_meant?;
            return Some(Box::new(WithKeys { usage: usage?, keys: keys? }));
        }
        let max_wait = self.max_wait_ms.as_ref().map_or(PATIENCE, Millis::duration);
        let issuer = self.issuer(checks, &tokens);
        is_meant?;
        let fetching = Fetching { issuer: Box::new(issuer?), usage: Box::new(usage?), max_wait, is_retried: false };
        Some(credential(fetching, tokens, checks.path()))
    }
}

impl AwsSigV4 {
    fn signed_requests(&self, checks: &mut Checks<'_>) -> Option<SignedRequests> {
        let region = checks.at("region").accept(name(&self.region));
        let service = checks.at("service").accept(name(&self.service));
        let signs_payload = self.payload != Some(SignedPayload::Unsigned);
        let limits =
            [("maxBodyBytes", self.max_body_bytes.is_some()), ("bodyTimeoutMs", self.body_timeout_ms.is_some())];
        let mut is_meant = true;
        for (key, _) in limits.into_iter().filter(|(_, is_given)| *is_given && !signs_payload) {
            checks.at(key).fail("has no meaning with this payload");
            is_meant = false;
        }
        if !is_meant {
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
        let limits = BodyLimits {
            bytes: self.max_body_bytes.as_ref().map_or(MAX_BODY, Bytes::count),
            within: self.body_timeout_ms.as_ref().map_or(BODY_TIMEOUT, Millis::duration),
        };
        Some(SignedRequests { signer, limits })
    }

    /// Notes the keys that mean nothing with these `credentials`.
    fn check_meaning(&self, checks: &mut Checks<'_>) -> Option<()> {
        use Credentials::{Container, Imds, Static, WebIdentity};
        let of_all: &[Credentials] = &[Container, Imds, WebIdentity];
        let own = self.credentials.unwrap_or_default();
        let mut is_meant = Some(());
        for (key, is_given, meant) in [
            ("accessKeyId", self.access_key_id.is_some(), &[Static][..]),
            ("secretAccessKey", self.secret_access_key.is_some(), &[Static]),
            ("sessionToken", self.session_token.is_some(), &[Static]),
            ("credentialsUrl", self.credentials_url.is_some(), of_all),
            ("credentialsCluster", self.credentials_cluster.is_some(), of_all),
            ("authorizationToken", self.authorization_token.is_some(), &[Container]),
            ("roleName", self.role_name.is_some(), &[Imds]),
            ("roleArn", self.role_arn.is_some(), &[WebIdentity]),
            ("roleSessionName", self.role_session_name.is_some(), &[WebIdentity]),
            ("webIdentityToken", self.web_identity_token.is_some(), &[WebIdentity]),
            ("allowInsecure", self.allow_insecure.is_some(), of_all),
            ("requestTimeoutMs", self.request_timeout_ms.is_some(), of_all),
            ("maxWaitMs", self.max_wait_ms.is_some(), of_all),
        ] {
            if is_given && !meant.contains(&own) {
                checks.at(key).fail("has no meaning with these credentials");
                is_meant = None;
            }
        }
        is_meant
    }

    fn keys(self, checks: &mut Checks<'_>) -> Option<KeySource> {
        let is_key = |text: &str| keys::check(text).map_err(Rule::from);
        let id = required(self.access_key_id, checks.at("accessKeyId"), &is_key);
        let secret = required(self.secret_access_key, checks.at("secretAccessKey"), &is_key);
        let token = match self.session_token {
            Some(source) => required(Some(source), checks.at("sessionToken"), &is_key).map(Some),
            None => Some(None),
        };
        Some(KeySource::new(id?, secret?, token?))
    }

    fn issuer(self, checks: &mut Checks<'_>, tokens: &ServerTokens<'_>) -> Option<KeyIssuerTemplate> {
        let url = checks.at("credentialsUrl").accept(self.checked_url());
        let endpoint = endpoint(url, self.credentials_cluster.as_deref(), checks.at("credentialsCluster"), tokens);
        let timeout = self.request_timeout_ms.as_ref().map_or(PATIENCE, Millis::duration);
        let source = self.source(checks);
        Some(KeyIssuerTemplate { endpoint: endpoint?, source: source?, timeout })
    }

    fn checked_url(&self) -> Result<Url, &'static str> {
        let credentials = self.credentials.unwrap_or_default();
        let url = match (&self.credentials_url, credentials) {
            (Some(text), _) => url(text)?,
            (None, Credentials::Imds) => url("http://169.254.169.254/")?,
            (None, Credentials::WebIdentity) => url(&sts(&self.region))?,
            (None, Credentials::Container | Credentials::Static) => return Err("is required"),
        };
        if credentials == Credentials::Imds && url.path != "/" {
            return Err("must have no path: that of the metadata service is known");
        }
        let is_safe = url.scheme == "https" || is_loopback(&url.host) || is_on_link(&url.host);
        if is_safe || self.allow_insecure.unwrap_or(false) {
            Ok(url)
        } else {
            Err("must be https, as keys come from there; or set allowInsecure")
        }
    }

    fn source(self, checks: &mut Checks<'_>) -> Option<SourceTemplate> {
        match self.credentials.unwrap_or_default() {
            Credentials::Container => {
                let Some(token) = self.authorization_token else { return Some(SourceTemplate::Container(None)) };
                let is_value = |text: &str| header_value(text).map_err(Rule::from);
                let token = required(Some(token), checks.at("authorizationToken"), &is_value)?;
                Some(SourceTemplate::Container(Some(token)))
            }
            Credentials::Imds | Credentials::Static => {
                let Some(role) = self.role_name else { return Some(SourceTemplate::InstanceMetadata(None)) };
                let role = checks.at("roleName").accept(visible(&role))?;
                Some(SourceTemplate::InstanceMetadata(Some(role)))
            }
            Credentials::WebIdentity => {
                let role =
                    checks.at("roleArn").accept(self.role_arn.ok_or("is required").and_then(|role| visible(&role)));
                let session_name = self.role_session_name.as_deref().unwrap_or("mcp-upstream-auth");
                let session_name = checks.at("roleSessionName").accept(name_of_session(session_name));
                let is_token = |text: &str| visible(text).map(drop).map_err(Rule::from);
                let token = required(self.web_identity_token, checks.at("webIdentityToken"), &is_token);
                Some(SourceTemplate::WebIdentity { role: role?, session_name: session_name?, token: token? })
            }
        }
    }
}

/// The endpoint of AWS STS in this region, whose name may yet be found to be none.
fn sts(region: &str) -> String {
    let is_name = name(region).is_ok();
    let domain = if region.starts_with("cn-") { "amazonaws.com.cn" } else { "amazonaws.com" };
    format!("https://sts.{}.{domain}/", if is_name { region } else { "region" })
}

/// Checks that `text` can be what a session is called, by the rule of AWS STS.
fn name_of_session(text: &str) -> Result<String, &'static str> {
    let is_legal = |byte: u8| byte.is_ascii_alphanumeric() || b"_+=,.@-".contains(&byte);
    if (2..=64).contains(&text.len()) && text.bytes().all(is_legal) {
        Ok(text.to_owned())
    } else {
        Err("must be of 2 to 64 letters, digits and characters of _+=,.@-")
    }
}

/// Checks that `text` is of characters that one sees.
fn visible(text: &str) -> Result<String, &'static str> {
    keys::check(text).map(|()| text.to_owned())
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
