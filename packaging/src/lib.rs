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
