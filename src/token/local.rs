//! One token in one VM: whether it is in hand, and who waits for it.

use std::cell::{Cell, Ref, RefCell};
use std::fmt;
use std::rc::Rc;

use super::host::{Event, Host};
use super::issuer::{Issuer, TokenKey};
use super::record::{Best, Due, Record};
use super::waiting::{Refusal, Waiter, hopeless};
use crate::secret::Secret;
use crate::time::Time;

/// What everything in shared data is called by first.
const PREFIX: &str = "mcp_upstream_auth";

/// One token in one VM.
pub struct Token {
    pub(super) issuer: Box<dyn Issuer>,
    pub(super) key: TokenKey,
    /// What it has in common with the token that this server had when the client had another secret.
    lineage: TokenKey,
    /// The name of the first server that wants it.
    pub(super) server: Rc<str>,
    /// Where that server's `auth` is in the configuration.
    pub(super) path: Box<str>,
    held: RefCell<Option<Held>>,
    pub(super) waiters: RefCell<Vec<Waiter>>,
    /// When to look at its record again.
    pub(super) look: Cell<Time>,
    /// How many credentials want it.
    pub(super) users: Cell<usize>,
    pub(super) loaded: Cell<Loaded>,
    /// Whether it is to be fetched and there was no room at the gate.
    pub(super) is_at_gate: Cell<bool>,
}

/// Whether a token can be fetched and found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Loaded {
    /// Nobody has asked for it yet.
    #[default]
    No,
    /// Its record is there.
    Yes,
    /// It never will be: its client's private key cannot sign.
    CannotSign,
}

/// A token in hand.
pub struct Held {
    /// The token as those keep it who send it, see [`Issuer::as_sent`].
    pub as_sent: Secret,
    /// The token's number; 0 if it was granted for a client's former secret.
    pub generation: u64,
    expires: Time,
    /// Whether the upstream challenged it.
    is_challenged: bool,
    /// Whether it serves requests. It does not while they wait for a better one.
    serves: bool,
}

impl Token {
    /// The token that `issuer` is asked for, for the server of this name and host, whose `auth` is at `path` in the
    /// configuration.
    pub fn new(issuer: Box<dyn Issuer>, server: Rc<str>, host: &str, path: &str) -> Self {
        let key = issuer.key();
        let lineage = issuer.lineage([&server, host]);
        Self {
            issuer,
            key,
            lineage,
            server,
            path: path.into(),
            held: RefCell::default(),
            waiters: RefCell::default(),
            look: Cell::default(),
            users: Cell::default(),
            loaded: Cell::default(),
            is_at_gate: Cell::default(),
        }
    }

    /// The token in hand, if it serves requests.
    pub fn held(&self) -> Option<Ref<'_, Held>> {
        Ref::filter_map(self.held.borrow(), |held| held.as_ref().filter(|held| held.serves)).ok()
    }

    /// Whether a token is in hand, be it the second best.
    pub(super) fn has_any(&self) -> bool {
        self.held.borrow().is_some()
    }

    /// The key of its record in shared data.
    pub(super) fn record(&self) -> String {
        format!("{PREFIX}.token.{}", self.key.as_str())
    }

    /// The key of the gate before its token server.
    pub(super) fn gate(&self) -> String {
        format!("{PREFIX}.gate.{}", self.issuer.endpoint().cluster)
    }

    /// The key under which the record of the last token is named that was granted to this server, whatever the
    /// client's secret.
    pub(super) fn last_granted(&self) -> String {
        format!("{PREFIX}.last.{}", self.lineage.as_str())
    }

    /// Whether a request waits for it.
    pub(super) fn is_wanted(&self) -> bool {
        !self.waiters.borrow().is_empty()
    }

    /// Whether a credential or a request wants it.
    pub(super) fn is_used(&self) -> bool {
        self.users.get() > 0 || self.is_wanted()
    }

    /// Whether a request misses it: one that waits, or one that goes on with a challenged token.
    pub(super) fn is_missed(&self) -> bool {
        self.is_wanted() || self.held.borrow().as_ref().is_some_and(|held| held.is_challenged)
    }

    /// When it is to be fetched, by its record.
    pub(super) fn due(&self, record: &Record, now: Time) -> Due {
        match record.due(now, self.is_missed()) {
            Due::Now if !self.is_used() => Due::OnDemand,
            due => due,
        }
    }

    /// Takes the token in hand that `record` has for requests, and drops the one that it has no more.
    pub(super) fn hold(&self, record: &Record, now: Time) {
        let mut held = self.held.borrow_mut();
        let Some(best) = record.best(now) else {
            // What a former secret was granted serves until this one has a token that is good.
            *held = held.take().filter(|held| held.generation == 0 && held.expires > now);
            if let Some(held) = held.as_mut() {
                held.serves = !held.is_challenged || record.replacement_is_late(now);
            }
            return;
        };
        match held.as_mut().filter(|held| held.generation == best.generation) {
            Some(held) => (held.is_challenged, held.serves) = (best.is_challenged, best.serves),
            None => *held = Some(self.held_as(best, best.granted.expires())),
        }
    }

    /// Takes a token in hand that was granted for the client's former secret.
    pub(super) fn borrow(&self, former: Best<'_>) {
        let borrowed = Best { generation: 0, ..former };
        *self.held.borrow_mut() = Some(self.held_as(borrowed, former.granted.expires()));
    }

    /// The upstream challenged a token that was granted for the client's former secret: it is the second best from now on.
    pub(super) fn challenge_borrowed(&self) {
        if let Some(held) = self.held.borrow_mut().as_mut().filter(|held| held.generation == 0) {
            (held.is_challenged, held.serves) = (true, false);
        }
    }

    fn held_as(&self, Best { granted, generation, is_challenged, serves }: Best<'_>, expires: Time) -> Held {
        Held { as_sent: self.issuer.as_sent(granted.token()), generation, expires, is_challenged, serves }
    }

    /// When something happens here without a change of the record.
    pub(super) fn next_event(&self) -> Time {
        let expires = self.held.borrow().as_ref().map(|held| held.expires);
        let deadline = self.waiters.borrow().iter().map(|waiter| waiter.deadline).min();
        expires.into_iter().chain(deadline).min().unwrap_or(Time::NEVER)
    }

    /// Lets the requests go on that wait for the token of `record`.
    pub(super) fn serve(&self, record: &Record, now: Time, host: &dyn Host) {
        // A request gets the second best rather than nothing.
        let is_hopeless = self.waiters.borrow().iter().any(|waiter| hopeless(record, waiter, now).is_some());
        if let Some(held) = self.held.borrow_mut().as_mut().filter(|_| is_hopeless) {
            held.serves = true;
        }
        if self.held().is_some() {
            return self.settle(host, |_| Some(Ok(())));
        }
        if let Some(granted) = record.token().filter(|granted| granted.is_for_once()) {
            let for_once = Best { granted, generation: record.generation(), is_challenged: false, serves: true };
            *self.held.borrow_mut() = Some(self.held_as(for_once, now));
            self.settle(host, |waiter| (waiter.since <= granted.at()).then_some(Ok(())));
            *self.held.borrow_mut() = None;
        }
    }

    /// Settles the requests that `choose` gives an outcome.
    pub(super) fn settle(&self, host: &dyn Host, choose: impl Fn(&Waiter) -> Option<Result<(), Refusal>>) {
        let waiters = std::mem::take(&mut *self.waiters.borrow_mut());
        for waiter in waiters {
            match choose(&waiter) {
                Some(outcome) => {
                    host.report(&self.server, Event::Waits(-1));
                    host.settle(&waiter, outcome);
                }
                None => self.waiters.borrow_mut().push(waiter),
            }
        }
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Token").field("key", &self.key).finish_non_exhaustive()
    }
}
