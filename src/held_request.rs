//! A request that Envoy holds back, as whoever lets it go on and its own callbacks both see it.

use std::cell::Cell;

use crate::filter::Decided;

/// What is known of a request while it is held back.
#[derive(Debug, Default)]
pub struct HeldRequest {
    /// What became of it, once that is decided.
    pub decided: Cell<Option<Decided>>,
    /// Whether a part of its body is held back in Envoy's buffer and more is to come. Envoy adds that to the buffer
    /// before it asks what to do with it: if the rest goes on before it comes, it stays behind. So a request
    /// in that state goes on with the next part.
    pub is_in_mid_body: Cell<bool>,
}
