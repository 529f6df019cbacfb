//! What is removed from requests before the credential comes in, and from responses to it.

mod presets;

use crate::http::header_name::{AUTHORIZATION, HeaderName};
use crate::http::query;
use crate::http::request::{Headers, ORIGINAL_PATH, PATH};
use crate::http::validation::OWNED_BY_THE_PROXY;

pub use self::presets::Preset;

/// Removed from every request, whatever the configuration says.
const ALWAYS: [HeaderName; 3] = [AUTHORIZATION, HeaderName::known("x-api-key"), HeaderName::known("content-length")];

/// Removed as well, unless `stripHeaders` says otherwise.
const BY_DEFAULT: [HeaderName; 2] = [COOKIE, HeaderName::known("proxy-authorization")];

const COOKIE: HeaderName = HeaderName::known("cookie");

/// Removed from responses where the callers' cookies are: it would hand the caller a session of the gateway's account.
const SET_COOKIE: HeaderName = HeaderName::known("set-cookie");

/// Without this header Envoy finds no route, and behind a filter in the listener it looks again.
const FORWARDED_PROTO: &str = "x-forwarded-proto";

/// A header's name, or how names begin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Pattern {
    /// This name.
    Name(HeaderName),
    /// All names that begin so, but for those that the proxy needs.
    Prefix(String),
}

/// The keys of a configuration about it. Each may be left out.
#[derive(Debug, Default)]
pub struct StripConfig {
    /// `stripHeaders`
    pub headers: Option<Vec<Pattern>>,
    /// `stripPresets`
    pub presets: Vec<Preset>,
    /// `stripQuery`
    pub query: Vec<String>,
    /// `stripResponseHeaders`
    pub response_headers: Option<Vec<HeaderName>>,
}

/// What is removed.
#[derive(Debug)]
pub struct Stripping {
    /// Removed without a look whether they are there, as removing is the cheaper call.
    names: Vec<HeaderName>,
    /// Removed if they are there: there may be many of them, and a look at all headers is one call.
    listed: Vec<Pattern>,
    /// Parameters of the query.
    query: Vec<String>,
    /// Whether the callers' cookies are among it.
    strips_cookie: bool,
    response_headers: Option<Vec<HeaderName>>,
}

impl Stripping {
    /// What `config` says, and what is always removed.
    pub fn new(config: StripConfig) -> Self {
        let mut names = ALWAYS.to_vec();
        let mut listed: Vec<Pattern> = config.presets.iter().flat_map(|preset| preset.patterns()).collect();
        let by_default = || BY_DEFAULT.map(Pattern::Name).to_vec();
        for pattern in config.headers.unwrap_or_else(by_default) {
            match pattern {
                Pattern::Name(name) if !names.contains(&name) => names.push(name),
                Pattern::Name(_) => {}
                prefix @ Pattern::Prefix(_) => listed.push(prefix),
            }
        }
        let strips_cookie = names.contains(&COOKIE) || listed.iter().any(|pattern| pattern.matches(COOKIE.as_str()));
        Self { names, listed, query: config.query, strips_cookie, response_headers: config.response_headers }
    }

    /// The same, and `name` as well.
    #[must_use]
    pub fn and(mut self, name: HeaderName) -> Self {
        self.names.push(name);
        self
    }

    /// Removes from a request what it must not carry on. The headers in `replaced` get another value anyway.
    pub fn strip_request(&self, headers: &mut dyn Headers, replaced: &[HeaderName]) {
        self.strip_listed(headers, replaced);
        for name in self.names.iter().filter(|name| !replaced.contains(name)) {
            headers.remove(name.as_str());
        }
        self.strip_query(headers);
    }

    /// Removes the same from a request's trailers, which servers may merge with its headers (RFC 9110 §6.5.1), and those
    /// that the credential sets.
    pub fn strip_trailers(&self, trailers: &mut dyn Headers, injected: &[HeaderName]) {
        self.strip_listed(trailers, injected);
        for name in self.names.iter().chain(injected) {
            trailers.remove(name.as_str());
        }
    }

    /// Whether a response to a credential that sets these headers must lose the header `name`.
    pub fn is_stripped_from_response(&self, name: &[u8], injected: &[HeaderName]) -> bool {
        let is_name = |own: &HeaderName| own.as_str().as_bytes() == name;
        match &self.response_headers {
            Some(names) => names.iter().any(is_name),
            None => is_name(&SET_COOKIE) && (self.strips_cookie || injected.contains(&COOKIE)),
        }
    }

    fn strip_listed(&self, headers: &mut dyn Headers, replaced: &[HeaderName]) {
        if self.listed.is_empty() {
            return;
        }
        let mut found: Vec<String> = Vec::new();
        headers.visit(&mut |name, _| {
            let Ok(name) = std::str::from_utf8(name) else { return };
            let is_listed = self.listed.iter().any(|pattern| pattern.matches(name));
            let is_replaced = replaced.iter().any(|replaced| replaced.as_str() == name);
            if is_listed && !is_replaced && !found.iter().any(|found| found == name) {
                found.push(name.to_owned());
            }
        });
        found.iter().for_each(|name| headers.remove(name));
    }

    /// A filter in a cluster comes after the route has rewritten the path: the parameter is in the original one, too.
    fn strip_query(&self, headers: &mut dyn Headers) {
        if self.query.is_empty() {
            return;
        }
        headers.remove(ORIGINAL_PATH);
        let Some(path) = headers.get(PATH) else { return };
        let (resource, Some(parameters), fragment) = query::split(&path) else { return };
        let is_theirs = |name: &str| self.query.iter().any(|own| own.eq_ignore_ascii_case(name));
        let others = query::without(parameters, is_theirs);
        if others != parameters {
            let mark: &[u8] = if others.is_empty() { b"" } else { b"?" };
            headers.set(PATH, &[resource, mark, &others, fragment].concat());
        }
    }
}

impl Pattern {
    /// Reads a name, or the beginning of names with a `*` behind it.
    ///
    /// # Errors
    /// For anything that is not the name of a header, and for Host, which is replaced and must not be missing.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        match text.strip_suffix('*') {
            Some("") => Err("must have a name before the *"),
            Some(prefix) => HeaderName::parse(prefix).map(|name| Self::Prefix(name.as_str().to_owned())),
            None => crate::http::validation::stripped_header_name(text).map(Self::Name),
        }
    }

    fn matches(&self, name: &str) -> bool {
        match self {
            Self::Name(own) => own.as_str() == name,
            Self::Prefix(prefix) => {
                let is_needed = OWNED_BY_THE_PROXY.contains(&name) || name == FORWARDED_PROTO;
                name.starts_with(prefix.as_str()) && !is_needed
            }
        }
    }
}
