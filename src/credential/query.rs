//! A credential in the query of the request's path.

use std::borrow::Cow;

use percent_encoding::utf8_percent_encode;

use super::echoed_key::EchoedKey;
use super::secret_source::{FilterState, SecretSource};
use super::{Applied, Credential};
use crate::aws::canonical::ESCAPED;
use crate::http::query;
use crate::http::request::{Attributes, ORIGINAL_PATH, PATH, Request};
use crate::refusal::Reason;
use crate::secret::Secret;

/// A parameter that replaces every one of its name in a request's query.
pub struct QueryParameter {
    name: String,
    value: Value,
}

enum Value {
    /// `name=value`, encoded, and the key as a response may repeat it.
    Written(Secret, EchoedKey),
    /// The value is in each request's filter state.
    Read(FilterState),
}

impl QueryParameter {
    /// The parameter `name` with `value`.
    pub fn new(name: &str, value: SecretSource) -> Self {
        let value = match value {
            SecretSource::Written(value) => Value::Written(encode(name, &value), EchoedKey::new(name, &value)),
            SecretSource::FilterState(state) => Value::Read(state),
        };
        Self { name: name.to_owned(), value }
    }

    /// `path` with `encoded` behind all other parameters; these stay byte for byte.
    fn replace_in(&self, path: &[u8], encoded: &Secret) -> Vec<u8> {
        let (resource, parameters, _) = query::split(path);
        let others = query::without(parameters.unwrap_or_default(), |name| name.eq_ignore_ascii_case(&self.name));
        let mut path = [resource, b"?"].concat();
        if !others.is_empty() {
            path.extend_from_slice(&others);
            path.push(b'&');
        }
        path.extend_from_slice(encoded.expose().as_bytes());
        path
    }
}

impl Credential for QueryParameter {
    /// An upstream filter comes after the route has rewritten the path: the caller's parameter is then
    /// in the original one, too, which the server need not see.
    fn apply(&self, request: &mut Request<'_>) -> Result<Applied, Reason> {
        let path = request.headers.get(PATH).filter(|path| path.starts_with(b"/")).ok_or(Reason::NoPath)?;
        let path = match &self.value {
            Value::Written(encoded, _) => self.replace_in(&path, encoded),
            Value::Read(state) => {
                self.replace_in(&path, &encode(&self.name, &state.read(request.attributes, &|_| Ok(()))?))
            }
        };
        request.headers.set(PATH, &path);
        request.headers.remove(ORIGINAL_PATH);
        Ok(Applied::Injected(None))
    }

    fn echoed_key(&self, attributes: Attributes<'_>) -> Option<Cow<'_, EchoedKey>> {
        match &self.value {
            Value::Written(_, key) => Some(Cow::Borrowed(key)),
            Value::Read(state) => {
                let key = state.read(attributes, &|_| Ok(())).ok()?;
                Some(Cow::Owned(EchoedKey::new(&self.name, &key)))
            }
        }
    }
}

/// `name=value`, encoded so that every server decodes it alike.
fn encode(name: &str, value: &Secret) -> Secret {
    let encode = |text| utf8_percent_encode(text, ESCAPED);
    Secret::new(format!("{}={}", encode(name), encode(value.expose())))
}

#[cfg(test)]
mod tests {
    use super::{QueryParameter, SecretSource, Value};
    use crate::secret::Secret;

    /// As a request has it done.
    fn replace_in(parameter: &QueryParameter, path: &[u8]) -> Vec<u8> {
        let Value::Written(encoded, _) = &parameter.value else { panic!("it is written") };
        parameter.replace_in(path, encoded)
    }

    const OURS: &str = "api_key=k%26y%3D1%20%C3%BC";

    fn parameter() -> QueryParameter {
        QueryParameter::new("api_key", SecretSource::Written(Secret::new("k&y=1 ü".to_owned())))
    }

    #[test]
    fn the_callers_parameter_is_replaced_and_the_rest_stays() {
        for (path, before) in [
            ("/mcp", "/mcp?"),
            ("/mcp?", "/mcp?"),
            ("/mcp?api_key=theirs", "/mcp?"),
            ("/mcp?api_key", "/mcp?"),
            ("/mcp?a=1&api_key=x&b=2&api_key=y", "/mcp?a=1&b=2&"),
            ("/mcp?api%5Fkey=x&%61pi_key=y&API_KEY=z", "/mcp?"),
            ("/mcp?a=1;api_key=x;b=2&c", "/mcp?a=1;b=2&c&"),
            ("/mcp?a=1&api_key=x;", "/mcp?a=1&"),
            ("/mcp?api_keys=z&my_api_key=z", "/mcp?api_keys=z&my_api_key=z&"),
            ("/mcp?a=%2f+%20&&b=?&=c", "/mcp?a=%2f+%20&&b=?&=c&"),
            ("/a&api_key=x/b?c", "/a&api_key=x/b?c&"),
        ] {
            let replaced = String::from_utf8(replace_in(&parameter(), path.as_bytes())).unwrap();
            assert_eq!(replaced, format!("{before}{OURS}"), "{path}");
            // A retried request has been here before.
            let again = String::from_utf8(replace_in(&parameter(), replaced.as_bytes())).unwrap();
            assert_eq!(again, replaced, "{path}");
        }
    }

    #[test]
    fn bytes_that_are_not_utf8_pass_through() {
        let parameter = QueryParameter::new("k", SecretSource::Written(Secret::new("v".to_owned())));
        assert_eq!(replace_in(&parameter, b"/\xff?\xfe=\xfd&k=1"), b"/\xff?\xfe=\xfd&k=v");
    }
}
