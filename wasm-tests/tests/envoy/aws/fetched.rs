//! An Envoy before MCP servers whose credentials it fetches, each of them elsewhere.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};
use tokio::time::{sleep, timeout};
use wasm_tests::aws_peer::Credentials;
use wasm_tests::client::{PATIENCE, Protocol, Reply};
use wasm_tests::credentials_server::{
    CONTAINER, CONTAINER_TOKEN, CredentialsServer, Granted, ROLE, ROLE_ARN, ROLES, SESSIONS, WEB_IDENTITY,
};
use wasm_tests::envoy::Options;
use wasm_tests::gateway::{Gateway, cluster, filtered_cluster};
use wasm_tests::upstream::Seen;

use super::{merged, scoped, seeing_bodies, start};
use crate::fixture::{Fixture, TestRequest};
use crate::oauth2::{ANY, POLL, Place, metric};

/// The kinds of credentials that are fetched.
pub const KINDS: [&str; 3] = ["container", "imds", "webIdentity"];

/// An `auth` with fetched credentials of this kind, from `address` by way of this cluster.
pub fn auth(kind: &str, address: SocketAddr, cluster: &str) -> Value {
    let keys = match kind {
        "container" => json!({
            "credentialsUrl": format!("http://{address}{CONTAINER}"),
            "authorizationToken": CONTAINER_TOKEN,
        }),
        "imds" => json!({"credentialsUrl": format!("http://{address}")}),
        "webIdentity" => json!({
            "credentialsUrl": format!("http://{address}/"),
            "roleArn": ROLE_ARN,
            "webIdentityToken": WEB_IDENTITY,
        }),
        kind => panic!("no kind {kind}"),
    };
    scoped(merged(keys, json!({"credentials": kind, "credentialsCluster": cluster})))
}

/// What one fetch of this kind asks for.
pub fn one_fetch(kind: &str) -> Vec<String> {
    match kind {
        "container" => vec![format!("GET {CONTAINER}")],
        "imds" => vec![format!("PUT {SESSIONS}"), format!("GET {ROLES}"), format!("GET {ROLES}{ROLE}")],
        _ => vec!["POST /".to_owned()],
    }
}

/// The Envoy, and all around it.
pub struct World {
    pub fixture: Fixture,
    /// The ids of credentials that the MCP servers take no more.
    pub expired: Arc<Mutex<Vec<String>>>,
    /// Of each MCP server, the name and where its credentials come from.
    endpoints: Vec<(&'static str, CredentialsServer)>,
}

/// An MCP server: its name, which is its host as well, the kind of its credentials, and keys beside what that has.
pub type Server = (&'static str, &'static str, Value);

/// One of each kind, called like it, with `more`.
pub fn each_kind(more: &Value) -> Vec<Server> {
    KINDS.iter().map(|kind| (*kind, *kind, more.clone())).collect()
}

impl World {
    /// Starts with endpoints that were told how to behave.
    pub async fn start(place: Place, servers: &[Server], prepare: impl Fn(&CredentialsServer)) -> Self {
        let options = Options { wasm_log_level: "debug", concurrency: 4, ..Options::default() };
        Self::start_with(&options, place, servers, prepare).await
    }

    /// The same with other options.
    pub async fn start_with(
        options: &Options<'_>,
        place: Place,
        servers: &[Server],
        prepare: impl Fn(&CredentialsServer),
    ) -> Self {
        let mut endpoints = Vec::new();
        let mut configs = serde_json::Map::new();
        for (name, kind, more) in servers {
            let endpoint = CredentialsServer::start(ANY).await.unwrap();
            prepare(&endpoint);
            let auth = merged(auth(kind, endpoint.address(), &format!("for-{name}")), more.clone());
            configs.insert((*name).to_owned(), json!({"host": name, "auth": auth}));
            endpoints.push((*name, endpoint));
        }
        let granted: Vec<Granted> = endpoints.iter().map(|(_, endpoint)| endpoint.granted()).collect();
        let expired = Arc::<Mutex<Vec<String>>>::default();
        let of_servers = Arc::clone(&expired);
        let lookup = move |id: &str| -> Option<Credentials> {
            let is_expired = of_servers.lock().unwrap().iter().any(|expired| expired == id);
            granted.iter().find_map(|granted| granted.by_id(id)).filter(|_| !is_expired)
        };
        let fixture = start(options, lookup, |upstream| {
            let gateway = match place {
                Place::Listener => Gateway::default().filter(seeing_bodies(&json!({"servers": configs}))),
                Place::Cluster => Gateway::default(),
            };
            let gateway = configs.iter().fold(gateway, |gateway, (name, config)| match place {
                Place::Listener => gateway.cluster(cluster(name, upstream, Protocol::Http1)),
                Place::Cluster => {
                    gateway.cluster(filtered_cluster(name, upstream, Protocol::Http1, seeing_bodies(config)))
                }
            });
            endpoints.iter().fold(gateway, |gateway, (name, endpoint)| {
                gateway.cluster(cluster(&format!("for-{name}"), endpoint.address(), Protocol::Http1))
            })
        });
        Self { fixture: fixture.await, expired, endpoints }
    }

    /// Where the credentials of this MCP server come from.
    pub fn endpoint(&self, server: &str) -> &CredentialsServer {
        &self.endpoints.iter().find(|(name, _)| *name == server).unwrap().1
    }

    /// Sends a request to the MCP server.
    pub async fn request(&self, server: &str) -> (Reply, Vec<Seen>) {
        let path = format!("/{server}/mcp");
        self.fixture.exchange(TestRequest { path: &path, ..TestRequest::default() }).await
    }

    /// Sends a request that gets no further, and gives the reason.
    pub async fn refused(&self, server: &str) -> Value {
        let (reply, seen) = self.request(server).await;
        assert_eq!((reply.status.as_u16(), seen.len()), (503, 0), "{server}");
        reply.json()["error"]["data"]["reason"].take()
    }

    /// Sends requests until one is answered with this status.
    pub async fn until(&self, server: &str, status: u16) -> Reply {
        let reached = async {
            loop {
                let (reply, _) = self.request(server).await;
                if reply.status == status {
                    return reply;
                }
                sleep(POLL).await;
            }
        };
        timeout(PATIENCE, reached).await.unwrap_or_else(|_| panic!("no request to {server} is answered {status}"))
    }

    /// The metric of this name for the server.
    pub async fn metric(&self, name: &str, server: &str) -> Option<u64> {
        metric(&self.fixture, &format!("{name}.server.{server}")).await
    }

    /// Waits until the metric has this value or more.
    pub async fn metric_reaches(&self, name: &str, server: &str, value: u64) {
        let reached = async {
            while self.metric(name, server).await.unwrap_or_default() < value {
                sleep(POLL).await;
            }
        };
        let reached = timeout(PATIENCE, reached).await;
        assert!(reached.is_ok(), "{name} of {server} is {:?}, not {value}", self.metric(name, server).await);
    }

    /// What was asked for the server's credentials.
    pub fn asked(&self, server: &str) -> Vec<String> {
        let asked = self.endpoint(server).asked();
        asked.iter().map(|asked| format!("{} {}", asked.head.method, asked.head.path_and_query)).collect()
    }

    /// The ids of the credentials that were granted for the server.
    pub fn granted(&self, server: &str) -> Vec<String> {
        let granted = self.endpoint(server).granted().all();
        granted.into_iter().map(|credentials| credentials.access_key_id).collect()
    }
}
