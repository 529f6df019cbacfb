//! A credential in headers whose values are known when the configuration loads.

use http::HeaderName;

use super::{Applied, Attributes, Credential};
use crate::refusal::Reason;
use crate::request::Headers;
use crate::secret::Secret;

/// Headers that replace the caller's of their names.
#[derive(Debug)]
pub struct FixedHeaders {
    names: Vec<HeaderName>,
    /// The value of each name, in the same order.
    values: Vec<Secret>,
}

impl FixedHeaders {
    /// These headers; no name is given twice.
    pub fn several(headers: Vec<(HeaderName, Secret)>) -> Self {
        let (names, values) = headers.into_iter().unzip();
        Self { names, values }
    }
}

impl Credential for FixedHeaders {
    fn apply(&self, request: &mut dyn Headers, _: Attributes<'_>) -> Result<Applied, Reason> {
        for (name, value) in self.names.iter().zip(&self.values) {
            request.set(name.as_str(), value.expose().as_bytes());
        }
        Ok(Applied::Injected(None))
    }

    fn header_names(&self) -> &[HeaderName] {
        &self.names
    }
}
