//! What all cases share: the upstream, the token server and the load.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use serde_json::{Value, json};
use wasm_tests::client::Protocol;
use wasm_tests::envoy::{Envoy, Options};
use wasm_tests::gateway::{Gateway, LISTENER, cluster, http_filter};
use wasm_tests::token_server::TokenServer;
use wasm_tests::upstream::{self, Upstream};

use crate::Failure;
use crate::cores::Cores;
use crate::load::Load;

/// Any free port of loopback.
pub const ANY: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

/// Everything around the Envoys that are measured.
#[derive(Debug)]
pub struct Stage {
    /// Which core does what.
    pub cores: Cores,
    /// Grants tokens for an hour.
    pub tokens: TokenServer,
    /// Where requests with [`upstream::ID`] end up, to be looked at.
    pub shows: Upstream,
    /// The load generator.
    pub load: Load,
    /// Where all requests go.
    pub upstream: SocketAddr,
    /// It ends when this is dropped.
    _envoy: Envoy,
}

impl Stage {
    /// Starts all of it.
    ///
    /// # Errors
    /// If something is missing or does not start.
    pub async fn build(cores: Cores) -> Result<Self, Failure> {
        let (tokens, shows) = (TokenServer::start(ANY).await?, Upstream::start().await?);
        let envoy = start(&answering(shows.address()), &Options { concurrency: 1, ..on_core(cores.load) }).await?;
        let upstream = envoy.listener(LISTENER).await?;
        Ok(Self { cores, tokens, shows, load: Load::new(cores)?, upstream, _envoy: envoy })
    }
}

/// How the Envoys here run that have a core assigned.
pub fn on_core(core: usize) -> Options<'static> {
    Options { concurrency: 1, core: Some(core), ..quiet() }
}

/// How the Envoys here run: they print no more than in production.
pub fn quiet() -> Options<'static> {
    Options { wasm_log_level: "warning", ..Options::default() }
}

/// Starts an Envoy.
///
/// # Errors
/// If it does not start; its log is part of it.
pub async fn start(config: &str, options: &Options<'_>) -> Result<Envoy, Failure> {
    let started = Envoy::start(config, options).await?;
    Ok(started.map_err(|refused| format!("an Envoy does not start\n{}", refused.log))?)
}

/// An upstream that costs little, as it shares a core with the load: an Envoy that answers by itself. A request with
/// [`upstream::ID`] it forwards to `shows`, so that it is the very Envoys measured whose work is looked at.
fn answering(shows: SocketAddr) -> String {
    const RESULT: &str = r#"{"jsonrpc":"2.0","id":1,"result":{"content":[{"type":"text","text":"hello"}]}}"#;
    // It has read the whole request before it answers; else it would have to close the connection.
    let message = "envoy.extensions.filters.http.buffer.v3.Buffer";
    let buffer = http_filter("envoy.filters.http.buffer", message, json!({"max_request_bytes": 1 << 16}));
    let is_shown = json!({"prefix": "/", "headers": [{"name": upstream::ID, "present_match": true}]});
    let shown: Value = json!({"match": is_shown, "route": {"cluster": "shows"}});
    let answered = json!({
        "match": {"prefix": "/"},
        "direct_response": {"status": 200, "body": {"inline_string": RESULT}},
    });
    let gateway = Gateway::default().filter(buffer).route(shown).route(answered);
    gateway.cluster(cluster("shows", shows, Protocol::Http1)).config()
}
