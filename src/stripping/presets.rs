//! Lists of headers that a configuration names in one word.

use serde::Deserialize;

use super::Pattern;
use crate::http::header_name::HeaderName;

/// A list of headers to remove.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase", expecting = "a string")]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub enum Preset {
    /// Headers in which credentials and identities are known to travel.
    Credentials,
    /// Headers that tell the server by which name and path the caller came.
    Forwarded,
}

/// Keys and tokens of callers, and what proxies and earlier filters assert of them.
const CREDENTIALS: [&str; 38] = [
    "api-key",
    "apikey",
    "cf-access-client-id",
    "cf-access-client-secret",
    "cf-access-jwt-assertion",
    "cf-access-token",
    "ocp-apim-subscription-key",
    "private-token",
    "x-access-token",
    "x-amz-security-token",
    "x-amzn-oidc-*",
    "x-api-token",
    "x-apikey",
    "x-auth-email",
    "x-auth-key",
    "x-auth-request-*",
    "x-auth-token",
    "x-authorization",
    "x-client-secret",
    "x-csrf-token",
    "x-forwarded-access-token",
    "x-forwarded-authorization",
    "x-forwarded-client-cert",
    "x-forwarded-email",
    "x-forwarded-groups",
    "x-forwarded-preferred-username",
    "x-forwarded-user",
    "x-functions-key",
    "x-github-token",
    "x-gitlab-token",
    "x-goog-api-key",
    "x-goog-authenticated-user-*",
    "x-goog-iap-jwt-assertion",
    "x-jwt-*",
    "x-litellm-api-key",
    "x-ms-client-principal*",
    "x-ms-token-*",
    "x-vault-token",
];

/// Names and paths of the gateway. Servers that build their URLs of them answer with redirects in circles. Without
/// `x-forwarded-proto`, Envoy would find no route behind a filter in the listener.
const FORWARDED: [&str; 8] = [
    "forwarded",
    "x-forwarded-host",
    "x-forwarded-port",
    "x-forwarded-prefix",
    "x-forwarded-scheme",
    "x-forwarded-server",
    "x-original-*",
    "x-rewrite-url",
];

impl Preset {
    /// The headers in the list.
    pub(super) fn patterns(self) -> impl Iterator<Item = Pattern> {
        self.names().iter().map(|name| match name.strip_suffix('*') {
            Some(prefix) => Pattern::Prefix(prefix.to_owned()),
            None => Pattern::Name(HeaderName::known(name)),
        })
    }

    fn names(self) -> &'static [&'static str] {
        match self {
            Self::Credentials => &CREDENTIALS,
            Self::Forwarded => &FORWARDED,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Pattern, Preset};

    #[test]
    fn every_name_is_legal_and_in_the_readme() {
        let readme = include_str!("../../README.md");
        for preset in [Preset::Credentials, Preset::Forwarded] {
            for (name, pattern) in preset.names().iter().zip(preset.patterns()) {
                assert_eq!(Pattern::parse(name), Ok(pattern), "{name}");
                assert!(readme.contains(&format!("`{name}`")), "{name} of {preset:?} is not in the README");
            }
        }
    }
}
