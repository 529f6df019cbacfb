//! The built-in servers of `make run`: what they listen on and what they demand of whom.

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http_body_util::Full;
use hyper::Request;

use crate::mcp_server::Demand;
use crate::token_server::{Behaviour, Issued, TokenServer};

/// Where `envoy/envoy.yaml` has its listener.
pub const GATEWAY: SocketAddr = SocketAddr::new(LOOPBACK, 10000);

/// Where `envoy/envoy.yaml` has its admin interface.
pub const ADMIN: SocketAddr = SocketAddr::new(LOOPBACK, 9901);

/// Where `envoy/envoy.yaml` expects the MCP server.
pub const MCP_SERVER: SocketAddr = SocketAddr::new(LOOPBACK, 10001);

/// Where `envoy/envoy.yaml` expects the token server.
pub const TOKEN_SERVER: SocketAddr = SocketAddr::new(LOOPBACK, 10002);

const LOOPBACK: std::net::IpAddr = std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

/// The secrets that `envoy/envoy.yaml` takes from the environment. They open nothing but the built-in server.
pub const SECRETS: [(&str, &str); 5] = [
    ("GITHUB_TOKEN", "demo-github-token"),
    ("LEGACY_PASSWORD", "demo-legacy-password"),
    ("KEYED_KEY", "demo-keyed-key"),
    ("CUSTOM_KEY", "demo-custom-key"),
    ("CLIENT_SECRET", "demo-client-secret"),
];

/// How long the tokens live, in seconds: short enough to see one replaced.
const LIFETIME: u64 = 60;

/// The headers of a whole MCP conversation of revision 2026-07-28: one POST, no session.
pub const CALL_HEADERS: [(&str, &str); 6] = [
    ("Authorization", "Bearer the-callers-own-key"),
    ("Content-Type", "application/json"),
    ("Accept", "application/json, text/event-stream"),
    ("MCP-Protocol-Version", "2026-07-28"),
    ("Mcp-Method", "tools/call"),
    ("Mcp-Name", "echo"),
];
/// Its body.
pub const CALL: &str = concat!(
    r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"echo","arguments":{"text":"hello"},"#,
    r#""_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientCapabilities":{}}}}"#,
);

/// Where the gateway has the MCP server `server`.
pub fn url(server: &str) -> String {
    format!("http://{GATEWAY}/{server}/mcp")
}

/// The conversation with the MCP server `server` of the gateway.
///
/// # Errors
/// If that is no name for a path.
pub fn call(server: &str) -> hyper::http::Result<Request<Full<Bytes>>> {
    let request = Request::post(url(server)).header("Host", GATEWAY.to_string());
    let request = CALL_HEADERS.iter().fold(request, |request, (name, value)| request.header(*name, *value));
    request.body(Full::new(Bytes::from_static(CALL.as_bytes())))
}

/// Starts the token server, which knows one client.
///
/// # Errors
/// If the address cannot be had.
pub async fn start_token_server(address: SocketAddr) -> io::Result<TokenServer> {
    let tokens = TokenServer::start(address).await?;
    tokens.demand(format!("Basic {}", STANDARD.encode("odock:demo-client-secret")));
    tokens.behave(Behaviour::Grants(LIFETIME.into()));
    Ok(tokens)
}

/// The servers of `envoy/envoy.yaml`, and what the built-in one demands in the place of each; `issued` are the
/// tokens that the token server issues.
pub fn servers(issued: &Issued) -> [(&'static str, Demand); 6] {
    let header = |name: &str, value: String| (name.to_owned(), value);
    let basic = STANDARD.encode("odock:demo-legacy-password");
    [
        ("github-mcp", Demand::Headers(vec![header("authorization", "Bearer demo-github-token".to_owned())])),
        ("legacy", Demand::Headers(vec![header("authorization", format!("Basic {basic}"))])),
        ("keyed", Demand::Query("api_key".to_owned(), "demo-keyed-key".to_owned())),
        ("open", Demand::Nothing),
        ("fetched", Demand::TokenOf(issued.clone())),
        (
            "custom",
            Demand::Headers(vec![
                header("x-client-id", "gateway".to_owned()),
                header("x-custom-key", "demo-custom-key".to_owned()),
            ]),
        ),
    ]
}

/// The demands by host, as the MCP server takes them.
pub fn demands(issued: &Issued) -> HashMap<String, Demand> {
    servers(issued).into_iter().map(|(name, demand)| (format!("{name}.example"), demand)).collect()
}
