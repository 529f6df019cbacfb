//! The fetches of one VM: from the claim to what became of it, with one request or several.

use std::time::Duration;

use log::warn;

use super::{TokenId, Tokens};
use crate::secret::Secret;
use crate::time::Time;
use crate::token::gate::Gate;
use crate::token::host::{Event, Host};
use crate::token::issuer::Answer;
use crate::token::local::Token;
use crate::token::outcome::{Failure, FailureKind, Grant};
use crate::token::record::{Due, Record};
use crate::token::reply::Reply;
use crate::token::shared::update;

/// A fetch is taken over if its VM has not said how it ended so long after it should have.
const GRACE: Duration = Duration::from_secs(2);

/// A fetch under way.
#[derive(Debug)]
pub struct Fetch {
    /// What is fetched.
    pub token: TokenId,
    /// The name of its claim.
    pub who: u64,
    since: Time,
    /// What its requests so far brought.
    answers: Vec<Secret>,
}

impl Tokens {
    /// The answer to a call of [`Host::call`]; none if it broke off.
    pub fn answered(&self, call: u32, reply: Option<Reply<'_>>, host: &dyn Host) {
        let Some(fetch) = self.take_fetch(call) else { return };
        let Some(token) = self.get(fetch.token) else { return };
        let answer = match reply {
            Some(reply) => token.issuer.read(&fetch.answers, &reply, host.now()),
            None => Err(Failure::new(
                FailureKind::Unavailable,
                "its answer broke off, did not end within requestTimeoutMs, or is larger than Envoy takes",
            )),
        };
        match answer {
            Ok(Answer::Granted(grant)) => self.ended(&fetch, &token, Ok(grant), host),
            Ok(Answer::Interim(answer)) => {
                let mut answers = fetch.answers;
                answers.push(answer);
                self.ask(Fetch { answers, ..fetch }, &token, host);
            }
            Err(failure) => self.ended(&fetch, &token, Err(failure), host),
        }
        self.run(host);
    }

    /// Fetches the token if there is room at the gate and nobody else does.
    pub(super) fn fetch(&self, id: TokenId, token: &Token, now: Time, host: &dyn Host) {
        let fetch = Fetch { token: id, who: host.random(), since: now, answers: Vec::new() };
        let timeout = token.issuer.timeout() + GRACE;
        let is_missed = token.is_missed();
        let enter = |gate: &mut Gate| gate.enter(fetch.who, is_missed, now, timeout);
        let (_, has_entered) = update(host, &token.gate(), enter);
        if !has_entered {
            return;
        }
        let (_, has_claimed) = update(host, &token.record(), |record: &mut Record| {
            let is_due = record.due(now, is_missed) == Due::Now;
            if is_due {
                record.claim(fetch.who, now, timeout);
            }
            is_due
        });
        if !has_claimed {
            update(host, &token.gate(), |gate: &mut Gate| gate.leave(fetch.who));
            return;
        }
        self.ask(fetch, token, host);
    }

    /// Sends the next request of a fetch.
    fn ask(&self, fetch: Fetch, token: &Token, host: &dyn Host) {
        let sign = |pem: &Secret, text: &[u8]| host.sign(pem, text);
        let random = [host.random(), host.random()];
        let request = token.issuer.request(&fetch.answers, host.now(), random, &sign);
        match request.and_then(|request| host.call(&request)) {
            Ok(call) => self.fetches.borrow_mut().push((call, fetch)),
            Err(failure) => self.ended(&fetch, token, Err(failure), host),
        }
    }

    fn ended(&self, fetch: &Fetch, token: &Token, result: Result<Grant, Failure>, host: &dyn Host) {
        let (now, random) = (host.now(), host.random());
        update(host, &token.gate(), |gate: &mut Gate| gate.leave(fetch.who));
        let (record, is_changed) = update(host, &token.record(), |record: &mut Record| match &result {
            Ok(grant) => record.granted(fetch.who, grant, now, random),
            Err(failure) => record.failed(fetch.who, failure, now, random),
        });
        let outcome = match &result {
            Ok(_) => "granted",
            Err(failure) => failure.kind.name(),
        };
        host.report(&token.server, Event::Fetched(outcome, now.since(fetch.since)));
        if let Err(failure) = &result {
            warn!(
                "mcp-upstream-auth: no token for server {:?} from the token server in cluster {:?}: {}",
                token.server,
                token.issuer.endpoint().cluster,
                failure.detail
            );
        }
        if is_changed {
            if let Some(granted) = record.token().filter(|_| result.is_ok()) {
                host.report(&token.server, Event::Expires(granted.expires()));
                host.write(&token.last_granted(), token.record().as_bytes(), None);
            }
            self.tell_others(token, &record, host);
        }
        token.look.set(Time::default());
    }

    fn take_fetch(&self, call: u32) -> Option<Fetch> {
        let mut fetches = self.fetches.borrow_mut();
        let place = fetches.iter().position(|(own, _)| *own == call)?;
        Some(fetches.swap_remove(place).1)
    }
}
