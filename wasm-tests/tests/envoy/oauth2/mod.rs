//! `OAUTH2` in the real Envoy, against a token server that misbehaves on demand.

mod answers;
mod envoy_answers;
mod fetching;
mod filtered_cluster;
mod mid_body;
mod mutual_tls;
mod real_server;
mod refresh;
mod replaced;
mod second_best;
mod secrecy;
mod starved;
mod suspended;
mod upstream_refuses;
mod worker_dies;

use std::net::SocketAddr;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::{sleep, timeout};
use wasm_tests::client::{PATIENCE, Protocol, Reply};
use wasm_tests::envoy::Options;
use wasm_tests::gateway::{Gateway, cluster, filtered_cluster, upstream_auth};
use wasm_tests::token_server::TokenServer;
use wasm_tests::upstream::Seen;

use crate::fixture::{Fixture, TestRequest};

/// The secret of the client in these tests.
pub const SECRET: &str = "cl1ent-s3cr3t";

/// The cluster that leads to the token server.
pub const TOKENS: &str = "tokens";

/// How often a state is looked after.
pub const POLL: Duration = Duration::from_millis(20);

/// Any free port of loopback.
pub const ANY: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 0);

/// An Envoy with one MCP server behind it, `c`, and the token server.
pub struct World {
    pub fixture: Fixture,
    pub tokens: TokenServer,
}

/// Where the filter is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    Listener,
    Cluster,
}

impl World {
    /// Starts with a token server that was told how to behave, and `auth` beside what [`auth`] has.
    pub async fn start(place: Place, auth: Value, prepare: impl FnOnce(&TokenServer)) -> Self {
        Self::start_with(&options(), place, auth, prepare).await
    }

    /// The same with other options.
    pub async fn start_with(
        options: &Options<'_>,
        place: Place,
        more: Value,
        prepare: impl FnOnce(&TokenServer),
    ) -> Self {
        let tokens = TokenServer::start(ANY).await.unwrap();
        prepare(&tokens);
        let server = json!({"host": "c", "auth": auth(tokens.address(), more)});
        let fixture =
            Fixture::start_with(options, |upstream| gateway(place, &server, upstream, tokens.address())).await;
        Self { fixture, tokens }
    }

    /// Sends a request to the MCP server.
    pub async fn request(&self) -> (Reply, Vec<Seen>) {
        self.request_to("/c/mcp").await
    }

    /// The same with another path.
    pub async fn request_to(&self, path: &str) -> (Reply, Vec<Seen>) {
        let headers = &[("authorization", "Bearer theirs")];
        self.fixture.exchange(TestRequest { path, headers, ..TestRequest::default() }).await
    }

    /// Sends requests until one is answered like this.
    pub async fn until(&self, what: &str, is_it: impl Fn(&Reply, &[Seen]) -> bool) -> (Reply, Vec<Seen>) {
        let reached = async {
            loop {
                let (reply, seen) = self.request().await;
                if is_it(&reply, &seen) {
                    return (reply, seen);
                }
                sleep(POLL).await;
            }
        };
        timeout(PATIENCE, reached).await.unwrap_or_else(|_| panic!("no request {what}"))
    }

    /// The metric of this name behind `wasmcustom.mcp_upstream_auth.`, if there is one.
    pub async fn metric(&self, name: &str) -> Option<u64> {
        metric(&self.fixture, name).await
    }

    /// Waits until the metric has this value.
    pub async fn metric_is(&self, name: &str, value: u64) {
        let reached = async {
            while self.metric(name).await != Some(value) {
                sleep(POLL).await;
            }
        };
        let now = async { self.metric(name).await };
        if timeout(PATIENCE, reached).await.is_err() {
            panic!("{name} is {:?}, not {value}", now.await);
        }
    }
}

/// A counter or gauge.
pub async fn metric(fixture: &Fixture, name: &str) -> Option<u64> {
    let stats = fixture.envoy.admin_get("/stats?filter=wasmcustom").await.unwrap();
    let line = format!("wasmcustom.mcp_upstream_auth.{name}: ");
    // Of a filter in a cluster, Envoy 1.36 puts the cluster before the name.
    let value = |stat: &str| Some(stat.split_once(&line)?.1.parse().unwrap());
    stats.lines().find_map(value)
}

/// Four workers, and all that the filter says.
pub fn options() -> Options<'static> {
    Options { wasm_log_level: "debug", concurrency: 4, ..Options::default() }
}

/// An `auth` for the token server at `address`, with the keys of `more` beside or in place of the rest.
pub fn auth(address: SocketAddr, more: Value) -> Value {
    let mut auth = json!({
        "type": "OAUTH2",
        "tokenUrl": format!("http://{address}/oauth/token"),
        "tokenCluster": TOKENS,
        "clientId": "odock",
        "clientSecret": SECRET,
    });
    auth.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    auth
}

/// A gateway to the server `c`.
pub fn gateway(place: Place, server: &Value, upstream: SocketAddr, tokens: SocketAddr) -> Gateway {
    let gateway = match place {
        Place::Listener => Gateway::default()
            .filter(upstream_auth(&json!({"servers": {"c": server}})))
            .cluster(cluster("c", upstream, Protocol::Http1)),
        Place::Cluster => {
            Gateway::default().cluster(filtered_cluster("c", upstream, Protocol::Http1, upstream_auth(server)))
        }
    };
    gateway.cluster(cluster(TOKENS, tokens, Protocol::Http1))
}
