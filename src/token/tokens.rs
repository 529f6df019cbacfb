//! One VM's part in it: which tokens it has in hand, which requests wait here, and the fetches that it
//! makes for all VMs.

mod fetching;

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;
use std::time::Duration;

use log::{debug, warn};

use self::fetching::Fetch;
use super::backoff::part_of;
use super::gate::Gate;
use super::host::{Event, Host};
use super::local::{Loaded, Token};
use super::record::{Challenged, Due, Record};
use super::shared::{create, read, update};
use super::waiting::{Refusal, Waiter, hopeless};
use crate::refusal::Reason;
use crate::secret::Secret;
use crate::time::Time;

/// How soon to look again at a gate that is full.
const GATE_IS_FULL: Duration = Duration::from_millis(50);

/// The longest time between two looks at the clock while a token is in hand. No token is sent much longer beyond its
/// expiry.
const LONGEST_SLEEP: Duration = Duration::from_secs(15);

/// How a request that needs a token goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wait {
    /// At once: the token is in hand by now.
    Ready,
    /// Not at all.
    Refused(Refusal),
    /// [`Host::settle`] will be called for it.
    Parked,
}

/// The tokens of one configuration in one VM.
#[derive(Debug, Default)]
pub struct Tokens {
    /// In the order of their ids.
    list: RefCell<Vec<(TokenId, Rc<Token>)>>,
    /// The id that the next one gets.
    next_id: Cell<usize>,
    ids: RefCell<HashMap<String, TokenId>>,
    /// The fetches of this VM by the numbers of their calls.
    fetches: RefCell<Vec<(u32, Fetch)>>,
    queue: Cell<Option<u32>>,
    /// Whether [`Tokens::run`] will be called at once anyway. To ask anew would put it off.
    is_woken: Cell<bool>,
    /// When [`Tokens::run`] was called last.
    last_run: Cell<Time>,
}

/// What a token is called in [`Tokens`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TokenId(usize);

/// A token that a request carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SentToken {
    /// Which one.
    pub id: TokenId,
    /// Its number.
    pub generation: u64,
}

/// The use of a token by a credential. A token that has none is given up, when nobody waits for it either.
#[derive(Debug)]
pub struct Lease {
    /// Which token.
    pub id: TokenId,
    /// The token.
    pub token: Rc<Token>,
}

impl Tokens {
    /// The use of `token`; if another server wants the same, they share it.
    pub fn share(&self, token: Token) -> Lease {
        let (mut ids, mut list) = (self.ids.borrow_mut(), self.list.borrow_mut());
        let known = ids.get(token.key.as_str()).and_then(|id| Some((*id, find(&list, *id)?)));
        let (id, token) = known.unwrap_or_else(|| {
            let (id, token) = (TokenId(self.next_id.get()), Rc::new(token));
            self.next_id.set(id.0 + 1);
            ids.insert(token.key.as_str().to_owned(), id);
            list.push((id, Rc::clone(&token)));
            (id, token)
        });
        token.users.set(token.users.get() + 1);
        Lease { id, token }
    }

    /// Makes ready while the configuration loads, before there are requests: takes in hand what other
    /// VMs, or the configuration before this one, have fetched. Nothing is fetched here, as this may be a
    /// VM that is only to see whether the configuration is right.
    ///
    /// # Errors
    /// If a private key cannot sign: where in the configuration, and why.
    pub fn load(&self, host: &dyn Host) -> Result<(), String> {
        let list = self.all();
        for (_, token) in &list {
            self.load_one(token, host)?;
        }
        if !list.is_empty() {
            self.wake(host);
        }
        Ok(())
    }

    fn load_one(&self, token: &Token, host: &dyn Host) -> Result<(), String> {
        let sign = |pem: &Secret, text: &[u8]| host.sign(pem, text);
        token.issuer.check_key(&sign).map_err(|why| format!("{}.privateKey: cannot sign: {why}", token.path))?;
        create::<Record>(host, &token.record());
        create::<Gate>(host, &token.gate());
        if let Some(queue) = self.queue.get() {
            update(host, &token.record(), |record: &mut Record| record.watch(queue));
        }
        let now = host.now();
        token.hold(&read(host, &token.record()), now);
        if !token.has_any() {
            self.borrow_from_former_secret(token, now, host);
        }
        token.loaded.set(Loaded::Yes);
        Ok(())
    }

    /// Does what is due: takes over what others fetched, fetches, and settles requests.
    pub fn run(&self, host: &dyn Host) {
        self.is_woken.set(false);
        if self.queue.get().is_none() {
            self.watch(host);
        }
        self.give_up_unused(host);
        let now = host.now();
        // What was noted for later by a clock that was set back since might come much too late.
        let was_set_back = now < self.last_run.replace(now);
        let is_due = |token: &Token| token.look.get() <= now || was_set_back;
        let list = self.all();
        let mut full_gates = Vec::new();
        // What requests miss comes before what may be wanted some day.
        for is_missed in [true, false] {
            for (id, token) in list.iter().filter(|(_, token)| token.loaded.get() == Loaded::Yes) {
                if is_due(token) && token.is_missed() == is_missed {
                    self.look(*id, token, &mut full_gates, host);
                }
            }
        }
        host.wake_after(next_run(&list, host));
    }

    /// Another VM says that something changed for the token with this key.
    pub fn hear(&self, message: &[u8]) {
        let id = std::str::from_utf8(message).ok().and_then(|key| self.ids.borrow().get(key).copied());
        if let Some(token) = id.and_then(|id| self.get(id)) {
            token.is_at_gate.set(false);
            token.look.set(Time::default());
        }
    }

    /// A request wants a token that is not in hand.
    pub fn wait(&self, id: TokenId, waiter: Waiter, host: &dyn Host) -> Wait {
        let Some(token) = self.get(id) else { return Wait::Refused(Reason::Internal.into()) };
        if token.loaded.get() == Loaded::No
            && let Err(why) = self.load_one(&token, host)
        {
            warn!("mcp-upstream-auth: {why}");
            token.loaded.set(Loaded::CannotSign);
        }
        if token.loaded.get() == Loaded::CannotSign {
            return Wait::Refused(Reason::SecretInvalid.into());
        }
        let record: Record = read(host, &token.record());
        token.hold(&record, waiter.since);
        if token.held().is_some() {
            // It was not told of this token, and must be there when it expires.
            token.look.set(Time::default());
            self.wake(host);
            return Wait::Ready;
        }
        if let Some(refusal) = hopeless(&record, &waiter, waiter.since) {
            return Wait::Refused(refusal);
        }
        token.waiters.borrow_mut().push(waiter);
        host.report(&token.server, Event::Waits(1));
        token.look.set(Time::default());
        self.wake(host);
        Wait::Parked
    }

    /// A request that waited is gone.
    pub fn forget(&self, id: TokenId, context: u32, host: &dyn Host) {
        let Some(token) = self.get(id) else { return };
        let mut waiters = token.waiters.borrow_mut();
        let before = waiters.len();
        waiters.retain(|waiter| waiter.context != context);
        if waiters.len() < before {
            host.report(&token.server, Event::Waits(-1));
        }
    }

    /// The upstream challenged the token with this number. Says whether the next request gets another one, or waits for it.
    pub fn challenged(&self, id: TokenId, generation: u64, host: &dyn Host) -> bool {
        let Some(token) = self.get(id) else { return false };
        let (now, random) = (host.now(), host.random());
        let mut effect = Challenged::Stale;
        let (record, is_changed) = update(host, &token.record(), |record: &mut Record| {
            effect = record.challenged(generation, now, random);
            matches!(effect, Challenged::Replace | Challenged::SetAside)
        });
        if generation == 0 {
            token.challenge_borrowed();
        }
        token.hold(&record, now);
        if is_changed {
            let what =
                if effect == Challenged::SetAside { "the former one serves again" } else { "it is fetched anew" };
            debug!("mcp-upstream-auth: server {:?} challenged its token: {what}", token.server);
            host.report(&token.server, Event::Challenged);
            self.tell_others(&token, &record, host);
        }
        token.look.set(Time::default());
        self.wake(host);
        // A retry would bring the caller the same challenge again.
        token.held().is_none_or(|held| held.generation != generation)
    }

    /// This configuration is done with: others take over what it was about to fetch.
    pub fn stop(&self, host: &dyn Host) {
        let fetches = std::mem::take(&mut *self.fetches.borrow_mut());
        for (_, fetch) in fetches {
            if let Some(token) = self.get(fetch.token) {
                update(host, &token.gate(), |gate: &mut Gate| gate.leave(fetch.who));
                let (record, _) = update(host, &token.record(), |record: &mut Record| record.abandon(fetch.who));
                self.tell_others(&token, &record, host);
            }
        }
        if let Some(queue) = self.queue.get() {
            for (_, token) in self.all() {
                update(host, &token.record(), |record: &mut Record| record.unwatch(queue));
            }
        }
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.list.borrow().len()
    }

    fn get(&self, id: TokenId) -> Option<Rc<Token>> {
        find(&self.list.borrow(), id)
    }

    /// All of them, as there may be more by the time that something is done with the last.
    fn all(&self) -> Vec<(TokenId, Rc<Token>)> {
        self.list.borrow().clone()
    }

    fn wake(&self, host: &dyn Host) {
        if !self.is_woken.replace(true) {
            host.wake_after(Some(Duration::ZERO));
        }
    }

    fn watch(&self, host: &dyn Host) {
        let Some(queue) = host.make_queue() else { return };
        self.queue.set(Some(queue));
        for (_, token) in self.all() {
            update(host, &token.record(), |record: &mut Record| record.watch(queue));
        }
    }

    /// Lets go of the tokens that no credential wants any more: their client's secret was replaced in the filter
    /// state. One that is in hand stays until it expires, as its upstream may yet refuse it.
    fn give_up_unused(&self, host: &dyn Host) {
        let is_fetched = |id: &TokenId| self.fetches.borrow().iter().any(|(_, fetch)| fetch.token == *id);
        let unused = |(id, token): &mut (TokenId, Rc<Token>)| !token.is_used() && !token.has_any() && !is_fetched(id);
        let unused: Vec<_> = self.list.borrow_mut().extract_if(.., unused).collect();
        for (_, token) in unused {
            self.ids.borrow_mut().remove(token.key.as_str());
            if let Some(queue) = self.queue.get() {
                update(host, &token.record(), |record: &mut Record| record.unwatch(queue));
            }
        }
    }

    fn tell_others(&self, token: &Token, record: &Record, host: &dyn Host) {
        for queue in record.watchers().iter().filter(|queue| Some(**queue) != self.queue.get()) {
            host.tell(*queue, token.key.as_str());
        }
    }

    /// Looks at what all know of the token, and does what is due. `full_gates` are those before which it
    /// was seen in this run that there is no room: hundreds of tokens may wait there.
    fn look<'a>(&self, id: TokenId, token: &'a Token, full_gates: &mut Vec<&'a str>, host: &dyn Host) {
        let cluster = token.issuer.endpoint().cluster.as_str();
        if token.is_at_gate.get() && !token.is_missed() && full_gates.contains(&cluster) {
            return;
        }
        let now = host.now();
        let mut record: Record = read(host, &token.record());
        // Another VM may have put the record there anew at the moment when this one did.
        if let Some(queue) = self.queue.get().filter(|queue| !record.watchers().contains(queue)) {
            (record, _) = update(host, &token.record(), |record: &mut Record| record.watch(queue));
        }
        // A token for once is for those who wait already: they need no other.
        token.hold(&record, now);
        token.serve(&record, now, host);
        if token.due(&record, now) == Due::Now {
            self.fetch(id, token, now, host);
            record = read(host, &token.record());
        }
        token.hold(&record, now);
        token.serve(&record, now, host);
        token.settle(host, |waiter| hopeless(&record, waiter, now).map(Err));
        let due = token.due(&record, now);
        token.is_at_gate.set(due == Due::Now);
        let next = match due {
            Due::Now => {
                full_gates.push(cluster);
                now
            }
            Due::At(time) => time,
            Due::OnDemand => Time::NEVER,
        };
        token.look.set(next.min(token.next_event()).min(record.next_change(now)));
    }

    /// A client whose secret was replaced goes on with the token that the former one was granted.
    fn borrow_from_former_secret(&self, token: &Token, now: Time, host: &dyn Host) {
        let Some((former, _)) = host.read(&token.last_granted()) else { return };
        let record: Record = read(host, &String::from_utf8_lossy(&former));
        if let Some(best) = record.best(now) {
            token.borrow(best);
        }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.token.users.set(self.token.users.get().saturating_sub(1));
    }
}

fn find(list: &[(TokenId, Rc<Token>)], id: TokenId) -> Option<Rc<Token>> {
    let place = list.binary_search_by_key(&id, |(id, _)| *id).ok()?;
    list.get(place).map(|(_, token)| Rc::clone(token))
}

/// When to run next, unless something happens before. After a suspend, the clock has gone on and Envoy's timers have not:
/// while a token is in hand, the next run is never farther away than [`LONGEST_SLEEP`].
fn next_run(list: &[(TokenId, Rc<Token>)], host: &dyn Host) -> Option<Duration> {
    let longest = list.iter().any(|(_, token)| token.has_any()).then_some(LONGEST_SLEEP);
    let loaded = list.iter().map(|(_, token)| token).filter(|token| token.loaded.get() == Loaded::Yes);
    let (at_gate, others): (Vec<_>, Vec<_>) = loaded.partition(|token| token.is_at_gate.get());
    let next = others.iter().map(|token| token.look.get()).min().filter(|next| *next < Time::NEVER);
    let next = next.map(|next| next.since(host.now()));
    let poll = (!at_gate.is_empty()).then(|| GATE_IS_FULL + part_of(GATE_IS_FULL, host.random()));
    next.into_iter().chain(poll).chain(longest).min()
}
