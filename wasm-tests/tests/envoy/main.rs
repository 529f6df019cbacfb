//! The compiled filter in a real Envoy. What counts is what arrived upstream.

mod fail_closed;
mod fixture;
mod hostile;
mod injection;
mod mcp;
mod mcp_client;
mod metrics;
mod module;
mod secrecy;
mod selection;
mod shipped;
mod streaming;
mod surroundings;
