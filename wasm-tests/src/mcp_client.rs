//! A real MCP client (the official Rust SDK) that holds one fixed conversation and writes down all it
//! saw, so that two ways to one server can be compared.

use std::collections::HashMap;
use std::error::Error;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use reqwest::header::{HeaderName, HeaderValue};
use rmcp::model::{
    CallToolRequestParams, ProgressNotificationParam, ProtocolVersion, ServerNotification, SubscriptionFilter,
};
use rmcp::service::{NotificationContext, RoleClient, RunningService, Subscription};
use rmcp::transport::StreamableHttpClientTransport;
use rmcp::transport::streamable_http_client::StreamableHttpClientTransportConfig;
use rmcp::{ClientHandler, ClientLifecycleMode, ClientServiceExt};
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::time::timeout;

use crate::client::Protocol;

/// All a client saw of a server, free of ids and times, so that equality means
/// that the way there changed nothing.
#[derive(Clone, Debug, PartialEq)]
pub struct Transcript {
    /// Negotiated version, capabilities, name.
    pub server: Value,
    /// The tools it lists.
    pub tools: Vec<Value>,
    /// Tool and result, in the order the results came.
    pub results: Vec<(String, Value)>,
    /// What the server sent unasked or ahead of a result.
    pub notifications: Vec<Value>,
}

/// Why a conversation failed.
pub type Failure = Box<dyn Error + Send + Sync>;

/// The two ways MCP is spoken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Era {
    /// Until 2025-11-25: initialize, Mcp-Session-Id, a GET stream and DELETE.
    Sessions,
    /// Since 2026-07-28: each POST on its own.
    Stateless,
}

/// Holds the conversation with the server at `url`. `headers` go with each request; `host` among them
/// outranks that of the URL.
///
/// # Errors
/// If the server breaks off, refuses, answers what is no MCP, or keeps silent for long.
pub async fn converse(
    url: &str,
    headers: &[(&str, &str)],
    protocol: Protocol,
    era: Era,
) -> Result<Transcript, Failure> {
    // Not by way of a proxy of the environment.
    let http = reqwest::Client::builder().no_proxy();
    let http = match protocol {
        Protocol::Http1 => http.http1_only(),
        Protocol::Http2 => http.http2_prior_knowledge(),
    };
    let lifecycle = match era {
        Era::Sessions => ClientLifecycleMode::Initialize,
        Era::Stateless => ClientLifecycleMode::Discover { preferred_versions: vec![ProtocolVersion::V_2026_07_28] },
    };
    let mut own_headers = HashMap::new();
    for (name, value) in headers {
        own_headers.insert(name.parse::<HeaderName>()?, value.parse::<HeaderValue>()?);
    }
    let config = StreamableHttpClientTransportConfig::with_uri(url).custom_headers(own_headers);
    let transport = StreamableHttpClientTransport::with_client(http.build()?, config);
    let session = async {
        let client = Listener::default().serve_with_lifecycle(transport, lifecycle).await?;
        let transcript = talk(&client).await?;
        // Waits for the DELETE that ends a session.
        client.cancel().await?;
        Ok(transcript)
    };
    timeout(PATIENCE, session).await?
}

const PATIENCE: Duration = Duration::from_secs(60);
const COUNT: usize = 3;

async fn talk(client: &RunningService<RoleClient, Listener>) -> Result<Transcript, Failure> {
    let server = client.peer_info().ok_or("no server info")?;
    let stateless = !server.protocol_version.has_initialize();
    let tools = client.list_all_tools().await?;
    let tools = tools.iter().map(serde_json::to_value).collect::<Result<_, _>>()?;
    let mut results = Vec::new();

    results.push(called(client, "echo", json!({"text": "grüß dich"})).await?);

    // Released only once the numbers are here: a way that holds them back
    // until the result never lets the result come.
    let hold = format!("hold {}", HOLDS.fetch_add(1, Ordering::Relaxed));
    let counting = called(client, "count", json!({"to": COUNT, "hold": hold}));
    let releasing = async {
        client.service().heard(COUNT).await?;
        called(client, "release", json!({"name": hold})).await
    };
    let (counted, released) = tokio::try_join!(counting, releasing)?;
    results.extend([released, counted]);

    let mut subscription = match stateless {
        true => Some(client.listen(tool_changes()).await?),
        false => None,
    };
    results.push(called(client, "announce", json!({})).await?);
    match &mut subscription {
        Some(subscription) => client.service().note(next_change(subscription).await?),
        None => client.service().heard(COUNT + 1).await?,
    }
    if let Some(mut subscription) = subscription {
        subscription.cancel().await?;
    }

    Ok(Transcript {
        server: serde_json::to_value(&*server)?,
        tools,
        results,
        notifications: client.service().notifications(),
    })
}

/// Names of holds, unique so that sessions side by side do not release each other.
static HOLDS: AtomicUsize = AtomicUsize::new(0);

async fn called(
    client: &RunningService<RoleClient, Listener>,
    tool: &'static str,
    arguments: Value,
) -> Result<(String, Value), Failure> {
    let arguments = arguments.as_object().cloned().unwrap_or_default();
    let call = CallToolRequestParams::new(tool).with_arguments(arguments);
    let result = client.call_tool(call).await?;
    Ok((String::from(tool), serde_json::to_value(result)?))
}

fn tool_changes() -> SubscriptionFilter {
    SubscriptionFilter::builder().tools_list_changed().build()
}

async fn next_change(subscription: &mut Subscription) -> Result<Value, Failure> {
    match subscription.next().await? {
        Some(ServerNotification::ToolListChangedNotification(_)) => Ok(tool_list_changed()),
        other => Err(format!("expected a changed tool list, got {other:?}").into()),
    }
}

fn tool_list_changed() -> Value {
    json!({"method": "notifications/tools/list_changed"})
}

/// Hears what the server sends unasked.
#[derive(Default)]
struct Listener {
    heard: watch::Sender<Vec<Value>>,
}

impl Listener {
    fn note(&self, notification: Value) {
        self.heard.send_modify(|heard| heard.push(notification));
    }

    async fn heard(&self, count: usize) -> Result<(), Failure> {
        let mut heard = self.heard.subscribe();
        heard.wait_for(|heard| heard.len() >= count).await?;
        Ok(())
    }

    /// In order of the numbers, since rmcp gives each notification a task of its
    /// own and thereby loses the order in which they came.
    fn notifications(&self) -> Vec<Value> {
        let mut heard = self.heard.borrow().clone();
        heard.sort_by_key(|told| {
            told.pointer("/params/progress").and_then(Value::as_f64).map_or(u64::MAX, |n| n as u64)
        });
        heard
    }
}

impl ClientHandler for Listener {
    async fn on_progress(&self, params: ProgressNotificationParam, _context: NotificationContext<RoleClient>) {
        self.note(json!({"method": "notifications/progress", "params": params}));
    }

    async fn on_tool_list_changed(&self, _context: NotificationContext<RoleClient>) {
        self.note(tool_list_changed());
    }
}
