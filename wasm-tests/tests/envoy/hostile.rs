//! Headers that no ordinary client sends. None may trap the module: the worker would be lost.

use serde_json::json;
use tokio::io::AsyncReadExt;
use tokio::net::TcpListener;
use tokio::time::timeout;
use wasm_tests::client::{PATIENCE, Protocol, open_raw_http2, send_raw};
use wasm_tests::envoy::Options;
use wasm_tests::gateway::{Gateway, LISTENER, cluster, filtered_cluster, upstream_auth};
use wasm_tests::upstream::ID;

use crate::fixture::{SECRET, both, new_id, run, running};

#[test]
fn odd_header_values_do_not_trap_the_module_and_do_not_pass_for_credentials() {
    let huge = vec![b'x'; 40_000];
    let cases: [(&str, Vec<u8>); 9] = [
        ("not UTF-8", b"authorization: \xff\xfe\x80\r\nx-api-key: \xc3\x28\r\ncookie: \xf0\x28\r\n".to_vec()),
        ("not UTF-8 elsewhere", b"x-other: \xff\xfe\r\nmcp-name: \xe9\r\n".to_vec()),
        ("empty", b"authorization:\r\nx-api-key: \r\ncookie:\r\n".to_vec()),
        (
            "twice",
            b"Authorization: a\r\nAUTHORIZATION: b\r\nauthorization: c\r\nX-Api-Key: d\r\nx-api-key: e\r\n".to_vec(),
        ),
        ("huge", [b"authorization: Bearer ", &huge[..], b"\r\n"].concat()),
        ("many", b"x-api-key: a\r\n".repeat(60)),
        ("other spelling", b"AuThOrIzAtIoN: a\r\nX-aPi-KeY: b\r\nCOOKIE: c\r\n".to_vec()),
        ("obsolete folding", b"authorization: a\r\n b\r\n".to_vec()),
        ("a list", b"authorization: Bearer a, Basic b\r\n".to_vec()),
    ];
    run(async {
        for (place, fixture) in both().await {
            for (name, headers) in &cases {
                for server in ["bearer", "query", "none"] {
                    let id = new_id();
                    let head = format!(
                        "POST /{server}/mcp?api_key=theirs HTTP/1.1\r\nhost: caller.example\r\nconnection: close\r\n{ID}: {id}\r\ncontent-length: 2\r\n"
                    );
                    let request = [head.as_bytes(), headers, b"\r\n{}"].concat();
                    let answer = send_raw(fixture.address, &request).await.unwrap();
                    let context = format!("{place}, {name}, {server}: {}", answer.lines().next().unwrap_or_default());
                    let seen = fixture.upstream.seen(&id);
                    assert!(answer.starts_with("HTTP/1.1 200"), "{context}");
                    let authorization = if server == "bearer" { vec![format!("Bearer {SECRET}")] } else { vec![] };
                    assert_eq!(seen[0].head.header("authorization"), authorization, "{context}");
                    assert_eq!(seen[0].head.header("x-api-key"), [""; 0], "{context}");
                    assert_eq!(seen[0].head.header("cookie"), [""; 0], "{context}");
                    assert_eq!(seen[0].body, "{}", "{context}");
                }
            }
            let log = fixture.envoy.log().unwrap();
            assert!(!log.contains("panicked") && !log.contains("Function: proxy_on"), "{place}:\n{log}");
        }
    });
}

/// Envoy refuses such a path in HTTP/1.1, but not in HTTP/2. The upstream is a bare socket, as HTTP
/// libraries refuse it, too.
#[test]
fn a_path_that_is_not_utf8_keeps_its_bytes_beside_the_key() {
    run(async {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let upstream = listener.local_addr().unwrap();
        let plugin =
            json!({"host": "server.example", "auth": {"type": "API_KEY", "query": "api_key", "value": SECRET}});
        let filter = upstream_auth(&plugin);
        for gateway in [
            Gateway::default().filter(filter.clone()).cluster(cluster("query", upstream, Protocol::Http1)),
            Gateway::default().cluster(filtered_cluster("query", upstream, Protocol::Http1, filter)),
        ] {
            let envoy = running(&gateway.config(), &Options::default()).await;
            let fields: [(&str, &[u8]); 6] = [
                (":method", b"GET"),
                (":scheme", b"http"),
                (":authority", b"caller.example"),
                (":path", b"/query/x?a=\xff\xfe&api_key=\xfd"),
                ("authorization", b"\xff\xfe"),
                ("mcp-name", b"\xc3\x28"),
            ];
            let _caller = open_raw_http2(envoy.listener(LISTENER).await.unwrap(), &fields).await.unwrap();
            let head = timeout(PATIENCE, read_head(&listener)).await;
            let head = head.unwrap_or_else(|_| panic!("nothing arrived:\n{}", envoy.log().unwrap()));
            let line = [b"GET /query/x?a=\xff\xfe&api_key=", SECRET.as_bytes(), b" HTTP/1.1\r\n"].concat();
            assert!(head.starts_with(&line), "{}", String::from_utf8_lossy(&head));
            assert!(!String::from_utf8_lossy(&head).contains("authorization"));
        }
    });
}

/// The head of the request on the next connection.
async fn read_head(listener: &TcpListener) -> Vec<u8> {
    let (mut connection, _) = listener.accept().await.unwrap();
    let mut head = Vec::new();
    while !head.windows(4).any(|bytes| bytes == b"\r\n\r\n") {
        assert!(connection.read_buf(&mut head).await.unwrap() > 0, "{}", String::from_utf8_lossy(&head));
    }
    head
}
