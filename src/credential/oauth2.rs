//! `OAUTH2`: a token that the filter fetches, by the client credentials grant (RFC 6749 §4.4).

use std::collections::BTreeMap;

use serde::Deserialize;

use super::client_template::{AuthTemplate, ClientTemplate};
use super::fetched_token::{Fetching, PATIENCE, TokenUse, credential, endpoint};
use super::one_or_many::OneOrMany;
use super::secret_source::{SecretSource, required};
use super::{Credential, Kind, ServerTokens};
use crate::http::header_name::{AUTHORIZATION, HeaderName};
use crate::http::request::Request;
use crate::http::validation::{Url, absolute_uri, is_loopback, scope_list, text, url};
use crate::json::error::{Checks, Rule};
use crate::json::whole::Millis;
use crate::oauth2::PrivateKey;
use crate::refusal::Reason;
use crate::secret::Secret;

/// Parameters of the request that have keys of their own.
const RESERVED: [&str; 8] = [
    "grant_type",
    "client_id",
    "client_secret",
    "client_assertion",
    "client_assertion_type",
    "scope",
    "audience",
    "resource",
];

/// The keys of `OAUTH2`.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct OAuth2 {
    /// Where tokens are issued. `http` only on this machine, or with `allowInsecure`.
    token_url: String,
    /// The client's id there.
    client_id: String,
    /// The client's secret, for the methods that have one.
    client_secret: Option<SecretSource>,
    /// How the client authenticates to the token server; `client_secret_basic` is the default.
    client_auth: Option<Method>,
    /// The private key for `private_key_jwt`, in PEM: RSA (RS256) or P-256 (ES256).
    private_key: Option<SecretSource>,
    /// The name (`kid`) that the token server knows its public half by.
    key_id: Option<String>,
    /// The `aud` of assertions; the token URL if not given.
    assertion_audience: Option<String>,
    /// The scope to ask for.
    scope: Option<OneOrMany>,
    /// The audience to ask for, where the token server knows that parameter.
    audience: Option<String>,
    /// The server's URI (RFC 8707). MCP wants it sent; Entra ID refuses it.
    resource: Option<OneOrMany>,
    /// The Envoy cluster that leads to the token server; the host in `tokenUrl` if not given.
    token_cluster: Option<String>,
    /// Further parameters of the token request.
    extra_params: Option<BTreeMap<String, SecretSource>>,
    /// Whether `tokenUrl` may be `http` to another machine.
    allow_insecure: Option<bool>,
    /// How long the token server may take to answer; 5000 if not given.
    request_timeout_ms: Option<Millis>,
    /// How long a request may wait for a token; 5000 if not given.
    max_wait_ms: Option<Millis>,
    /// For a filter in a cluster whose route retries a 401: the first 401 is left for it to see.
    #[serde(rename = "retryOn401")]
    retry_on_401: Option<bool>,
}

/// Client authentication methods, named as in the registry of RFC 7591 §2.
#[derive(Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "snake_case", expecting = "a string")]
#[cfg_attr(test, derive(schemars::JsonSchema))]
enum Method {
    #[default]
    ClientSecretBasic,
    ClientSecretPost,
    ClientSecretJwt,
    PrivateKeyJwt,
    None,
}

impl Kind for OAuth2 {
    fn compile(self, checks: &mut Checks<'_>, tokens: ServerTokens<'_>) -> Option<Box<dyn Credential>> {
        let max_wait = self.max_wait_ms.as_ref().map_or(PATIENCE, Millis::duration);
        let is_retried = self.retry_on_401.unwrap_or(false);
        let client = self.client(checks, &tokens)?;
        let fetching = Fetching { issuer: Box::new(client), usage: Box::new(InAuthorization), max_wait, is_retried };
        Some(credential(fetching, tokens, checks.path()))
    }
}

/// The token is the value of `Authorization` as it is kept.
struct InAuthorization;

impl TokenUse for InAuthorization {
    fn apply(&self, token: &Secret, request: &mut Request<'_>) -> Result<(), Reason> {
        request.headers.set(AUTHORIZATION.as_str(), token.expose().as_bytes());
        Ok(())
    }

    fn header_names(&self) -> &[HeaderName] {
        const NAMES: &[HeaderName] = &[AUTHORIZATION];
        NAMES
    }
}

impl OAuth2 {
    fn client(mut self, checks: &mut Checks<'_>, tokens: &ServerTokens<'_>) -> Option<ClientTemplate> {
        let url = checks.at("tokenUrl").accept(self.checked_url());
        let id = checks.at("clientId").accept(text(&self.client_id)).map(str::to_owned);
        let parameters = self.parameters(checks);
        let endpoint = endpoint(url, self.token_cluster.as_deref(), checks.at("tokenCluster"), tokens);
        let timeout = self.request_timeout_ms.as_ref().map_or(PATIENCE, Millis::duration);
        let auth = self.client_auth(checks);
        Some(ClientTemplate { endpoint: endpoint?, id: id?, auth: auth?, parameters: parameters?, timeout })
    }

    fn checked_url(&self) -> Result<Url, &'static str> {
        let url = url(&self.token_url)?;
        if url.scheme != "https" && !is_loopback(&url.host) && !self.allow_insecure.unwrap_or(false) {
            return Err("must be https, as the client's secret goes there; or set allowInsecure");
        }
        Ok(url)
    }

    /// What is asked for; each name once (RFC 6749 §3.2), but for `resource` (RFC 8707 §2).
    fn parameters(&mut self, checks: &mut Checks<'_>) -> Option<Vec<(String, SecretSource)>> {
        let mut parameters = Vec::new();
        let mut is_legal = true;
        let mut add = |name: &str, value: Option<SecretSource>| match value {
            Some(value) => parameters.push((name.to_owned(), value)),
            None => is_legal = false,
        };
        let written = |text: &str| SecretSource::Written(Secret::new(text.to_owned()));
        if let Some(scope) = &self.scope {
            let scopes = scope.each(checks.at("scope"), scope_list);
            add("scope", scopes.map(|scopes| written(&scopes.join(" "))));
        }
        if let Some(audience) = &self.audience {
            add("audience", checks.at("audience").accept(text(audience)).map(written));
        }
        if let Some(resource) = &self.resource {
            match resource.each(checks.at("resource"), absolute_uri) {
                Some(uris) => uris.into_iter().for_each(|uri| add("resource", Some(written(uri)))),
                None => add("resource", None),
            }
        }
        for (name, value) in self.extra_params.take().into_iter().flatten() {
            let mut checks = checks.at("extraParams");
            if name.is_empty() {
                checks.fail("must not have an empty name");
                add(&name, None);
            } else if RESERVED.contains(&name.as_str()) {
                checks.at(&name).fail("has a key of its own");
                add(&name, None);
            } else {
                let is_legal = value.check(&mut checks.at(&name), &|_| Ok(()));
                add(&name, is_legal.map(|()| value));
            }
        }
        is_legal.then_some(parameters)
    }

    fn client_auth(self, checks: &mut Checks<'_>) -> Option<AuthTemplate> {
        let method = self.client_auth.unwrap_or_default();
        let is_jwt = matches!(method, Method::ClientSecretJwt | Method::PrivateKeyJwt);
        let has_secret = !matches!(method, Method::PrivateKeyJwt | Method::None);
        let mut has_no_meaning = |key: &str, is_given: bool, is_used: bool| {
            let is_wrong = is_given && !is_used;
            if is_wrong {
                checks.at(key).fail("has no meaning with this clientAuth");
            }
            is_wrong
        };
        let is_wrong = [
            has_no_meaning("clientSecret", self.client_secret.is_some(), has_secret),
            has_no_meaning("privateKey", self.private_key.is_some(), method == Method::PrivateKeyJwt),
            has_no_meaning("keyId", self.key_id.is_some(), method == Method::PrivateKeyJwt),
            has_no_meaning("assertionAudience", self.assertion_audience.is_some(), is_jwt),
        ];
        for (key, value) in [("keyId", &self.key_id), ("assertionAudience", &self.assertion_audience)] {
            if let Some(value) = value {
                checks.at(key).accept(text(value))?;
            }
        }
        let secret = |checks: &mut Checks<'_>| {
            required(self.client_secret, checks.at("clientSecret"), &|secret| {
                text(secret).map(drop).map_err(Rule::from)
            })
        };
        let audience = self.assertion_audience.unwrap_or(self.token_url);
        let auth = match method {
            Method::ClientSecretBasic => AuthTemplate::Basic(secret(checks)?),
            Method::ClientSecretPost => AuthTemplate::Post(secret(checks)?),
            Method::ClientSecretJwt => AuthTemplate::SecretJwt(secret(checks)?, audience),
            Method::PrivateKeyJwt => {
                let is_key = |pem: &str| PrivateKey::parse(pem).map(drop).map_err(Rule::from);
                let key = required(self.private_key, checks.at("privateKey"), &is_key)?;
                AuthTemplate::PrivateKeyJwt(key, self.key_id, audience)
            }
            Method::None => AuthTemplate::None,
        };
        (!is_wrong.contains(&true)).then_some(auth)
    }
}
