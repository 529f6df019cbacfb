//! The compiled module itself: what it asks of its host, and how large it is.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test that meets what it does not expect has failed"
)]

use packaging::{module, repository};
use wasmparser::{Parser, Payload, TypeRef};

/// What the module may import: proxy-wasm's calls that Envoy has, and the bare minimum of WASI. A new name
/// here is a decision, as it may not be in an older Envoy, or not be allowed by a VM's capabilities.
const ALLOWED: [&str; 28] = [
    "env.proxy_add_header_map_value",
    "env.proxy_call_foreign_function",
    "env.proxy_continue_stream",
    "env.proxy_define_metric",
    "env.proxy_dequeue_shared_queue",
    "env.proxy_enqueue_shared_queue",
    "env.proxy_get_buffer_bytes",
    "env.proxy_get_current_time_nanoseconds",
    "env.proxy_get_header_map_pairs",
    "env.proxy_get_header_map_value",
    "env.proxy_get_property",
    "env.proxy_get_shared_data",
    "env.proxy_http_call",
    "env.proxy_increment_metric",
    "env.proxy_log",
    "env.proxy_record_metric",
    "env.proxy_register_shared_queue",
    "env.proxy_remove_header_map_value",
    "env.proxy_replace_header_map_value",
    "env.proxy_send_local_response",
    "env.proxy_set_effective_context",
    "env.proxy_set_shared_data",
    "env.proxy_set_tick_period_milliseconds",
    "wasi_snapshot_preview1.environ_get",
    "wasi_snapshot_preview1.environ_sizes_get",
    "wasi_snapshot_preview1.fd_write",
    "wasi_snapshot_preview1.proc_exit",
    "wasi_snapshot_preview1.random_get",
];

/// The module's exports. Envoy calls every exported callback, which costs each request.
const EXPORTS: [&str; 14] = [
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

/// The most that the module may weigh, in bytes. The README states it.
const SIZE_BUDGET: usize = 1_000_000;

#[test]
fn the_module_imports_nothing_but_what_is_allowed() {
    let bytes = std::fs::read(module()).unwrap();
    let mut imports = Vec::new();
    for payload in Parser::new(0).parse_all(&bytes) {
        if let Payload::ImportSection(section) = payload.unwrap() {
            for import in section.into_imports() {
                let import = import.unwrap();
                assert!(matches!(import.ty, TypeRef::Func(_)), "{} is not a function", import.name);
                imports.push(format!("{}.{}", import.module, import.name));
            }
        }
    }
    assert!(imports.contains(&"env.proxy_replace_header_map_value".to_owned()), "{imports:?}");
    let unknown: Vec<_> = imports.iter().filter(|import| !ALLOWED.contains(&import.as_str())).collect();
    assert!(unknown.is_empty(), "{unknown:?}");
}

#[test]
fn the_module_exports_what_envoy_is_to_call_and_nothing_else() {
    let bytes = std::fs::read(module()).unwrap();
    let mut exports = Vec::new();
    for payload in Parser::new(0).parse_all(&bytes) {
        if let Payload::ExportSection(section) = payload.unwrap() {
            exports.extend(section.into_iter().map(|export| export.unwrap().name.to_owned()));
        }
    }
    exports.sort();
    assert_eq!(exports, EXPORTS);
}

#[test]
fn the_module_is_within_its_budget_which_the_readme_states() {
    let size = std::fs::read(module()).unwrap().len();
    assert!(size <= SIZE_BUDGET, "{size} bytes");
    let readme = std::fs::read_to_string(repository().join("README.md")).unwrap();
    assert!(readme.contains(&format!("{} MB", SIZE_BUDGET / 1_000_000)), "the README states another budget");
}

/// Built elsewhere from the same commit, it would be another file, and it is nobody's business.
#[test]
fn the_module_has_no_path_of_whoever_built_it() {
    let bytes = std::fs::read(module()).unwrap();
    let home = std::env::var("HOME").unwrap_or_default();
    let cargo = std::env::var("CARGO_HOME").unwrap_or_default();
    let sources = std::fs::canonicalize(repository()).unwrap();
    for path in [home.as_str(), &cargo, sources.to_str().unwrap(), "registry/src"] {
        // A home of `/` would be found in any module.
        let is_there = path.len() > 1 && bytes.windows(path.len()).any(|window| window == path.as_bytes());
        assert!(!is_there, "{path}");
    }
}
