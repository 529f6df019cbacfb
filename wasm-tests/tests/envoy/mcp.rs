//! The official MCP SDK on both sides of Envoy, and a server that demands the injected credential.

use std::collections::HashMap;
use std::net::SocketAddr;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hyper::Version;
use serde_json::json;
use wasm_tests::client::Protocol;
use wasm_tests::envoy::Envoy;
use wasm_tests::gateway::{Gateway, LISTENER};
use wasm_tests::mcp_server::{Demand, McpServer};

use crate::fixture::{OPTIONS, SECRET, TestRequest, both, listener_gateway, run, running, upstream_gateway};
use crate::mcp_client::{Era, Failure, Transcript, converse};

/// What a caller has and no server may see.
const THEIRS: [(&str, &str); 3] = [("authorization", "Bearer theirs"), ("x-api-key", "theirs"), ("cookie", "theirs")];

/// Every server, what it demands, and its credential as a direct client has to present it.
fn demands() -> Vec<(&'static str, Demand)> {
    let header = |name: &str, value: String| (name.to_owned(), value);
    let basic = STANDARD.encode(format!("odock:grüße {SECRET}"));
    vec![
        ("bearer", Demand::Headers(vec![header("authorization", format!("Bearer {SECRET}"))])),
        ("basic", Demand::Headers(vec![header("authorization", format!("Basic {basic}"))])),
        ("header", Demand::Headers(vec![header("x-api-key", SECRET.to_owned())])),
        ("query", Demand::Query("api_key".to_owned(), format!("{SECRET}&x"))),
        (
            "headers",
            Demand::Headers(vec![
                header("x-client-id", "gateway".to_owned()),
                header("x-custom-key", SECRET.to_owned()),
            ]),
        ),
        ("none", Demand::Nothing),
    ]
}

/// The MCP server behind an Envoy.
struct Behind {
    server: McpServer,
    envoy: Envoy,
    address: SocketAddr,
}

impl Behind {
    async fn start(gateway: impl FnOnce(SocketAddr) -> Gateway) -> Self {
        let hosts = demands().into_iter().map(|(name, demand)| (format!("{name}.example"), demand));
        let server = McpServer::start(SocketAddr::from(([127, 0, 0, 1], 0)), hosts.collect()).await.unwrap();
        let envoy = running(&gateway(server.address()).config(), &OPTIONS).await;
        let address = envoy.listener(LISTENER).await.unwrap();
        Self { server, envoy, address }
    }

    async fn through_envoy(&self, name: &str, protocol: Protocol, era: Era) -> Transcript {
        let url = format!("http://{}/{name}/mcp", self.address);
        let talk = converse(&url, &THEIRS, protocol, era).await;
        talk.unwrap_or_else(|failure| panic!("{name} {era:?}: {failure}\n{}", self.envoy.log().unwrap()))
    }

    /// Past Envoy, with the credential in the client's own hand.
    async fn directly(&self, name: &str, demand: &Demand, era: Era) -> Result<Transcript, Failure> {
        let host = format!("{name}.example");
        let mut headers = vec![("host", host.as_str())];
        let mut url = format!("http://{}/{name}/mcp", self.server.address());
        match demand {
            Demand::Nothing => {}
            Demand::TokenOf(_) | Demand::SignedBy(_) => panic!("a token would have to be fetched"),
            Demand::Headers(own) => headers.extend(own.iter().map(|(name, value)| (name.as_str(), value.as_str()))),
            Demand::Query(name, value) => url.push_str(&format!("?{name}={}", value.replace('&', "%26"))),
        }
        converse(&url, &headers, Protocol::Http1, era).await
    }
}

#[test]
fn a_client_sees_through_envoy_what_it_sees_directly_and_needs_no_credential_for_it() {
    run(async {
        for behind in [Behind::start(listener_gateway).await, Behind::start(upstream_gateway).await] {
            for (name, demand) in demands() {
                for era in [Era::Sessions, Era::Stateless] {
                    let directly = behind.directly(name, &demand, era).await.unwrap();
                    assert_complete(&directly, era);
                    for protocol in [Protocol::Http1, Protocol::Http2] {
                        let before = behind.server.arrivals().len();
                        let through = behind.through_envoy(name, protocol, era).await;
                        assert_eq!(through, directly, "{name} {era:?} {protocol:?}");
                        // The SDK keeps quiet about a GET or DELETE that was refused. The server met each.
                        let arrivals = &behind.server.arrivals()[before..];
                        assert_methods(arrivals.iter().map(|arrival| arrival.method.as_str()), era);
                        for arrival in arrivals {
                            assert_eq!(arrival.authority.split(':').next(), Some(format!("{name}.example").as_str()));
                            assert!(!format!("{arrival:?}").contains("theirs"), "{arrival:?}");
                            assert_eq!(arrival.version, Version::HTTP_11);
                            if let Demand::Headers(own) = &demand {
                                for (header, value) in own {
                                    assert_eq!(arrival.header(header), [value.as_str()], "{name} {}", arrival.method);
                                }
                            }
                        }
                    }
                }
            }
        }
    });
}

/// Otherwise two empty transcripts would be equal, too.
fn assert_complete(transcript: &Transcript, era: Era) {
    let version = if era == Era::Sessions { "2025-11-25" } else { "2026-07-28" };
    assert_eq!(transcript.server["protocolVersion"], version);
    let tools: Vec<_> = transcript.tools.iter().map(|tool| &tool["name"]).collect();
    assert_eq!(tools, ["echo", "count", "release", "announce"]);
    let results = transcript.results.iter().map(|(_, result)| result["content"][0]["text"].as_str().unwrap());
    assert_eq!(results.collect::<Vec<_>>(), ["grüß dich", "released", "counted to 3", "announced"]);
    let progress = "notifications/progress";
    let methods: Vec<_> = transcript.notifications.iter().map(|notification| &notification["method"]).collect();
    assert_eq!(methods, [progress, progress, progress, "notifications/tools/list_changed"]);
}

fn assert_methods<'a>(methods: impl Iterator<Item = &'a str>, era: Era) {
    let mut count = HashMap::new();
    for method in methods {
        *count.entry(method).or_insert(0) += 1;
    }
    let (streams, ends) = if era == Era::Sessions { (Some(1), Some(1)) } else { (None, None) };
    assert!(count["POST"] >= 5, "{count:?}");
    assert_eq!((count.get("GET").copied(), count.get("DELETE").copied()), (streams, ends), "{count:?}");
}

#[test]
fn the_server_refuses_a_client_that_comes_without_the_credential() {
    run(async {
        let behind = Behind::start(listener_gateway).await;
        for (name, demand) in demands() {
            let refused = behind.directly(name, &Demand::Nothing, Era::Sessions).await.is_err();
            assert_eq!(refused, !matches!(demand, Demand::Nothing), "{name}");
        }
    });
}

#[test]
fn a_stateless_post_of_2026_07_28_arrives_unchanged() {
    let headers = [
        ("content-type", "application/json"),
        ("accept", "application/json, text/event-stream"),
        ("mcp-protocol-version", "2026-07-28"),
        ("mcp-method", "tools/call"),
        ("mcp-name", "=?base64?Z3LDvMOfZQ==?="),
        ("mcp-param-region", "eu"),
        ("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"),
    ];
    let body = json!({"jsonrpc": "2.0", "id": "ü\u{0}", "method": "tools/call", "params": {
        "name": "grüße", "arguments": {"text": "hi"},
        "_meta": {"io.modelcontextprotocol/protocolVersion": "2026-07-28", "io.modelcontextprotocol/clientCapabilities": {}},
    }});
    let body = format!(" {body:#}\r\n");
    run(async {
        for (place, fixture) in both().await {
            for protocol in [Protocol::Http1, Protocol::Http2] {
                let request = TestRequest {
                    protocol,
                    path: "/bearer/mcp?x=%2F",
                    headers: &headers,
                    body: body.as_bytes(),
                    ..TestRequest::default()
                };
                let (reply, seen) = fixture.exchange(request).await;
                assert_eq!((reply.status.as_u16(), seen.len()), (200, 1), "{place}");
                assert_eq!(seen[0].head.method, "POST", "{place}");
                assert_eq!(seen[0].head.path_and_query, "/bearer/mcp?x=%2F", "{place}");
                assert_eq!(seen[0].body, body, "{place}");
                for (name, value) in headers {
                    assert_eq!(seen[0].head.header(name), [value], "{place}: {name}");
                }
            }
        }
    });
}
