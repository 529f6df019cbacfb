//! The reference server of MCP, `@modelcontextprotocol/server-everything` on Node.js, as
//! `everything/server.mjs` runs it.

use std::io;
use std::net::SocketAddr;

use serde_json::Value;

use crate::node::NodeServer;

/// A running reference server, on the path `/mcp` of one address. It serves everybody, and ends when this is
/// dropped.
#[derive(Debug)]
pub struct Everything {
    node: NodeServer,
    address: SocketAddr,
}

impl Everything {
    /// Starts it on a free port of loopback.
    ///
    /// # Errors
    /// If Node.js or the packages are missing, or it does not get ready.
    pub async fn start() -> io::Result<Self> {
        let package = "@modelcontextprotocol/server-everything";
        let node = NodeServer::start("everything", package, "peers", &[]).await?;
        let address = node.ready().get("address").and_then(Value::as_str).and_then(|address| address.parse().ok());
        let address = address.ok_or_else(|| node.not_ready())?;
        Ok(Self { node, address })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What it printed until now.
    ///
    /// # Errors
    /// If the file cannot be read.
    pub fn log(&self) -> io::Result<String> {
        self.node.log()
    }
}
