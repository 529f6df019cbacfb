//! What a fetch of a token comes to.

use std::time::Duration;

use super::backoff::Backoff;
use crate::refusal::Reason;
use crate::secret::Secret;

/// A token as its server granted it.
#[derive(Debug)]
pub struct Grant {
    /// The token.
    pub token: Secret,
    /// How long it is good for; nothing if it is for the requests at hand alone.
    pub lifetime: Duration,
}

/// What a token is good for whose issuer does not say (RFC 6749 §5.1 leaves it open).
pub const LIFETIME_IF_NOT_SAID: Duration = Duration::from_secs(300);

/// Why there is no token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// What kind of failure.
    pub kind: FailureKind,
    /// How long the token server asked to be left alone.
    pub retry_after: Option<Duration>,
    /// For the log: no secret is in it.
    pub detail: String,
}

/// The kinds of failure, by what helps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, prost::Enumeration)]
#[repr(i32)]
pub enum FailureKind {
    /// The token server refuses this client or what it asks for: somebody must change a configuration.
    Refused = 0,
    /// It does not answer, or says that it cannot at the moment.
    Unavailable = 1,
    /// It answers what is no token.
    Malformed = 2,
    /// Envoy has no cluster of that name.
    ClusterUnknown = 3,
    /// The cluster has this filter in its own `http_filters`.
    ClusterFiltered = 4,
    /// Envoy has no healthy host there, and sent nothing.
    NoHealthyHost = 5,
}

impl Failure {
    /// A failure without a wish of the token server's.
    pub fn new(kind: FailureKind, detail: impl Into<String>) -> Self {
        Self { kind, retry_after: None, detail: detail.into() }
    }
}

impl FailureKind {
    /// When to try again. What time does not heal is not asked for again soon; a question to Envoy
    /// itself costs nobody anything.
    pub fn backoff(self) -> Backoff {
        let backoff = |first, most| Backoff { first: Duration::from_millis(first), most: Duration::from_millis(most) };
        match self {
            Self::Refused => backoff(10_000, 60_000),
            Self::Unavailable | Self::Malformed => backoff(250, 30_000),
            Self::ClusterUnknown | Self::ClusterFiltered => backoff(250, 5_000),
            Self::NoHealthyHost => backoff(250, 2_000),
        }
    }

    /// The reason that a request gets.
    pub fn reason(self) -> Reason {
        match self {
            Self::Refused => Reason::TokenRefused,
            Self::Unavailable | Self::Malformed | Self::NoHealthyHost => Reason::TokenUnavailable,
            Self::ClusterUnknown => Reason::TokenClusterUnknown,
            Self::ClusterFiltered => Reason::TokenClusterFiltered,
        }
    }

    /// The name in metrics.
    pub fn name(self) -> &'static str {
        match self {
            Self::Refused => "refused",
            Self::Unavailable | Self::NoHealthyHost => "unavailable",
            Self::Malformed => "malformed",
            Self::ClusterUnknown => "cluster_unknown",
            Self::ClusterFiltered => "cluster_filtered",
        }
    }
}
