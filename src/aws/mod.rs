//! Requests to services behind AWS IAM: how they are signed, and where the keys for that come from.
//!
//! A request's way: [`canonical`] writes down what is signed of it, [`signer`] signs that with [`keys`]. Keys that are
//! not written in the configuration are issued by one of the [`sources`], and fetched and kept by [`crate::token`].

mod answers;
pub mod canonical;
pub mod keys;
pub mod signer;
pub mod sources;

#[cfg(test)]
mod tests;
