//! The built-in MCP server of `make run`: what it listens on and what it demands of whom.

use std::collections::HashMap;
use std::net::SocketAddr;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use crate::mcp_server::Demand;

/// Where `envoy/envoy.yaml` has its listener.
pub const GATEWAY: SocketAddr = SocketAddr::new(LOOPBACK, 10000);

/// Where `envoy/envoy.yaml` has its admin interface.
pub const ADMIN: SocketAddr = SocketAddr::new(LOOPBACK, 9901);

/// Where `envoy/envoy.yaml` expects the MCP server.
pub const MCP_SERVER: SocketAddr = SocketAddr::new(LOOPBACK, 10001);

const LOOPBACK: std::net::IpAddr = std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

/// The secrets that `envoy/envoy.yaml` takes from the environment. They open nothing but the built-in server.
pub const SECRETS: [(&str, &str); 4] = [
    ("GITHUB_TOKEN", "demo-github-token"),
    ("LEGACY_PASSWORD", "demo-legacy-password"),
    ("KEYED_KEY", "demo-keyed-key"),
    ("CUSTOM_KEY", "demo-custom-key"),
];

/// The servers of `envoy/envoy.yaml`, and what the built-in one demands in the place of each.
pub fn servers() -> [(&'static str, Demand); 5] {
    let header = |name: &str, value: String| (name.to_owned(), value);
    let basic = STANDARD.encode("odock:demo-legacy-password");
    [
        ("github-mcp", Demand::Headers(vec![header("authorization", "Bearer demo-github-token".to_owned())])),
        ("legacy", Demand::Headers(vec![header("authorization", format!("Basic {basic}"))])),
        ("keyed", Demand::Query("api_key".to_owned(), "demo-keyed-key".to_owned())),
        ("open", Demand::Nothing),
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
pub fn demands() -> HashMap<String, Demand> {
    servers().into_iter().map(|(name, demand)| (format!("{name}.example"), demand)).collect()
}
