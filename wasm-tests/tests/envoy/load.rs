//! A load on the filter while the secret of its servers is replaced.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use hyper::client::conn::http1::{self, SendRequest};
use hyper::{Request, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use wasm_tests::arrival::read_body;
use wasm_tests::client::PATIENCE;
use wasm_tests::token_server::TokenServer;
use wasm_tests::upstream::ID;

use crate::fixture::{Fixture, new_id};
use crate::oauth2::POLL;

/// The secret before the change, and after it.
pub const SECRETS: [&str; 2] = ["first", "second"];

/// A new secret is in use by then, wherever a request comes in.
const LIMIT: Duration = Duration::from_secs(1);

/// At least so many connections.
const CONNECTIONS: usize = 8;

/// At least so many of them at each worker.
const AT_EACH_WORKER: u64 = 3;

/// At least so many requests of each connection to each server before the change, and again after [`LIMIT`].
const ENOUGH: usize = 25;

/// Lets `change` replace the first of [`SECRETS`] by the second under load, and sees that no request to `servers`
/// fails, and which secret each is served by. With OAUTH2, that is the one which its token was granted for.
///
/// The second in which the new secret must be in use begins when `change` is over. That should wait until Envoy says
/// that it has read the new secret: on a machine that has other things to do, Envoy may be told of a file late. From
/// then on, all is up to its workers and the filter.
pub async fn rotate(fixture: &Fixture, tokens: &TokenServer, servers: &'static [&'static str], change: impl Future) {
    let begun = Instant::now();
    let mut load = Load::start(fixture, servers).await;
    load.has_enough_since(begun).await;
    change.await;
    let limit = Instant::now() + LIMIT;
    load.has_enough_since(limit).await;
    let answered = load.end().await;

    let clients_secrets = clients_secrets(tokens);
    let mut with_first = HashMap::<_, usize>::new();
    for request in answered {
        let secret = secret_of(&request, fixture, &clients_secrets);
        assert!(SECRETS.contains(&&*secret), "{secret}: {request:?}");
        let late = request.started.saturating_duration_since(limit);
        assert!(secret == SECRETS[1] || late.is_zero(), "the old secret {late:?} after the limit: {request:?}");
        *with_first.entry((request.connection, request.server)).or_default() += usize::from(secret == SECRETS[0]);
    }
    // All that started after the limit had the second one, and there were as many of those.
    assert!(with_first.values().all(|count| *count >= ENOUGH), "{with_first:?}");
}

/// What `request` was served by.
fn secret_of(request: &Answered, fixture: &Fixture, clients_secrets: &HashMap<String, String>) -> String {
    let [arrived] = &fixture.upstream.seen(&request.id)[..] else { panic!("not once upstream: {request:?}") };
    let [authorization] = &arrived.head.header("authorization")[..] else { panic!("{arrived:?}") };
    let bearer = authorization.strip_prefix("Bearer ").unwrap();
    clients_secrets.get(bearer).map_or(bearer, String::as_str).to_owned()
}

/// By token, the client's secret that it was granted for.
fn clients_secrets(tokens: &TokenServer) -> HashMap<String, String> {
    let secret = |basic: &str| {
        let credentials = BASE64_STANDARD.decode(basic.strip_prefix("Basic ").unwrap()).unwrap();
        String::from_utf8(credentials).unwrap().strip_prefix("odock:").unwrap().to_owned()
    };
    let granted = tokens.asked().into_iter();
    granted.filter_map(|asked| Some((asked.token?, secret(&asked.head.header("authorization").concat())))).collect()
}

/// Requests without a pause over connections that stay open.
struct Load {
    servers: &'static [&'static str],
    connections: JoinSet<()>,
    answered: Arc<Mutex<Vec<Answered>>>,
    is_over: Arc<AtomicBool>,
}

/// A request that was answered well.
#[derive(Clone, Debug)]
struct Answered {
    id: String,
    connection: usize,
    server: &'static str,
    started: Instant,
}

impl Load {
    async fn start(fixture: &Fixture, servers: &'static [&'static str]) -> Self {
        let (answered, is_over) = (Arc::default(), Arc::default());
        let mut connections = JoinSet::new();
        // The kernel chooses a worker for each, by chance.
        let all_have_some = async {
            while connections.len() < CONNECTIONS || fewest_connections(fixture).await < AT_EACH_WORKER {
                let mut open = Open::to(fixture.address).await;
                // When this is answered, the connection counts.
                assert_eq!(open.send(&new_id(), servers[0]).await, StatusCode::OK);
                let (answered, is_over) = (Arc::clone(&answered), Arc::clone(&is_over));
                let connection = Connection { index: connections.len(), open, answered, is_over };
                connections.spawn(connection.send_to(servers));
            }
        };
        timeout(PATIENCE, all_have_some).await.expect("a worker without connections");
        Self { servers, connections, answered, is_over }
    }

    /// Waits until there are [`ENOUGH`] requests of each connection to each server that started after `since`.
    async fn has_enough_since(&mut self, since: Instant) {
        let expected = self.connections.len() * self.servers.len();
        let reached = async {
            loop {
                let mut counts = HashMap::<_, usize>::new();
                for answered in self.answered.lock().unwrap().iter().filter(|answered| answered.started > since) {
                    *counts.entry((answered.connection, answered.server)).or_default() += 1;
                }
                if counts.values().filter(|count| **count >= ENOUGH).count() == expected {
                    return;
                }
                sleep(POLL).await;
            }
        };
        tokio::select! {
            reached = timeout(PATIENCE, reached) => reached.expect("requests that do not come to an end"),
            Some(failed) = self.connections.join_next() => failed.unwrap(),
        }
    }

    /// Ends it, and gives all requests.
    async fn end(self) -> Vec<Answered> {
        self.is_over.store(true, Ordering::Relaxed);
        self.connections.join_all().await;
        self.answered.lock().unwrap().clone()
    }
}

/// How many connections the worker has that has the fewest.
async fn fewest_connections(fixture: &Fixture) -> u64 {
    let stats = fixture.envoy.admin_get("/stats?filter=^listener.*worker_.*downstream_cx_active$").await.unwrap();
    stats.lines().map(|line| line.rsplit(' ').next().unwrap().parse().unwrap()).min().unwrap()
}

/// One connection of a load.
struct Connection {
    index: usize,
    open: Open,
    answered: Arc<Mutex<Vec<Answered>>>,
    is_over: Arc<AtomicBool>,
}

impl Connection {
    /// Sends requests to `servers` in turn until the load is over.
    async fn send_to(mut self, servers: &'static [&'static str]) {
        for server in servers.iter().cycle() {
            if self.is_over.load(Ordering::Relaxed) {
                return;
            }
            let (id, started) = (new_id(), Instant::now());
            let status = timeout(PATIENCE, self.open.send(&id, server)).await.expect("a request that hangs");
            assert_eq!(status, StatusCode::OK, "{server}");
            let answered = Answered { id, connection: self.index, server, started };
            self.answered.lock().unwrap().push(answered);
        }
    }
}

/// A connection that stays open.
pub struct Open(SendRequest<String>);

impl Open {
    pub async fn to(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).await.unwrap();
        let (sender, connection) = http1::handshake(TokioIo::new(stream)).await.unwrap();
        tokio::spawn(connection);
        Self(sender)
    }

    /// Sends a request of this id to `server`, and gives the status of the answer.
    pub async fn send(&mut self, id: &str, server: &str) -> StatusCode {
        let request = Request::post(format!("/{server}/mcp")).header("host", "caller.example").header(ID, id);
        let request = request.header("authorization", "Bearer theirs").body("{}".to_owned()).unwrap();
        self.0.ready().await.expect("Envoy has closed the connection");
        let response = self.0.send_request(request).await.unwrap();
        let status = response.status();
        read_body(response.into_body()).await.unwrap();
        status
    }
}
