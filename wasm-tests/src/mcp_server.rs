//! A real MCP server (the official Rust SDK) that serves nobody without the credential it demands.
//!
//! A proxy that forgets to inject, injects the wrong value or leaves the caller's beside its own is
//! refused here as a real upstream would refuse it, and every arrival is on record to say what came.

mod tools;

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, HeaderValue, WWW_AUTHENTICATE};
use hyper::{Request, Response, StatusCode};
use rmcp::transport::streamable_http_server::session::local::LocalSessionManager;
use rmcp::transport::streamable_http_server::{StreamableHttpServerConfig, StreamableHttpService};
use tokio::sync::broadcast;
use tokio_util::sync::DropGuard;

use crate::arrival::{Arrival, authority_of};
use crate::serve::{Answer, Listening, Service, serve};
use crate::signed_token::SigningKey;
use crate::token_server::Issued;
use tools::{Tools, World};

/// How many arrivals a slow listener may lag behind.
const BACKLOG: usize = 1024;

/// How soon a client is to come back whose stream was dropped.
const RETRY: Duration = Duration::from_millis(100);

/// A running MCP server, on every path of one address. It ends, with its sessions and open streams,
/// when this is dropped.
#[derive(Debug)]
pub struct McpServer {
    listening: Listening,
    arrivals: Arc<Arrivals>,
    _sessions: DropGuard,
}

/// The credential that a host wants to see before it serves a request.
#[derive(Clone, Debug)]
pub enum Demand {
    /// Serves everybody.
    Nothing,
    /// These headers, each exactly once with exactly this value: a second one beside it would be a
    /// credential that the proxy failed to strip.
    Headers(Vec<(String, String)>),
    /// `Authorization: Bearer` with a token that a token server issued.
    TokenOf(Issued),
    /// The same for one that whoever knows this key has signed, and that has not expired.
    SignedBy(SigningKey),
    /// The same for a parameter of the query, compared after decoding.
    Query(String, String),
}

impl McpServer {
    /// Listens on `address` and serves whoever meets the demand of the host they ask for; a key of
    /// `demands` is that host, without its port. A host without a key gets 421.
    ///
    /// # Errors
    /// If the address cannot be had.
    pub async fn start(address: SocketAddr, demands: HashMap<String, Demand>) -> io::Result<Self> {
        let arrivals = Arc::new(Arrivals::default());
        let world = World::default();
        // JSON for a lone stateless answer and an event stream for all others: both shapes of answer
        // that a proxy has to pass on unharmed.
        let config = StreamableHttpServerConfig::default()
            .with_allowed_hosts(demands.keys())
            .with_json_response(true)
            .with_sse_retry(Some(RETRY));
        let sessions = config.cancellation_token.clone().drop_guard();
        let make_tools = move || Ok(Tools::in_world(&world));
        let mcp = StreamableHttpService::new(make_tools, Arc::default(), config);
        let listening = serve(address, Arc::new(Gate { demands, arrivals: Arc::clone(&arrivals), mcp })).await?;
        Ok(Self { listening, arrivals, _sessions: sessions })
    }

    /// Where it listens; the port is a free one if 0 was asked for.
    pub fn address(&self) -> SocketAddr {
        self.listening.address()
    }

    /// Every request so far, in order of arrival, those included that it refused.
    pub fn arrivals(&self) -> Vec<Arrival> {
        self.arrivals.list().clone()
    }

    /// Each request from now on, as it arrives.
    pub fn subscribe(&self) -> broadcast::Receiver<Arrival> {
        self.arrivals.listeners.subscribe()
    }
}

impl Demand {
    pub(crate) fn is_met_by<B>(&self, request: &Request<B>) -> bool {
        match self {
            Self::Nothing => true,
            Self::Headers(headers) => headers.iter().all(|(name, value)| {
                let mut presented = request.headers().get_all(name).iter();
                presented.next().is_some_and(|first| first == value.as_str()) && presented.next().is_none()
            }),
            Self::TokenOf(issued) => bearer(request).is_some_and(|token| issued.has(token)),
            Self::SignedBy(key) => bearer(request).is_some_and(|token| key.accepts(token)),
            Self::Query(name, value) => {
                let query = request.uri().query().unwrap_or_default();
                let mut presented = form_urlencoded::parse(query.as_bytes()).filter(|(key, _)| key == name);
                presented.next().is_some_and(|(_, first)| first == value.as_str()) && presented.next().is_none()
            }
        }
    }
}

/// The bearer token of a request that has nothing beside it.
fn bearer<B>(request: &Request<B>) -> Option<&str> {
    let mut presented = request.headers().get_all(AUTHORIZATION).iter();
    let token = presented.next()?.to_str().ok()?.strip_prefix("Bearer ")?;
    presented.next().is_none().then_some(token)
}

/// What stands between the socket and the MCP service.
struct Gate {
    demands: HashMap<String, Demand>,
    arrivals: Arc<Arrivals>,
    mcp: StreamableHttpService<Tools, LocalSessionManager>,
}

impl Service for Gate {
    async fn answer(&self, request: Request<Incoming>) -> Answer {
        self.arrivals.record(Arrival::of(&request));
        let authority = authority_of(&request);
        let host = authority.rsplit_once(':').map_or(authority.as_str(), |(host, _)| host);
        match self.demands.get(host) {
            None => refusal(StatusCode::MISDIRECTED_REQUEST, format!("there is no MCP server {authority:?} here\n")),
            Some(demand) if demand.is_met_by(&request) => self.mcp.handle(request).await,
            Some(_) => unauthorized(),
        }
    }
}

/// The answer to a request that does not meet the demand.
pub(crate) fn unauthorized() -> Answer {
    let why = "the demanded credential is missing, wrong or not alone\n";
    let mut answer = refusal(StatusCode::UNAUTHORIZED, why.to_owned());
    answer.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    answer
}

pub(crate) fn refusal(status: StatusCode, why: String) -> Answer {
    let mut answer = Response::new(Full::new(Bytes::from(why)).boxed());
    *answer.status_mut() = status;
    answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    answer
}

/// The arrivals so far, and who wants to hear of the next ones.
#[derive(Debug)]
pub(crate) struct Arrivals {
    list: Mutex<Vec<Arrival>>,
    listeners: broadcast::Sender<Arrival>,
}

impl Default for Arrivals {
    fn default() -> Self {
        Self { list: Mutex::default(), listeners: broadcast::Sender::new(BACKLOG) }
    }
}

impl Arrivals {
    pub(crate) fn record(&self, arrival: Arrival) {
        let mut list = self.list();
        list.push(arrival.clone());
        // Sent under the lock, so that listeners hear the recorded order; it fails if nobody listens.
        let _ = self.listeners.send(arrival);
    }

    pub(crate) fn list(&self) -> MutexGuard<'_, Vec<Arrival>> {
        self.list.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
