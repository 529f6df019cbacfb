//! What is removed from requests beside the headers that always are.

use serde_json::{Value, json};
use wasm_tests::client::{Protocol, send_raw};
use wasm_tests::gateway::{Gateway, cluster, filtered_cluster, upstream_auth};
use wasm_tests::upstream::{ID, UPGRADE};

use crate::fixture::{Fixture, TestRequest, both, new_id, run};
use crate::oauth2::Place;

const BEARER: &str = "t";

/// A filter with `keys` at its top, and a server with a bearer token behind it.
async fn start(place: Place, keys: &Value) -> Fixture {
    let server = json!({"host": "h", "auth": {"type": "BEARER", "token": BEARER}});
    let with_keys = |mut plugin: Value| {
        plugin.as_object_mut().unwrap().extend(keys.as_object().unwrap().clone());
        upstream_auth(&plugin)
    };
    Fixture::start(|upstream| match place {
        Place::Listener => Gateway::default().filter(with_keys(json!({"servers": {"c": server}}))).cluster(cluster(
            "c",
            upstream,
            Protocol::Http1,
        )),
        Place::Cluster => {
            Gateway::default().cluster(filtered_cluster("c", upstream, Protocol::Http1, with_keys(server.clone())))
        }
    })
    .await
}

#[test]
fn presets_and_prefixes_remove_their_headers() {
    let keys = json!({"stripPresets": ["credentials", "forwarded"], "stripHeaders": ["x-tenant-*", "cookie"]});
    let removed = [
        "x-auth-token",
        "api-key",
        "private-token",
        "x-goog-api-key",
        "x-forwarded-access-token",
        "x-auth-request-email",
        "x-amz-security-token",
        "forwarded",
        "x-forwarded-host",
        "x-original-url",
        "x-tenant-id",
        "cookie",
        "x-ms-client-principal-id",
    ];
    let kept = ["x-tenant", "accept", "mcp-session-id", "x-forwarded-else", "proxy-authorization"];
    let sent: Vec<_> = removed.iter().chain(&kept).map(|name| (*name, "theirs")).collect();
    run(async {
        for place in [Place::Listener, Place::Cluster] {
            let fixture = start(place, &keys).await;
            for protocol in [Protocol::Http1, Protocol::Http2] {
                let request = TestRequest { protocol, path: "/c/mcp", headers: &sent, ..TestRequest::default() };
                let (reply, seen) = fixture.exchange(request).await;
                assert_eq!(reply.status, 200, "{place:?} {protocol:?}: {:?}", reply.body);
                for name in removed {
                    assert_eq!(seen[0].head.header(name), [""; 0], "{place:?} {protocol:?} {name}");
                }
                for name in kept {
                    assert_eq!(seen[0].head.header(name), ["theirs"], "{place:?} {protocol:?} {name}");
                }
                assert_eq!(seen[0].head.header("authorization"), [format!("Bearer {BEARER}")]);
            }
        }
    });
}

#[test]
fn parameters_are_removed_from_the_query() {
    let keys = json!({"stripQuery": ["access_token"]});
    run(async {
        for place in [Place::Listener, Place::Cluster] {
            let fixture = start(place, &keys).await;
            for (path, expected) in [
                ("/c/mcp?access_token=theirs", "/c/mcp"),
                ("/c/mcp?a=%2F&access%5Ftoken=theirs&Access_Token=theirs&b=+", "/c/mcp?a=%2F&b=+"),
                ("/c/mcp?a=1;access_token=theirs;b", "/c/mcp?a=1;b"),
                ("/c/mcp?access_token[]=theirs&+access_token=theirs&access_token%00=theirs&b", "/c/mcp?b"),
                ("/c/mcp?&a=1;&b&", "/c/mcp?&a=1;&b&"),
                ("/c/mcp?&access_token=theirs&a=1&", "/c/mcp?&a=1&"),
                ("/c/mcp?x_access_token=kept", "/c/mcp?x_access_token=kept"),
            ] {
                let (_, seen) = fixture.exchange(TestRequest { path, ..TestRequest::default() }).await;
                assert_eq!(seen[0].head.path_and_query, expected, "{place:?}");
                let all = format!("{:?}", seen[0].head);
                assert!(!all.contains("theirs"), "{place:?}: {all}");
            }
        }
    });
}

#[test]
fn a_rewritten_path_leaves_no_parameter_behind() {
    run(async {
        let server = json!({"host": "h", "auth": {"type": "BEARER", "token": BEARER}, "stripQuery": ["access_token"]});
        let route = json!({"match": {"prefix": "/old/"}, "route": {"cluster": "c", "prefix_rewrite": "/new/"}});
        let fixture = Fixture::start(|upstream| {
            Gateway::default().route(route).cluster(filtered_cluster(
                "c",
                upstream,
                Protocol::Http1,
                upstream_auth(&server),
            ))
        })
        .await;
        let path = "/old/mcp?access_token=theirs&a";
        let (_, seen) = fixture.exchange(TestRequest { path, ..TestRequest::default() }).await;
        assert_eq!(seen[0].head.path_and_query, "/new/mcp?a");
        assert!(!format!("{:?}", seen[0].head).contains("theirs"), "{:?}", seen[0].head);
    });
}

#[test]
fn an_upgrade_cannot_make_the_next_hop_drop_the_credential() {
    run(async {
        for (place, fixture) in both().await {
            for connection in
                ["Upgrade, Authorization", "authorization,upgrade", "Upgrade, x-api-key, close", "Upgrade"]
            {
                let id = new_id();
                let request = format!(
                    "GET /bearer{UPGRADE} HTTP/1.1\r\nhost: caller.example\r\nconnection: {connection}\r\n\
                     upgrade: websocket\r\n{ID}: {id}\r\n\r\n"
                );
                let answer = send_raw(fixture.address, request.as_bytes()).await.unwrap();
                assert!(answer.starts_with("HTTP/1.1 101 "), "{place} {connection}: {answer}");
                let seen = fixture.upstream.seen(&id);
                let arrived = seen[0].head.header("connection").concat();
                assert!(arrived.eq_ignore_ascii_case("upgrade"), "{place} {connection}: {arrived}");
                assert_eq!(seen[0].head.header("authorization").len(), 1, "{place} {connection}");
            }
        }
    });
}
