//! The credential filter that stands in front of MCP servers inside Envoy.
//!
//! The life of a request: [`selection`] finds its server, [`stripping`] removes the caller's credentials, [`credential`]
//! puts in the server's, and [`refusal`] answers where that cannot be. [`filter`] does these in order, and reads the
//! response.
//!
//! The life of a fetched credential: [`token`] decides when it is fetched and who waits for it, [`oauth2`] and [`aws`] say
//! how it is asked for and what the answer means.
//!
//! [`config`] makes all of it from the plugin configuration. [`http`] and [`json`] are below everything else. This crate
//! does no I/O: the crate in `wasm/` talks to Envoy.

pub mod aws;
pub mod config;
pub mod credential;
mod digest;
pub mod filter;
pub mod held_request;
pub mod http;
pub mod json;
pub mod late_bodies;
pub mod metrics;
pub mod oauth2;
pub mod redaction;
pub mod refusal;
pub mod secret;
pub mod selection;
pub mod stripping;
pub mod time;
pub mod token;
