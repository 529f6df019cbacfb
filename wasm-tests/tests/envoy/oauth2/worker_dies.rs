//! A worker's VM dies in the middle of a fetch. The module does not trap by itself: here Envoy forbids it to
//! send refusals, on which the SDK traps.

use std::collections::HashSet;

use serde_json::{Value, json};
use wasm_tests::client::{Protocol, send};
use wasm_tests::gateway::{Gateway, cluster, upstream_auth};
use wasm_tests::module;
use wasm_tests::token_server::{Behaviour, TokenServer};
use wasmparser::{Parser, Payload};

use super::{ANY, TOKENS, World, auth, options};
use crate::fixture::{Fixture, TestRequest, run};

/// All that the module may do, but for `forbidden`, as Envoy's `allowed_capabilities`.
fn all_but(forbidden: &str) -> Value {
    let bytes = std::fs::read(module()).unwrap();
    let mut names: Vec<String> = Vec::new();
    for payload in Parser::new(0).parse_all(&bytes) {
        match payload.unwrap() {
            Payload::ImportSection(section) => {
                names.extend(section.into_imports().map(|import| import.unwrap().name.to_owned()));
            }
            Payload::ExportSection(section) => {
                names.extend(section.into_iter().map(|export| export.unwrap().name.to_owned()));
            }
            _ => {}
        }
    }
    assert!(names.iter().any(|name| name == forbidden));
    names
        .into_iter()
        .filter(|name| name != forbidden)
        .map(|name| (name, json!({})))
        .collect::<serde_json::Map<_, _>>()
        .into()
}

#[test]
fn if_the_vm_that_fetches_dies_another_one_takes_over() {
    run(async {
        let tokens = TokenServer::start(ANY).await.unwrap();
        // Such a token is fetched by the VM that has a request waiting, so it is known which one fetches.
        tokens.behave(Behaviour::Grants(json!(0)));
        let server = json!({"host": "c", "auth": auth(tokens.address(), json!({"requestTimeoutMs": 1000, "maxWaitMs": 20_000}))});
        let mut filter = upstream_auth(&json!({"servers": {"c": server}}));
        let config = &mut filter["typed_config"]["config"];
        config["failure_policy"] = json!("FAIL_RELOAD");
        config["capability_restriction_config"] = json!({"allowed_capabilities": all_but("proxy_send_local_response")});
        let fixture = Fixture::start_with(&options(), |upstream| {
            Gateway::default()
                .filter(filter)
                .cluster(cluster("c", upstream, Protocol::Http1))
                .cluster(cluster("unknown", upstream, Protocol::Http1))
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
            let path = "/unknown/mcp";
            let (reply, seen) = world.fixture.exchange(TestRequest { path, ..TestRequest::default() }).await;
            assert_eq!((reply.status.as_u16(), seen.len()), (503, 0));
        }
        world.tokens.release();
        let (_, seen) = world.until("is served", |reply, _| reply.status == 200).await;
        assert_eq!(seen[0].head.header("authorization").len(), 1);
        waiting.abort();
    });
}

/// The threads whose VMs trapped.
fn traps(log: &str) -> HashSet<&str> {
    let of_thread = |line: &'_ str| line.contains("proxy_on_request_headers failed");
    log.lines().filter(|line| of_thread(line)).filter_map(|line| line.split('[').nth(2)).collect()
}
