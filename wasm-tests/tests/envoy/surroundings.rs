//! What other parts of Envoy do with a request around the filter: the facts behind the security notes in
//! the README. If one of these changes, the notes must.

use std::net::SocketAddr;

use serde_json::{Value, json};
use wasm_tests::client::Protocol;
use wasm_tests::envoy::Options;
use wasm_tests::gateway::{Gateway, any, asks_for_the_route, cluster, filtered_cluster, lua, upstream_auth};

use crate::fixture::{Fixture, TestRequest, envoy_has, run};

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
            let head = exchange(&fixture).await.remove(0).head;
            assert_eq!(head.authority, host, "in the listener: {in_listener}");
            let original = head.header("x-envoy-original-host");
            assert!(!original.contains(&"caller.example".to_owned()), "in the listener: {in_listener}");
        }
    });
}

/// The gateway of [`gateway`] with this action of its one route, and an endpoint that has a name. One worker, so that a second
/// request has the connection of the first.
async fn with_named_endpoint(in_listener: bool, action: Value) -> Fixture {
    let options = Options { wasm_log_level: "debug", concurrency: 1, ..Options::default() };
    Fixture::start_with(&options, |upstream| {
        let mut server = match in_listener {
            true => cluster("server", upstream, Protocol::Http1),
            false => filtered_cluster("server", upstream, Protocol::Http1, filter()),
        };
        let endpoint = "/load_assignment/endpoints/0/lb_endpoints/0/endpoint";
        server.pointer_mut(endpoint).unwrap()["hostname"] = json!("endpoint.example");
        let gateway = Gateway::default().route(json!({"match": {"path": "/mcp"}, "route": action})).cluster(server);
        if in_listener { gateway.filter(filter()) } else { gateway }
    })
    .await
}

#[test]
fn a_weighted_clusters_host_rewrite_wins_in_the_listener() {
    run(async {
        for (in_listener, host) in [(true, "weighted.example"), (false, "server.example")] {
            let server = json!({"name": "server", "weight": 1, "host_rewrite_literal": "weighted.example"});
            let action = json!({"weighted_clusters": {"clusters": [server]}});
            let head = exchange(&with_named_endpoint(in_listener, action).await).await.remove(0).head;
            assert_eq!(head.authority, host, "in the listener: {in_listener}");
        }
    });
}

/// Envoy rewrites the host when it has a connection: for a new one, that is after a filter in the cluster.
#[test]
fn auto_host_rewrite_wins_in_the_cluster_for_a_new_connection() {
    run(async {
        for (in_listener, hosts) in
            [(true, ["endpoint.example", "endpoint.example"]), (false, ["endpoint.example", "server.example"])]
        {
            let action = json!({"cluster": "server", "auto_host_rewrite": true});
            let fixture = with_named_endpoint(in_listener, action).await;
            for host in hosts {
                let head = exchange(&fixture).await.remove(0).head;
                assert_eq!(head.authority, host, "in the listener: {in_listener}");
                assert_eq!(head.header("authorization"), ["Bearer ours"], "in the listener: {in_listener}");
                let original = head.header("x-envoy-original-host");
                assert!(!original.contains(&"caller.example".to_owned()), "in the listener: {in_listener}");
            }
        }
    });
}

/// With these rewrites of a route, the caller chooses the host.
#[test]
fn a_rewrite_by_what_the_caller_sends_wins_in_the_listener() {
    let pattern = json!({"pattern": {"google_re2": {}, "regex": "^/([^/]+).*$"}, "substitution": "\\1.caller.example"});
    let mut rewrites = vec![
        (json!({"host_rewrite_header": "x-caller-host"}), "header.caller.example"),
        (json!({"host_rewrite_path_regex": pattern}), "mcp.caller.example"),
    ];
    if envoy_has(40, "host_rewrite of a route") {
        rewrites.push((json!({"host_rewrite": "%REQ(x-caller-host)%"}), "header.caller.example"));
    }
    run(async {
        for (rewrite, callers) in rewrites {
            for (in_listener, host) in [(true, callers), (false, "server.example")] {
                let route = route(rewrite.clone());
                let fixture = Fixture::start(|upstream| gateway(upstream, in_listener, route)).await;
                let headers = [("x-caller-host", "header.caller.example"), ("authorization", "Bearer theirs")];
                let request = TestRequest { path: "/mcp", headers: &headers, ..TestRequest::default() };
                let head = fixture.exchange(request).await.1.remove(0).head;
                assert_eq!(head.authority, host, "in the listener: {in_listener}, {rewrite}");
                assert!(head.header("x-envoy-original-host").iter().all(|host| host == "server.example"), "{rewrite}");
            }
        }
    });
}

/// Envoy chooses the route again after a filter in the listener has changed a request.
#[test]
fn a_virtual_host_must_know_the_servers_host_too_for_a_filter_in_the_listener_but_not_for_one_in_the_cluster() {
    run(async {
        for (in_listener, domains, arrives) in [
            (true, &["caller.example"][..], false),
            (true, &["caller.example", "server.example"][..], true),
            (false, &["caller.example"][..], true),
        ] {
            let fixture =
                Fixture::start(|upstream| gateway(upstream, in_listener, route(json!({}))).domains(domains)).await;
            let seen = exchange(&fixture).await;
            assert_eq!(seen.len(), usize::from(arrives), "in the listener: {in_listener}, {domains:?}");
        }
    });
}

#[test]
fn another_virtual_host_of_the_servers_name_gets_the_request_and_its_credential_from_a_filter_in_the_listener() {
    run(async {
        for (in_listener, path) in [(true, "/other"), (false, "/mcp")] {
            let other = json!({"name": "other", "domains": ["server.example"], "routes": [
                {"match": {"prefix": "/"}, "route": {"cluster": "other", "prefix_rewrite": "/other"}},
            ]});
            let fixture = Fixture::start(|upstream| {
                let gateway = gateway(upstream, in_listener, route(json!({}))).domains(&["caller.example"]);
                gateway.virtual_host(other).cluster(cluster("other", upstream, Protocol::Http1))
            })
            .await;
            let seen = exchange(&fixture).await;
            assert!(seen[0].head.path_and_query.starts_with(path), "in the listener: {in_listener}");
            assert_eq!(seen[0].head.header("authorization"), ["Bearer ours"]);
        }
    });
}

/// Envoy's attributes say which route there was when somebody last asked for it.
#[test]
fn behind_a_filter_that_changes_the_route_one_must_ask_for_it_before_a_filter_in_the_listener_goes_by_it() {
    run(async {
        for (asks, host) in [(false, "known.example"), (true, "other.example")] {
            let plugin = json!({"servers": {"known": {"host": "known.example"}, "other": {"host": "other.example"}}});
            let to_other = json!({
                "match": {"path": "/mcp", "headers": [{"name": "x-to", "string_match": {"exact": "other"}}]},
                "route": {"cluster": "other"},
            });
            let to_known = json!({"match": {"path": "/mcp"}, "route": {"cluster": "known"}});
            let fixture = Fixture::start(|upstream| {
                let changes_the_route = lua("handle:headers():replace('x-to', 'other')");
                let gateway = Gateway::default().filter(changes_the_route);
                let gateway = if asks { gateway.filter(asks_for_the_route()) } else { gateway };
                gateway
                    .filter(upstream_auth(&plugin))
                    .route(to_other)
                    .route(to_known)
                    .cluster(cluster("known", upstream, Protocol::Http1))
                    .cluster(cluster("other", upstream, Protocol::Http1))
            })
            .await;
            assert_eq!(exchange(&fixture).await[0].head.authority, host, "somebody asks: {asks}");
        }
    });
}

#[test]
fn an_internal_redirect_takes_one_servers_headers_along_to_the_next() {
    run(async {
        let server = |token: &str| json!({"host": "h", "auth": {"type": "HEADERS", "headers": {token: "ours"}}});
        let plugin = json!({"servers": {"first": server("x-first"), "second": server("x-second")}});
        let fixture = Fixture::start(|upstream| {
            let first = json!({
                "match": {"path": "/mcp"},
                "route": {
                    "cluster": "first",
                    "prefix_rewrite": wasm_tests::upstream::REDIRECT,
                    "internal_redirect_policy": {},
                },
            });
            Gateway::default()
                .filter(upstream_auth(&plugin))
                .route(first)
                .cluster(cluster("first", upstream, Protocol::Http1))
                .cluster(cluster("second", upstream, Protocol::Http1))
        })
        .await;
        let request = TestRequest { method: "GET", path: "/mcp?to=/second/", body: b"", ..TestRequest::default() };
        let (_, seen) = fixture.exchange(request).await;
        let second = seen.iter().find(|seen| seen.head.path_and_query.starts_with("/second/")).unwrap();
        assert_eq!(second.head.header("x-second"), ["ours"]);
        assert_eq!(second.head.header("x-first"), ["ours"], "if this is empty, the note in the README can go");
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
            let mut fixture =
                Fixture::start(|upstream| gateway(upstream, in_listener, route(json!({}))).access_log(log)).await;
            assert_eq!(exchange(&fixture).await.len(), 1);
            let log = fixture.envoy.stop().await.unwrap();
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
