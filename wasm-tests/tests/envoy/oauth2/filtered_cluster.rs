//! Token requests that lead back to the filter: the cluster of the token server has this filter in it.

use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::{Value, json};
use tempfile::TempDir;
use wasm_tests::client::Protocol;
use wasm_tests::gateway::{Gateway, LISTENER, any, cluster, filtered_cluster, upstream_auth, write_resources};
use wasm_tests::token_server::TokenServer;
use wasm_tests::upstream::Upstream;

use super::{ANY, Place, TOKENS, World, auth, options};
use crate::fixture::{Fixture, TestRequest, run, running};

/// A server whose credential needs no callout.
fn fixed() -> Value {
    json!({"host": "fixed", "auth": {"type": "BEARER", "token": "fixed-token"}})
}

fn reason(reply: &wasm_tests::client::Reply) -> Value {
    reply.json()["error"]["data"]["reason"].clone()
}

/// Requests to `/fixed/` until `is_over`, each of which must be served.
async fn serves_the_other_server(fixture: &Fixture, is_over: &AtomicBool) -> usize {
    let mut served = 0;
    while !is_over.load(Ordering::Relaxed) || served < 100 {
        let (reply, seen) = fixture.exchange(TestRequest { path: "/fixed/mcp", ..TestRequest::default() }).await;
        assert_eq!(reply.status, 200, "after {served}: {:?}", reply.json());
        assert_eq!(seen[0].head.header("authorization"), ["Bearer fixed-token"]);
        served += 1;
    }
    served
}

/// Eight requests to the server whose tokens cannot come.
async fn rejects_the_one_server(world: &World, is_over: &AtomicBool) {
    for _ in 0..8 {
        let (reply, seen) = world.request().await;
        assert_eq!((reply.status.as_u16(), reason(&reply)), (503, json!("token_cluster_filtered")));
        assert!(reply.header("retry-after").is_some());
        assert!(seen.is_empty());
    }
    is_over.store(true, Ordering::Relaxed);
}

/// Where the filter that needs the tokens is, and whether the cluster of the token server is its own.
const CASES: [(Place, bool); 3] = [(Place::Cluster, true), (Place::Cluster, false), (Place::Listener, false)];

#[test]
fn only_the_server_behind_the_mistake_is_rejected() {
    run(async {
        for (place, is_its_own) in CASES {
            let tokens = TokenServer::start(ANY).await.unwrap();
            let token_cluster = if is_its_own { "c" } else { TOKENS };
            let more = json!({"tokenCluster": token_cluster, "maxWaitMs": 200});
            let server = json!({"host": "c", "auth": auth(tokens.address(), more)});
            let fixture = Fixture::start_with(&options(), |upstream| {
                let gateway = match place {
                    Place::Listener => Gateway::default()
                        .filter(upstream_auth(&json!({"servers": {"c": server, "fixed": {"host": "fixed"}}})))
                        .cluster(cluster("c", upstream, Protocol::Http1)),
                    Place::Cluster => Gateway::default().cluster(filtered_cluster(
                        "c",
                        upstream,
                        Protocol::Http1,
                        upstream_auth(&server),
                    )),
                };
                gateway
                    .cluster(filtered_cluster("fixed", upstream, Protocol::Http1, upstream_auth(&fixed())))
                    .cluster(filtered_cluster(TOKENS, tokens.address(), Protocol::Http1, upstream_auth(&fixed())))
            })
            .await;
            let world = World { fixture, tokens };
            let is_over = AtomicBool::new(false);
            tokio::join!(rejects_the_one_server(&world, &is_over), serves_the_other_server(&world.fixture, &is_over));
            assert!(world.tokens.asked().is_empty(), "a token request went out");
            let begun = world.fixture.upstream.all().iter().filter(|seen| seen.head.authority != "fixed").count();
            assert_eq!(begun, 0, "a token request reached the MCP server");
            let log = world.fixture.envoy.log().unwrap();
            let said = format!("in cluster \"{token_cluster}\": the cluster has this filter in its own http_filters");
            assert!(log.contains(&said), "{log}");
            assert!(!log.contains("panicked"), "{log}");
            let outcome = "token_fetches.outcome.cluster_filtered.server.c";
            assert!(world.metric(outcome).await.unwrap() >= 1);
        }
    });
}

#[test]
fn such_a_cluster_may_come_and_go_by_cds() {
    run(async {
        let folder = TempDir::new().unwrap();
        let path = folder.path().join("clusters.json");
        let (upstream, tokens) = (Upstream::start().await.unwrap(), TokenServer::start(ANY).await.unwrap());
        let good = cluster(TOKENS, tokens.address(), Protocol::Http1);
        let bad = filtered_cluster(TOKENS, tokens.address(), Protocol::Http1, upstream_auth(&fixed()));
        let put = |cluster: &Value| {
            write_resources(&path, &[any("envoy.config.cluster.v3.Cluster", cluster.clone())]).unwrap();
        };
        put(&bad);
        let server = json!({"host": "c", "auth": auth(tokens.address(), json!({"maxWaitMs": 200}))});
        let gateway = Gateway::default()
            .filter(upstream_auth(&json!({"servers": {"c": server, "fixed": {"host": "fixed"}}})))
            .cluster(cluster("c", upstream.address(), Protocol::Http1))
            .cluster(filtered_cluster("fixed", upstream.address(), Protocol::Http1, upstream_auth(&fixed())));
        let mut config: Value = serde_json::from_str(&gateway.config()).unwrap();
        config["dynamic_resources"] = json!({"cds_config": {"path_config_source": {"path": path}}});
        let envoy = running(&config.to_string(), &options()).await;
        let address = envoy.listener(LISTENER).await.unwrap();
        let world = World { fixture: Fixture { envoy, upstream, address }, tokens };
        let is_over = AtomicBool::new(false);
        let changes = async {
            let is_filtered = |reply: &wasm_tests::client::Reply| reason(reply) == "token_cluster_filtered";
            world.until("is rejected for its cluster", |reply, _| is_filtered(reply)).await;
            put(&good);
            world.until("is served", |reply, _| reply.status == 200).await;
            is_over.store(true, Ordering::Relaxed);
        };
        let ((), served) = tokio::join!(changes, serves_the_other_server(&world.fixture, &is_over));
        assert!(served >= 100);
        assert_eq!(world.tokens.asked().len(), 1);
        assert!(!world.fixture.envoy.log().unwrap().contains("panicked"));
    });
}

#[test]
fn aws_keys_from_such_a_cluster_are_no_trap_either() {
    run(async {
        let tokens = TokenServer::start(ANY).await.unwrap();
        let url = format!("http://{}/credentials", tokens.address());
        let server = json!({"host": "c", "auth": {
            "type": "AWS_SIGV4", "region": "r", "service": "s", "payload": "unsigned",
            "credentials": "container", "credentialsUrl": url, "maxWaitMs": 200, "credentialsCluster": "c",
        }});
        let fixture = Fixture::start_with(&options(), |upstream| {
            Gateway::default()
                .cluster(filtered_cluster("c", upstream, Protocol::Http1, upstream_auth(&server)))
                .cluster(filtered_cluster("fixed", upstream, Protocol::Http1, upstream_auth(&fixed())))
        })
        .await;
        let world = World { fixture, tokens };
        let is_over = AtomicBool::new(false);
        tokio::join!(rejects_the_one_server(&world, &is_over), serves_the_other_server(&world.fixture, &is_over));
    });
}
