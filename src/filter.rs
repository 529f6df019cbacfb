//! The way of a request: find its server, remove what the caller must not send on, put in the
//! credential, or refuse.

use std::rc::Rc;

use crate::credential::{Applied, Awaited, Refused};
use crate::header_name::{AUTHORIZATION, HeaderName};
use crate::payload::{BodyLimits, Payload};
use crate::refusal::Reason;
use crate::request::{AUTHORITY, Headers, Request, STATUS};
use crate::selection::{ServerId, Servers, Unmatched, Upstream};
use crate::token::{TokenId, Tokens};

/// Removed from every request, whatever the configuration says.
const ALWAYS_STRIPPED: [HeaderName; 3] = [AUTHORIZATION, HeaderName::known("x-api-key"), CONTENT_LENGTH];

/// `Content-Length` (RFC 9110 §8.6).
const CONTENT_LENGTH: HeaderName = HeaderName::known("content-length");

/// Removed as well, unless `stripHeaders` says otherwise.
pub const STRIPPED_BY_DEFAULT: [HeaderName; 2] =
    [HeaderName::known("cookie"), HeaderName::known("proxy-authorization")];

/// A configuration, ready to serve requests.
#[derive(Debug)]
pub struct Filter {
    servers: Servers,
    tokens: Rc<Tokens>,
    stripped: Vec<HeaderName>,
}

/// How a request goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision {
    /// As it is decided here.
    Final(Decided),
    /// Its body must be read within these limits; then [`Filter::inject`] decides.
    Read(ServerId, BodyLimits),
    /// It waits for a token; then [`Filter::inject`] decides.
    Wait(ServerId, Awaited),
}

/// A decision, and what a word of the upstream against it would be about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Decided {
    /// What became of the request.
    pub verdict: Verdict,
    /// The token that it carries, if that was fetched.
    pub token: Option<SentToken>,
}

/// A token that a request carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SentToken {
    /// Which one.
    pub id: TokenId,
    /// Its number, see [`crate::token`].
    pub generation: u64,
}

/// The upstream refuses the credential.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Challenge {
    /// The token that is no good, if it was fetched.
    pub token: Option<SentToken>,
    /// What becomes of the answer.
    pub handling: Handling,
}

/// What becomes of an upstream's word against the credential.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Handling {
    /// The caller gets it as it is.
    Relay,
    /// The caller gets a refusal.
    Refuse(Reason),
    /// If another token is at hand, Envoy's retry gets the bare status; else the caller gets a refusal.
    LeaveToRetry(Reason),
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
    /// A filter for `servers`, which want `tokens`, that strips the headers in `also_strip` beside those it
    /// always strips.
    pub fn new(servers: Servers, tokens: Rc<Tokens>, also_strip: Vec<HeaderName>) -> Self {
        let mut stripped = ALWAYS_STRIPPED.to_vec();
        for name in also_strip {
            if !stripped.contains(&name) {
                stripped.push(name);
            }
        }
        Self { servers, tokens, stripped }
    }

    /// The servers behind the filter.
    pub fn servers(&self) -> &Servers {
        &self.servers
    }

    /// The tokens that the servers want.
    pub fn tokens(&self) -> &Tokens {
        &self.tokens
    }

    /// Decides on a request and changes its headers accordingly.
    pub fn on_request(&self, request: &mut Request<'_>) -> Decision {
        match self.servers.select(request.attributes) {
            Ok(id) => self.forward(id, request),
            Err(unmatched) => Decision::Final(Decided::without_token(None, self.unmatched(unmatched, request.headers))),
        }
    }

    /// Puts the credential of the server `id` into a request that [`Filter::on_request`] has dealt with.
    pub fn inject(&self, id: ServerId, request: &mut Request<'_>) -> Decision {
        let Some(upstream) = self.upstream(id) else { return rejected(id, Reason::ServerDisabled) };
        match upstream.credential.apply(request) {
            Ok(Applied::Injected(token)) => {
                Decision::Final(Decided { verdict: Verdict { server: Some(id), outcome: Outcome::Injected }, token })
            }
            Ok(Applied::NotWanted) => Decision::Final(Decided::without_token(Some(id), Outcome::Stripped)),
            Ok(Applied::Awaits(awaited)) => Decision::Wait(id, awaited),
            Err(reason) => rejected(id, reason),
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

    /// Takes out of a response what would tell the caller the credential that was injected, and says
    /// whether the upstream refuses that.
    pub fn on_response(&self, decided: Decided, headers: &mut dyn Headers) -> Option<Challenge> {
        let Verdict { server, outcome: Outcome::Injected } = decided.verdict else { return None };
        let upstream = self.upstream(server?)?;
        upstream.credential.on_response(headers);
        let refused = upstream.credential.refused_by(&headers.get(STATUS)?, headers)?;
        let is_unauthorized = refused == Refused::Unauthorized;
        let reason = match refused {
            Refused::Unauthorized | Refused::Unaccepted => Reason::UpstreamUnauthorized,
            Refused::Forbidden => Reason::UpstreamForbidden,
        };
        let handling = match upstream.passes_challenge {
            true => Handling::Relay,
            false if is_unauthorized && upstream.credential.is_retried() => Handling::LeaveToRetry(reason),
            false => Handling::Refuse(reason),
        };
        Some(Challenge { token: decided.token.filter(|_| is_unauthorized), handling })
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
    fn forward(&self, id: ServerId, request: &mut Request<'_>) -> Decision {
        let Some(upstream) = self.upstream(id) else { return rejected(id, Reason::ServerDisabled) };
        let mut limits = upstream.credential.body_limits().filter(|_| request.payload == Payload::Unread);
        if limits.is_some() && request.takes_over_the_connection() {
            request.payload = Payload::Absent;
            limits = None;
        }
        let is_too_long = limits.is_some_and(|limits| content_length(request.headers) > limits.bytes);
        let replaced = upstream.credential.header_names();
        for name in self.stripped.iter().filter(|name| !replaced.contains(name)) {
            request.headers.remove(name.as_str());
        }
        request.headers.set(AUTHORITY, upstream.host.as_bytes());
        let decision = match limits {
            Some(_) if is_too_long => return rejected(id, Reason::BodyTooLarge),
            Some(limits) => Decision::Read(id, limits),
            None => self.inject(id, request),
        };
        if let Decision::Wait(..) | Decision::Read(..) = decision {
            // Whatever may become of it, the caller's goes no further.
            replaced.iter().for_each(|name| request.headers.remove(name.as_str()));
        }
        decision
    }
}

impl Decided {
    /// A decision about a request without a fetched token.
    pub fn without_token(server: Option<ServerId>, outcome: Outcome) -> Self {
        Self { verdict: Verdict { server, outcome }, token: None }
    }
}

/// How long the caller says that the body is; nothing if it does not say.
fn content_length(headers: &dyn Headers) -> u64 {
    let text = headers.get(CONTENT_LENGTH.as_str()).and_then(|value| String::from_utf8(value).ok());
    text.and_then(|text| text.parse().ok()).unwrap_or_default()
}

fn rejected(id: ServerId, reason: Reason) -> Decision {
    Decision::Final(Decided::without_token(Some(id), Outcome::Rejected(reason)))
}

#[cfg(test)]
mod tests;
