//! Envoy's own filter for AWS, side by side with this one: the same request gets the same signature.

use serde_json::{Value, json};
use wasm_tests::client::{Protocol, Reply};
use wasm_tests::gateway::{Gateway, cluster, http_filter};
use wasm_tests::upstream::Seen;

use super::signatures::TARGETS;
use super::{
    HOST, OPTIONS, REGION, SECRET, SERVICE, SESSION_TOKEN, TEMPORARY_KEY, auth, fixed, gateway, seeing_bodies, start,
};
use crate::fixture::{Fixture, TestRequest, run};
use crate::oauth2::Place;

/// Seconds that two requests sent at once may fall into different ones of.
const ATTEMPTS: usize = 10;

/// What Envoy's filter would sign beside what ours does. To name what to sign instead needs Envoy 1.37.
const NOT_SIGNED: [&str; 8] = [
    "accept",
    "content-length",
    "transfer-encoding",
    "x-envoy-expected-rq-timeout-ms",
    "x-forwarded-for",
    "x-forwarded-proto",
    "x-request-id",
    "x-test-id",
];

fn native(unsigned: bool) -> Value {
    let excluded: Vec<_> = NOT_SIGNED.iter().map(|name| json!({"exact": name})).collect();
    http_filter(
        "envoy.filters.http.aws_request_signing",
        "envoy.extensions.filters.http.aws_request_signing.v3.AwsRequestSigning",
        json!({
            "service_name": SERVICE,
            "region": REGION,
            "host_rewrite": HOST,
            "use_unsigned_payload": unsigned,
            "match_excluded_headers": excluded,
            "credential_provider": {"inline_credential": {
                "access_key_id": TEMPORARY_KEY,
                "secret_access_key": SECRET,
                "session_token": SESSION_TOKEN,
            }},
        }),
    )
}

/// Envoy's filter and ours, each before a server that verifies.
async fn side_by_side(unsigned: bool) -> [Fixture; 2] {
    let by_envoy = start(&OPTIONS, fixed, |upstream| {
        Gateway::default().filter(native(unsigned)).cluster(cluster("c", upstream, Protocol::Http1))
    });
    let auth = auth(json!({
        "payload": if unsigned { "unsigned" } else { "signed" },
        "accessKeyId": TEMPORARY_KEY,
        "sessionToken": SESSION_TOKEN,
        "signHeaders": ["x-tenant", "x-twice"],
        "passChallenge": true,
    }));
    let by_us = start(&OPTIONS, fixed, |upstream| gateway(Place::Listener, auth, upstream, seeing_bodies));
    let (by_envoy, by_us) = tokio::join!(by_envoy, by_us);
    [by_envoy, by_us]
}

/// Sends the request both ways within the same second.
async fn both(fixtures: &[Fixture; 2], request: TestRequest<'_>) -> [(Reply, Seen); 2] {
    let [by_envoy, by_us] = fixtures;
    for _ in 0..ATTEMPTS {
        let ((reply, mut seen), (our_reply, mut our_seen)) =
            tokio::join!(by_envoy.exchange(request), by_us.exchange(request));
        let (seen, our_seen) = (seen.remove(0), our_seen.remove(0));
        if seen.head.header("x-amz-date") == our_seen.head.header("x-amz-date") {
            return [(reply, seen), (our_reply, our_seen)];
        }
    }
    panic!("no two requests within a second of {ATTEMPTS}: {}", request.path);
}

/// What of a request both must have made the same.
fn signature(seen: &Seen) -> Vec<Vec<String>> {
    ["authorization", "x-amz-date", "x-amz-content-sha256", "x-amz-security-token"]
        .map(|name| seen.head.header(name))
        .to_vec()
}

#[test]
fn envoys_own_filter_gives_the_same_request_the_same_signature() {
    let headers = [
        ("content-type", "application/json"),
        ("accept", "application/json, text/event-stream"),
        ("x-tenant", "  a   b "),
        ("x-twice", "1"),
        ("x-twice", "2"),
        ("x-amz-target", "A.B"),
    ];
    run(async {
        let large = vec![b'x'; 100_000];
        for unsigned in [false, true] {
            let fixtures = side_by_side(unsigned).await;
            for (index, target) in TARGETS.into_iter().enumerate() {
                let requests = [
                    (Protocol::Http1, "POST", &b"{}"[..]),
                    (Protocol::Http2, "PUT", &large),
                    (Protocol::Http1, "GET", b""),
                    (Protocol::Http2, "DELETE", b""),
                ];
                for (protocol, method, body) in [requests[index % 4], requests[(index + 2) % 4]] {
                    let path = format!("/c{target}");
                    let request = TestRequest { protocol, method, path: &path, headers: &headers, body };
                    let [(reply, by_envoy), (our_reply, by_us)] = both(&fixtures, request).await;
                    let context = format!("{method} {path}, unsigned: {unsigned}");
                    assert_eq!(our_reply.status, 200, "{context}: {}", String::from_utf8_lossy(&our_reply.body));
                    assert_eq!(reply.status, 200, "{context}: Envoy's own");
                    assert_eq!(signature(&by_us), signature(&by_envoy), "{context}");
                }
            }
        }
    });
}
