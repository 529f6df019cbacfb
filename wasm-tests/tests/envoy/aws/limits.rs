//! Bodies that cannot be signed: too large, or never shown to the filter.

use std::convert::Infallible;

use bytes::Bytes;
use http_body_util::Full;
use http_body_util::channel::Channel;
use hyper::{Request, StatusCode};
use serde_json::{Value, json};
use wasm_tests::client::{Protocol, Reply, send};
use wasm_tests::gateway::{Gateway, cluster, filtered_cluster, upstream_auth};

use super::{HOST, OPTIONS, auth, fixed, gateway, seeing_bodies, server_name, start};
use crate::fixture::{Fixture, TestRequest, run};
use crate::oauth2::{Place, metric};

/// A `maxBodyBytes` that is small, and not a power of two.
const LIMIT: usize = 50_000;

/// An Envoy that buffers `buffered` bytes before a server whose bodies may have [`LIMIT`].
async fn limited(place: Place, buffered: u32) -> Fixture {
    limited_apart(place, buffered, buffered).await
}

/// The same with limits of their own for listener and cluster.
async fn limited_apart(place: Place, listener: u32, in_cluster: u32) -> Fixture {
    let server = json!({"host": HOST, "auth": auth(json!({"maxBodyBytes": LIMIT}))});
    start(&OPTIONS, fixed, |upstream| {
        let gateway = Gateway::default().buffer_limit(listener);
        match place {
            Place::Listener => gateway.filter(seeing_bodies(&json!({"servers": {"c": server}}))).cluster(cluster(
                "c",
                upstream,
                Protocol::Http1,
            )),
            Place::Cluster => {
                let mut cluster = filtered_cluster("c", upstream, Protocol::Http1, seeing_bodies(&server));
                cluster["per_connection_buffer_limit_bytes"] = json!(in_cluster);
                gateway.cluster(cluster)
            }
        }
    })
    .await
}

/// Posts so many bytes, with their length or without it.
async fn post(fixture: &Fixture, protocol: Protocol, length: usize, says_length: bool) -> Reply {
    let body = vec![b'x'; length];
    let request = Request::post("http://caller.example/c/mcp");
    if says_length {
        let request = request.body(Full::new(Bytes::from(body))).unwrap();
        return send(fixture.address, protocol, request).await.unwrap();
    }
    let (mut sender, channel) = Channel::<Bytes, Infallible>::new(1);
    tokio::spawn(async move {
        for piece in body.chunks(5_000) {
            // Nobody takes the rest of a body that was refused.
            if sender.send_data(Bytes::copy_from_slice(piece)).await.is_err() {
                return;
            }
        }
    });
    send(fixture.address, protocol, request.body(channel).unwrap()).await.unwrap()
}

fn assert_refused(reply: &Reply, status: StatusCode, reason: &str, context: &str) {
    assert_eq!(reply.status, status, "{context}");
    assert_eq!(reply.header("content-type").as_deref(), Some("application/json"), "{context}");
    let body = reply.json();
    assert_eq!((&body["jsonrpc"], &body["id"]), (&json!("2.0"), &Value::Null), "{context}");
    assert_eq!(body["error"]["data"]["reason"], reason, "{context}");
}

#[test]
fn a_body_above_the_limit_is_refused_and_nothing_of_it_sent() {
    run(async {
        for place in [Place::Listener, Place::Cluster] {
            let fixture = limited(place, 1 << 20).await;
            let mut refused = 0;
            for protocol in [Protocol::Http1, Protocol::Http2] {
                for says_length in [true, false] {
                    for length in [LIMIT + 1, 2 * LIMIT, 10 * LIMIT] {
                        let reply = post(&fixture, protocol, length, says_length).await;
                        let context = format!("{place:?} {protocol:?} {length}, says so: {says_length}");
                        assert_refused(&reply, StatusCode::PAYLOAD_TOO_LARGE, "body_too_large", &context);
                        refused += 1;
                    }
                }
            }
            assert_eq!(fixture.upstream.begun(), 0, "{place:?}");
            let counter = format!("requests.outcome.rejected_body_too_large.server.{}", server_name(place));
            assert_eq!(metric(&fixture, &counter).await, Some(refused), "{place:?}");
            for protocol in [Protocol::Http1, Protocol::Http2] {
                for says_length in [true, false] {
                    let reply = post(&fixture, protocol, LIMIT, says_length).await;
                    assert_eq!(reply.status, 200, "{place:?} {protocol:?}, says its length: {says_length}");
                }
            }
        }
    });
}

#[test]
fn a_body_that_envoy_does_not_buffer_is_refused_by_one_of_both_and_nothing_of_it_sent() {
    run(async {
        for place in [Place::Listener, Place::Cluster] {
            let fixture = limited(place, 20_000).await;
            for protocol in [Protocol::Http1, Protocol::Http2] {
                for says_length in [true, false] {
                    let reply = post(&fixture, protocol, 10 * LIMIT, says_length).await;
                    let context = format!("{place:?} {protocol:?}, says its length: {says_length}");
                    assert_eq!(reply.status, 413, "{context}");
                    if says_length {
                        assert_refused(&reply, StatusCode::PAYLOAD_TOO_LARGE, "body_too_large", &context);
                    }
                }
            }
            assert_eq!(fixture.upstream.begun(), 0, "{place:?}");
        }
    });
}

/// What the README says of Envoy's own limit; over HTTP/2, the stream has one of its own, which is larger by default.
#[test]
fn over_http1_the_buffer_is_that_of_the_listener_also_for_a_filter_in_a_cluster() {
    run(async {
        for place in [Place::Listener, Place::Cluster] {
            for (listener, in_cluster, expected) in [(20_000, 1 << 20, 413), (1 << 20, 20_000, 200)] {
                let fixture = limited_apart(place, listener, in_cluster).await;
                let reply = post(&fixture, Protocol::Http1, 40_000, true).await;
                assert_eq!(reply.status, expected, "{place:?} {listener} {in_cluster}");
            }
        }
    });
}

/// Sees each request without a body signed, and each with one refused after as long as the filter waits for it.
async fn needs_the_setting(place: Place) {
    let gateway = |upstream| gateway(place, auth(json!({})), upstream, upstream_auth);
    let fixture = start(&OPTIONS, fixed, gateway).await;
    for (method, body) in [("GET", &b""[..]), ("DELETE", b""), ("POST", b"")] {
        let request = TestRequest { path: "/c/mcp", method, body, ..TestRequest::default() };
        let (reply, seen) = fixture.exchange(request).await;
        assert_eq!((reply.status.as_u16(), seen.len()), (200, 1), "{place:?} {method}");
    }
    let (http1, http2) =
        tokio::join!(post(&fixture, Protocol::Http1, 10, true), post(&fixture, Protocol::Http2, 10, false));
    for reply in [http1, http2] {
        assert_refused(&reply, StatusCode::REQUEST_TIMEOUT, "body_timeout", &format!("{place:?}"));
    }
    assert_eq!(fixture.upstream.begun(), 3, "{place:?}");
}

#[test]
fn without_the_setting_that_shows_bodies_what_has_one_is_refused_and_with_it_no_body_that_begins_is_too_slow() {
    run(async {
        let fixture = limited(Place::Listener, 1 << 20).await;
        let (mut sender, channel) = Channel::<Bytes, Infallible>::new(1);
        let request = Request::post("http://caller.example/c/mcp").body(channel).unwrap();
        let answer = tokio::spawn(send(fixture.address, Protocol::Http2, request));
        sender.send_data(Bytes::from_static(b"{")).await.unwrap();
        // It goes on when others have been refused for their bodies.
        tokio::join!(needs_the_setting(Place::Listener), needs_the_setting(Place::Cluster));
        assert_eq!(fixture.upstream.begun(), 0);
        sender.send_data(Bytes::from_static(b"}")).await.unwrap();
        drop(sender);
        assert_eq!(answer.await.unwrap().unwrap().status, 200);
    });
}

/// The `bodyTimeoutMs` of a test: long enough for a body that comes at once.
const BODY_TIMEOUT_MS: u32 = 1_000;

#[test]
fn bodies_that_begin_and_never_end_are_rejected() {
    run(async {
        for place in [Place::Listener, Place::Cluster] {
            let auth = auth(json!({"bodyTimeoutMs": BODY_TIMEOUT_MS}));
            let fixture = start(&OPTIONS, fixed, |upstream| gateway(place, auth, upstream, seeing_bodies)).await;
            let mut unfinished = Vec::new();
            for number in 0..24 {
                let protocol = if number % 2 == 0 { Protocol::Http1 } else { Protocol::Http2 };
                let (mut sender, channel) = Channel::<Bytes, Infallible>::new(1);
                let request = Request::post("http://caller.example/c/mcp").header("host", "h").body(channel).unwrap();
                let answer = tokio::spawn(send(fixture.address, protocol, request));
                sender.send_data(Bytes::from(vec![b'x'; 10_000])).await.unwrap();
                unfinished.push((sender, answer));
            }
            let count = unfinished.len() as u64;
            let mut senders = Vec::new();
            for (sender, answer) in unfinished {
                let reply = answer.await.unwrap().unwrap();
                assert_refused(&reply, StatusCode::REQUEST_TIMEOUT, "body_too_slow", &format!("{place:?}"));
                senders.push(sender);
            }
            assert_eq!(fixture.upstream.begun(), 0, "{place:?}");
            let counter = format!("requests.outcome.rejected_body_too_slow.server.{}", server_name(place));
            assert_eq!(metric(&fixture, &counter).await, Some(count), "{place:?}");
            assert_eq!(post(&fixture, Protocol::Http1, 10_000, false).await.status, 200, "{place:?}");
        }
    });
}
