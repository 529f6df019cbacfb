//! A worker's VM dies in the middle of a fetch. The module does not trap by itself, so this one is changed to do so.

use std::collections::HashSet;
use std::path::Path;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::HeaderMap;
use hyper::header::{HeaderName, HeaderValue};
use serde_json::json;
use tempfile::TempDir;
use wasm_tests::client::{Protocol, send};
use wasm_tests::gateway::{Gateway, cluster, upstream_auth};
use wasm_tests::module;
use wasm_tests::token_server::{Behaviour, TokenServer};
use wasmparser::{Parser, Payload, TypeRef};

use super::{ANY, TOKENS, World, auth, options};
use crate::fixture::{Fixture, run};

/// The callback that traps.
const TRAPPING: &str = "proxy_on_request_trailers";

/// Writes the module to `path` with `unreachable` as the whole of one callback.
fn write_trapping_module(path: &Path) {
    const UNREACHABLE: u8 = 0x00;
    const NOP: u8 = 0x01;
    let mut bytes = std::fs::read(module()).unwrap();
    let (mut imported, mut function, mut bodies) = (0, None, Vec::new());
    for payload in Parser::new(0).parse_all(&bytes) {
        match payload.unwrap() {
            Payload::ImportSection(section) => {
                let imports = section.into_imports().map(|import| import.unwrap());
                imported = imports.filter(|import| matches!(import.ty, TypeRef::Func(_))).count();
            }
            Payload::ExportSection(section) => {
                function = section.into_iter().map(|export| export.unwrap()).find(|export| export.name == TRAPPING);
            }
            Payload::CodeSectionEntry(body) => {
                let start = body.get_operators_reader().unwrap().original_position();
                bodies.push(start..body.range().end);
            }
            _ => {}
        }
    }
    let index = function.unwrap().index as usize - imported;
    let code = &mut bytes[bodies[index].clone()];
    let end = code.len() - 1;
    code[..end].fill(NOP);
    code[0] = UNREACHABLE;
    std::fs::write(path, bytes).unwrap();
}

#[test]
fn if_the_vm_that_fetches_dies_another_one_takes_over() {
    run(async {
        let tokens = TokenServer::start(ANY).await.unwrap();
        // Such a token is fetched by the VM that has a request waiting, so it is known which one fetches.
        tokens.behave(Behaviour::Grants(json!(0)));
        let server = json!({"host": "c", "auth": auth(tokens.address(), json!({"requestTimeoutMs": 1000, "maxWaitMs": 20_000}))});
        let folder = TempDir::new().unwrap();
        let trapping = folder.path().join("trapping.wasm");
        write_trapping_module(&trapping);
        let fixed = json!({"host": "fixed", "auth": {"type": "BEARER", "token": "t"}});
        let mut filter = upstream_auth(&json!({"servers": {"c": server, "fixed": fixed}}));
        let config = &mut filter["typed_config"]["config"];
        config["failure_policy"] = json!("FAIL_RELOAD");
        config["vm_config"]["code"]["local"]["filename"] = json!(trapping);
        let fixture = Fixture::start_with(&options(), |upstream| {
            Gateway::default()
                .filter(filter)
                .cluster(cluster("c", upstream, Protocol::Http1))
                .cluster(cluster("fixed", upstream, Protocol::Http1))
                .cluster(cluster(TOKENS, tokens.address(), Protocol::Http1))
        })
        .await;
        let world = World { fixture, tokens };
        world.metric_is("token_fetches.outcome.granted.server.c", 1).await;
        world.tokens.hold();
        let request = hyper::Request::post("/c/mcp").header("host", "h").body(String::new()).unwrap();
        let waiting = tokio::spawn(send(world.fixture.address, Protocol::Http1, request));
        world.tokens.wait_for(2).await.unwrap();

        // Connections go to all workers, and this traps every VM that it meets. What waits in one of them is
        // Envoy's to end.
        let options = options();
        while traps(&world.fixture.envoy.log().unwrap()).len() < options.concurrency as usize {
            let trailers = HeaderMap::from_iter([(HeaderName::from_static("x-a"), HeaderValue::from_static("b"))]);
            let body = Full::new(Bytes::from_static(b"{}")).with_trailers(std::future::ready(Some(Ok(trailers))));
            let request = hyper::Request::post("http://h/fixed/mcp").body(Box::pin(body)).unwrap();
            let reply = send(world.fixture.address, Protocol::Http2, request).await.unwrap();
            assert_eq!(reply.status, 503);
        }
        world.tokens.release();
        let (_, seen) = world.until("is served", |reply, _| reply.status == 200).await;
        assert_eq!(seen[0].head.header("authorization").len(), 1);
        waiting.abort();
    });
}

/// The threads whose VMs trapped.
fn traps(log: &str) -> HashSet<&str> {
    let of_thread = |line: &'_ str| line.contains("proxy_on_request_trailers failed");
    log.lines().filter(|line| of_thread(line)).filter_map(|line| line.split('[').nth(2)).collect()
}
