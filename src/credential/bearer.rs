//! `BEARER`: a static token (RFC 6750 §2.1).

use http::header::AUTHORIZATION;
use serde::Deserialize;

use super::fixed_headers::FixedHeaders;
use super::{Credential, Kind, ServerTokens};
use crate::config::error::Checks;
use crate::secret::Secret;

/// The keys of `BEARER`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Bearer {
    /// The token, as the server's owner gave it out.
    token: Secret,
}

impl Kind for Bearer {
    fn compile(self, checks: &mut Checks<'_>, _: ServerTokens<'_>) -> Option<Box<dyn Credential>> {
        checks.at("token").accept(check_token(self.token.expose()))?;
        Some(Box::new(FixedHeaders::one(AUTHORIZATION, bearer(&self.token))))
    }
}

/// The value of `Authorization` that carries `token`.
fn bearer(token: &Secret) -> Secret {
    Secret::new(format!("Bearer {}", token.expose()))
}

/// RFC 6750 allows b64token only. Tokens with `|` or `:` are in use, so any visible ASCII passes.
fn check_token(token: &str) -> Result<(), &'static str> {
    if token.is_empty() {
        return Err("must not be empty");
    }
    if !token.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err("must be visible ASCII characters without a space or line break");
    }
    Ok(())
}
