//! The filter as a proxy-wasm module for Envoy.
//!
//! [`abi`] has Envoy's callbacks and calls. [`contexts`] finds the plugin or the stream that a callback is for.
//! [`plugin`] is a loaded configuration, [`stream`] one request, [`envoy`] what Envoy does for fetched credentials.
//! Everything else is in the crate `mcp_upstream_auth`, which knows nothing of wasm.
//!
//! The module does not use the dispatcher of the `proxy-wasm` crate. That dispatcher borrows all of its contexts for
//! the length of a callback, and panics if Envoy calls back while a host call runs. Envoy does so where a callout
//! goes to a cluster that has this filter in its own `http_filters`.
//! Natively the crate has [`wire`] and its tests, and nothing else.

#[cfg(target_arch = "wasm32")]
mod abi;
#[cfg(target_arch = "wasm32")]
mod contexts;
#[cfg(target_arch = "wasm32")]
mod envoy;
#[cfg(target_arch = "wasm32")]
mod headers;
#[cfg(target_arch = "wasm32")]
mod logger;
#[cfg(target_arch = "wasm32")]
mod metrics;
#[cfg(target_arch = "wasm32")]
mod plugin;
#[cfg(target_arch = "wasm32")]
mod stream;
#[cfg(any(target_arch = "wasm32", test))]
mod wire;
