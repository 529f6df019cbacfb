//! `NONE`: the server is open, or trusts the gateway by network.

use serde::Deserialize;

use super::{Credential, Kind};
use crate::config::error::Checks;

/// No keys.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct NoCredential {}

impl Kind for NoCredential {
    fn compile(self, _checks: &mut Checks<'_>) -> Option<Credential> {
        Some(Credential::None)
    }
}
