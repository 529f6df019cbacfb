//! A loaded configuration, and what it does for requests.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use log::{debug, error, warn};
use mcp_upstream_auth::credential::Awaited;
use mcp_upstream_auth::filter::{Challenge, Decided, Decision, Filter, Handling, Outcome};
use mcp_upstream_auth::held_request::HeldRequest;
use mcp_upstream_auth::http::body::Payload;
use mcp_upstream_auth::http::request::Request;
use mcp_upstream_auth::late_bodies::{LateBodies, PATIENCE};
use mcp_upstream_auth::refusal::{self, Reason};
use mcp_upstream_auth::selection::ServerId;
use mcp_upstream_auth::time::Time;
use mcp_upstream_auth::token::{Refusal, SentToken, Wait, Waiter};

use crate::abi::{self, Action, MapType};
use crate::envoy::{Envoy, now};
use crate::headers::HeaderMap;
use crate::metrics::Metrics;

/// The shortest time after which Envoy ticks; nothing would be never.
const TICK: u128 = 1;

/// How long the next part of a body may take, where Envoy holds back the former ones only until it comes.
const NEXT_PART: Duration = Duration::from_secs(10);

/// A loaded configuration. It lives in the root context and not in a static, as several share a VM.
pub struct Plugin {
    /// What it says.
    pub filter: Filter,
    /// A hash of its text.
    pub text: u64,
    /// Its metrics.
    pub metrics: Metrics,
    /// Envoy's name of the root context.
    pub root: u32,
    bodies: LateBodies,
    /// When the tokens are to be looked at.
    tokens_due: Cell<Time>,
    /// When Envoy ticks next.
    ticks_at: Cell<Time>,
}

impl Plugin {
    /// The plugin of the root context `root`, whose configuration's text has this hash.
    pub fn new(filter: Filter, root: u32, text: u64) -> Self {
        let (metrics, bodies) = (Metrics::default(), LateBodies::default());
        let (tokens_due, ticks_at) = (Cell::new(Time::NEVER), Cell::new(Time::NEVER));
        Self { filter, text, metrics, root, bodies, tokens_due, ticks_at }
    }

    /// Envoy, for the tokens.
    pub fn envoy(&self) -> Envoy<'_> {
        Envoy { plugin: self }
    }

    /// Lets a request wait for its body, which must be complete `within` this time.
    pub fn wait_for_body(&self, context: u32, server: ServerId, within: Duration) -> Rc<HeldRequest> {
        let held = Rc::<HeldRequest>::default();
        let now = now();
        let deadline = self.bodies.wait(context, server, Rc::clone(&held), within, now);
        // Whatever the next tick is for, it sets the one after it. One that should have been long ago was set by a clock
        // that was put forward since.
        if self.ticks_at.get() > deadline || self.ticks_at.get().after(PATIENCE) < now {
            self.schedule();
        }
        held
    }

    /// A request goes on with the next part of its body, which must come in time.
    fn wait_for_next_part(&self, waiter: &Waiter) {
        self.bodies.wait(waiter.context, waiter.server, Rc::clone(&waiter.held), NEXT_PART, now());
        self.bodies.began(waiter.context);
        self.schedule();
    }

    /// The body of a request has begun.
    pub fn body_began(&self, context: u32) {
        self.bodies.began(context);
    }

    /// The body of a request is complete, or the request is gone.
    pub fn forget_body(&self, context: u32) {
        self.bodies.forget(context);
    }

    /// Acts in the context of a request, which may be gone by now, and comes back from there.
    pub fn in_context(&self, context: u32, act: impl FnOnce()) {
        if abi::set_effective_context(context).is_ok() {
            act();
        }
        if abi::set_effective_context(self.root).is_err() {
            error!("mcp-upstream-auth: Envoy has lost the filter's own context");
        }
    }

    /// Refuses the requests whose bodies are late. The look at the tokens that follows sets the next tick.
    pub fn refuse_late_bodies(&self) {
        let late = self.bodies.late(now());
        for body in &late {
            self.in_context(body.context, || {
                body.held.decided.set(Some(self.refused(body.server, body.reason().into())));
                refuse(body.reason().into());
            });
        }
        if late.iter().any(|body| body.reason() == Reason::BodyTimeout) {
            warn!(
                "mcp-upstream-auth: a body to be signed did not come: its sender is slow, or \
                 allow_on_headers_stop_iteration is not set for this filter"
            );
        }
    }

    /// Looks at the tokens after this delay, in place of any time set before.
    pub fn look_at_tokens_after(&self, delay: Option<Duration>) {
        self.tokens_due.set(delay.map_or(Time::NEVER, |delay| now().after(delay)));
        self.schedule();
    }

    /// Lets Envoy tick when something is due. It has one tick, over and over.
    fn schedule(&self) {
        let now = now();
        let due = self.tokens_due.get().min(self.bodies.deadline());
        self.ticks_at.set(due.max(now));
        let delay = (due < Time::NEVER).then(|| due.since(now).as_millis().clamp(TICK, u32::MAX.into()));
        let millis = delay.and_then(|millis| u64::try_from(millis).ok()).unwrap_or_default();
        abi::set_tick_period(Duration::from_millis(millis));
    }

    /// Lets a request wait for its token.
    pub fn wait(&self, context: u32, server: ServerId, awaited: Awaited, payload: Payload) -> (Wait, Rc<HeldRequest>) {
        let since = now();
        let held = Rc::<HeldRequest>::default();
        let deadline = since.after(awaited.max_wait);
        let waiter = Waiter { context, server, payload, held: Rc::clone(&held), since, deadline };
        (self.filter.tokens().wait(awaited.id, waiter, &self.envoy()), held)
    }

    /// Ends a request's waiting. Its context is the effective one.
    pub fn settle(&self, waiter: &Waiter, outcome: Result<(), Refusal>) {
        let mut headers = HeaderMap::new(MapType::RequestHeaders);
        let (decided, refusal) = match outcome {
            Ok(()) => {
                let decision = self.filter.inject(waiter.server, &mut request(&mut headers, waiter.payload));
                let decided = self.decided(decision, &headers);
                let refusal = match decided.verdict.outcome {
                    Outcome::Rejected(reason) => Some(reason.into()),
                    Outcome::Injected | Outcome::Stripped | Outcome::Passed => None,
                };
                (decided, refusal)
            }
            Err(refusal) => (self.refused(waiter.server, refusal), Some(refusal)),
        };
        waiter.held.decided.set(Some(decided));
        match refusal {
            Some(refusal) => drop(refuse(refusal)),
            None if waiter.held.is_in_mid_body.get() => self.wait_for_next_part(waiter),
            None => drop(abi::resume_request()),
        }
    }

    /// What is decided in the end, which is counted.
    pub fn decided(&self, decision: Decision, headers: &HeaderMap) -> Decided {
        let mut decided = match decision {
            Decision::Final(decided) => decided,
            // The body was read, and the token in hand, a moment ago.
            Decision::Read(server, _) | Decision::Wait(server, _) => {
                Decided::without_token(Some(server), Outcome::Rejected(Reason::Internal))
            }
        };
        if headers.has_failed {
            decided = Decided::without_token(decided.verdict.server, Outcome::Rejected(Reason::Internal));
        }
        self.count(decided);
        decided
    }

    /// The decision to refuse a request without its token, which is counted.
    pub fn refused(&self, server: ServerId, refusal: Refusal) -> Decided {
        let decided = Decided::without_token(Some(server), Outcome::Rejected(refusal.reason));
        self.count(decided);
        decided
    }

    /// Deals with an upstream's word against the credential.
    pub fn answer(&self, challenge: Challenge, decided: Decided) -> Action {
        let refused = |token: SentToken| self.filter.tokens().challenged(token.id, token.generation, &self.envoy());
        let has_another = challenge.token.is_some_and(refused);
        let reason = match challenge.handling {
            Handling::Relay => return Action::Continue,
            Handling::LeaveToRetry(_) if has_another => return Action::Continue,
            Handling::LeaveToRetry(reason) | Handling::Refuse(reason) => reason,
        };
        if let Some(server) = decided.verdict.server.and_then(|id| self.filter.servers().get(id)) {
            self.metrics.count_refused_reply(reason, &server.name);
        }
        refuse(reason.into())
    }

    fn count(&self, decided: Decided) {
        let server = decided.verdict.server.and_then(|id| self.filter.servers().get(id));
        self.metrics.count_request(decided.verdict, server.map(|server| &*server.name));
    }
}

/// The request at hand, as the core sees it.
pub fn request(headers: &mut HeaderMap, payload: Payload) -> Request<'_> {
    Request { headers, attributes: &read_attribute, payload, now: &now }
}

/// Reads an attribute of the request at hand.
pub fn read_attribute(path: &[&str]) -> Option<Vec<u8>> {
    abi::property(path)
}

/// The only place that answers a request: answering one twice hangs it.
pub fn refuse(refusal: Refusal) -> Action {
    let Refusal { reason, retry_after } = refusal;
    debug!("mcp-upstream-auth: a request is refused: {}", reason.name());
    let headers = refusal::headers(retry_after);
    let headers: Vec<_> = headers.iter().map(|(name, value)| (*name, value.as_bytes())).collect();
    if let Err(status) = abi::send_local_response(reason.status(), &headers, &reason.body()) {
        error!("mcp-upstream-auth: a refusal cannot be sent: {status:?}");
    }
    Action::Pause
}
