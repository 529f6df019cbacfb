//! Token servers that hang, and a fast one, in the same cluster.

use std::sync::Arc;

use serde_json::{Value, json};
use wasm_tests::client::Protocol;
use wasm_tests::gateway::{Gateway, cluster, upstream_auth};
use wasm_tests::token_server::{Behaviour, TokenServer};

use super::{ANY, TOKENS, World, auth, options};
use crate::fixture::{Fixture, TestRequest, run};

const HANGING: usize = 20;

/// As many requests as may fetch from one cluster at once, for tokens that requests wait for.
const WIDTH_IF_WANTED: usize = 16;

#[test]
fn a_fast_token_server_does_not_queue_behind_those_that_hang() {
    run(async {
        let tokens = TokenServer::start(ANY).await.unwrap();
        let server = |scope: &str, more: Value| {
            let mut auth = auth(tokens.address(), more);
            auth["scope"] = json!(scope);
            json!({"host": scope, "auth": auth})
        };
        let names: Vec<String> = (0..HANGING).map(|number| format!("hangs-{number}")).collect();
        let mut servers = json!({"fast": server("fast", json!({}))});
        for name in &names {
            tokens.behave_for(name, Behaviour::Hangs);
            servers[name] = server(name, json!({"requestTimeoutMs": 30_000, "maxWaitMs": 30_000}));
        }
        // Each request for such a token causes a fetch.
        tokens.behave_for("fast", Behaviour::Grants(json!(0)));
        let fixture = Fixture::start_with(&options(), |upstream| {
            let names = servers.as_object().unwrap().keys();
            names
                .fold(Gateway::default(), |gateway, name| gateway.cluster(cluster(name, upstream, Protocol::Http1)))
                .filter(upstream_auth(&json!({"servers": servers})))
                .cluster(cluster(TOKENS, tokens.address(), Protocol::Http1))
        })
        .await;
        let world = Arc::new(World { fixture, tokens });
        let hanging: Vec<_> = names
            .into_iter()
            .map(|name| {
                let world = Arc::clone(&world);
                tokio::spawn(async move { world.request_to(&format!("/{name}/mcp")).await })
            })
            .collect();
        world.tokens.wait_for(WIDTH_IF_WANTED).await.unwrap();
        for _ in 0..3 {
            let (reply, seen) =
                world.fixture.exchange(TestRequest { path: "/fast/mcp", ..TestRequest::default() }).await;
            assert_eq!((reply.status.as_u16(), seen.len()), (200, 1), "{:?}", reply.json());
        }
        hanging.iter().for_each(tokio::task::JoinHandle::abort);
    });
}
