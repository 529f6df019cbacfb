//! A credential in the query of the request's path.

use form_urlencoded::{byte_serialize, parse};

use crate::refusal::Reason;
use crate::request::{Headers, ORIGINAL_PATH, PATH};
use crate::secret::Secret;

/// A parameter that replaces every one of its name in a request's query.
#[derive(Debug)]
pub struct QueryParameter {
    name: String,
    /// `name=value`, encoded.
    encoded: Secret,
}

impl QueryParameter {
    /// The parameter `name`, with `value` encoded as forms are.
    pub fn new(name: &str, value: &Secret) -> Self {
        let encode = |text: &str| byte_serialize(text.as_bytes()).collect::<String>();
        let encoded = Secret::new(format!("{}={}", encode(name), encode(value.expose())));
        Self { name: name.to_owned(), encoded }
    }

    /// Puts the parameter into the request's path. An upstream filter comes after the route has rewritten
    /// the path: the caller's parameter is then in the original one, too, which the server need not see.
    ///
    /// # Errors
    /// [`Reason::NoPath`] for a request that has none, such as CONNECT.
    pub fn apply(&self, request: &mut impl Headers) -> Result<(), Reason> {
        let path = request.get(PATH).filter(|path| path.starts_with(b"/")).ok_or(Reason::NoPath)?;
        request.set(PATH, &self.replace_in(&path));
        request.remove(ORIGINAL_PATH);
        Ok(())
    }

    /// `path` with this parameter behind all others; the others stay byte for byte.
    fn replace_in(&self, path: &[u8]) -> Vec<u8> {
        let (resource, query) = match path.iter().position(|byte| *byte == b'?') {
            Some(mark) => path.split_at(mark),
            None => (path, &[] as &[u8]),
        };
        let mut replaced = Vec::with_capacity(path.len() + self.encoded.expose().len() + 1);
        replaced.extend_from_slice(resource);
        replaced.push(b'?');
        if let Some(query) = query.get(1..).filter(|query| !query.is_empty()) {
            for pair in query.split(|byte| *byte == b'&').filter(|pair| !self.has_name_of(pair)) {
                replaced.extend_from_slice(pair);
                replaced.push(b'&');
            }
        }
        replaced.extend_from_slice(self.encoded.expose().as_bytes());
        replaced
    }

    /// Compares names as a server reads them: decoded, so that `api%5Fkey` is `api_key`.
    fn has_name_of(&self, pair: &[u8]) -> bool {
        parse(pair).next().is_some_and(|(name, _)| name == self.name)
    }
}

#[cfg(test)]
mod tests {
    use super::QueryParameter;
    use crate::secret::Secret;

    #[test]
    fn the_callers_parameter_is_replaced_and_the_rest_stays() {
        let parameter = QueryParameter::new("api_key", &Secret::new("k&y=1 ü".to_owned()));
        for (path, before) in [
            ("/mcp", "/mcp?"),
            ("/mcp?", "/mcp?"),
            ("/mcp?api_key=theirs", "/mcp?"),
            ("/mcp?api_key", "/mcp?"),
            ("/mcp?a=1&api_key=x&b=2&api_key=y", "/mcp?a=1&b=2&"),
            ("/mcp?api%5Fkey=x&%61pi_key=y", "/mcp?"),
            ("/mcp?API_KEY=other&api_keys=z", "/mcp?API_KEY=other&api_keys=z&"),
            ("/mcp?a=%2f+%20&&b=?&=c", "/mcp?a=%2f+%20&&b=?&=c&"),
            ("/a&api_key=x/b?c", "/a&api_key=x/b?c&"),
        ] {
            let expected = format!("{before}api_key=k%26y%3D1+%C3%BC");
            assert_eq!(String::from_utf8(parameter.replace_in(path.as_bytes())).unwrap(), expected, "{path}");
        }
    }

    #[test]
    fn bytes_that_are_not_utf8_pass_through() {
        let parameter = QueryParameter::new("k", &Secret::new("v".to_owned()));
        assert_eq!(parameter.replace_in(b"/\xff?\xfe=\xfd&k=1"), b"/\xff?\xfe=\xfd&k=v");
    }
}
