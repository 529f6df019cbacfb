//! What the filter refuses: configurations when they load, and requests.

use std::net::SocketAddr;

use serde_json::{Value, json};
use wasm_tests::client::{Protocol, Reply, send_raw};
use wasm_tests::envoy::{Envoy, Options};
use wasm_tests::gateway::{Gateway, any, cluster, filtered_cluster, lua, upstream_auth};

use crate::fixture::{Fixture, TestRequest, both, envoy_has, in_listener, run};

/// The literal that no log may show.
const SECRET: &str = "s3cr3t-in-a-bad-configuration";

/// What a key in PEM may look like that is none.
const SECRET_KEY: &str = "czNjcjN0LWluLWEtYmFkLWtleQ==";

fn assert_refusal(reply: &Reply, status: u16, reason: &str, context: &str) {
    assert_eq!(reply.status.as_u16(), status, "{context}");
    assert_eq!(reply.header("content-type").as_deref(), Some("application/json"), "{context}");
    let body = reply.json();
    assert_eq!(body["jsonrpc"], "2.0", "{context}");
    assert_eq!(body.get("id"), Some(&Value::Null), "{context}");
    assert_eq!(body["error"]["code"], -32603, "{context}");
    assert_eq!(body["error"]["data"], json!({"reason": reason}), "{context}");
    assert!(body["error"]["message"].as_str().is_some_and(|message| !message.is_empty()), "{context}");
}

#[test]
fn a_server_that_is_switched_off_is_refused_and_nothing_arrives() {
    run(async {
        for (place, fixture) in both().await {
            for protocol in [Protocol::Http1, Protocol::Http2] {
                for method in ["GET", "POST", "DELETE"] {
                    let request = TestRequest { protocol, method, path: "/disabled/mcp", ..TestRequest::default() };
                    let (reply, seen) = fixture.exchange(request).await;
                    assert_refusal(&reply, 503, "server_disabled", place);
                    assert!(seen.is_empty(), "{place}");
                }
            }
        }
    });
}

#[test]
fn an_unmatched_request_is_refused_stripped_or_passed_as_configured() {
    run(async {
        let headers =
            [("Authorization", "Bearer theirs"), ("X-Api-Key", "theirs"), ("Cookie", "theirs"), ("x-kept", "1")];
        for (unmatched, arrives, stays) in [
            (None, false, false),
            (Some("reject"), false, false),
            (Some("strip"), true, false),
            (Some("pass"), true, true),
        ] {
            let mut plugin = json!({"servers": {"known": {"host": "known.example"}}});
            if let Some(unmatched) = unmatched {
                plugin["unmatched"] = json!(unmatched);
            }
            let fixture = Fixture::start(|upstream| {
                Gateway::default().filter(upstream_auth(&plugin)).cluster(cluster("unknown", upstream, Protocol::Http1))
            })
            .await;
            let (reply, seen) = fixture
                .exchange(TestRequest { path: "/unknown/mcp", headers: &headers, ..TestRequest::default() })
                .await;
            let context = format!("{unmatched:?}");
            if !arrives {
                assert_refusal(&reply, 503, "unknown_server", &context);
                assert!(seen.is_empty(), "{context}");
                continue;
            }
            assert_eq!(reply.status, 200, "{context}");
            let head = &seen[0].head;
            assert_eq!(head.authority, "caller.example", "{context}");
            assert_eq!(head.header("x-kept"), ["1"], "{context}");
            for (name, value) in &headers[..3] {
                let expected = if stays { vec![*value] } else { vec![] };
                assert_eq!(head.header(name), expected, "{context}: {name}");
            }
            assert_eq!(head.header("content-length").is_empty(), !stays, "{context}");
        }
    });
}

#[test]
fn a_request_without_a_path_cannot_carry_a_key_in_its_query() {
    run(async {
        let fixture = Fixture::start(|upstream| {
            let plugin = json!({"host": "h", "auth": {"type": "API_KEY", "query": "k", "value": "v"}});
            let tunnel = json!({
                "match": {"connect_matcher": {}},
                "route": {"cluster": "query", "upgrade_configs": [{"upgrade_type": "CONNECT"}]},
            });
            Gateway::default().filter(upstream_auth(&plugin)).route(tunnel).cluster(cluster(
                "query",
                upstream,
                Protocol::Http1,
            ))
        })
        .await;
        let connect = "CONNECT a.example:443 HTTP/1.1\r\nhost: a.example:443\r\n\r\n";
        let answer = send_raw(fixture.address, connect.as_bytes()).await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 501 "), "{answer}");
        assert!(answer.contains(r#""data":{"reason":"no_path"}"#), "{answer}");
    });
}

#[test]
fn a_bad_configuration_does_not_load_in_either_place_and_the_log_says_why() {
    run(async {
        let with_auth = |auth: Value| json!({"servers": {"s": {"host": "h", "auth": auth}}});
        let cases = [
            (json!(""), "configuration: must not be empty"),
            (json!({}), "configuration: must not be empty"),
            (json!("{}"), "servers: is required, or else host for a single server"),
            (
                json!(format!("{{\"host\": \"h\", \"auth\": {SECRET}}}")),
                "configuration: is not valid JSON at line 1, column 23",
            ),
            (
                json!(format!(
                    r#"{{"host": "h", "auth": {{"type": "BEARER", "token": "{SECRET}", "token": "{SECRET}"}}}}"#
                )),
                "auth.token: is given twice",
            ),
            (
                json!({"host": "h", "token": SECRET}),
                "token: unknown key; known here: host, auth, enabled, stripHeaders, stripPresets, stripQuery, stripResponseHeaders",
            ),
            (
                with_auth(json!({"type": SECRET})),
                "servers.s.auth.type: must be one of NONE, BEARER, BASIC, API_KEY, HEADERS, OAUTH2, AWS_SIGV4",
            ),
            (with_auth(json!({"type": "BEARER", "token": ""})), "servers.s.auth.token: must not be empty"),
            (
                with_auth(json!({"type": "BEARER", "token": "${NOT_SET}"})),
                "servers.s.auth.token: environment variable NOT_SET is not set in the VM, empty, or not UTF-8",
            ),
            (
                with_auth(json!({"type": "BEARER", "token": format!("{SECRET}\r\nx: y")})),
                "servers.s.auth.token: must be visible ASCII characters without a space or line break",
            ),
            (
                with_auth(json!({"type": "BASIC", "username": "a:b", "password": SECRET})),
                "servers.s.auth.username: must not contain a colon",
            ),
            (
                with_auth(json!({
                    "type": "OAUTH2", "tokenUrl": "http://auth.example/token", "clientId": "c", "clientSecret": SECRET,
                })),
                "servers.s.auth.tokenUrl: must be https, as the client's secret goes there; or set allowInsecure",
            ),
            // It looks like a key, and does not sign.
            (
                with_auth(json!({
                    "type": "OAUTH2", "tokenUrl": "https://auth.example/token", "clientId": "c",
                    "clientAuth": "private_key_jwt",
                    "privateKey": format!("-----BEGIN RSA PRIVATE KEY-----\n{SECRET_KEY}\n-----END RSA PRIVATE KEY-----"),
                })),
                if envoy_has(37, "signatures with a private key") {
                    "servers.s.auth.privateKey: cannot sign: Envoy does not take it for a private key"
                } else {
                    "servers.s.auth.privateKey: cannot sign: this Envoy cannot sign; 1.37 and newer can"
                },
            ),
            (
                with_auth(json!({"type": "API_KEY", "header": ":path", "value": SECRET})),
                "servers.s.auth.header: must not be a pseudo-header",
            ),
        ];
        let address = SocketAddr::from(([127, 0, 0, 1], 1));
        for (plugin, message) in cases {
            let in_listener =
                Gateway::default().filter(upstream_auth(&plugin)).cluster(cluster("s", address, Protocol::Http1));
            let in_cluster =
                Gateway::default().cluster(filtered_cluster("s", address, Protocol::Http1, upstream_auth(&plugin)));
            for gateway in [in_listener, in_cluster] {
                let started = Envoy::start(&gateway.config(), &Options::default()).await.unwrap();
                let log = started.err().unwrap_or_else(|| panic!("Envoy took {plugin}")).log;
                assert!(log.contains(&format!("{message}\n")), "{plugin}:\n{log}");
                assert!(!log.contains(SECRET) && !log.contains(SECRET_KEY), "{plugin}:\n{log}");
            }
        }
    });
}

/// Where Envoy knows no cluster it may be about to answer by itself, or to choose one later on.
#[test]
fn a_request_without_a_cluster_is_refused_unless_its_route_disables_the_filter() {
    run(async {
        let fixture = Fixture::start(|upstream| {
            let plugin = json!({"servers": {"known": {"host": "known.example"}}});
            let direct = |path: &str| {
                json!({"match": {"path": path}, "direct_response": {"status": 200, "body": {"inline_string": "fine"}}})
            };
            let mut disabled = direct("/disabled");
            let off = any("envoy.config.route.v3.FilterConfig", json!({"disabled": true}));
            disabled["typed_per_filter_config"] = json!({"mcp_upstream_auth": off});
            let by_header = json!({"match": {"path": "/by-header"}, "route": {"cluster_header": "x-cluster"}});
            Gateway::default()
                .filter(upstream_auth(&plugin))
                .filter(lua("handle:headers():replace('x-cluster', 'other')"))
                .route(direct("/direct"))
                .route(disabled)
                .route(by_header)
                .cluster(cluster("known", upstream, Protocol::Http1))
                .cluster(cluster("other", upstream, Protocol::Http1))
        })
        .await;
        for path in ["/direct", "/by-header", "/nowhere"] {
            let (reply, seen) = fixture.exchange(TestRequest { path, ..TestRequest::default() }).await;
            assert_refusal(&reply, 503, "unknown_server", path);
            assert!(seen.is_empty(), "{path}");
        }
        let (reply, _) = fixture.exchange(TestRequest { path: "/disabled", ..TestRequest::default() }).await;
        assert_eq!((reply.status.as_u16(), &reply.body[..]), (200, &b"fine"[..]));
    });
}

#[test]
fn a_refusal_over_http2_and_of_a_large_body_has_the_same_shape() {
    run(async {
        let fixture = in_listener().await;
        let body = vec![b'x'; 3_000_000];
        let request =
            TestRequest { protocol: Protocol::Http2, path: "/disabled/mcp", body: &body, ..TestRequest::default() };
        let (reply, seen) = fixture.exchange(request).await;
        assert_refusal(&reply, 503, "server_disabled", "3 MB over HTTP/2");
        assert!(seen.is_empty());
    });
}

#[test]
fn a_grpc_caller_gets_the_refusal_as_grpc_has_it() {
    run(async {
        let fixture = in_listener().await;
        let headers = [("content-type", "application/grpc"), ("te", "trailers")];
        let request = TestRequest {
            protocol: Protocol::Http2,
            path: "/disabled/mcp",
            headers: &headers,
            ..TestRequest::default()
        };
        let (reply, seen) = fixture.exchange(request).await;
        assert_eq!(reply.header("grpc-status").as_deref(), Some("14"));
        assert!(reply.header("grpc-message").is_some_and(|message| message.contains("server_disabled")));
        assert!(seen.is_empty());
    });
}
