//! What is made of the filter once it is compiled.

use std::error::Error;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Why a file cannot be made.
pub type Failure = Box<dyn Error + Send + Sync>;

/// What a program here is: it makes the file of its second argument from that of its first. `target` is what `make` calls
/// it by.
pub fn main(target: &str, usage: &str, make: impl FnOnce(&Path, &Path) -> Result<(), Failure>) -> ExitCode {
    let arguments: Vec<_> = std::env::args_os().skip(1).map(PathBuf::from).collect();
    let [from, to] = arguments.as_slice() else {
        eprintln!("usage: {usage}");
        return ExitCode::FAILURE;
    };
    match make(from, to) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("{target}: {failure}");
            ExitCode::FAILURE
        }
    }
}

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
pub const EXPORTS: [&str; 14] = [
    "_initialize",
    "memory",
    "proxy_abi_version_0_2_1",
    "proxy_on_configure",
    "proxy_on_context_create",
    "proxy_on_delete",
    "proxy_on_http_call_response",
    "proxy_on_memory_allocate",
    "proxy_on_queue_ready",
    "proxy_on_request_body",
    "proxy_on_request_headers",
    "proxy_on_request_trailers",
    "proxy_on_response_headers",
    "proxy_on_tick",
];
