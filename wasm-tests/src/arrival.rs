//! What reached a server, noted before anything judged it.

use http_body_util::BodyExt;
use hyper::body::{Bytes, Incoming};
use hyper::header::{HOST, HeaderMap};
use hyper::{Method, Request, Version};

/// The head of one request, as it arrived.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Arrival {
    /// The method.
    pub method: Method,
    /// The host it asked for: `:authority` in HTTP/2, where no Host header need exist.
    pub authority: String,
    /// Path and query, byte for byte.
    pub path_and_query: String,
    /// In the order of arrival, repeated names repeated; values are bytes, as they need not be UTF-8.
    pub headers: Vec<(String, Vec<u8>)>,
    /// The version of HTTP it came with.
    pub version: Version,
}

impl Arrival {
    /// The head of `request`.
    pub fn of<B>(request: &Request<B>) -> Self {
        let target = request.uri().path_and_query();
        Self {
            method: request.method().clone(),
            authority: authority_of(request),
            path_and_query: target.map_or_else(String::new, ToString::to_string),
            headers: list(request.headers()),
            version: request.version(),
        }
    }

    /// Every value that `name` arrived with: one too many is a finding, too.
    pub fn header(&self, name: &str) -> Vec<String> {
        let named = self.headers.iter().filter(|(own, _)| own.eq_ignore_ascii_case(name));
        named.map(|(_, value)| String::from_utf8_lossy(value).into_owned()).collect()
    }
}

/// The headers or trailers in `map` as a list.
pub fn list(map: &HeaderMap) -> Vec<(String, Vec<u8>)> {
    map.iter().map(|(name, value)| (name.to_string(), value.as_bytes().to_vec())).collect()
}

/// Reads a body to its end.
///
/// # Errors
/// If the peer breaks off.
pub async fn read_body(body: Incoming) -> hyper::Result<(Bytes, Vec<(String, Vec<u8>)>)> {
    let collected = body.collect().await?;
    let trailers = collected.trailers().map(list).unwrap_or_default();
    Ok((collected.to_bytes(), trailers))
}

/// The host that `request` asks for; the target outranks the Host header (RFC 9112 §3.2.2).
pub fn authority_of<B>(request: &Request<B>) -> String {
    let of_header = || request.headers().get(HOST).map(|host| String::from_utf8_lossy(host.as_bytes()).into_owned());
    let of_target = request.uri().authority().map(ToString::to_string);
    of_target.or_else(of_header).unwrap_or_default()
}
