//! The credential filter that stands in front of MCP servers inside Envoy.
//!
//! A request's way: [`selection`] finds its server, [`filter`] removes the
//! caller's credentials, [`credential`] puts in the server's, [`refusal`] answers where that cannot be.
//! Credentials that must be fetched are kept by [`token`], which asks for them as [`oauth2`] says. [`config`] makes all of it from the plugin configuration when that loads. This crate does no I/O: the crate in `wasm/` talks to
//! Envoy.

pub mod aws;
pub mod config;
pub mod credential;
mod digest;
pub mod filter;
pub mod header_name;
pub mod held_request;
pub mod late_bodies;
pub mod metrics;
pub mod oauth2;
pub mod payload;
mod query;
pub mod refusal;
pub mod request;
pub mod response;
pub mod secret;
pub mod selection;
pub mod stripping;
pub mod time;
pub mod token;
