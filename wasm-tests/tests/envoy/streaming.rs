//! Bodies, event streams and trailers go through as they are.

use std::convert::Infallible;

use bytes::Bytes;
use http_body_util::Full;
use http_body_util::channel::Channel;
use hyper::Request;
use hyper::header::{HeaderMap, HeaderName, HeaderValue};
use serde_json::json;
use wasm_tests::client::{Protocol, next_piece, open, send};
use wasm_tests::gateway::{Gateway, cluster, filtered_cluster, upstream_auth};
use wasm_tests::upstream::{EVENTS, ID, TRAILER};

use crate::fixture::{Fixture, SECRET, TestRequest, both, new_id, run};

/// One server whose upstream speaks HTTP/2, with the filter in the listener or in the cluster.
async fn http2_upstream(in_listener: bool) -> Fixture {
    let plugin = json!({"host": "h2.example", "auth": {"type": "BEARER", "token": SECRET}});
    Fixture::start(|upstream| {
        let filter = upstream_auth(&plugin);
        if in_listener {
            Gateway::default().filter(filter).cluster(cluster("bearer", upstream, Protocol::Http2))
        } else {
            Gateway::default().cluster(filtered_cluster("bearer", upstream, Protocol::Http2, filter))
        }
    })
    .await
}

/// Bytes that are different everywhere, so that a piece lost or doubled shows.
fn large_body(length: usize) -> Vec<u8> {
    (0..length).map(|index| (index.wrapping_mul(2_654_435_761) >> 13) as u8).collect()
}

#[test]
fn twenty_megabytes_go_both_ways_unchanged() {
    run(async {
        let body = large_body(20_000_000);
        let check = async |fixture: &Fixture, context: &str| {
            for protocol in [Protocol::Http1, Protocol::Http2] {
                let request = TestRequest { protocol, path: "/bearer/mcp", body: &body, ..TestRequest::default() };
                let (reply, seen) = fixture.exchange(request).await;
                assert_eq!(reply.status, 200, "{context} {protocol:?}");
                assert!(seen[0].body == body, "{context} {protocol:?}: the request's body differs");
                assert!(reply.body == body, "{context} {protocol:?}: the response's body differs");
                assert_eq!(seen[0].head.header("authorization"), [format!("Bearer {SECRET}")]);
            }
        };
        for (place, fixture) in both().await {
            check(&fixture, place).await;
        }
        for in_listener in [true, false] {
            check(&http2_upstream(in_listener).await, "HTTP/2 upstream").await;
        }
    });
}

#[test]
fn an_event_stream_stays_open_and_each_event_comes_when_it_is_sent() {
    run(async {
        for (place, fixture) in both().await {
            for protocol in [Protocol::Http1, Protocol::Http2] {
                let id = new_id();
                let request = Request::get(format!("http://caller.example/bearer{EVENTS}"))
                    .header(ID, &id)
                    .header("accept", "text/event-stream");
                let request = request.body(Full::new(Bytes::new())).unwrap();
                let response = open(fixture.address, protocol, request).await.unwrap();
                assert_eq!(response.status(), 200, "{place}");
                assert_eq!(response.headers()["content-type"], "text/event-stream", "{place}");
                let mut body = response.into_body();
                // The second event is not sent before the first has come.
                assert_eq!(next_piece(&mut body).await.unwrap(), "data: first\n\n", "{place}");
                fixture.upstream.release(&id);
                assert_eq!(next_piece(&mut body).await.unwrap(), "data: second\n\n", "{place}");
                assert_eq!(next_piece(&mut body).await.unwrap(), "", "{place}");
            }
        }
    });
}

#[test]
fn trailers_pass_both_ways_but_carry_no_credential_of_the_callers() {
    run(async {
        let check = async |fixture: &Fixture, context: &str| {
            for protocol in [Protocol::Http1, Protocol::Http2] {
                let id = new_id();
                let trailers = HeaderMap::from_iter(
                    [("x-checksum", "42"), ("authorization", "Bearer theirs"), ("x-api-key", "theirs")]
                        .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value))),
                );
                // A body of unknown length, as HTTP/1.1 has trailers only behind chunks.
                let (mut sender, body) = Channel::<Bytes, Infallible>::new(2);
                sender.send_data(Bytes::from_static(b"{}")).await.unwrap();
                sender.send_trailers(trailers).await.unwrap();
                drop(sender);
                let request = Request::post("http://caller.example/bearer/mcp")
                    .header(ID, &id)
                    .header("te", "trailers")
                    .header("trailer", "x-checksum, authorization, x-api-key")
                    .body(body)
                    .unwrap();
                let reply = send(fixture.address, protocol, request).await.unwrap();
                let context = format!("{context} {protocol:?}");
                assert_eq!(reply.status, 200, "{context}");
                let seen = fixture.upstream.seen(&id);
                assert_eq!(seen[0].trailers, [("x-checksum".to_owned(), b"42".to_vec())], "{context}");
                assert_eq!(reply.trailers, [(TRAILER.to_owned(), b"end".to_vec())], "{context}");
            }
        };
        for in_listener in [true, false] {
            check(&http2_upstream(in_listener).await, &format!("HTTP/2 upstream, in the listener: {in_listener}"))
                .await;
        }
        for (place, fixture) in both().await {
            check(&fixture, place).await;
        }
    });
}
