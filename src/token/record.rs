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

/// Minimum time between two fetches caused by challenges. It doubles, so an upstream that challenges every token costs
/// about one fetch a minute.
const CHALLENGE_BACKOFF: Backoff = Backoff { first: Duration::from_secs(10), most: Duration::from_secs(60) };

/// Challenges that lie farther apart have nothing to do with each other.
const CHALLENGE_WINDOW: Duration = Duration::from_secs(300);

/// An upstream may not take a token yet that was granted less than this ago: its clock is behind (`nbf`), or it does not
/// know the key yet.
const BRAND_NEW: Duration = Duration::from_secs(60);

/// How long the former token serves in place of a brand-new one that was challenged. Then the new one is tried again.
const SET_ASIDE: Duration = Duration::from_secs(10);

/// How long requests wait for a replacement before the challenged token serves them.
const REPLACEMENT_WAIT: Duration = Duration::from_secs(1);

/// The state of one token; as a message, times are milliseconds since 1970.
#[derive(Clone, PartialEq, Message)]
#[prost(skip_debug)]
pub struct Record {
    /// The newest grant.
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
    challenges: Option<Challenges>,
    /// The queues of those who want to hear of changes.
    #[prost(uint32, repeated, tag = "6")]
    watchers: Vec<u32>,
    /// The grant before the newest, if that was not challenged.
    #[prost(message, optional, tag = "7")]
    former: Option<Granted>,
    /// Whether the newest was challenged, so that another one must be fetched.
    #[prost(bool, tag = "8")]
    is_challenged: bool,
    /// Until when the newest is set aside for the former.
    #[prost(uint64, tag = "9")]
    set_aside_until: u64,
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
struct Challenges {
    #[prost(uint32, tag = "1")]
    count: u32,
    #[prost(uint64, tag = "2")]
    last: u64,
    /// A challenge before this causes no fetch.
    #[prost(uint64, tag = "3")]
    quiet_until: u64,
}

/// The token that serves requests.
#[derive(Clone, Copy)]
pub struct Best<'a> {
    /// The token.
    pub granted: &'a Granted,
    /// Its number.
    pub generation: u64,
    /// Whether the upstream challenged it.
    pub is_challenged: bool,
    /// Whether it serves at once. A challenged token is the second best: requests wait a moment for another one.
    pub serves: bool,
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

/// The effect of a challenge to a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Challenged {
    /// A fetch is due. The token is the second best until then.
    Replace,
    /// The token is brand-new. The former one serves for a while.
    SetAside,
    /// Nothing: it was replaced, challenged or set aside before.
    Stale,
    /// Nothing: a fetch was caused by a challenge only just.
    Ignored,
}

impl Record {
    /// The token that serves requests, if one is unexpired.
    pub fn best(&self, now: Time) -> Option<Best<'_>> {
        let newest = self.token.as_ref().filter(|token| token.is_good(now));
        let former = self.former.as_ref().filter(|token| token.is_good(now));
        match (newest, former) {
            (Some(_), Some(former)) if self.is_set_aside(now) => Some(self.former(former)),
            (Some(granted), _) => {
                let serves = !self.is_challenged || self.replacement_is_late(now);
                Some(Best { granted, generation: self.generation, is_challenged: self.is_challenged, serves })
            }
            (None, Some(former)) => Some(self.former(former)),
            (None, None) => None,
        }
    }

    /// When [`Record::best`] changes by itself, but for expiry.
    pub fn next_change(&self, now: Time) -> Time {
        let set_aside = Some(Time::from_millis(self.set_aside_until)).filter(|_| self.is_set_aside(now));
        let late = self.claim.filter(|_| self.is_challenged).map(Claim::is_late_at).filter(|late| *late > now);
        set_aside.into_iter().chain(late).min().unwrap_or(Time::NEVER)
    }

    /// The newest grant, whether it is still good or not.
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
            Some(token) if !self.is_challenged && token.is_good(now) && Time::from_millis(token.refresh) > now => {
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
        self.former = self.token.take().filter(|token| !self.is_challenged && token.is_good(now));
        (self.is_challenged, self.set_aside_until) = (false, 0);
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

    /// The upstream challenged the token number `generation`. If that serves no more, this changes nothing. A brand-new
    /// token gives way to the former one, if there is one. Else a fetch is due, unless a challenge caused one only just: an
    /// upstream that challenges every token would cause a fetch by every request.
    pub fn challenged(&mut self, generation: u64, now: Time, random: u64) -> Challenged {
        let Some(best) = self.best(now).filter(|best| best.generation == generation && !best.is_challenged) else {
            return Challenged::Stale;
        };
        let is_brand_new = generation == self.generation && now.since(best.granted.at()) < BRAND_NEW;
        if is_brand_new && self.former.as_ref().is_some_and(|former| former.is_good(now)) {
            self.set_aside_until = now.after(SET_ASIDE).as_millis();
            return Challenged::SetAside;
        }
        let before = self.challenges.unwrap_or_default();
        if Time::from_millis(before.quiet_until).is_pending(now, CHALLENGE_BACKOFF.most) {
            return Challenged::Ignored;
        }
        let is_first = now.since(Time::from_millis(before.last)) > CHALLENGE_WINDOW;
        let count = if is_first { 1 } else { before.count.saturating_add(1) };
        let quiet_until = now.after(CHALLENGE_BACKOFF.delay(count, random)).as_millis();
        self.challenges = Some(Challenges { count, last: now.as_millis(), quiet_until });
        self.former = None;
        self.is_challenged = true;
        Challenged::Replace
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

    fn former<'a>(&self, granted: &'a Granted) -> Best<'a> {
        Best { granted, generation: self.generation.wrapping_sub(1), is_challenged: false, serves: true }
    }

    /// Whether the former token serves in place of the newest, as long as it is good.
    fn is_set_aside(&self, now: Time) -> bool {
        Time::from_millis(self.set_aside_until).is_pending(now, SET_ASIDE)
            && self.former.as_ref().is_some_and(|former| former.is_good(now))
    }

    /// Whether requests have waited long enough for a replacement: a fetch has failed, or takes long.
    pub fn replacement_is_late(&self, now: Time) -> bool {
        self.failed.is_some() || self.claim.is_some_and(|claim| claim.is_late_at() <= now)
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

impl Claim {
    /// When requests no longer wait for what it fetches, if they have a second best.
    fn is_late_at(self) -> Time {
        Time::from_millis(self.since).after(REPLACEMENT_WAIT)
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
