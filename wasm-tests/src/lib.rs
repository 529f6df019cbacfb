//! What it takes to run the compiled filter where it will run: an Envoy process, upstreams that write
//! down what arrives, and a real MCP server that demands credentials.

pub mod arrival;
pub mod aws_peer;
pub mod client;
pub mod credentials_server;
pub mod demo;
pub mod envoy;
pub mod everything;
pub mod gateway;
pub mod guard;
pub mod mcp_client;
pub mod mcp_server;
mod node;
pub mod oidc_provider;
mod serve;
pub mod signed_token;
pub mod token_server;
pub mod upstream;

use std::path::PathBuf;

/// The folder of the repository.
pub fn repository() -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
}

/// The compiled filter, as `make build` leaves it.
pub fn module() -> PathBuf {
    repository().join("dist/mcp_upstream_auth.wasm")
}
