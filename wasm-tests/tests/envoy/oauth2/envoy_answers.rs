//! What Envoy itself answers a token request, where the token server does not or not in HTTP.

use std::net::SocketAddr;

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{sleep, timeout};
use wasm_tests::client::{PATIENCE, Protocol};
use wasm_tests::gateway::{Gateway, cluster, upstream_auth};

use super::{ANY, POLL, auth, metric, options};
use crate::fixture::{Fixture, run};
use crate::tls::tls;

const NOT_CONNECTED: &str = "it answers 503, or Envoy cannot connect to it, or lost the connection";

/// What a server sends once it has read something, and whether it then closes the connection.
type Sends = (Vec<u8>, bool);

/// What a token server sends, and what the log says of it.
fn cases() -> Vec<(&'static str, Sends, &'static str)> {
    const UNREADABLE: &str = "it answers 502, or Envoy cannot read its answer";
    const BROKE_OFF: &str = "its answer broke off, did not end within requestTimeoutMs, or is larger than Envoy takes";
    let text = |text: &str| text.as_bytes().to_vec();
    let many = (0..150).map(|number| format!("x-{number}: x\r\n")).collect::<String>();
    let long = "x".repeat(4 * 1024 * 1024);
    let huge = [text("HTTP/1.1 200 OK\r\ncontent-length: 40000000\r\n\r\n"), vec![b' '; 40_000_000]].concat();
    vec![
        ("closes", (text(""), true), NOT_CONNECTED),
        ("closes-in-head", (text("HTTP/1.1 200 OK\r\ncontent-le"), true), UNREADABLE),
        ("garbage", (text("hello\r\n\r\n"), true), UNREADABLE),
        (
            "two-lengths",
            (text("HTTP/1.1 200 OK\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\nxx"), true),
            UNREADABLE,
        ),
        ("bad-length", (text("HTTP/1.1 200 OK\r\ncontent-length: x\r\n\r\nxx"), true), UNREADABLE),
        (
            "many-headers",
            (format!("HTTP/1.1 200 OK\r\n{many}content-length: 0\r\n\r\n").into_bytes(), true),
            "more than 100 headers",
        ),
        (
            "long-header",
            (format!("HTTP/1.1 200 OK\r\nx: {long}\r\ncontent-length: 0\r\n\r\n").into_bytes(), true),
            UNREADABLE,
        ),
        // A status that HTTP does not have, and one that was not asked for, go through.
        ("bad-status", (text("HTTP/1.1 9999 X\r\ncontent-length: 0\r\n\r\n"), true), "it answers 9999"),
        (
            "switches",
            (text("HTTP/1.1 101 Switching Protocols\r\nupgrade: x\r\nconnection: upgrade\r\n\r\n"), false),
            "it answers 101",
        ),
        ("hangs", (text(""), false), "it answers 504, or it does not answer Envoy within requestTimeoutMs"),
        ("hangs-in-body", (text("HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nx"), false), BROKE_OFF),
        ("body-breaks-off", (text("HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nx"), true), BROKE_OFF),
        ("bad-chunk", (text("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n"), true), BROKE_OFF),
        ("huge-body", (huge, true), BROKE_OFF),
    ]
}

async fn serve(sends: Sends) -> SocketAddr {
    let listener = TcpListener::bind(ANY).await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(answer(stream, sends.clone()));
        }
    });
    address
}

async fn answer(mut stream: TcpStream, (bytes, closes): Sends) {
    let mut read = [0; 4096];
    let _ = stream.read(&mut read).await;
    let _ = stream.write_all(&bytes).await;
    if closes {
        let _ = stream.shutdown().await;
    }
    while stream.read(&mut read).await.is_ok_and(|count| count > 0) {}
}

/// The clusters by which there is no answer at all, with what the log says.
async fn unreachable() -> Vec<(&'static str, Value, &'static str)> {
    let closed = TcpListener::bind(ANY).await.unwrap().local_addr().unwrap();
    let plain = serve((b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n".to_vec(), true)).await;
    let mut without_tls = cluster("not-tls", plain, Protocol::Http1);
    without_tls["transport_socket"] = tls("UpstreamTlsContext", json!({"sni": "h"}));
    let mut full = cluster("full", plain, Protocol::Http1);
    full["circuit_breakers"] = json!({"thresholds": [{"max_requests": 0, "max_pending_requests": 0}]});
    vec![
        ("refuses", cluster("refuses", closed, Protocol::Http1), NOT_CONNECTED),
        ("not-http2", cluster("not-http2", plain, Protocol::Http2), "the HTTP version that the cluster is set to"),
        ("not-tls", without_tls, NOT_CONNECTED),
        ("full", full, "circuit_breakers leave no room"),
    ]
}

#[test]
fn envoys_own_answers_to_token_requests_are_named() {
    run(async {
        let mut clusters = unreachable().await;
        for (name, sends, said) in cases() {
            clusters.push((name, cluster(name, serve(sends).await, Protocol::Http1), said));
        }
        let server = |(name, ..): &(&str, Value, &str)| {
            let more = json!({"scope": name, "tokenCluster": name, "requestTimeoutMs": 1000, "maxWaitMs": 300});
            // The clusters lead elsewhere.
            let nobody = SocketAddr::new(ANY.ip(), 1);
            ((*name).to_owned(), json!({"host": "h", "auth": auth(nobody, more)}))
        };
        let servers: serde_json::Map<_, _> = clusters.iter().map(server).collect();
        let fixture = Fixture::start_with(&options(), |_| {
            let gateway = Gateway::default().filter(upstream_auth(&json!({"servers": servers})));
            clusters.iter().fold(gateway, |gateway, (_, cluster, _)| gateway.cluster(cluster.clone()))
        })
        .await;
        for (name, _, said) in &clusters {
            let line = format!("no token for server {name:?}");
            let logged = async {
                loop {
                    let log = fixture.envoy.log().unwrap();
                    if let Some(logged) = log.lines().find(|logged| logged.contains(&line)) {
                        return logged.to_owned();
                    }
                    sleep(POLL).await;
                }
            };
            let logged = timeout(PATIENCE, logged).await.unwrap_or_else(|_| panic!("nothing of {name}"));
            assert!(logged.contains(said), "{logged}");
            // Each is tried again soon.
            let outcome = format!("token_fetches.outcome.unavailable.server.{name}");
            assert!(metric(&fixture, &outcome).await.is_some(), "{name}");
        }
    });
}
