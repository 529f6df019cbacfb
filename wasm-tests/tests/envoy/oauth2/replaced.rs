//! The configuration is replaced while Envoy runs: with another secret, or in the middle of a fetch.

use std::net::SocketAddr;

use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::time::{sleep, timeout};
use wasm_tests::client::{PATIENCE, Protocol, send};
use wasm_tests::gateway::{Gateway, LISTENER, cluster, discovered_filter, upstream_auth, write_filter};
use wasm_tests::token_server::TokenServer;
use wasm_tests::upstream::Upstream;

use super::{ANY, POLL, TOKENS, World, auth, options};
use crate::fixture::{Fixture, run, running};

/// A world whose filter Envoy discovers, and can be replaced.
struct Replaceable {
    world: World,
    folder: TempDir,
}

impl Replaceable {
    async fn start(auth: Value, prepare: impl FnOnce(&TokenServer)) -> Self {
        let (upstream, tokens) = (Upstream::start().await.unwrap(), TokenServer::start(ANY).await.unwrap());
        prepare(&tokens);
        let folder = TempDir::new().unwrap();
        let path = folder.path().join("filter.json");
        write_filter(&path, upstream_auth(&plugin(tokens.address(), auth))).unwrap();
        let gateway = Gateway::default()
            .filter(discovered_filter("mcp_upstream_auth", &path))
            .cluster(cluster("c", upstream.address(), Protocol::Http1))
            .cluster(cluster(TOKENS, tokens.address(), Protocol::Http1));
        let envoy = running(&gateway.config(), &options()).await;
        let address = envoy.listener(LISTENER).await.unwrap();
        Self { world: World { fixture: Fixture { envoy, upstream, address }, tokens }, folder }
    }

    /// Replaces the filter's configuration, with these keys of `auth`, and waits until Envoy has it.
    async fn replace(&self, auth: Value) {
        let before = self.reloads().await;
        let path = self.folder.path().join("filter.json");
        write_filter(&path, upstream_auth(&plugin(self.world.tokens.address(), auth))).unwrap();
        let taken = async {
            while self.reloads().await == before {
                sleep(POLL).await;
            }
        };
        timeout(PATIENCE, taken).await.unwrap();
    }

    async fn reloads(&self) -> String {
        let stats =
            self.world.fixture.envoy.admin_get("/stats?filter=extension_config_discovery.*config_reload$").await;
        stats.unwrap()
    }
}

fn plugin(tokens: SocketAddr, more: Value) -> Value {
    json!({"servers": {"c": {"host": "c", "auth": auth(tokens, more)}}})
}

#[test]
fn a_rotated_secret_fails_no_request_and_the_old_token_serves_until_the_new_one_is_there() {
    run(async {
        let replaceable = Replaceable::start(json!({}), |_| {}).await;
        let world = &replaceable.world;
        world.metric_is("token_fetches.outcome.granted.server.c", 1).await;
        world.tokens.hold();
        let rotation = async {
            replaceable.replace(json!({"clientSecret": "rotated"})).await;
            world.tokens.wait_for(2).await.unwrap();
        };
        let load = async {
            loop {
                let (reply, seen) = world.request().await;
                assert_eq!(reply.status, 200);
                assert_eq!(seen[0].head.header("authorization"), ["Bearer token-1"]);
            }
        };
        tokio::select! { () = rotation => {}, () = load => {} }
        // The new configuration is in use, and its token is on its way.
        for _ in 0..20 {
            let (reply, seen) = world.request().await;
            assert_eq!(reply.status, 200);
            assert_eq!(seen[0].head.header("authorization"), ["Bearer token-1"]);
        }
        world.tokens.release();
        world
            .until("has the new token", |reply, seen| {
                assert_eq!(reply.status, 200);
                seen[0].head.header("authorization") == ["Bearer token-2"]
            })
            .await;
        let asked = world.tokens.asked();
        assert_eq!(asked.len(), 2);
        // RFC 7617 of `odock:rotated`, which needs no form encoding.
        assert_eq!(asked[1].head.header("authorization"), ["Basic b2RvY2s6cm90YXRlZA=="]);
        assert_eq!(world.metric("waiting_requests.server.c").await, None, "a request waited");
    });
}

#[test]
fn a_configuration_that_is_replaced_unchanged_in_what_it_asks_for_keeps_its_token() {
    run(async {
        let replaceable = Replaceable::start(json!({}), |_| {}).await;
        let world = &replaceable.world;
        world.metric_is("token_fetches.outcome.granted.server.c", 1).await;
        replaceable.replace(json!({"maxWaitMs": 1000})).await;
        for _ in 0..20 {
            let (reply, seen) = world.request().await;
            assert_eq!(reply.status, 200);
            assert_eq!(seen[0].head.header("authorization"), ["Bearer token-1"]);
        }
        assert_eq!(world.tokens.asked().len(), 1);
    });
}

#[test]
fn a_configuration_that_is_replaced_in_mid_fetch_leaves_nobody_waiting() {
    run(async {
        // A fetch that nobody hands over is taken over only when this test has lost its patience.
        let auth = |wait: u32| json!({"requestTimeoutMs": 60_000, "maxWaitMs": wait});
        let replaceable = Replaceable::start(auth(10_000), |tokens| tokens.hold()).await;
        let world = &replaceable.world;
        world.tokens.wait_for(1).await.unwrap();
        // Nobody waits, so the old configuration goes at once, and the fetch with it.
        replaceable.replace(auth(20_000)).await;
        world.tokens.wait_for(2).await.unwrap();
        // These wait for the second fetch, and their configuration is replaced in turn.
        let waiting: Vec<_> = (0..20)
            .map(|_| {
                let request = hyper::Request::post("/c/mcp").header("host", "h").body(String::new()).unwrap();
                tokio::spawn(send(world.fixture.address, Protocol::Http1, request))
            })
            .collect();
        world.metric_is("waiting_requests.server.c", 20).await;
        replaceable.replace(auth(20_001)).await;
        world.tokens.release();
        for request in waiting {
            assert_eq!(request.await.unwrap().unwrap().status, 200);
        }
        assert_eq!(world.request().await.0.status, 200);
        world.metric_is("waiting_requests.server.c", 0).await;
        // In each replacement, each of four workers and the main thread may let go of a fetch, and the next one take it over.
        let asked = world.tokens.asked().len();
        assert!(asked <= 1 + 2 * 5, "{asked} token requests");
    });
}
