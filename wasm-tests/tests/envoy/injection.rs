//! Each kind of credential, in both ways of loading the filter, over both versions of HTTP.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::json;
use wasm_tests::arrival::Arrival;
use wasm_tests::client::{Protocol, send_raw};
use wasm_tests::gateway::{Gateway, cluster, upstream_auth};
use wasm_tests::upstream::{ID, REDIRECT, UPGRADE};

use crate::fixture::{Fixture, SECRET, TestRequest, both, new_id, run};

/// What a caller sends that must not arrive.
const THEIRS: [(&str, &str); 8] = [
    ("Authorization", "Bearer theirs"),
    ("authorization", "Basic dGhlaXJz"),
    ("X-API-KEY", "theirs"),
    ("x-api-key", "theirs-too"),
    ("Cookie", "session=theirs"),
    ("Proxy-Authorization", "Basic dGhlaXJz"),
    ("X-Custom-Key", "theirs"),
    ("x-client-id", "theirs"),
];

/// The server's name, and what must arrive: host, credential headers, path.
fn expected(name: &str) -> (&'static str, Vec<(&'static str, String)>, String) {
    let same_path = format!("/{name}/mcp?a=%2F&api_key=theirs&b=");
    let basic = STANDARD.encode(format!("odock:grüße {SECRET}"));
    match name {
        "bearer" => ("bearer.example", vec![("authorization", format!("Bearer {SECRET}"))], same_path),
        "basic" => ("basic.example:8443", vec![("authorization", format!("Basic {basic}"))], same_path),
        "header" => ("header.example", vec![("x-api-key", SECRET.to_owned())], same_path),
        "query" => ("query.example", vec![], format!("/query/mcp?a=%2F&b=&api_key={SECRET}%26x")),
        "headers" => (
            "headers.example",
            vec![
                ("x-client-id", "gateway".to_owned()),
                ("x-custom-key", SECRET.to_owned()),
                ("cookie", "ours=1".to_owned()),
            ],
            same_path,
        ),
        "none" => ("none.example", vec![], same_path),
        "omitted" => ("omitted.example", vec![], same_path),
        _ => panic!("no server {name}"),
    }
}

#[test]
fn the_servers_credential_arrives_and_nothing_of_the_callers() {
    run(async {
        for (place, fixture) in both().await {
            for protocol in [Protocol::Http1, Protocol::Http2] {
                for method in ["POST", "GET", "DELETE", "PUT", "OPTIONS"] {
                    for name in ["bearer", "basic", "header", "query", "headers", "none", "omitted"] {
                        let context = format!("{place}, {protocol:?}, {method}, {name}");
                        let path = format!("/{name}/mcp?a=%2F&api_key=theirs&b=");
                        let body = if method == "POST" || method == "PUT" { &b"{}"[..] } else { b"" };
                        let request = TestRequest { protocol, method, path: &path, headers: &THEIRS, body };
                        let (reply, seen) = fixture.exchange(request).await;
                        assert_eq!(reply.status, 200, "{context}");
                        assert_eq!(seen.len(), 1, "{context}");
                        assert_eq!(seen[0].body, body, "{context}");
                        assert_arrived(&seen[0].head, name, &context);
                    }
                }
            }
        }
    });
}

fn assert_arrived(head: &Arrival, name: &str, context: &str) {
    let (host, credential, path) = expected(name);
    assert_eq!(head.authority, host, "{context}");
    assert_eq!(head.path_and_query, path, "{context}");
    for (header, value) in &credential {
        assert_eq!(head.header(header), [value.as_str()], "{context}: {header}");
    }
    let may_stay = ["x-custom-key", "x-client-id"];
    for (header, _) in THEIRS {
        let header = header.to_lowercase();
        let is_ours = credential.iter().any(|(ours, _)| *ours == header);
        if !is_ours && !may_stay.contains(&header.as_str()) {
            assert_eq!(head.header(&header), [""; 0], "{context}: {header}");
        }
    }
    // Removed; Envoy itself says that there is no body where there is none.
    assert!(head.header("content-length").iter().all(|length| length == "0"), "{context}");
}

/// What a gateway does to a request and its answer, as lists of headers without those that differ each time.
async fn arrives_and_returns(fixture: &Fixture, request: TestRequest<'_>) -> (Vec<String>, Vec<String>) {
    let (reply, seen) = fixture.exchange(request).await;
    let stable = |headers: &[(String, Vec<u8>)]| {
        let varying = ["x-request-id", "x-test-id", "date", "x-envoy-upstream-service-time"];
        let headers = headers.iter().filter(|(name, _)| !varying.contains(&name.as_str()));
        let mut lines: Vec<_> =
            headers.map(|(name, value)| format!("{name}: {}", String::from_utf8_lossy(value))).collect();
        lines.sort();
        lines
    };
    (stable(&seen[0].head.headers), stable(&reply.headers))
}

#[test]
fn beside_the_credential_all_headers_are_those_that_envoy_without_the_filter_sends() {
    let headers = [
        ("MCP-Protocol-Version", "2026-07-28"),
        ("Mcp-Method", "tools/call"),
        ("Mcp-Name", "=?base64?Z3LDvMOfZQ==?="),
        ("Mcp-Session-Id", "1868a90c"),
        ("Accept", "application/json, text/event-stream"),
        ("Content-Type", "application/json"),
        ("Last-Event-ID", "7"),
        ("X-Twice", "a"),
        ("X-Twice", "b"),
        ("X-Empty", ""),
    ];
    run(async {
        let bare =
            Fixture::start(|upstream| Gateway::default().cluster(cluster("bearer", upstream, Protocol::Http1))).await;
        for (place, fixture) in both().await {
            for method in ["POST", "GET"] {
                let body = if method == "POST" { &b"{}"[..] } else { b"" };
                let request =
                    TestRequest { path: "/bearer/mcp", method, headers: &headers, body, ..TestRequest::default() };
                let (mut expected, answer) = arrives_and_returns(&bare, request).await;
                for (from, to) in [
                    ("host: caller.example", Some("host: bearer.example".to_owned())),
                    ("content-length: 2", Some("transfer-encoding: chunked".to_owned())),
                ] {
                    let position = expected.iter().position(|line| line == from);
                    if let Some(position) = position {
                        expected.splice(position..=position, to);
                    }
                }
                expected.push(format!("authorization: Bearer {SECRET}"));
                expected.sort();
                assert!(expected.contains(&"host: bearer.example".to_owned()));
                assert_eq!(arrives_and_returns(&fixture, request).await, (expected, answer), "{place} {method}");
            }
        }
    });
}

#[test]
fn an_upgraded_connection_carries_the_credential_and_its_bytes() {
    run(async {
        for (place, fixture) in both().await {
            let id = new_id();
            let request = format!(
                "GET /bearer{UPGRADE} HTTP/1.1\r\nhost: caller.example\r\nconnection: upgrade\r\nupgrade: websocket\r\n\
                 authorization: Bearer theirs\r\n{ID}: {id}\r\n\r\n"
            );
            let answer = send_raw(fixture.address, request.as_bytes()).await.unwrap();
            assert!(answer.starts_with("HTTP/1.1 101 "), "{place}: {answer}");
            assert!(answer.ends_with("\r\n\r\nupgraded"), "{place}: {answer}");
            let seen = fixture.upstream.seen(&id);
            assert_eq!(seen[0].head.header("authorization"), [format!("Bearer {SECRET}")], "{place}");
        }
    });
}

#[test]
fn a_redirect_of_the_servers_does_not_tell_the_caller_the_key_in_the_query() {
    run(async {
        for (place, fixture) in both().await {
            for protocol in [Protocol::Http1, Protocol::Http2] {
                let path = format!("/query{REDIRECT}?to=/query/mcp/&a=1");
                let request = TestRequest { protocol, method: "GET", path: &path, body: b"", ..TestRequest::default() };
                let (reply, seen) = fixture.exchange(request).await;
                assert!(seen[0].head.path_and_query.ends_with(&format!("&api_key={SECRET}%26x")), "{place}");
                assert_eq!(reply.status, 302, "{place}");
                let location = reply.header("location");
                assert_eq!(location.as_deref(), Some("http://query.example/query/mcp/?to=/query/mcp/&a=1"), "{place}");
            }
        }
    });
}

#[test]
fn a_redirect_of_envoys_own_does_not_tell_the_caller_the_key_in_the_query() {
    run(async {
        let plugin = json!({"host": "h", "auth": {"type": "API_KEY", "query": "api_key", "value": SECRET}});
        let redirect = json!({"match": {"prefix": "/moved"}, "redirect": {"path_redirect": "/mcp"}});
        let fixture = Fixture::start(|_| Gateway::default().filter(upstream_auth(&plugin)).route(redirect)).await;
        let request =
            TestRequest { method: "GET", path: "/moved?a=1&api_key=theirs", body: b"", ..TestRequest::default() };
        let (reply, _) = fixture.exchange(request).await;
        assert_eq!(reply.status, 301);
        assert!(reply.header("location").is_some_and(|location| location.ends_with("/mcp?a=1")), "{:?}", reply.headers);
    });
}
