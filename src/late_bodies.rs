//! Requests whose bodies are to be signed and of which nothing has arrived yet.
//!
//! Unless `allow_on_headers_stop_iteration` is set for the filter, Envoy shows it no body as long as it holds the
//! headers back: each such request would then hang. So there is a limit to how late a body may begin.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use crate::held_request::HeldRequest;
use crate::selection::ServerId;
use crate::time::Time;

/// How late a body may begin.
pub const PATIENCE: Duration = Duration::from_secs(5);

/// The requests of one plugin whose bodies have not begun.
#[derive(Debug, Default)]
pub struct LateBodies {
    awaited: RefCell<Vec<Awaited>>,
}

/// A request whose body has not begun.
#[derive(Debug)]
pub struct Awaited {
    /// What Envoy calls it.
    pub context: u32,
    /// The server it is for.
    pub server: ServerId,
    /// The request.
    pub held: Rc<HeldRequest>,
    deadline: Time,
}

impl LateBodies {
    /// The request waits for its body from `now` on. Gives the time when it is too late.
    pub fn wait(&self, context: u32, server: ServerId, held: Rc<HeldRequest>, now: Time) -> Time {
        let deadline = now.after(PATIENCE);
        self.awaited.borrow_mut().push(Awaited { context, server, held, deadline });
        deadline
    }

    /// Its body has begun, or it is gone.
    pub fn forget(&self, context: u32) {
        self.awaited.borrow_mut().retain(|awaited| awaited.context != context);
    }

    /// Takes out those that are too late. One that would be due later than it can be was noted before the clock was
    /// set back, and is as well.
    pub fn late(&self, now: Time) -> Vec<Awaited> {
        self.awaited.borrow_mut().extract_if(.., |awaited| !awaited.deadline.is_pending(now, PATIENCE)).collect()
    }

    /// When the next one may be too late.
    pub fn deadline(&self) -> Time {
        self.awaited.borrow().iter().map(|awaited| awaited.deadline).min().unwrap_or(Time::NEVER)
    }
}

#[cfg(test)]
mod tests {
    use std::rc::Rc;
    use std::time::Duration;

    use super::{LateBodies, PATIENCE};
    use crate::selection::{SelectBy, Server, Servers, Unmatched};
    use crate::time::Time;

    const MOMENT: Duration = Duration::from_millis(1);

    /// Bodies of which the first is awaited since noon, and the second since a second later.
    fn two() -> LateBodies {
        let server = Server { name: "s".into(), upstream: None };
        let servers = Servers::named(SelectBy::Cluster, vec![server], Unmatched::Reject);
        let server = servers.select(|_| Some(b"s".to_vec())).unwrap();
        let bodies = LateBodies::default();
        assert_eq!(bodies.deadline(), Time::NEVER);
        for (context, since) in [(1, Time::NOON), (2, Time::NOON.after(Duration::from_secs(1)))] {
            assert_eq!(bodies.wait(context, server, Rc::default(), since), since.after(PATIENCE));
        }
        bodies
    }

    fn late(bodies: &LateBodies, now: Time) -> Vec<u32> {
        bodies.late(now).iter().map(|body| body.context).collect()
    }

    #[test]
    fn each_is_late_once_and_at_its_time() {
        let bodies = two();
        let first = Time::NOON.after(PATIENCE);
        assert_eq!(bodies.deadline(), first);
        assert_eq!(late(&bodies, first.before(MOMENT)), [0; 0]);
        assert_eq!(late(&bodies, first), [1]);
        assert_eq!(bodies.deadline(), first.after(Duration::from_secs(1)));
        assert_eq!(late(&bodies, first.after(Duration::from_secs(60))), [2]);
        assert_eq!(bodies.deadline(), Time::NEVER);
    }

    #[test]
    fn one_that_has_begun_is_never_late() {
        let bodies = two();
        bodies.forget(1);
        assert_eq!(late(&bodies, Time::NEVER), [2]);
    }

    #[test]
    fn nobody_waits_for_a_clock_that_was_set_back() {
        assert_eq!(late(&two(), Time::NOON.before(Duration::from_secs(3600))), [1, 2]);
    }
}
