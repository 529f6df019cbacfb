//! Tokens that are fetched: who fetches, when, and who waits.
//!
//! Each VM of an Envoy process (one a worker, and one of the main thread) has its own [`Tokens`] for a
//! configuration. What they must agree on is a [`record`](record::Record) in shared data, and a
//! [`gate`](gate::Gate) before each token server; a queue tells each of them of changes. A request finds its
//! token in its own VM and asks nobody.

mod backoff;
mod gate;
mod host;
mod issuer;
mod local;
mod outcome;
mod record;
mod reply;
mod shared;
mod tokens;
mod waiting;

pub use self::host::{Event, Host};
pub use self::issuer::{Answer, Endpoint, Issuer, Sign, TokenKey, TokenRequest};
pub use self::local::Token;
pub use self::outcome::{Failure, FailureKind, Grant, LIFETIME_IF_NOT_SAID};
pub use self::reply::{LARGEST_BODY, Reply};
pub use self::tokens::{Lease, SentToken, TokenId, Tokens, Wait};
pub use self::waiting::{Refusal, Waiter};

#[cfg(test)]
mod tests;
