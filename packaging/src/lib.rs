//! What is made of the filter once it is compiled.

use std::path::PathBuf;

/// The folder of the repository.
pub fn repository() -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
}

/// The compiled filter, as `make build` leaves it.
pub fn module() -> PathBuf {
    repository().join("dist/mcp_upstream_auth.wasm")
}

/// What the module exports: Envoy calls what is there, and each call costs every request. The SDK exports
/// all of proxy-wasm's callbacks, whether a filter uses them or not.
pub const EXPORTS: [&str; 13] = [
    "_initialize",
    "memory",
    "proxy_abi_version_0_2_1",
    "proxy_on_configure",
    "proxy_on_context_create",
    "proxy_on_delete",
    "proxy_on_http_call_response",
    "proxy_on_memory_allocate",
    "proxy_on_queue_ready",
    "proxy_on_request_headers",
    "proxy_on_request_trailers",
    "proxy_on_response_headers",
    "proxy_on_tick",
];
