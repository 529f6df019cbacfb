//! A credential in headers: prepared when the configuration loads where the secrets are written there, and
//! for each request where its filter state has them.

use super::secret_source::{FilterState, SecretSource};
use super::{Applied, Credential};
use crate::http::header_name::HeaderName;
use crate::http::request::Request;
use crate::json::error::{Checks, Rule};
use crate::refusal::Reason;
use crate::secret::Secret;

/// What a header's value is made of beside the secret.
pub trait Form {
    /// Whether `secret` can be in such a value.
    ///
    /// # Errors
    /// The rule it breaks.
    fn check(&self, secret: &str) -> Result<(), Rule>;

    /// The value with `secret` in it.
    fn value(&self, secret: &Secret) -> Secret;
}

/// A header with a secret, as a configuration has it.
pub struct SecretHeader {
    /// Its name.
    pub name: HeaderName,
    /// What its value is made of.
    pub form: Box<dyn Form>,
    /// Where the secret is.
    pub source: SecretSource,
}

impl SecretHeader {
    /// Checks the secret at `checks`.
    pub fn checked(
        name: HeaderName,
        form: impl Form + 'static,
        source: SecretSource,
        checks: &mut Checks<'_>,
    ) -> Option<Self> {
        source.check(checks, &|secret| form.check(secret))?;
        Some(Self { name, form: Box::new(form), source })
    }
}

/// The credential that these headers make; no name is given twice.
pub fn credential(headers: Vec<SecretHeader>) -> Box<dyn Credential> {
    let (names, values) =
        headers.into_iter().map(|header| (header.name, Value::new(header.form, header.source))).unzip();
    Box::new(SecretHeaders { names, values })
}

/// Headers that replace the caller's of their names.
struct SecretHeaders {
    names: Vec<HeaderName>,
    /// The value of each name, in the same order.
    values: Vec<Value>,
}

enum Value {
    Fixed(Secret),
    Read(Box<dyn Form>, FilterState),
}

impl Value {
    fn new(form: Box<dyn Form>, source: SecretSource) -> Self {
        match source {
            SecretSource::Written(secret) => Self::Fixed(form.value(&secret)),
            SecretSource::FilterState(state) => Self::Read(form, state),
        }
    }
}

impl Credential for SecretHeaders {
    fn apply(&self, request: &mut Request<'_>) -> Result<Applied, Reason> {
        for (name, value) in self.names.iter().zip(&self.values) {
            match value {
                Value::Fixed(value) => request.headers.set(name.as_str(), value.expose().as_bytes()),
                Value::Read(form, state) => {
                    let secret = state.read(request.attributes, &|secret| form.check(secret))?;
                    request.headers.set(name.as_str(), form.value(&secret).expose().as_bytes());
                }
            }
        }
        Ok(Applied::Injected(None))
    }

    fn header_names(&self) -> &[HeaderName] {
        &self.names
    }
}
