//! `BEARER`: a static token (RFC 6750 §2.1).

use serde::Deserialize;

use super::secret_headers::{Form, SecretHeader, credential};
use super::secret_source::SecretSource;
use super::{Credential, Kind, ServerTokens};
use crate::http::authorization::{authorization, is_token};
use crate::http::header_name::AUTHORIZATION;
use crate::json::error::{Checks, Rule};
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
