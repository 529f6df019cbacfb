//! `BEARER`: a static token (RFC 6750 §2.1).

use serde::Deserialize;

use super::secret_headers::{Form, SecretHeader, credential};
use super::secret_source::SecretSource;
use super::{Credential, Kind, ServerTokens};
use crate::config::error::{Checks, Rule};
use crate::header_name::AUTHORIZATION;
use crate::secret::Secret;

/// The keys of `BEARER`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Bearer {
    /// The token, as the server's owner gave it out.
    token: SecretSource,
}

impl Kind for Bearer {
    fn compile(self, checks: &mut Checks<'_>, _: ServerTokens<'_>) -> Option<Box<dyn Credential>> {
        let header = SecretHeader::checked(AUTHORIZATION, BearerToken, self.token, &mut checks.at("token"))?;
        Some(credential(vec![header]))
    }
}

/// The value of `Authorization` that carries a token.
struct BearerToken;

impl Form for BearerToken {
    fn check(&self, token: &str) -> Result<(), Rule> {
        if token.is_empty() {
            return Err("must not be empty".into());
        }
        if !is_token(token) {
            return Err("must be visible ASCII characters without a space or line break".into());
        }
        Ok(())
    }

    fn value(&self, token: &Secret) -> Secret {
        authorization(token.expose())
    }
}

/// The value of `Authorization` that carries `token` (RFC 6750 §2.1).
pub fn authorization(token: &str) -> Secret {
    Secret::new(format!("Bearer {token}"))
}

/// RFC 6750 §2.1 allows b64token only. Tokens with `|` or `:` are in use, so any visible ASCII passes. A line
/// break would be another header.
pub fn is_token(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic())
}
