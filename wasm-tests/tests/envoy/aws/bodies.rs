//! Bodies: hashed as a whole before anything leaves, or not at all.

use std::convert::Infallible;
use std::io;

use bytes::Bytes;
use http_body_util::channel::{Channel, Sender};
use hyper::Request;
use hyper::header::{HeaderMap, HeaderName, HeaderValue};
use serde_json::json;
use sha2::{Digest, Sha256};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use wasm_tests::client::{PATIENCE, Protocol, Reply, send};
use wasm_tests::gateway::upstream_auth;
use wasm_tests::upstream::{ID, Seen, UPGRADE};

use super::verifier::hex;
use super::{ACCESS_KEY, OPTIONS, Server, auth, everywhere, fixed, gateway, seeing_bodies, start};
use crate::fixture::{Fixture, TestRequest, new_id, run};
use crate::oauth2::Place;

/// The default of `maxBodyBytes`.
const LIMIT: usize = 1 << 20;

/// Bytes that are different everywhere, so that a piece lost or doubled shows.
fn body_of(length: usize) -> Vec<u8> {
    (0..length).map(|index| (index.wrapping_mul(2_654_435_761) >> 13) as u8).collect()
}

/// Posts `body` in pieces of this size, without saying its length, and gives what arrived.
async fn in_pieces(fixture: &Fixture, protocol: Protocol, server: &str, body: &[u8], size: usize) -> Vec<Seen> {
    let id = new_id();
    let (mut sender, channel) = Channel::<Bytes, Infallible>::new(1);
    let pieces: Vec<Bytes> = body.chunks(size).map(Bytes::copy_from_slice).collect();
    tokio::spawn(async move {
        for piece in pieces {
            let _ = sender.send_data(piece).await;
        }
    });
    let request = Request::post(format!("http://caller.example/{server}/mcp")).header(ID, &id).body(channel).unwrap();
    let reply = send(fixture.address, protocol, request).await.unwrap();
    assert_eq!(reply.status, 200, "{server} {protocol:?}: {}", String::from_utf8_lossy(&reply.body));
    fixture.upstream.seen(&id)
}

fn assert_whole(seen: &[Seen], body: &[u8], context: &str) {
    let [seen] = seen else { panic!("{context}: not once upstream") };
    assert!(seen.body == body, "{context}: another body");
    let length = seen.head.header("content-length");
    // Over HTTP/2, a request that ends with its head need not say that it has no body.
    assert!(length == [body.len().to_string()] || body.is_empty() && length.is_empty(), "{context}: {length:?}");
    assert_eq!(seen.head.header("transfer-encoding"), [""; 0], "{context}");
    assert_eq!(seen.head.header("x-amz-content-sha256"), [hex(&Sha256::digest(body))], "{context}");
}

#[test]
fn a_signed_body_arrives_whole_up_to_the_limit_with_its_hash_and_its_length() {
    run(async {
        let fixture = everywhere().await;
        for server in Server::all("signed") {
            for protocol in [Protocol::Http1, Protocol::Http2] {
                for length in [0, 1024, LIMIT] {
                    let (body, path) = (body_of(length), format!("/{}/mcp", server.name()));
                    let request = TestRequest { protocol, path: &path, body: &body, ..TestRequest::default() };
                    let (reply, seen) = fixture.exchange(request).await;
                    let context = format!("{server:?} {protocol:?} {length}");
                    assert_eq!(reply.status, 200, "{context}: {}", String::from_utf8_lossy(&reply.body));
                    assert!(reply.body == body, "{context}: another answer");
                    assert_whole(&seen, &body, &context);
                }
            }
        }
    });
}

#[test]
fn a_signed_body_in_many_pieces_arrives_whole_with_its_length() {
    run(async {
        let fixture = everywhere().await;
        for server in Server::all("signed") {
            for protocol in [Protocol::Http1, Protocol::Http2] {
                for (length, size) in [(200, 1), (100_000, 997), (LIMIT / 2, 16_384)] {
                    let body = body_of(length);
                    let seen = in_pieces(&fixture, protocol, &server.name(), &body, size).await;
                    assert_whole(&seen, &body, &format!("{server:?} {protocol:?} {length} by {size}"));
                }
            }
        }
    });
}

#[test]
fn an_empty_body_of_no_length_arrives_without_chunks_too() {
    run(async {
        let fixture = everywhere().await;
        for server in Server::all("signed") {
            for protocol in [Protocol::Http1, Protocol::Http2] {
                let seen = in_pieces(&fixture, protocol, &server.name(), b"", 1).await;
                assert_whole(&seen, b"", &format!("{server:?} {protocol:?}"));
            }
        }
    });
}

#[test]
fn trailers_behind_a_signed_body_change_nothing_of_it() {
    run(async {
        let fixture = everywhere().await;
        for server in Server::all("signed") {
            for protocol in [Protocol::Http1, Protocol::Http2] {
                let id = new_id();
                let (mut sender, body) = Channel::<Bytes, Infallible>::new(2);
                let trailers = [("x-checksum", "42"), ("authorization", "theirs")]
                    .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)));
                sender.send_data(Bytes::from_static(b"{}")).await.unwrap();
                sender.send_trailers(HeaderMap::from_iter(trailers)).await.unwrap();
                drop(sender);
                let request = Request::post(format!("http://caller.example/{}/mcp", server.name()))
                    .header(ID, &id)
                    .header("te", "trailers")
                    .header("trailer", "x-checksum, authorization")
                    .body(body)
                    .unwrap();
                let reply = send(fixture.address, protocol, request).await.unwrap();
                let context = format!("{server:?} {protocol:?}");
                assert_eq!(reply.status, 200, "{context}: {}", String::from_utf8_lossy(&reply.body));
                let seen = fixture.upstream.seen(&id);
                assert_whole(&seen, b"{}", &context);
                // HTTP/1.1 has none behind a body of a known length.
                let expected: &[_] = match server.protocol {
                    Protocol::Http1 => &[],
                    Protocol::Http2 => &[("x-checksum".to_owned(), b"42".to_vec())],
                };
                assert_eq!(seen[0].trailers, expected, "{context}");
            }
        }
    });
}

#[test]
fn a_connection_is_upgraded_by_a_request_that_is_signed_as_one_without_a_body() {
    run(async {
        let fixture = everywhere().await;
        for kind in ["unsigned", "signed"] {
            for server in Server::all(kind).into_iter().filter(|server| server.protocol == Protocol::Http1) {
                let mut stream = TcpStream::connect(fixture.address).await.unwrap();
                let request = format!(
                    "GET /{}{UPGRADE} HTTP/1.1\r\nhost: caller.example\r\nconnection: upgrade\r\n\
                     upgrade: websocket\r\n\r\n",
                    server.name()
                );
                stream.write_all(request.as_bytes()).await.unwrap();
                let mut status = [0; 12];
                let read = timeout(PATIENCE, stream.read_exact(&mut status)).await;
                read.unwrap_or_else(|_| panic!("{server:?}: no answer")).unwrap();
                assert_eq!(String::from_utf8_lossy(&status), "HTTP/1.1 101", "{server:?}");
                let mut rest = String::new();
                timeout(PATIENCE, stream.read_to_string(&mut rest)).await.unwrap().unwrap();
                assert!(rest.ends_with("\r\n\r\nupgraded"), "{server:?}: {rest}");
            }
        }
    });
}

#[test]
fn a_header_that_announces_an_upgrade_hides_no_body_from_the_signature() {
    run(async {
        let fixture = everywhere().await;
        for server in Server::all("signed") {
            for upgrade in [&[("upgrade", "websocket")][..], &[("upgrade", "h2c"), ("connection", "close")]] {
                let path = format!("/{}/mcp", server.name());
                let request = TestRequest { path: &path, headers: upgrade, ..TestRequest::default() };
                let (reply, seen) = fixture.exchange(request).await;
                assert_eq!(reply.status, 200, "{server:?}: {}", String::from_utf8_lossy(&reply.body));
                assert_whole(&seen, b"{}", &format!("{server:?} {upgrade:?}"));
            }
        }
    });
}

#[test]
fn a_caller_that_wants_to_be_told_before_it_sends_a_body_is_told() {
    run(async {
        let fixture = everywhere().await;
        for server in Server::all("signed") {
            let id = new_id();
            let mut stream = TcpStream::connect(fixture.address).await.unwrap();
            let head = format!(
                "POST /{}/mcp HTTP/1.1\r\nhost: caller.example\r\nexpect: 100-continue\r\n\
                 content-length: 2\r\nconnection: close\r\n{ID}: {id}\r\n\r\n",
                server.name()
            );
            stream.write_all(head.as_bytes()).await.unwrap();
            let mut told = [0; 25];
            timeout(PATIENCE, stream.read_exact(&mut told)).await.unwrap().unwrap();
            assert!(told.starts_with(b"HTTP/1.1 100 Continue"), "{server:?}");
            stream.write_all(b"{}").await.unwrap();
            let mut answer = String::new();
            timeout(PATIENCE, stream.read_to_string(&mut answer)).await.unwrap().unwrap();
            assert!(answer.starts_with("HTTP/1.1 200 "), "{server:?}: {answer}");
            assert_whole(&fixture.upstream.seen(&id), b"{}", &format!("{server:?}"));
        }
    });
}

/// An Envoy of one server; its upstream counts for itself.
async fn alone(place: Place, payload: &str, sees_bodies: bool) -> Fixture {
    let auth = auth(json!({"payload": payload}));
    let filter = if sees_bodies { seeing_bodies } else { upstream_auth };
    start(&OPTIONS, fixed, |upstream| gateway(place, auth, upstream, filter)).await
}

/// Begins to post, and gives what there is to go on with and the answer to come.
async fn begin(fixture: &Fixture, protocol: Protocol) -> (Sender<Bytes, io::Error>, JoinHandle<io::Result<Reply>>) {
    let (mut sender, channel) = Channel::new(1);
    let request = Request::post("http://caller.example/c/mcp").body(channel).unwrap();
    let answer = tokio::spawn(send(fixture.address, protocol, request));
    sender.send_data(Bytes::from_static(b"first, ")).await.unwrap();
    (sender, answer)
}

#[test]
fn a_body_that_is_not_signed_goes_on_piece_by_piece_whether_or_not_the_filter_sees_bodies() {
    run(async {
        for (place, sees_bodies) in [(Place::Listener, false), (Place::Cluster, false), (Place::Cluster, true)] {
            let fixture = alone(place, "unsigned", sees_bodies).await;
            for (index, protocol) in [Protocol::Http1, Protocol::Http2].into_iter().enumerate() {
                let (mut sender, answer) = begin(&fixture, protocol).await;
                // The rest is not sent before the server has the head.
                fixture.upstream.wait_for_begun(index + 1).await.unwrap();
                sender.send_data(Bytes::from_static(b"second")).await.unwrap();
                drop(sender);
                let reply = answer.await.unwrap().unwrap();
                assert_eq!(reply.status, 200, "{place:?} {protocol:?} {sees_bodies}");
            }
            assert!(fixture.upstream.all().iter().all(|seen| seen.body == "first, second"));
            let body = body_of(2 * LIMIT);
            let seen = in_pieces(&fixture, Protocol::Http1, "c", &body, 65_536).await;
            assert!(seen[0].body == body, "{place:?} {sees_bodies}");
        }
    });
}

#[test]
fn a_caller_that_goes_away_in_the_middle_of_a_body_sends_nothing_and_harms_nobody() {
    run(async {
        for place in [Place::Listener, Place::Cluster] {
            let fixture = alone(place, "signed", true).await;
            for protocol in [Protocol::Http1, Protocol::Http2] {
                let (sender, answer) = begin(&fixture, protocol).await;
                let active = async || {
                    let stats = fixture.envoy.admin_get("/stats?filter=http.gateway.downstream_rq_active").await;
                    stats.unwrap().contains(": 1")
                };
                let is_active = async |expected: bool| {
                    while active().await != expected {
                        tokio::time::sleep(crate::oauth2::POLL).await;
                    }
                };
                timeout(PATIENCE, is_active(true)).await.unwrap();
                sender.abort(io::ErrorKind::Interrupted.into());
                timeout(PATIENCE, is_active(false)).await.unwrap();
                assert!(answer.await.unwrap().is_err(), "{place:?} {protocol:?}");
            }
            assert_eq!(fixture.upstream.begun(), 0, "{place:?}");
            for _ in 0..8 {
                let (reply, seen) = fixture.exchange(TestRequest { path: "/c/mcp", ..TestRequest::default() }).await;
                assert_eq!(reply.status, 200, "{place:?}");
                assert!(seen[0].head.header("authorization")[0].contains(ACCESS_KEY), "{place:?}");
            }
        }
    });
}
