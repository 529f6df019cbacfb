//! What other parts of Envoy do with a request around the filter: the facts behind the security notes in
//! the README. If one of these changes, the notes must.

use std::net::SocketAddr;

use serde_json::{Value, json};
use wasm_tests::client::Protocol;
use wasm_tests::gateway::{Gateway, any, cluster, filtered_cluster, upstream_auth};

use crate::fixture::{Fixture, TestRequest, run};

const THEIRS: [(&str, &str); 1] = [("authorization", "Bearer theirs")];

fn filter() -> Value {
    upstream_auth(&json!({"host": "server.example", "auth": {"type": "BEARER", "token": "ours"}}))
}

/// A gateway with `route` to the cluster `server`, and the filter in the listener or in that cluster.
fn gateway(upstream: SocketAddr, in_listener: bool, route: Value) -> Gateway {
    let gateway = Gateway::default().route(route);
    if in_listener {
        gateway.filter(filter()).cluster(cluster("server", upstream, Protocol::Http1))
    } else {
        gateway.cluster(filtered_cluster("server", upstream, Protocol::Http1, filter()))
    }
}

fn route(options: Value) -> Value {
    let mut route = json!({"cluster": "server"});
    route.as_object_mut().unwrap().extend(options.as_object().unwrap().clone());
    json!({"match": {"path": "/mcp"}, "route": route})
}

async fn exchange(fixture: &Fixture) -> Vec<wasm_tests::upstream::Seen> {
    fixture.exchange(TestRequest { path: "/mcp", headers: &THEIRS, ..TestRequest::default() }).await.1
}

#[test]
fn a_routes_own_host_rewrite_wins_over_a_filter_in_the_listener_but_not_over_one_in_the_cluster() {
    run(async {
        for (in_listener, host) in [(true, "route.example"), (false, "server.example")] {
            let route = route(json!({"host_rewrite_literal": "route.example"}));
            let fixture = Fixture::start(|upstream| gateway(upstream, in_listener, route)).await;
            assert_eq!(exchange(&fixture).await[0].head.authority, host, "in the listener: {in_listener}");
        }
    });
}

#[test]
fn a_mirror_gets_the_injected_credential_or_without_a_filter_in_its_cluster_the_callers() {
    run(async {
        for (in_listener, mirrored) in [(true, "Bearer ours"), (false, "Bearer theirs")] {
            let route = route(json!({"request_mirror_policies": [{"cluster": "mirror"}]}));
            let fixture = Fixture::start(|upstream| {
                gateway(upstream, in_listener, route).cluster(cluster("mirror", upstream, Protocol::Http1))
            })
            .await;
            let id = crate::fixture::new_id();
            fixture.exchange_as(&id, TestRequest { path: "/mcp", headers: &THEIRS, ..TestRequest::default() }).await;
            let seen = fixture.upstream.wait_for(&id, 2).await.unwrap();
            let (mirror, server): (Vec<_>, Vec<_>) =
                seen.iter().partition(|seen| seen.head.authority.contains("-shadow"));
            assert_eq!((server.len(), mirror.len()), (1, 1));
            assert_eq!(server[0].head.header("authorization"), ["Bearer ours"], "in the listener: {in_listener}");
            assert_eq!(mirror[0].head.header("authorization"), [mirrored], "in the listener: {in_listener}");
        }
    });
}

#[test]
fn an_access_log_that_prints_the_credentials_header_shows_the_injected_one() {
    run(async {
        for in_listener in [true, false] {
            let log = any(
                "envoy.extensions.access_loggers.stream.v3.StdoutAccessLog",
                json!({"log_format": {"text_format_source": {"inline_string": "logged %REQ(AUTHORIZATION)%\n"}}}),
            );
            let log = json!({"name": "envoy.access_loggers.stdout", "typed_config": log});
            let fixture =
                Fixture::start(|upstream| gateway(upstream, in_listener, route(json!({}))).access_log(log)).await;
            assert_eq!(exchange(&fixture).await.len(), 1);
            let log = fixture.stop().await;
            assert!(log.contains("logged Bearer ours"), "in the listener: {in_listener}\n{log}");
        }
    });
}

#[test]
fn a_route_that_disables_the_filter_by_name_disables_every_filter_of_that_name() {
    run(async {
        let mut route = route(json!({}));
        let disabled = any("envoy.config.route.v3.FilterConfig", json!({"disabled": true}));
        route["typed_per_filter_config"] = json!({"mcp_upstream_auth": disabled});
        let fixture = Fixture::start(|upstream| gateway(upstream, false, route)).await;
        assert_eq!(exchange(&fixture).await[0].head.header("authorization"), ["Bearer theirs"]);
    });
}

#[test]
fn a_retried_request_carries_the_credential_once_in_each_attempt() {
    run(async {
        for (place, in_listener) in [("in the listener", true), ("in the cluster", false)] {
            let plugin =
                json!({"host": "server.example", "auth": {"type": "API_KEY", "query": "key", "value": "ours"}});
            let retried = json!({
                "match": {"prefix": "/"},
                "route": {
                    "cluster": "server",
                    "prefix_rewrite": "/rewritten/",
                    "retry_policy": {"retry_on": "retriable-status-codes", "retriable_status_codes": [200], "num_retries": 2},
                },
            });
            let fixture = Fixture::start(|upstream| {
                let gateway = Gateway::default().route(retried);
                if in_listener {
                    gateway.filter(upstream_auth(&plugin)).cluster(cluster("server", upstream, Protocol::Http1))
                } else {
                    gateway.cluster(filtered_cluster("server", upstream, Protocol::Http1, upstream_auth(&plugin)))
                }
            })
            .await;
            let request = TestRequest { path: "/mcp?key=theirs&a=1", headers: &THEIRS, ..TestRequest::default() };
            let (_, seen) = fixture.exchange(request).await;
            assert_eq!(seen.len(), 3, "{place}");
            for attempt in seen {
                assert_eq!(attempt.head.path_and_query, "/rewritten/mcp?a=1&key=ours", "{place}");
                assert!(!format!("{:?}", attempt.head.headers).contains("theirs"), "{place}: {:?}", attempt.head);
                let original = attempt.head.header("x-envoy-original-path");
                assert!(original.iter().all(|path| !path.contains("theirs")), "{place}: {original:?}");
            }
        }
    });
}
