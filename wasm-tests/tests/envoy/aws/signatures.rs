//! What is signed: every part of a request as the server gets it.

use wasm_tests::aws_peer::Credentials;
use wasm_tests::client::Protocol;
use wasm_tests::upstream::Seen;

use super::verifier::{UNSIGNED, verify};
use super::{
    ACCESS_KEY, HOST, REGION, SERVICE, SESSION_TOKEN, Server, TEMPORARY_KEY, THEIRS, everywhere, fixed, peer,
    signed_headers,
};
use crate::fixture::{Fixture, TestRequest, run};

/// Paths and queries that are not the same once they are written as AWS wants. None ends in a dot segment, as AWS's own
/// libraries disagree about a slash behind what is left.
pub const TARGETS: [&str; 28] = [
    "/mcp",
    "/",
    "/runtimes/arn%3Aaws%3Abedrock-agentcore%3Aeu-central-1%3A123456789012%3Aruntime%2Fmcp-Ab12/invocations?qualifier=DEFAULT",
    "/runtimes/arn%3aaws%3a/invocations",
    "/runtimes/arn:aws:x/invocations?qualifier=a:b/c@d,e",
    "/a/./b/../c",
    "/a/../",
    "/a//b///c//",
    "/a/%2E%2E/b/%2e",
    "/%7Etilde~/%41-._/%e2%82%ac",
    "/a+b/c%20d%2Be",
    "/a;v=1,2/(b)'!$&*@:=|",
    "/100%25",
    "/mcp?",
    "/mcp?b=2&a=1",
    "/mcp?a=2&a=1&a=&a",
    "/mcp?A=1&a=1&B=0",
    "/mcp?a&b=&=c",
    "/mcp?a1=x&a=y&a-b=z&a.=0",
    "/mcp?%61=2&a=1",
    "/mcp?q=%E2%82%AC%20x&Q=%7e%2a*",
    "/mcp?q=%e2%82%ac",
    "/mcp?plus=a+b&encoded=a%2Bb",
    "/mcp?x=/:@,;[]{}|~!$'()*",
    "/mcp?a==b=c",
    "/mcp?a=1&&b=2&",
    "/mcp?a=?b?",
    "/mcp?X-Amz-Date=20200101T000000Z",
];

/// Sends the request to `server`, which must take it, and botocore must have signed it the same; gives what arrived.
async fn accepted(fixture: &Fixture, server: Server, request: TestRequest<'_>, credentials: &Credentials) -> Seen {
    let path = format!("/{}{}", server.name(), request.path);
    let (reply, mut seen) = fixture.exchange(TestRequest { path: &path, ..request }).await;
    let context = format!("{server:?} {:?} {} {path}", request.protocol, request.method);
    assert_eq!(reply.status, 200, "{context}: {}\n{seen:?}", String::from_utf8_lossy(&reply.body));
    assert_eq!(seen.len(), 1, "{context}");
    let seen = seen.remove(0);
    assert_eq!(seen.head.path_and_query, path, "{context}");
    assert_eq!(seen.head.authority, HOST, "{context}");
    assert!(seen.body == request.body, "{context}");
    let expected = peer().await.sign(&seen.head, SERVICE, REGION, credentials).await.unwrap();
    assert_eq!(seen.head.header("authorization"), [expected], "{context}");
    seen
}

#[test]
fn a_server_that_computes_the_signature_accepts_every_method_path_and_query() {
    run(async {
        let fixture = everywhere().await;
        let ours = fixed(ACCESS_KEY).unwrap();
        for server in Server::all("signed") {
            for protocol in [Protocol::Http1, Protocol::Http2] {
                for (index, target) in TARGETS.into_iter().enumerate() {
                    let methods = ["POST", "GET", "DELETE", "PUT", "OPTIONS", "PATCH"];
                    let method = methods[index % methods.len()];
                    let body = if ["POST", "PUT", "PATCH"].contains(&method) { &b"{}"[..] } else { b"" };
                    let request = TestRequest { protocol, method, path: target, body, headers: &[] };
                    accepted(&fixture, server, request, &ours).await;
                }
            }
        }
    });
}

#[test]
fn what_the_caller_signed_is_gone_and_each_header_of_the_signature_is_there_once() {
    run(async {
        let fixture = everywhere().await;
        let ours = fixed(ACCESS_KEY).unwrap();
        for server in Server::all("signed") {
            for (method, body) in [("POST", &b"{}"[..]), ("GET", b""), ("DELETE", b"")] {
                let headers = [&THEIRS[..], &[("X-Amz-Target", "A.B"), ("x-amz-empty", "")]].concat();
                let request = TestRequest { method, path: "/mcp", headers: &headers, body, ..TestRequest::default() };
                let seen = accepted(&fixture, server, request, &ours).await;
                let arrived = format!("{:?}", seen.head.headers);
                assert!(!arrived.contains("theirs"), "{server:?}: {arrived}");
                assert_eq!(seen.head.header("x-amz-target"), ["A.B"], "{server:?}");
                assert_eq!(seen.head.header("x-amz-security-token"), [""; 0], "{server:?}");
                let signed = signed_headers(&seen);
                for name in ["host", "x-amz-content-sha256", "x-amz-date", "x-amz-target"] {
                    assert!(signed.iter().any(|own| own == name), "{server:?}: {name} is not in {signed:?}");
                }
            }
        }
    });
}

#[test]
fn headers_are_signed_as_asked_for_trimmed_and_folded() {
    let headers = [
        ("X-Tenant", "  a   b  c "),
        ("X-Twice", "one"),
        ("x-twice", "  two   three "),
        ("Accept", "application/json, text/event-stream"),
        ("Content-Type", "application/json;  charset=utf-8"),
        ("X-Not-Signed", "1"),
        ("X-Amz-Meta", "  x   y "),
        ("x-amz-meta", "z"),
    ];
    run(async {
        let fixture = everywhere().await;
        let ours = fixed(ACCESS_KEY).unwrap();
        for server in Server::all("signed") {
            for protocol in [Protocol::Http1, Protocol::Http2] {
                let request = TestRequest { protocol, path: "/mcp", headers: &headers, ..TestRequest::default() };
                let seen = accepted(&fixture, server, request, &ours).await;
                let expected = [
                    "accept",
                    "content-type",
                    "host",
                    "x-amz-content-sha256",
                    "x-amz-date",
                    "x-amz-meta",
                    "x-tenant",
                    "x-twice",
                ];
                assert_eq!(signed_headers(&seen), expected, "{server:?} {protocol:?}");
            }
        }
    });
}

#[test]
fn a_session_token_goes_along_signed() {
    run(async {
        let fixture = everywhere().await;
        let ours = fixed(TEMPORARY_KEY).unwrap();
        for server in Server::all("session") {
            for method in ["POST", "GET"] {
                let body = if method == "POST" { &b"{}"[..] } else { b"" };
                let request = TestRequest { method, path: "/mcp", headers: &THEIRS, body, ..TestRequest::default() };
                let seen = accepted(&fixture, server, request, &ours).await;
                assert_eq!(seen.head.header("x-amz-security-token"), [SESSION_TOKEN], "{server:?}");
                assert!(signed_headers(&seen).contains(&"x-amz-security-token".to_owned()), "{server:?}");
            }
        }
    });
}

#[test]
fn a_payload_that_is_not_signed_is_said_to_be_so_whatever_its_method() {
    run(async {
        let fixture = everywhere().await;
        let ours = fixed(ACCESS_KEY).unwrap();
        for server in Server::all("unsigned") {
            for (method, body) in [("POST", &b"{}"[..]), ("POST", b""), ("GET", b""), ("DELETE", b"")] {
                let request =
                    TestRequest { method, path: "/mcp?b&a", headers: &THEIRS, body, ..TestRequest::default() };
                let seen = accepted(&fixture, server, request, &ours).await;
                assert_eq!(seen.head.header("x-amz-content-sha256"), [UNSIGNED], "{server:?} {method}");
            }
        }
    });
}

/// Else the tests above would show nothing.
#[test]
fn whatever_was_changed_on_its_way_the_server_refuses() {
    run(async {
        let fixture = everywhere().await;
        let ours = fixed(TEMPORARY_KEY).unwrap();
        let [server, ..] = Server::all("session");
        let headers = [("content-type", "application/json"), ("x-amz-target", "A.B")];
        let request = TestRequest { path: "/a/b?c=1&d=2", headers: &headers, ..TestRequest::default() };
        let seen = accepted(&fixture, server, request, &ours).await;
        assert_eq!(verify(&seen, &fixed), Ok(()));
        let mut changed = vec![
            with(&seen, |seen| seen.head.method = "PUT".parse().unwrap()),
            with(&seen, |seen| seen.head.authority = "other.example".to_owned()),
            with(&seen, |seen| seen.head.path_and_query = seen.head.path_and_query.replace("/a/", "/A/")),
            with(&seen, |seen| seen.head.path_and_query = seen.head.path_and_query.replace("d=2", "d=3")),
            with(&seen, |seen| seen.body = "[]".into()),
            with(&seen, |seen| seen.head.headers.push(("x-amz-more".to_owned(), b"1".to_vec()))),
        ];
        for name in signed_headers(&seen).iter().filter(|name| *name != "host") {
            let of_name = |header: &&mut (String, Vec<u8>)| header.0 == *name;
            changed.push(with(&seen, |seen| seen.head.headers.iter_mut().find(of_name).unwrap().1.push(b'0')));
            changed.push(with(&seen, |seen| seen.head.headers.retain(|(own, _)| own != name)));
        }
        for seen in changed {
            assert!(verify(&seen, &fixed).is_err(), "{seen:?}");
        }
    });
}

/// What arrived, had it been changed.
fn with(seen: &Seen, change: impl FnOnce(&mut Seen)) -> Seen {
    let mut seen = seen.clone();
    change(&mut seen);
    seen
}
