//! A credential in the query of the request's path.

use form_urlencoded::parse;
use percent_encoding::utf8_percent_encode;

use super::secret_source::{FilterState, SecretSource};
use super::{Applied, Credential};
use crate::aws::canonical::ESCAPED;
use crate::refusal::Reason;
use crate::request::{Headers, ORIGINAL_PATH, PATH, Request};
use crate::secret::Secret;

/// Headers of a response that can repeat the request's path. A server that redirects `/mcp` to `/mcp/`
/// would else tell the caller the key.
const REPEATING_THE_PATH: [&str; 2] = ["location", "content-location"];

/// A parameter that replaces every one of its name in a request's query.
pub struct QueryParameter {
    name: String,
    value: Value,
}

enum Value {
    /// `name=value`, encoded.
    Encoded(Secret),
    /// The value is in each request's filter state.
    Read(FilterState),
}

impl QueryParameter {
    /// The parameter `name` with `value`.
    pub fn new(name: &str, value: SecretSource) -> Self {
        let value = match value {
            SecretSource::Written(value) => Value::Encoded(encode(name, &value)),
            SecretSource::FilterState(state) => Value::Read(state),
        };
        Self { name: name.to_owned(), value }
    }

    /// `path` with `encoded` behind all other parameters; these stay byte for byte.
    fn replace_in(&self, path: &[u8], encoded: &Secret) -> Vec<u8> {
        let (mut path, query, _) = parts(path);
        let others = self.others(query);
        path.push(b'?');
        if !others.is_empty() {
            path.extend_from_slice(&others);
            path.push(b'&');
        }
        path.extend_from_slice(encoded.expose().as_bytes());
        path
    }

    /// `url` without this parameter.
    fn remove_from(&self, url: &[u8]) -> Vec<u8> {
        let (mut url, query, fragment) = parts(url);
        let others = self.others(query);
        if !others.is_empty() {
            url.push(b'?');
            url.extend_from_slice(&others);
        }
        url.extend_from_slice(fragment);
        url
    }

    /// The other parameters of `query`. Some servers separate by semicolon as well: were that not
    /// looked at, a caller could hide one of this name from us and show it to them.
    fn others(&self, query: &[u8]) -> Vec<u8> {
        let is_separator = |byte: &u8| matches!(byte, b'&' | b';');
        let mut others = Vec::with_capacity(query.len());
        let mut separator = None;
        for piece in query.split_inclusive(is_separator) {
            let (pair, next) = match piece.split_last() {
                Some((last, pair)) if is_separator(last) => (pair, Some(*last)),
                _ => (piece, None),
            };
            if !self.has_name_of(pair) {
                others.extend(separator.filter(|_| !others.is_empty()));
                others.extend_from_slice(pair);
            }
            separator = next;
        }
        others
    }

    /// Compares names as a server may read them: decoded, and some without regard to case.
    fn has_name_of(&self, pair: &[u8]) -> bool {
        parse(pair).next().is_some_and(|(name, _)| name.eq_ignore_ascii_case(&self.name))
    }
}

impl Credential for QueryParameter {
    /// An upstream filter comes after the route has rewritten the path: the caller's parameter is then
    /// in the original one, too, which the server need not see.
    fn apply(&self, request: &mut Request<'_>) -> Result<Applied, Reason> {
        let path = request.headers.get(PATH).filter(|path| path.starts_with(b"/")).ok_or(Reason::NoPath)?;
        let path = match &self.value {
            Value::Encoded(encoded) => self.replace_in(&path, encoded),
            Value::Read(state) => {
                self.replace_in(&path, &encode(&self.name, &state.read(request.attributes, &|_| Ok(()))?))
            }
        };
        request.headers.set(PATH, &path);
        request.headers.remove(ORIGINAL_PATH);
        Ok(Applied::Injected(None))
    }

    fn on_response(&self, response: &mut dyn Headers) {
        for name in REPEATING_THE_PATH {
            if let Some(url) = response.get(name) {
                let without = self.remove_from(&url);
                if without != url {
                    response.set(name, &without);
                }
            }
        }
    }
}

/// `name=value`, encoded so that every server decodes it alike.
fn encode(name: &str, value: &Secret) -> Secret {
    let encode = |text| utf8_percent_encode(text, ESCAPED);
    Secret::new(format!("{}={}", encode(name), encode(value.expose())))
}

/// Splits a URL or path before its query, and takes the fragment off.
fn parts(url: &[u8]) -> (Vec<u8>, &[u8], &[u8]) {
    let (url, fragment) = url.split_at(url.iter().position(|byte| *byte == b'#').unwrap_or(url.len()));
    let (resource, query) = url.split_at(url.iter().position(|byte| *byte == b'?').unwrap_or(url.len()));
    (resource.to_vec(), query.get(1..).unwrap_or_default(), fragment)
}

#[cfg(test)]
mod tests {
    use super::{QueryParameter, SecretSource, Value};
    use crate::secret::Secret;

    /// As a request has it done.
    fn replace_in(parameter: &QueryParameter, path: &[u8]) -> Vec<u8> {
        let Value::Encoded(encoded) = &parameter.value else { panic!("it is written") };
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

    #[test]
    fn a_url_that_repeats_the_path_loses_the_parameter() {
        for (url, expected) in [
            (format!("/mcp/?{OURS}"), "/mcp/"),
            (format!("https://h.example/mcp/?a=1&{OURS}&b#f"), "https://h.example/mcp/?a=1&b#f"),
            (format!("/mcp?a=1&{OURS}"), "/mcp?a=1"),
            ("/mcp?api_key=k%26y%3d1+%c3%bc".to_owned(), "/mcp"),
            ("https://h.example/mcp#?api_key=1".to_owned(), "https://h.example/mcp#?api_key=1"),
            ("/mcp?a=%2f".to_owned(), "/mcp?a=%2f"),
        ] {
            assert_eq!(String::from_utf8(parameter().remove_from(url.as_bytes())).unwrap(), expected, "{url}");
        }
    }
}
