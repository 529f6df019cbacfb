//! Each kind of credential, in both ways of loading the filter, over both versions of HTTP.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use wasm_tests::arrival::Arrival;
use wasm_tests::client::Protocol;

use crate::fixture::{SECRET, TestRequest, both, run};

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

#[test]
fn headers_that_are_not_credentials_arrive_as_they_were_sent() {
    run(async {
        for (place, fixture) in both().await {
            let headers = [
                ("MCP-Protocol-Version", "2026-07-28"),
                ("Mcp-Method", "tools/call"),
                ("Mcp-Name", "=?base64?Z3LDvMOfZQ==?="),
                ("Mcp-Session-Id", "1868a90c"),
                ("Accept", "application/json, text/event-stream"),
                ("Content-Type", "application/json"),
                ("Last-Event-ID", "7"),
            ];
            let request = TestRequest { path: "/bearer/mcp", headers: &headers, ..TestRequest::default() };
            let (_, seen) = fixture.exchange(request).await;
            for (name, value) in headers {
                assert_eq!(seen[0].head.header(name), [value], "{place}: {name}");
            }
        }
    });
}
