//! `HEADERS`: any headers that a server wants.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::fixed_headers::FixedHeaders;
use super::{Credential, Kind, ServerTokens};
use crate::config::error::Checks;
use crate::config::rules::{credential_header_name, header_value};
use crate::secret::Secret;

/// The keys of `HEADERS`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct CustomHeaders {
    /// The headers and their values; at least one.
    #[cfg_attr(test, schemars(extend("minProperties" = 1)))]
    headers: BTreeMap<String, Secret>,
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
            let value = checks.accept(header_value(value.expose()).map(|()| value));
            match header.zip(value) {
                Some((header, _)) if headers.iter().any(|(other, _)| *other == header) => {
                    checks.fail("is given twice: case does not tell headers apart");
                    all_legal = false;
                }
                Some(entry) => headers.push(entry),
                None => all_legal = false,
            }
        }
        if all_legal { Some(Box::new(FixedHeaders::several(headers))) } else { None }
    }
}
