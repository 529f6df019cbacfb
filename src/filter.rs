//! The way of a request: find its server, remove what the caller must not send on, put in the
//! credential, or refuse.

use std::rc::Rc;

use crate::credential::{Applied, Awaited, Refused};
use crate::http::body::{BodyLimits, Payload};
use crate::http::header_name::HeaderName;
use crate::http::request::{AUTHORITY, Attributes, Headers, Request};
use crate::http::response::{CHALLENGES, ResponseHead};
use crate::refusal::Reason;
use crate::selection::{ServerId, Servers, Unmatched, Upstream};
use crate::stripping::Stripping;
use crate::token::{SentToken, Tokens};

/// `Content-Length` (RFC 9110 §8.6).
const CONTENT_LENGTH: HeaderName = HeaderName::known("content-length");

/// A configuration, ready to serve requests.
#[derive(Debug)]
pub struct Filter {
    servers: Servers,
    tokens: Rc<Tokens>,
    stripping: Stripping,
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
    /// A filter for `servers`, which want `tokens`.
    pub fn new(servers: Servers, tokens: Rc<Tokens>, stripping: Stripping) -> Self {
        Self { servers, tokens, stripping }
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
            Err(unmatched) => Decision::Final(Decided::without_token(None, self.unmatched(unmatched, request))),
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
        self.stripping.strip_trailers(trailers, injected);
    }

    /// Removes from a response to an injected credential what is of that alone: the key, sessions of the gateway's account,
    /// challenges. Says whether the upstream challenges the credential.
    pub fn on_response(
        &self,
        decided: Decided,
        headers: &mut dyn Headers,
        attributes: Attributes<'_>,
    ) -> Option<Challenge> {
        let Verdict { server, outcome: Outcome::Injected } = decided.verdict else { return None };
        let upstream = self.upstream(server?)?;
        let key = upstream.credential.echoed_key(attributes);
        let (mut head, mut unwanted, mut has_key) = (ResponseHead::default(), Vec::new(), false);
        headers.visit(&mut |name, value| {
            head.see(name, value);
            has_key |= key.as_ref().is_some_and(|key| key.is_in(name, value));
            if self.is_unwanted(upstream, name) {
                unwanted.push(String::from_utf8_lossy(name).into_owned());
            }
        });
        let challenge = challenge(upstream, decided, &head);
        // The caller sees nothing of a response in whose place there is another one.
        if !challenge.is_some_and(|challenge| matches!(challenge.handling, Handling::Refuse(_))) {
            unwanted.iter().for_each(|name| headers.remove(name));
            if let Some(key) = key.filter(|_| has_key) {
                key.remove_from(headers);
            }
        }
        challenge
    }

    /// Whether a response to the credential of `upstream` must lose the header `name`.
    fn is_unwanted(&self, upstream: &Upstream, name: &[u8]) -> bool {
        let is_challenge = !upstream.passes_challenge && CHALLENGES.iter().any(|own| own.as_bytes() == name);
        is_challenge || self.stripping.is_stripped_from_response(name, upstream.credential.header_names())
    }

    fn upstream(&self, id: ServerId) -> Option<&Upstream> {
        self.servers.get(id)?.upstream.as_ref()
    }

    fn unmatched(&self, unmatched: Unmatched, request: &mut Request<'_>) -> Outcome {
        match unmatched {
            Unmatched::Reject => return Outcome::Rejected(Reason::UnknownServer),
            Unmatched::Pass => return Outcome::Passed,
            Unmatched::Strip => {}
        }
        request.narrow_connection();
        self.stripping.strip_request(request.headers, &[]);
        Outcome::Stripped
    }

    /// The credential comes last: what it signs must be what leaves.
    fn forward(&self, id: ServerId, request: &mut Request<'_>) -> Decision {
        let Some(upstream) = self.upstream(id) else { return rejected(id, Reason::ServerDisabled) };
        request.narrow_connection();
        let mut limits = upstream.credential.body_limits().filter(|_| request.payload == Payload::Unread);
        if limits.is_some() && request.takes_over_the_connection() {
            request.payload = Payload::Absent;
            limits = None;
        }
        let is_too_long = limits.is_some_and(|limits| content_length(request.headers) > limits.bytes);
        let replaced = upstream.credential.header_names();
        self.stripping.strip_request(request.headers, replaced);
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

/// Whether a response challenges the credential of `upstream`, and what becomes of it then.
fn challenge(upstream: &Upstream, decided: Decided, head: &ResponseHead) -> Option<Challenge> {
    let refused = upstream.credential.refused_by(head)?;
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
