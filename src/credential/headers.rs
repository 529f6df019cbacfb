//! `HEADERS`: any headers that a server wants.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::secret_headers::{Form, SecretHeader, credential};
use super::secret_source::SecretSource;
use super::{Credential, Kind, ServerTokens};
use crate::http::validation::{credential_header_name, header_value};
use crate::json::error::{Checks, Rule};
use crate::secret::Secret;

/// The keys of `HEADERS`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct CustomHeaders {
    /// The headers and their values; at least one.
    #[cfg_attr(test, schemars(extend("minProperties" = 1)))]
    headers: BTreeMap<String, SecretSource>,
}

impl Kind for CustomHeaders {
    fn compile(self, checks: &mut Checks<'_>, _: ServerTokens<'_>) -> Option<Box<dyn Credential>> {
        let mut checks = checks.at("headers");
        if self.headers.is_empty() {
            checks.fail("must not be empty");
            return None;
        }
        let mut headers = Vec::with_capacity(self.headers.len());
        let mut all_legal = true;
        for (name, value) in self.headers {
            let mut checks = checks.at(&name);
            let header = checks.accept(credential_header_name(&name));
            let is_legal = value.check(&mut checks, &|value| AsIs.check(value));
            let header =
                header.zip(is_legal).map(|(name, ())| SecretHeader { name, form: Box::new(AsIs), source: value });
            match header {
                Some(header) if headers.iter().any(|other: &SecretHeader| other.name == header.name) => {
                    checks.fail("is given twice: case does not tell headers apart");
                    all_legal = false;
                }
                Some(header) => headers.push(header),
                None => all_legal = false,
            }
        }
        all_legal.then(|| credential(headers))
    }
}

/// A value that is the secret and nothing else.
pub struct AsIs;

impl Form for AsIs {
    fn check(&self, secret: &str) -> Result<(), Rule> {
        header_value(secret).map_err(Rule::from)
    }

    fn value(&self, secret: &Secret) -> Secret {
        secret.copy()
    }
}
