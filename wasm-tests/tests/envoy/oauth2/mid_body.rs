//! Requests that wait for a token where Envoy is told to hand on bodies (`allow_on_headers_stop_iteration`), as signing
//! takes: the filter then sees the body of every request whose head it holds back, and the token may come in the
//! middle of it.

use std::convert::Infallible;

use bytes::Bytes;
use http_body_util::channel::Channel;
use hyper::Request;
use serde_json::json;
use tokio::time::{sleep, timeout};
use wasm_tests::client::{PATIENCE, Protocol, send};
use wasm_tests::envoy::Options;
use wasm_tests::gateway::{Gateway, cluster, filtered_cluster, sees_bodies, upstream_auth};
use wasm_tests::token_server::TokenServer;
use wasm_tests::upstream::ID;

use super::{ANY, POLL, Place, TOKENS, World, auth, options};
use crate::fixture::{Fixture, new_id, run};

async fn world(place: Place) -> World {
    let tokens = TokenServer::start(ANY).await.unwrap();
    tokens.hold();
    let server = json!({"host": "c", "auth": auth(tokens.address(), json!({}))});
    let options = Options { wasm_log_level: "trace", ..options() };
    let fixture = Fixture::start_with(&options, |upstream| {
        let gateway = match place {
            Place::Listener => Gateway::default()
                .filter(sees_bodies(upstream_auth(&json!({"servers": {"c": server}}))))
                .cluster(cluster("c", upstream, Protocol::Http1)),
            Place::Cluster => {
                let filter = sees_bodies(upstream_auth(&server));
                Gateway::default().cluster(filtered_cluster("c", upstream, Protocol::Http1, filter))
            }
        };
        gateway.cluster(cluster(TOKENS, tokens.address(), Protocol::Http1))
    });
    World { fixture: fixture.await, tokens }
}

/// Waits until the filter has been shown so many pieces of bodies.
async fn shown(world: &World, pieces: usize) {
    let shown = async {
        while world.fixture.envoy.log().unwrap().matches("[host->vm] proxy_on_request_body(").count() < pieces {
            sleep(POLL).await;
        }
    };
    timeout(PATIENCE, shown).await.unwrap();
}

#[test]
fn a_request_arrives_whole_though_its_token_comes_in_the_middle_of_its_body() {
    run(async {
        for place in [Place::Listener, Place::Cluster] {
            for protocol in [Protocol::Http1, Protocol::Http2] {
                let world = world(place).await;
                let id = new_id();
                let (mut body, receiver) = Channel::<Bytes, Infallible>::new(1);
                let uri = if protocol == Protocol::Http2 { "http://h/c/mcp" } else { "/c/mcp" };
                let request = Request::post(uri).header("host", "h").header(ID, &id).body(receiver).unwrap();
                let exchange = tokio::spawn(send(world.fixture.address, protocol, request));
                body.send_data(Bytes::from_static(b"first ")).await.unwrap();
                world.metric_is("waiting_requests.server.c", 1).await;
                shown(&world, 1).await;
                assert!(world.fixture.upstream.all().is_empty());
                world.tokens.release();
                world.metric_is("requests.outcome.injected.server.c", 1).await;
                body.send_data(Bytes::from_static(b"second ")).await.unwrap();
                shown(&world, 2).await;
                body.send_data(Bytes::from_static(b"third")).await.unwrap();
                drop(body);
                assert_eq!(exchange.await.unwrap().unwrap().status, 200);
                let [seen] = &world.fixture.upstream.seen(&id)[..] else { panic!("{place:?} {protocol:?}") };
                assert_eq!(seen.head.header("authorization"), ["Bearer token-1"]);
                assert_eq!(seen.body, "first second third", "{place:?} {protocol:?}");
            }
        }
    });
}

#[test]
fn a_request_whose_body_stops_while_it_waits_is_rejected() {
    run(async {
        for place in [Place::Listener, Place::Cluster] {
            let world = world(place).await;
            let (mut body, receiver) = Channel::<Bytes, Infallible>::new(1);
            let request = Request::post("/c/mcp").header("host", "h").header(ID, new_id()).body(receiver).unwrap();
            let exchange = tokio::spawn(send(world.fixture.address, Protocol::Http1, request));
            body.send_data(Bytes::from_static(b"first ")).await.unwrap();
            world.metric_is("waiting_requests.server.c", 1).await;
            shown(&world, 1).await;
            world.tokens.release();
            let reply = timeout(PATIENCE, exchange).await.unwrap().unwrap().unwrap();
            assert_eq!(
                (reply.status.as_u16(), reply.json()["error"]["data"]["reason"].as_str()),
                (408, Some("body_too_slow"))
            );
            assert!(world.fixture.upstream.all().is_empty(), "{place:?}");
            drop(body);
        }
    });
}

#[test]
fn a_request_arrives_whole_if_all_of_it_was_there_before_its_token() {
    run(async {
        for place in [Place::Listener, Place::Cluster] {
            let world = world(place).await;
            let id = new_id();
            let body = "x".repeat(500_000);
            let request = Request::post("/c/mcp").header("host", "h").header(ID, &id).body(body.clone()).unwrap();
            let exchange = tokio::spawn(send(world.fixture.address, Protocol::Http1, request));
            world.metric_is("waiting_requests.server.c", 1).await;
            let is_over = async {
                while !world.fixture.envoy.log().unwrap().lines().any(|line| is_end_of(line, body.len())) {
                    sleep(POLL).await;
                }
            };
            timeout(PATIENCE, is_over).await.unwrap();
            assert!(world.fixture.upstream.all().is_empty());
            world.tokens.release();
            assert_eq!(exchange.await.unwrap().unwrap().status, 200);
            let [seen] = &world.fixture.upstream.seen(&id)[..] else { panic!("{place:?}") };
            assert_eq!(seen.head.header("authorization"), ["Bearer token-1"]);
            assert_eq!(seen.body, body, "{place:?}");
        }
    });
}

/// Whether the filter is told here that it has been shown all `length` bytes of a body: `…_body(<context>, <length>, 1)`.
fn is_end_of(line: &str, length: usize) -> bool {
    line.contains("[host->vm] proxy_on_request_body(") && line.trim_end().ends_with(&format!(", {length}, 1)"))
}
