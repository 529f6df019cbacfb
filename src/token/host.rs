//! What Envoy does for tokens.

use std::time::Duration;

use super::issuer::TokenRequest;
use super::outcome::Failure;
use super::waiting::{Refusal, Waiter};
use crate::secret::Secret;
use crate::time::Time;

/// Envoy, as far as tokens need it.
pub trait Host {
    /// The time.
    fn now(&self) -> Time;
    /// Any number.
    fn random(&self) -> u64;
    /// What lies in shared data at `key`, and its version.
    fn read(&self, key: &str) -> Option<(Vec<u8>, u32)>;
    /// Puts `value` there, unless it has another version than this by now. Says whether it did.
    fn write(&self, key: &str, value: &[u8], version: Option<u32>) -> bool;
    /// Makes a queue on which this VM hears of changes.
    fn make_queue(&self) -> Option<u32>;
    /// Sends a message to a queue.
    fn tell(&self, queue: u32, message: &str);
    /// Sends a request to a token server; its answer comes under the number returned.
    ///
    /// # Errors
    /// If it cannot be sent.
    fn call(&self, request: &TokenRequest<'_>) -> Result<u32, Failure>;
    /// See [`super::Sign`].
    ///
    /// # Errors
    /// If the key cannot sign.
    fn sign(&self, pem: &Secret, text: &[u8]) -> Result<Vec<u8>, String>;
    /// Asks for a call of [`super::Tokens::run`] after this delay, in place of any asked for before.
    fn wake_after(&self, delay: Option<Duration>);
    /// Lets a request go on now that its token is in hand, or refuses it.
    fn settle(&self, waiter: &Waiter, outcome: Result<(), Refusal>);
    /// Counts something.
    fn report(&self, server: &str, event: Event);
}

/// Something to be counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// A fetch ended, with this outcome, after so long.
    Fetched(&'static str, Duration),
    /// The token in hand expires then.
    Expires(Time),
    /// So many more requests wait.
    Waits(i64),
    /// The upstream challenged a token.
    Challenged,
}
