//! The compiled filter in a real Envoy. What counts is what arrived upstream.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test that meets what it does not expect has failed"
)]

mod aws;
mod environment;
mod envoy_gateway;
mod fail_closed;
mod fixture;
mod governance;
mod host_calls;
mod hostile;
mod injection;
mod istio;
mod load;
mod manifests;
mod mcp;
mod metrics;
mod oauth2;
mod only_mcp;
mod python_client;
mod reload;
mod responses;
mod sdk_clients;
mod secrecy;
mod selection;
mod shipped;
mod streaming;
mod stripping;
mod surroundings;
mod tls;
mod watched_secrets;

use wasm_tests::mcp_client;
