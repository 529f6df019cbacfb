//! `API_KEY`: one key, in a header or in the query.

use serde::Deserialize;

use super::fixed_headers::FixedHeaders;
use super::query::QueryParameter;
use super::{Credential, Kind, ServerTokens};
use crate::config::error::Checks;
use crate::config::rules::{credential_header_name, header_value};
use crate::secret::Secret;

/// The keys of `API_KEY`; exactly one of `header` and `query`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[cfg_attr(test, schemars(extend("oneOf" = [
    {"required": ["header"], "properties": {"header": {"type": "string"}}},
    {"required": ["query"], "properties": {"query": {"type": "string"}}},
])))]
pub struct ApiKey {
    /// The header that carries the key.
    header: Option<String>,
    /// The query parameter that carries the key.
    query: Option<String>,
    /// The key.
    value: Secret,
}

impl Kind for ApiKey {
    fn compile(self, checks: &mut Checks<'_>, _: ServerTokens<'_>) -> Option<Box<dyn Credential>> {
        match (self.header, self.query) {
            (Some(header), None) => {
                let name = checks.at("header").accept(credential_header_name(&header));
                checks.at("value").accept(header_value(self.value.expose()))?;
                Some(Box::new(FixedHeaders::one(name?, self.value)))
            }
            (None, Some(query)) => {
                let name = checks.at("query").accept(not_empty(&query));
                checks.at("value").accept(not_empty(self.value.expose()))?;
                Some(Box::new(QueryParameter::new(name?, &self.value)))
            }
            (Some(_), Some(_)) => {
                checks.fail("must have one of header and query, not both");
                None
            }
            (None, None) => {
                checks.fail("must have header or query");
                None
            }
        }
    }
}

fn not_empty(text: &str) -> Result<&str, &'static str> {
    if text.is_empty() { Err("must not be empty") } else { Ok(text) }
}
