//! Requests that wait for a token.

use std::rc::Rc;
use std::time::Duration;

use super::outcome::FailureKind;
use super::record::{Outlook, Record};
use crate::held_request::HeldRequest;
use crate::http::body::Payload;
use crate::refusal::Reason;
use crate::selection::ServerId;
use crate::time::Time;

/// What a request is told that waited in vain.
const RETRY_SOON: Duration = Duration::from_secs(1);

/// A clock that says that a request began to wait later than this from now was set back since. Its
/// deadline may then be far away.
const SET_BACK: Duration = Duration::from_secs(1);

/// A request that Envoy holds back until its token is there.
#[derive(Debug)]
pub struct Waiter {
    /// What Envoy calls it.
    pub context: u32,
    /// The server it is for.
    pub server: ServerId,
    /// Its body, if the credential signs that.
    pub payload: Payload,
    /// The request.
    pub held: Rc<HeldRequest>,
    /// When it began to wait.
    pub since: Time,
    /// When it must have an answer.
    pub deadline: Time,
}

/// Why a request is refused, and when it may be worth another attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Refusal {
    /// Why.
    pub reason: Reason,
    /// How long to wait before, if that is known.
    pub retry_after: Option<Duration>,
}

impl From<Reason> for Refusal {
    fn from(reason: Reason) -> Self {
        Self { reason, retry_after: None }
    }
}

/// Why this request will get no token in time, if that is certain.
pub fn hopeless(record: &Record, waiter: &Waiter, now: Time) -> Option<Refusal> {
    match record.outlook(now) {
        // Only a change of the configuration heals a cluster that leads back to the filter.
        Outlook::Failed(kind, retry) if retry > waiter.deadline || kind == FailureKind::ClusterFiltered => {
            Some(Refusal { reason: kind.reason(), retry_after: Some(retry.since(now)) })
        }
        _ if waiter.deadline <= now || waiter.since.since(now) > SET_BACK => {
            let reason = record.last_failure().map_or(Reason::TokenTimeout, FailureKind::reason);
            Some(Refusal { reason, retry_after: Some(RETRY_SOON) })
        }
        _ => None,
    }
}
