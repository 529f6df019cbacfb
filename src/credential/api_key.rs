//! `API_KEY`: one key, in a header or in the query.

use serde::Deserialize;

use super::headers::AsIs;
use super::query::QueryParameter;
use super::secret_headers::{Form, SecretHeader, credential};
use super::secret_source::SecretSource;
use super::{Credential, Kind, ServerTokens};
use crate::http::validation::credential_header_name;
use crate::json::error::{Checks, Rule};

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
    value: SecretSource,
}

impl Kind for ApiKey {
    fn compile(self, checks: &mut Checks<'_>, _: ServerTokens<'_>) -> Option<Box<dyn Credential>> {
        match (self.header, self.query) {
            (Some(header), None) => {
                let name = checks.at("header").accept(credential_header_name(&header));
                self.value.check(&mut checks.at("value"), &|value| AsIs.check(value))?;
                Some(credential(vec![SecretHeader { name: name?, form: Box::new(AsIs), source: self.value }]))
            }
            (None, Some(query)) => {
                let name = checks.at("query").accept(not_empty(&query));
                self.value.check(&mut checks.at("value"), &|value| not_empty(value).map(drop).map_err(Rule::from))?;
                Some(Box::new(QueryParameter::new(name?, self.value)))
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
