//! Requests that Envoy holds until more of their bodies arrives: all of a body that is signed, or the next part after the token
//! has come.
//!
//! Two limits keep a caller from holding Envoy's memory for long. A body must begin soon: unless
//! `allow_on_headers_stop_iteration` is set for the filter, Envoy shows it no body while it holds the head, and each
//! such request would hang. And it must be complete in time.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use crate::held_request::HeldRequest;
use crate::refusal::Reason;
use crate::selection::ServerId;
use crate::time::Time;

/// The time in which a body must begin.
pub const PATIENCE: Duration = Duration::from_secs(5);

/// The requests of one plugin whose bodies are not complete.
#[derive(Debug, Default)]
pub struct LateBodies {
    awaited: RefCell<Vec<Awaited>>,
}

/// A request whose body is not complete.
#[derive(Debug)]
pub struct Awaited {
    /// What Envoy calls it.
    pub context: u32,
    /// The server it is for.
    pub server: ServerId,
    /// The request.
    pub held: Rc<HeldRequest>,
    has_begun: bool,
    since: Time,
    /// The time in which the body must be complete.
    within: Duration,
}

impl LateBodies {
    /// The request waits for its body from `now` on, which must be complete `within` this time. Gives the next deadline.
    pub fn wait(&self, context: u32, server: ServerId, held: Rc<HeldRequest>, within: Duration, now: Time) -> Time {
        let awaited = Awaited { context, server, held, has_begun: false, since: now, within };
        let deadline = awaited.deadline();
        self.awaited.borrow_mut().push(awaited);
        deadline
    }

    /// The body of the request has begun.
    pub fn began(&self, context: u32) {
        let mut awaited = self.awaited.borrow_mut();
        if let Some(awaited) = awaited.iter_mut().find(|awaited| awaited.context == context) {
            awaited.has_begun = true;
        }
    }

    /// The body is complete, or the request is gone.
    pub fn forget(&self, context: u32) {
        self.awaited.borrow_mut().retain(|awaited| awaited.context != context);
    }

    /// Removes and returns the requests whose deadline has passed. A deadline farther away than the limit was set
    /// before the clock stepped back; it counts as passed.
    pub fn late(&self, now: Time) -> Vec<Awaited> {
        let is_late = |awaited: &mut Awaited| !awaited.deadline().is_pending(now, awaited.limit());
        self.awaited.borrow_mut().extract_if(.., is_late).collect()
    }

    /// The next deadline.
    pub fn deadline(&self) -> Time {
        self.awaited.borrow().iter().map(Awaited::deadline).min().unwrap_or(Time::NEVER)
    }
}

impl Awaited {
    /// The reason to reject the request once its deadline has passed.
    pub fn reason(&self) -> Reason {
        if self.has_begun { Reason::BodyTooSlow } else { Reason::BodyTimeout }
    }

    fn deadline(&self) -> Time {
        self.since.after(self.limit())
    }

    fn limit(&self) -> Duration {
        if self.has_begun { self.within } else { self.within.min(PATIENCE) }
    }
}

#[cfg(test)]
mod tests {
    use std::rc::Rc;
    use std::time::Duration;

    use super::{LateBodies, PATIENCE};
    use crate::refusal::Reason;
    use crate::selection::{SelectBy, Server, Servers, Unmatched};
    use crate::time::Time;

    const MOMENT: Duration = Duration::from_millis(1);
    const SECOND: Duration = Duration::from_secs(1);
    /// The time in which the bodies of these tests must be complete.
    const WITHIN: Duration = Duration::from_secs(30);

    /// Bodies of which the first is awaited since noon, and the second since a second later.
    fn two() -> LateBodies {
        let server = Server { name: "s".into(), upstream: None };
        let servers = Servers::named(SelectBy::Cluster, vec![server], Unmatched::Reject);
        let server = servers.select(|_| Some(b"s".to_vec())).unwrap();
        let bodies = LateBodies::default();
        assert_eq!(bodies.deadline(), Time::NEVER);
        for (context, since) in [(1, Time::NOON), (2, Time::NOON.after(SECOND))] {
            let deadline = bodies.wait(context, server, Rc::default(), WITHIN, since);
            assert_eq!(deadline, since.after(PATIENCE));
        }
        bodies
    }

    fn late(bodies: &LateBodies, now: Time) -> Vec<(u32, Reason)> {
        bodies.late(now).iter().map(|body| (body.context, body.reason())).collect()
    }

    #[test]
    fn each_body_that_does_not_begin_is_late_once() {
        let bodies = two();
        let first = Time::NOON.after(PATIENCE);
        assert_eq!(bodies.deadline(), first);
        assert_eq!(late(&bodies, first.before(MOMENT)), []);
        assert_eq!(late(&bodies, first), [(1, Reason::BodyTimeout)]);
        assert_eq!(bodies.deadline(), first.after(SECOND));
        assert_eq!(late(&bodies, first.after(2 * WITHIN)), [(2, Reason::BodyTimeout)]);
        assert_eq!(bodies.deadline(), Time::NEVER);
    }

    #[test]
    fn a_body_that_has_begun_must_be_complete_in_time() {
        let bodies = two();
        bodies.began(1);
        bodies.began(2);
        let first = Time::NOON.after(WITHIN);
        assert_eq!(bodies.deadline(), first);
        assert_eq!(late(&bodies, first.before(MOMENT)), []);
        assert_eq!(late(&bodies, first), [(1, Reason::BodyTooSlow)]);
        bodies.forget(2);
        assert_eq!(late(&bodies, Time::NEVER), []);
    }

    #[test]
    fn a_short_limit_counts_from_the_head() {
        let bodies = two();
        let server = bodies.late(Time::NEVER)[0].server;
        let deadline = bodies.wait(3, server, Rc::default(), SECOND, Time::NOON);
        assert_eq!(deadline, Time::NOON.after(SECOND));
        assert_eq!(late(&bodies, deadline), [(3, Reason::BodyTimeout)]);
    }

    #[test]
    fn a_clock_that_steps_back_holds_no_request() {
        assert_eq!(late(&two(), Time::NOON.before(Duration::from_secs(3600))).len(), 2);
    }
}
