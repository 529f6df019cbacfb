//! The way of a request: find its server, remove what the caller must not send on, put in the
//! credential, or refuse.

use http::HeaderName;
use http::header::{AUTHORIZATION, CONTENT_LENGTH, COOKIE, PROXY_AUTHORIZATION};

use crate::credential::Applied;
use crate::refusal::Reason;
use crate::request::{AUTHORITY, Headers};
use crate::selection::{ServerId, Servers, Unmatched, Upstream};

/// Removed from every request, whatever the configuration says.
const ALWAYS_STRIPPED: [HeaderName; 3] = [AUTHORIZATION, HeaderName::from_static("x-api-key"), CONTENT_LENGTH];

/// Removed as well, unless `stripHeaders` says otherwise.
pub const STRIPPED_BY_DEFAULT: [HeaderName; 2] = [COOKIE, PROXY_AUTHORIZATION];

/// A configuration, ready to serve requests.
#[derive(Debug)]
pub struct Filter {
    servers: Servers,
    stripped: Vec<HeaderName>,
}

/// What became of a request, and whose it was.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Verdict {
    /// The server it is for, if that is known.
    pub server: Option<ServerId>,
    /// What became of it.
    pub outcome: Outcome,
}

/// What became of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// Forwarded with the server's credential.
    Injected,
    /// Forwarded without the caller's credentials and without one of ours.
    Stripped,
    /// Forwarded as it came.
    Passed,
    /// Refused.
    Rejected(Reason),
}

impl Filter {
    /// A filter for `servers` that strips the headers in `also_strip` beside those it always strips.
    pub fn new(servers: Servers, also_strip: Vec<HeaderName>) -> Self {
        let mut stripped = ALWAYS_STRIPPED.to_vec();
        for name in also_strip {
            if !stripped.contains(&name) {
                stripped.push(name);
            }
        }
        Self { servers, stripped }
    }

    /// The servers behind the filter.
    pub fn servers(&self) -> &Servers {
        &self.servers
    }

    /// Decides on a request and changes its headers accordingly. `read` reads an Envoy attribute by
    /// its path; it is called at most once.
    pub fn on_request(&self, read: impl FnOnce(&[&str]) -> Option<Vec<u8>>, headers: &mut dyn Headers) -> Verdict {
        match self.servers.select(read) {
            Ok(id) => Verdict { server: Some(id), outcome: self.forward(id, headers) },
            Err(unmatched) => Verdict { server: None, outcome: self.unmatched(unmatched, headers) },
        }
    }

    /// Removes from a request's trailers what its headers could not have carried on either: servers
    /// may merge the two (RFC 9110 §6.5.1).
    pub fn on_trailers(&self, verdict: Verdict, trailers: &mut dyn Headers) {
        if verdict.outcome == Outcome::Passed {
            return;
        }
        let upstream = verdict.server.and_then(|id| self.upstream(id));
        let injected = upstream.map_or(&[][..], |upstream| upstream.credential.header_names());
        for name in self.stripped.iter().chain(injected) {
            trailers.remove(name.as_str());
        }
    }

    /// Takes out of a response what would tell the caller the credential that was injected.
    pub fn on_response(&self, verdict: Verdict, headers: &mut dyn Headers) {
        if let Some(upstream) = verdict.server.and_then(|id| self.upstream(id)) {
            upstream.credential.on_response(headers);
        }
    }

    fn upstream(&self, id: ServerId) -> Option<&Upstream> {
        self.servers.get(id)?.upstream.as_ref()
    }

    fn unmatched(&self, unmatched: Unmatched, headers: &mut dyn Headers) -> Outcome {
        match unmatched {
            Unmatched::Reject => return Outcome::Rejected(Reason::UnknownServer),
            Unmatched::Pass => return Outcome::Passed,
            Unmatched::Strip => {}
        }
        for name in &self.stripped {
            headers.remove(name.as_str());
        }
        Outcome::Stripped
    }

    /// The credential comes last: what it signs must be what leaves.
    fn forward(&self, id: ServerId, headers: &mut dyn Headers) -> Outcome {
        let Some(upstream) = self.upstream(id) else { return Outcome::Rejected(Reason::ServerDisabled) };
        let replaced = upstream.credential.header_names();
        for name in self.stripped.iter().filter(|name| !replaced.contains(name)) {
            headers.remove(name.as_str());
        }
        headers.set(AUTHORITY, upstream.host.as_bytes());
        match upstream.credential.apply(headers) {
            Ok(Applied::Injected) => Outcome::Injected,
            Ok(Applied::NotWanted) => Outcome::Stripped,
            Err(reason) => Outcome::Rejected(reason),
        }
    }
}

#[cfg(test)]
mod tests;
