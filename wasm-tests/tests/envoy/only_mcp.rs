//! What a shipped gateway refuses before the filter: web pages, methods that MCP does not have, the server's metadata.

use std::net::SocketAddr;

use bytes::Bytes;
use http_body_util::Full;
use hyper::{Method, Request};
use wasm_tests::client::{Protocol, Reply, send};

/// The methods that MCP does not have. HTTP/2 takes any.
const METHODS: [&str; 10] = ["TRACE", "TRACK", "DEBUG", "OPTIONS", "PUT", "PATCH", "HEAD", "PROPFIND", "PURGE", "post"];

/// Values of `Origin` that no shipped gateway knows.
const ORIGINS: [&str; 7] = [
    "https://evil.example",
    "http://localhost:10000",
    "http://127.0.0.1:10000",
    "http://[::1]:10000",
    "null",
    "",
    "https://app.example.com.evil.example",
];

/// Spellings of where servers have their metadata (RFC 9728 §3.1), behind `/mcp` or `/`.
const METADATA: [&str; 11] = [
    ".well-known/oauth-protected-resource",
    ".well-known/oauth-protected-resource/mcp",
    ".well-known/oauth-authorization-server",
    ".well-known/./oauth-protected-resource",
    "%2ewell-known/oauth-protected-resource",
    ".Well-Known/oauth-protected-resource",
    ".well%2Dknown/oauth-protected-resource",
    "/.well-known//oauth-protected-resource",
    ".well-known%2foauth-protected-resource",
    // Some servers leave out what follows a semicolon, and some decode twice.
    ".well-known;a=1/oauth-protected-resource",
    "%252ewell-known/oauth-protected-resource",
];

/// Names by which a web page of an attacker's can reach a gateway on loopback.
const FOREIGN_HOSTS: [&str; 5] =
    ["evil.example:10000", "localhost.evil.example", "127.0.0.1.evil.example:10000", "127a0.0.1", "gateway.example"];

/// A request to a gateway, with these headers.
pub async fn request(gateway: SocketAddr, method: &str, path: &str, headers: &[(&str, &str)]) -> Reply {
    request_by(gateway, "localhost:10000", method, path, headers).await
}

/// The same by another name of the gateway.
async fn request_by(gateway: SocketAddr, host: &str, method: &str, path: &str, headers: &[(&str, &str)]) -> Reply {
    let method = Method::from_bytes(method.as_bytes()).unwrap();
    let mut request = Request::builder().method(method).uri(format!("http://{host}{path}"));
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    send(gateway, Protocol::Http2, request.body(Full::new(Bytes::new())).unwrap()).await.unwrap()
}

/// Asserts that a gateway without authentication of its callers is reached by its own names alone: a browser sends no
/// `Origin` with a GET to the host of the page, which DNS rebinding makes the gateway's.
pub async fn is_refused_by_other_names(gateway: SocketAddr, endpoint: &str) {
    for host in FOREIGN_HOSTS {
        for method in ["GET", "POST"] {
            let reply = request_by(gateway, host, method, endpoint, &[]).await;
            assert_eq!(reply.status, 403, "{method} {endpoint} at {host}");
        }
    }
}

/// Sends all that must be refused to the endpoint at `endpoint`, in the name of a caller with these headers. That nothing
/// of it arrives is for the caller of this to see.
pub async fn is_refused(gateway: SocketAddr, endpoint: &str, caller: &[(&str, &str)]) {
    for method in METHODS {
        let reply = request(gateway, method, endpoint, caller).await;
        assert!(matches!(reply.status.as_u16(), 400 | 403), "{method} {endpoint}: {}", reply.status);
    }
    for origin in ORIGINS {
        for method in ["POST", "GET", "DELETE", "OPTIONS"] {
            let headers = [caller, &[("origin", origin), ("access-control-request-method", "POST")]].concat();
            let reply = request(gateway, method, endpoint, &headers).await;
            assert_eq!(reply.status, 403, "{method} {endpoint} from {origin}");
            assert_eq!(reply.header("access-control-allow-origin"), None, "{origin}");
        }
    }
    for site in ["cross-site", "same-origin", "none"] {
        let headers = [caller, &[("sec-fetch-site", site)]].concat();
        assert_eq!(request(gateway, "GET", endpoint, &headers).await.status, 403, "an image or a frame, {site}");
    }
    let twice = [caller, &[("origin", "https://app.example.com"), ("origin", "https://evil.example")]].concat();
    assert_eq!(request(gateway, "POST", endpoint, &twice).await.status, 403, "two origins");
    let folder = endpoint.rsplit_once('/').unwrap().0;
    for place in METADATA {
        for path in [format!("{folder}/{place}"), format!("{endpoint}/{place}"), format!("/{place}")] {
            for method in ["GET", "POST"] {
                let reply = request(gateway, method, &path, caller).await;
                let status = reply.status.as_u16();
                // No route leads there: the filter answers 503.
                assert!(matches!(status, 400 | 403 | 503), "{method} {path}: {status}");
            }
        }
    }
}
