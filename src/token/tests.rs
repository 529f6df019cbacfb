//! All VMs of an Envoy process at work on their tokens, and each step that a token's record can make.

mod chaos;
mod clock;
mod fetching;
mod process;
mod record;
mod refusals;
mod replacement;
mod rotation;
mod stepwise;
mod token_server;
