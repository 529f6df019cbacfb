//! What all VMs of an Envoy process know of one token, and what may become of that.
//!
//! The record lies in Envoy's shared data. Whoever changes it reads it, makes one of the transitions
//! below and writes it back if nobody else did meanwhile: so there is one fetch at a time in the process.

use std::time::Duration;

use prost::Message;

use super::backoff::{Backoff, part_of};
use super::outcome::{Failure, FailureKind, Grant};
use crate::time::Time;

/// No longer than this is a token kept, whatever its server says.
pub const LONGEST_LIFETIME: Duration = Duration::from_secs(30 * 24 * 3600);

/// The longest that a `Retry-After` is honoured.
const LONGEST_RETRY_AFTER: Duration = Duration::from_secs(600);

/// A refresh begins this long before expiry, or at four fifths of the lifetime if that is later; up to
/// half as much earlier at random.
const REFRESH_MARGIN: Duration = Duration::from_secs(300);

/// No refresh begins sooner after the last one, so that a token server that hands out the same token
/// until it expires is not asked ever faster.
const SHORTEST_REFRESH: Duration = Duration::from_secs(1);

/// Nobody holds a claim for longer: the limit of `requestTimeoutMs` and what is added to it.
const LONGEST_CLAIM: Duration = Duration::from_secs(120);

/// How long a token that was fetched because its predecessor was refused must have been good before
/// the next refusal causes another fetch.
const REFUSED_BY_UPSTREAM: Backoff = Backoff { first: Duration::from_secs(10), most: Duration::from_secs(60) };

/// Refusals that lie farther apart have nothing to do with each other.
const REFUSALS_FORGOTTEN: Duration = Duration::from_secs(300);

/// The state of one token; as a message, times are milliseconds since 1970.
#[derive(Clone, PartialEq, Message)]
#[prost(skip_debug)]
pub struct Record {
    /// The last one granted, unless its upstream refused it since.
    #[prost(message, optional, tag = "1")]
    token: Option<Granted>,
    /// Counts the tokens granted.
    #[prost(uint64, tag = "2")]
    generation: u64,
    /// The fetch under way.
    #[prost(message, optional, tag = "3")]
    claim: Option<Claim>,
    /// What became of the fetches since the last grant.
    #[prost(message, optional, tag = "4")]
    failed: Option<Failed>,
    #[prost(message, optional, tag = "5")]
    refused: Option<RefusedByUpstream>,
    /// The queues of those who want to hear of changes.
    #[prost(uint32, repeated, tag = "6")]
    watchers: Vec<u32>,
}

/// A token and its times.
#[derive(Clone, PartialEq, Message)]
#[prost(skip_debug)]
pub struct Granted {
    #[prost(string, tag = "1")]
    token: String,
    #[prost(uint64, tag = "2")]
    at: u64,
    #[prost(uint64, tag = "3")]
    expires: u64,
    #[prost(uint64, tag = "4")]
    refresh: u64,
}

#[derive(Clone, Copy, PartialEq, Message)]
struct Claim {
    #[prost(fixed64, tag = "1")]
    by: u64,
    #[prost(uint64, tag = "2")]
    since: u64,
    /// Whoever claimed it is taken for dead after this.
    #[prost(uint64, tag = "3")]
    until: u64,
}

#[derive(Clone, Copy, PartialEq, Message)]
struct Failed {
    #[prost(enumeration = "FailureKind", tag = "1")]
    kind: i32,
    #[prost(uint32, tag = "2")]
    attempts: u32,
    #[prost(uint64, tag = "3")]
    retry: u64,
}

#[derive(Clone, Copy, PartialEq, Message)]
struct RefusedByUpstream {
    #[prost(uint32, tag = "1")]
    count: u32,
    #[prost(uint64, tag = "2")]
    last: u64,
    /// A refusal before this drops no token.
    #[prost(uint64, tag = "3")]
    quiet_until: u64,
}

/// When a token is to be fetched.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Due {
    /// Now.
    Now,
    /// Not before this, as far as is known now.
    At(Time),
    /// When a request wants it.
    OnDemand,
}

/// What the record says to a request without a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outlook {
    /// A token may come at any moment.
    Hopeful,
    /// The next attempt is not made before this.
    Failed(FailureKind, Time),
}

/// What becomes of a token that its upstream refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dropped {
    /// It is dropped now.
    Now,
    /// It was replaced or dropped before.
    Before,
    /// It stays: the one before it was refused only just.
    Kept,
}

impl Record {
    /// The last token granted, whether it is still good or not.
    pub fn token(&self) -> Option<&Granted> {
        self.token.as_ref()
    }

    /// How many tokens were granted so far: the number of the last one.
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// Who wants to hear of changes.
    pub fn watchers(&self) -> &[u32] {
        &self.watchers
    }

    /// When to fetch. `wanted`: whether a request waits.
    pub fn due(&self, now: Time, wanted: bool) -> Due {
        if let Some(until) = self.claimed_until(now) {
            return Due::At(until);
        }
        if let Some(retry) = self.retry(now) {
            return Due::At(retry.1);
        }
        match &self.token {
            Some(token) if token.is_good(now) && Time::from_millis(token.refresh) > now => {
                Due::At(Time::from_millis(token.refresh))
            }
            Some(token) if token.is_for_once() && !wanted => Due::OnDemand,
            // Without a token to be replaced in time, a client that is refused asks for those only who want it.
            token if self.is_refused() && !wanted && !token.as_ref().is_some_and(|token| token.is_good(now)) => {
                Due::OnDemand
            }
            _ => Due::Now,
        }
    }

    /// What a request that has no token is to expect.
    pub fn outlook(&self, now: Time) -> Outlook {
        match self.retry(now) {
            Some((kind, retry)) if self.claimed_until(now).is_none() => Outlook::Failed(kind, retry),
            _ => Outlook::Hopeful,
        }
    }

    /// The kind of the last failure since the last grant.
    pub fn last_failure(&self) -> Option<FailureKind> {
        self.failed.map(|failed| failed.kind())
    }

    /// Begins a fetch in the name of `by`, who is taken for dead if it is not over after `timeout`.
    pub fn claim(&mut self, by: u64, now: Time, timeout: Duration) {
        let until = now.after(timeout.min(LONGEST_CLAIM)).as_millis();
        self.claim = Some(Claim { by, since: now.as_millis(), until });
    }

    /// Ends the fetch that `by` began, without a result. Says whether there was one.
    pub fn abandon(&mut self, by: u64) -> bool {
        self.end_claim(by).is_some()
    }

    /// Ends the fetch that `by` began with a token. Says whether there was one: another may have taken
    /// it over.
    pub fn granted(&mut self, by: u64, grant: &Grant, now: Time, random: u64) -> bool {
        let Some(claim) = self.end_claim(by) else { return false };
        // Whoever issued it counts from an earlier time than that at which it arrives here.
        self.token = Some(Granted::new(grant, Time::from_millis(claim.since), now, random));
        self.generation = self.generation.wrapping_add(1);
        self.failed = None;
        true
    }

    /// Ends the fetch that `by` began with a failure. Says whether there was one.
    pub fn failed(&mut self, by: u64, failure: &Failure, now: Time, random: u64) -> bool {
        if self.end_claim(by).is_none() {
            return false;
        }
        let attempts = match self.failed {
            Some(before) if before.kind().backoff() == failure.kind.backoff() => before.attempts.saturating_add(1),
            _ => 1,
        };
        let asked_for = failure.retry_after.unwrap_or_default().min(LONGEST_RETRY_AFTER);
        let delay = failure.kind.backoff().delay(attempts, random).max(asked_for);
        self.failed = Some(Failed { kind: failure.kind.into(), attempts, retry: now.after(delay).as_millis() });
        true
    }

    /// The upstream refused the token number `generation`. It is dropped, and a fetch is due, unless a
    /// newer one is there, or the one before it was refused only just: an upstream that refuses every
    /// token would else cause a fetch by every request.
    pub fn refused_by_upstream(&mut self, generation: u64, now: Time, random: u64) -> Dropped {
        if generation != self.generation || self.token.is_none() {
            return Dropped::Before;
        }
        let before = self.refused.unwrap_or_default();
        if Time::from_millis(before.quiet_until).is_pending(now, REFUSED_BY_UPSTREAM.most) {
            return Dropped::Kept;
        }
        let is_new = now.since(Time::from_millis(before.last)) > REFUSALS_FORGOTTEN;
        let count = if is_new { 1 } else { before.count.saturating_add(1) };
        let quiet_until = now.after(REFUSED_BY_UPSTREAM.delay(count, random)).as_millis();
        self.refused = Some(RefusedByUpstream { count, last: now.as_millis(), quiet_until });
        self.token = None;
        Dropped::Now
    }

    /// Adds a queue; says whether it is new.
    pub fn watch(&mut self, queue: u32) -> bool {
        let is_new = !self.watchers.contains(&queue);
        if is_new {
            self.watchers.push(queue);
        }
        is_new
    }

    /// Removes a queue; says whether it was there.
    pub fn unwatch(&mut self, queue: u32) -> bool {
        let before = self.watchers.len();
        self.watchers.retain(|watcher| *watcher != queue);
        self.watchers.len() < before
    }

    fn is_refused(&self) -> bool {
        self.last_failure() == Some(FailureKind::Refused)
    }

    fn end_claim(&mut self, by: u64) -> Option<Claim> {
        self.claim.take_if(|claim| claim.by == by)
    }

    fn claimed_until(&self, now: Time) -> Option<Time> {
        self.claim.map(|claim| Time::from_millis(claim.until)).filter(|until| until.is_pending(now, LONGEST_CLAIM))
    }

    fn retry(&self, now: Time) -> Option<(FailureKind, Time)> {
        let failed = self.failed?;
        let retry = Time::from_millis(failed.retry);
        retry.is_pending(now, LONGEST_RETRY_AFTER).then(|| (failed.kind(), retry))
    }
}

impl Granted {
    fn new(grant: &Grant, asked: Time, now: Time, random: u64) -> Self {
        // What is over before it could be refreshed is for those who wait.
        let lifetime = Some(grant.lifetime.min(LONGEST_LIFETIME)).filter(|lifetime| *lifetime >= SHORTEST_REFRESH);
        let lifetime = lifetime.unwrap_or_default();
        let expires = asked.after(lifetime);
        let margin = REFRESH_MARGIN.min(lifetime / 5);
        let refresh = expires.before(margin + part_of(margin / 2, random));
        let earliest = now.after(SHORTEST_REFRESH.min(lifetime / 2));
        Self {
            token: grant.token.expose().to_owned(),
            at: now.as_millis(),
            expires: expires.as_millis(),
            refresh: refresh.max(earliest).as_millis(),
        }
    }

    /// The token itself.
    pub fn token(&self) -> &str {
        &self.token
    }

    /// When it was granted.
    pub fn at(&self) -> Time {
        Time::from_millis(self.at)
    }

    /// When it expires.
    pub fn expires(&self) -> Time {
        Time::from_millis(self.expires)
    }

    /// Whether it can still be sent.
    pub fn is_good(&self, now: Time) -> bool {
        self.expires() > now
    }

    /// Whether it serves those who waited for it and nobody after them.
    pub fn is_for_once(&self) -> bool {
        self.expires <= self.at
    }
}
