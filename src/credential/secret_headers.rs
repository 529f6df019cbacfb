//! A credential in headers: prepared when the configuration loads where the secrets are written there, and
//! for each request where its filter state has them.

use http::HeaderName;

use super::fixed_headers::FixedHeaders;
use super::secret_source::{FilterState, SecretSource};
use super::{Applied, Attributes, Credential};
use crate::config::error::{Checks, Rule};
use crate::refusal::Reason;
use crate::request::Headers;
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
        source.check(checks, |secret| form.check(secret))?;
        Some(Self { name, form: Box::new(form), source })
    }
}

/// The credential that these headers make; no name is given twice.
pub fn credential(headers: Vec<SecretHeader>) -> Box<dyn Credential> {
    let (names, values): (Vec<_>, Vec<_>) =
        headers.into_iter().map(|header| (header.name, Value::new(header.form, header.source))).unzip();
    if values.iter().all(|value| matches!(value, Value::Fixed(_))) {
        let values = values.into_iter().filter_map(|value| match value {
            Value::Fixed(value) => Some(value),
            Value::Read(..) => None,
        });
        return Box::new(FixedHeaders::several(names.into_iter().zip(values).collect()));
    }
    Box::new(ReadHeaders { names, values })
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

/// Headers of which at least one has its secret from the request's filter state.
struct ReadHeaders {
    names: Vec<HeaderName>,
    /// The value of each name, in the same order.
    values: Vec<Value>,
}

impl Credential for ReadHeaders {
    fn apply(&self, request: &mut dyn Headers, attributes: Attributes<'_>) -> Result<Applied, Reason> {
        let read: Vec<Option<Secret>> = self
            .values
            .iter()
            .map(|value| match value {
                Value::Fixed(_) => Ok(None),
                Value::Read(form, state) => {
                    let secret = state.read(attributes, |secret| form.check(secret))?;
                    Ok(Some(form.value(&secret)))
                }
            })
            .collect::<Result<_, _>>()?;
        for ((name, value), read) in self.names.iter().zip(&self.values).zip(&read) {
            if let (Some(value), _) | (None, Value::Fixed(value)) = (read.as_ref(), value) {
                request.set(name.as_str(), value.expose().as_bytes());
            }
        }
        Ok(Applied::Injected(None))
    }

    fn header_names(&self) -> &[HeaderName] {
        &self.names
    }
}
