//! The tools of the MCP server, each there to put one kind of traffic on the wire.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use rmcp::handler::server::ServerHandler;
use rmcp::model::{
    CallToolRequestParams, CallToolResponse, CallToolResult, ContentBlock, ErrorData, Implementation, JsonObject,
    ListToolsResult, PaginatedRequestParams, ProgressNotificationParam, ProtocolVersion, ServerCapabilities,
    ServerConfig, SubscriptionFilter, Tool,
};
use rmcp::service::{RequestContext, RoleServer, ServiceError, SubscriptionContext};
use serde_json::{Value, json};
use tokio::sync::{Notify, watch};

/// What outlives one session: rmcp makes a handler per session, and in the
/// stateless revision one per request, yet a later call must reach an earlier one.
#[derive(Clone)]
pub(super) struct World {
    changes: watch::Sender<u64>,
    held: Arc<Mutex<HashMap<String, Arc<Notify>>>>,
}

/// The tools of the server, each there to put one kind of traffic on the wire.
pub(super) struct Tools {
    world: World,
    /// As of the arrival of the request, because rmcp acknowledges a subscription
    /// before it runs `listen`: a change in between must not be missed.
    changes: watch::Receiver<u64>,
}

impl Tools {
    pub(super) fn in_world(world: &World) -> Tools {
        Tools { world: world.clone(), changes: world.changes.subscribe() }
    }
}

impl Default for World {
    fn default() -> World {
        World { changes: watch::Sender::new(0), held: Arc::default() }
    }
}

impl World {
    fn held(&self, name: &str) -> Arc<Notify> {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(held.entry(name.to_owned()).or_default())
    }
}

impl ServerHandler for Tools {
    fn get_info(&self) -> ServerConfig {
        let capabilities = ServerCapabilities::builder().enable_tools().enable_tool_list_changed().build();
        ServerConfig::new(capabilities).with_server_info(Implementation::new("credential-demanding-upstream", "1.0.0"))
    }

    async fn list_tools(
        &self,
        _page: Option<PaginatedRequestParams>,
        _context: RequestContext<RoleServer>,
    ) -> Result<ListToolsResult, ErrorData> {
        Ok(ListToolsResult::with_all_items(all_tools()))
    }

    fn get_tool(&self, name: &str) -> Option<Tool> {
        all_tools().into_iter().find(|tool| tool.name == name)
    }

    async fn call_tool(
        &self,
        call: CallToolRequestParams,
        context: RequestContext<RoleServer>,
    ) -> Result<CallToolResponse, ErrorData> {
        let arguments = call.arguments.unwrap_or_default();
        let said = match call.name.as_ref() {
            "echo" => text(&arguments, "text")?.to_owned(),
            "count" => self.count(&arguments, &context).await?,
            "release" => {
                self.world.held(text(&arguments, "name")?).notify_one();
                String::from("released")
            }
            "announce" => self.announce(&context).await?,
            unknown => {
                let why = format!("no tool is called {unknown:?}");
                return Err(ErrorData::invalid_params(why, None));
            }
        };
        Ok(CallToolResult::success(vec![ContentBlock::text(said)]).into())
    }

    fn accepted_subscription_filter(&self, requested: &SubscriptionFilter) -> Option<SubscriptionFilter> {
        Some(requested.supported_by(&self.get_info().capabilities))
    }

    async fn listen(&self, subscription: SubscriptionContext) -> Result<(), ErrorData> {
        let mut changes = self.changes.clone();
        loop {
            tokio::select! {
                () = subscription.cancelled() => return Ok(()),
                change = changes.changed() => {
                    if change.is_err() {
                        return Ok(());
                    }
                    let told = subscription.sink().notify_tool_list_changed().await;
                    told.map_err(|error| ErrorData::internal_error(error.to_string(), None))?;
                }
            }
        }
    }
}

impl Tools {
    /// Tells each number as it goes; with `hold`, the result waits for `release`,
    /// which the caller can only send in time if the numbers got through before
    /// the result did. That proves streaming without a clock.
    async fn count(&self, arguments: &JsonObject, context: &RequestContext<RoleServer>) -> Result<String, ErrorData> {
        let to = arguments.get("to").and_then(Value::as_u64).unwrap_or(3);
        if let Some(token) = context.meta.get_progress_token() {
            for number in 1..=to {
                let progress = ProgressNotificationParam::new(token.clone(), number as f64)
                    .with_total(to as f64)
                    .with_message(format!("{number} of {to}"));
                context.peer.notify_progress(progress).await.map_err(unsent)?;
            }
        }
        if arguments.contains_key("hold") {
            let held = self.world.held(text(arguments, "hold")?);
            tokio::select! {
                () = held.notified() => {}
                () = context.ct.cancelled() => {}
            }
        }
        Ok(format!("counted to {to}"))
    }

    /// Tells of a changed tool list unasked: on the GET stream of a session, or
    /// to every open `subscriptions/listen` in the revision that has no sessions.
    async fn announce(&self, context: &RequestContext<RoleServer>) -> Result<String, ErrorData> {
        let version = context.protocol_version();
        if version.is_some_and(|version| version >= ProtocolVersion::V_2026_07_28) {
            self.world.changes.send_modify(|count| *count += 1);
        } else {
            context.peer.notify_tool_list_changed().await.map_err(unsent)?;
        }
        Ok(String::from("announced"))
    }
}

fn all_tools() -> Vec<Tool> {
    vec![
        tool("echo", "Returns its text.", json!({"text": {"type": "string"}}), &["text"]),
        tool(
            "count",
            "Counts with progress; with hold it then waits for release.",
            json!({"to": {"type": "integer"}, "hold": {"type": "string"}}),
            &[],
        ),
        tool("release", "Lets a held count finish.", json!({"name": {"type": "string"}}), &["name"]),
        tool("announce", "Sends a notification.", json!({}), &[]),
    ]
}

fn tool(name: &'static str, what: &'static str, properties: Value, required: &[&str]) -> Tool {
    let schema = [
        (String::from("type"), json!("object")),
        (String::from("properties"), properties),
        (String::from("required"), json!(required)),
    ];
    Tool::new(name, what, schema.into_iter().collect::<JsonObject>())
}

fn text<'a>(arguments: &'a JsonObject, name: &str) -> Result<&'a str, ErrorData> {
    let value = arguments.get(name).and_then(Value::as_str);
    value.ok_or_else(|| ErrorData::invalid_params(format!("{name} must be a text"), None))
}

fn unsent(error: ServiceError) -> ErrorData {
    ErrorData::internal_error(error.to_string(), None)
}
