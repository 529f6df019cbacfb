//! `NONE`: the server is open, or trusts the gateway by network.

use serde::Deserialize;

use super::{Applied, Credential, Kind, ServerTokens};
use crate::http::request::Request;
use crate::json::error::Checks;
use crate::refusal::Reason;

/// No keys.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct NoCredential {}

impl Kind for NoCredential {
    fn compile(self, _checks: &mut Checks<'_>, _: ServerTokens<'_>) -> Option<Box<dyn Credential>> {
        Some(Box::new(self))
    }
}

impl Credential for NoCredential {
    fn apply(&self, _: &mut Request<'_>) -> Result<Applied, Reason> {
        Ok(Applied::NotWanted)
    }
}
