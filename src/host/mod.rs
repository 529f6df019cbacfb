//! The only part that talks to Envoy: callbacks in, host calls out.
//!
//! Host calls go through `proxy_wasm::hostcalls`, bytes only: the SDK's string getters trap on a header
//! that is not UTF-8. Most of its calls also trap on a status that is not OK; where one returns it, the
//! request is refused.

mod headers;
mod metrics;
mod tokens;

use std::cell::Cell;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::rc::Rc;

use log::{debug, error};
use proxy_wasm::hostcalls;
use proxy_wasm::traits::{Context, HttpContext, RootContext};
use proxy_wasm::types::{Action, BufferType, ContextType, LogLevel, MapType};

use self::headers::HeaderMap;
use self::metrics::Metrics;
use self::tokens::{Envoy, messages, with_reply};
use crate::credential::Awaited;
use crate::filter::{Challenge, Decided, Decision, Filter, Handling, Outcome, SentToken, Verdict};
use crate::refusal::{self, Reason};
use crate::request::Headers;
use crate::selection::ServerId;
use crate::token::{Host, Refusal, TokenId, Wait, Waiter};

proxy_wasm::main! {{
    // Envoy's own level for the component `wasm` decides what is shown.
    proxy_wasm::set_log_level(LogLevel::Debug);
    proxy_wasm::set_root_context(|id| Box::new(Root { id, plugin: None }));
}}

/// One plugin configuration in one VM.
struct Root {
    /// What Envoy calls it.
    id: u32,
    /// `None` until a configuration has loaded.
    plugin: Option<Rc<Plugin>>,
}

/// A loaded configuration. It lives here and not in a static, as several share a VM.
struct Plugin {
    filter: Filter,
    metrics: Metrics,
    /// Envoy's name of the root context.
    root: u32,
    /// A hash of the configuration's text.
    text: u64,
}

/// One request. It keeps the configuration that it began with.
struct Stream {
    id: u32,
    plugin: Option<Rc<Plugin>>,
    progress: Progress,
}

/// How far a request has come.
enum Progress {
    /// Its head has not been seen.
    New,
    /// It waits for this token of this server, or has; whoever lets it go on leaves the decision here.
    Waiting(ServerId, TokenId, Rc<Cell<Option<Decided>>>),
    /// It is decided.
    Decided(Decided),
}

impl Context for Root {
    fn on_http_call_response(&mut self, call: u32, headers: usize, body_size: usize, _trailers: usize) {
        if let Some(plugin) = &self.plugin {
            with_reply(headers, body_size, |reply| plugin.filter.tokens().answered(call, reply, &plugin.envoy()));
        }
    }
}

/// Envoy is done with it. There is `on_done` as well, but a call that is left out costs no request anything.
impl Drop for Root {
    fn drop(&mut self) {
        if let Some(plugin) = &self.plugin {
            plugin.filter.tokens().stop(&plugin.envoy());
        }
    }
}

impl RootContext for Root {
    fn on_configure(&mut self, size: usize) -> bool {
        let text = match hostcalls::get_buffer(BufferType::PluginConfiguration, 0, size) {
            Ok(text) => text.unwrap_or_default(),
            Err(status) => {
                error!("mcp-upstream-auth: the configuration cannot be read: {status:?}");
                return false;
            }
        };
        let hash = hash(&text);
        // Envoy comes again with what a second filter with the same configuration shares.
        if self.plugin.as_ref().is_some_and(|plugin| plugin.text == hash) {
            return true;
        }
        let filter = match Filter::from_config(&text, &|name| std::env::var(name).ok()) {
            Ok(filter) => filter,
            Err(errors) => {
                error!("mcp-upstream-auth: the configuration is refused:\n{errors}");
                return false;
            }
        };
        let plugin = Plugin { filter, metrics: Metrics::default(), root: self.id, text: hash };
        if let Err(why) = plugin.filter.tokens().load(&plugin.envoy()) {
            error!("mcp-upstream-auth: the configuration is refused:\n{why}");
            return false;
        }
        debug!("mcp-upstream-auth: loaded with {} server(s)", plugin.filter.servers().list().len());
        self.plugin = Some(Rc::new(plugin));
        true
    }

    fn on_tick(&mut self) {
        if let Some(plugin) = &self.plugin {
            plugin.filter.tokens().run(&plugin.envoy());
        }
    }

    fn on_queue_ready(&mut self, queue: u32) {
        let Some(plugin) = &self.plugin else { return };
        messages(queue).for_each(|message| plugin.filter.tokens().hear(&message));
        plugin.filter.tokens().run(&plugin.envoy());
    }

    fn get_type(&self) -> Option<ContextType> {
        Some(ContextType::HttpContext)
    }

    fn create_http_context(&self, id: u32) -> Option<Box<dyn HttpContext>> {
        Some(Box::new(Stream { id, plugin: self.plugin.clone(), progress: Progress::New }))
    }
}

impl Context for Stream {}

/// Envoy is done with it.
impl Drop for Stream {
    fn drop(&mut self) {
        if let (Some(plugin), Progress::Waiting(_, token, decided)) = (&self.plugin, &self.progress)
            && decided.get().is_none()
        {
            plugin.filter.tokens().forget(*token, self.id, &plugin.envoy());
        }
    }
}

impl HttpContext for Stream {
    fn on_http_request_headers(&mut self, _count: usize, _end_of_stream: bool) -> Action {
        let Some(plugin) = &self.plugin else { return refuse(Reason::Internal.into()) };
        let mut headers = HeaderMap::new(MapType::HttpRequestHeaders);
        let mut decision = plugin.filter.on_request(&read_attribute, &mut headers);
        if let Decision::Wait(server, awaited) = decision
            && !headers.has_failed
        {
            match plugin.wait(self.id, server, awaited) {
                (Wait::Ready, _) => decision = plugin.filter.inject(server, &read_attribute, &mut headers),
                (Wait::Refused(refusal), _) => return self.refuse(server, refusal),
                (Wait::Parked, decided) => {
                    self.progress = Progress::Waiting(server, awaited.id, decided);
                    return Action::Pause;
                }
            }
        }
        let decided = plugin.decided(decision, &headers);
        self.progress = Progress::Decided(decided);
        match decided.verdict.outcome {
            Outcome::Injected | Outcome::Stripped | Outcome::Passed => Action::Continue,
            Outcome::Rejected(reason) => refuse(reason.into()),
        }
    }

    fn on_http_request_trailers(&mut self, _count: usize) -> Action {
        let verdict = match &self.progress {
            // Whatever becomes of it, these go no further.
            Progress::Waiting(server, ..) => Some(Verdict { server: Some(*server), outcome: Outcome::Injected }),
            Progress::Decided(decided) => Some(decided.verdict),
            Progress::New => None,
        };
        if let (Some(plugin), Some(verdict)) = (&self.plugin, verdict) {
            let mut trailers = HeaderMap::new(MapType::HttpRequestTrailers);
            plugin.filter.on_trailers(verdict, &mut trailers);
            trailers.report_failure();
        }
        if self.is_waiting() { Action::Pause } else { Action::Continue }
    }

    fn on_http_response_headers(&mut self, _count: usize, _end_of_stream: bool) -> Action {
        let (Some(plugin), Some(decided)) = (&self.plugin, self.decided()) else { return Action::Continue };
        let mut headers = HeaderMap::new(MapType::HttpResponseHeaders);
        let challenge = plugin.filter.on_response(decided, &mut headers);
        let action = challenge.map(|challenge| plugin.answer(challenge, decided, &mut headers));
        headers.report_failure();
        action.unwrap_or(Action::Continue)
    }
}

impl Stream {
    fn decided(&self) -> Option<Decided> {
        match &self.progress {
            Progress::New => None,
            Progress::Waiting(.., decided) => decided.get(),
            Progress::Decided(decided) => Some(*decided),
        }
    }

    fn is_waiting(&self) -> bool {
        matches!(&self.progress, Progress::Waiting(.., decided) if decided.get().is_none())
    }

    fn refuse(&mut self, server: ServerId, refusal: Refusal) -> Action {
        if let Some(plugin) = &self.plugin {
            self.progress = Progress::Decided(plugin.refused(server, refusal));
        }
        refuse(refusal)
    }
}

impl Plugin {
    fn envoy(&self) -> Envoy<'_> {
        Envoy { plugin: self }
    }

    /// Lets a request wait for its token.
    fn wait(&self, context: u32, server: ServerId, awaited: Awaited) -> (Wait, Rc<Cell<Option<Decided>>>) {
        let envoy = self.envoy();
        let since = envoy.now();
        let decided = Rc::<Cell<_>>::default();
        let waiter =
            Waiter { context, server, decided: Rc::clone(&decided), since, deadline: since.after(awaited.max_wait) };
        (self.filter.tokens().wait(awaited.id, waiter, &envoy), decided)
    }

    /// Ends a request's waiting. Its context is the effective one.
    fn settle(&self, waiter: &Waiter, outcome: Result<(), Refusal>) {
        let mut headers = HeaderMap::new(MapType::HttpRequestHeaders);
        let (decided, refusal) = match outcome {
            Ok(()) => {
                let decided = self.decided(self.filter.inject(waiter.server, &read_attribute, &mut headers), &headers);
                let refusal = match decided.verdict.outcome {
                    Outcome::Rejected(reason) => Some(reason.into()),
                    Outcome::Injected | Outcome::Stripped | Outcome::Passed => None,
                };
                (decided, refusal)
            }
            Err(refusal) => (self.refused(waiter.server, refusal), Some(refusal)),
        };
        waiter.decided.set(Some(decided));
        match refusal {
            Some(refusal) => drop(refuse(refusal)),
            None => drop(hostcalls::resume_http_request()),
        }
    }

    /// What is decided in the end, which is counted.
    fn decided(&self, decision: Decision, headers: &HeaderMap) -> Decided {
        let mut decided = match decision {
            Decision::Final(decided) => decided,
            // The token was in hand a moment ago.
            Decision::Wait(server, _) => Decided::without_token(Some(server), Outcome::Rejected(Reason::Internal)),
        };
        if headers.has_failed {
            decided = Decided::without_token(decided.verdict.server, Outcome::Rejected(Reason::Internal));
        }
        self.count(decided);
        decided
    }

    /// The decision to refuse a request without its token, which is counted.
    fn refused(&self, server: ServerId, refusal: Refusal) -> Decided {
        let decided = Decided::without_token(Some(server), Outcome::Rejected(refusal.reason));
        self.count(decided);
        decided
    }

    /// Deals with an upstream's word against the credential.
    fn answer(&self, challenge: Challenge, decided: Decided, headers: &mut HeaderMap) -> Action {
        let refused =
            |token: SentToken| self.filter.tokens().refused_by_upstream(token.id, token.generation, &self.envoy());
        let has_another = challenge.token.is_some_and(refused);
        let reason = match challenge.handling {
            Handling::Relay => return Action::Continue,
            Handling::LeaveToRetry(_) if has_another => {
                headers.remove("www-authenticate");
                return Action::Continue;
            }
            Handling::LeaveToRetry(reason) | Handling::Refuse(reason) => reason,
        };
        if let Some(server) = decided.verdict.server.and_then(|id| self.filter.servers().get(id)) {
            self.metrics.count_refused_reply(reason, &server.name);
        }
        refuse(reason.into())
    }

    fn count(&self, decided: Decided) {
        let server = decided.verdict.server.and_then(|id| self.filter.servers().get(id));
        self.metrics.count_request(decided.verdict, server.map(|server| &*server.name));
    }
}

fn read_attribute(path: &[&str]) -> Option<Vec<u8>> {
    hostcalls::get_property(path.to_vec()).ok().flatten()
}

fn hash(text: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    text.hash(&mut hasher);
    hasher.finish()
}

/// The only place that answers a request: answering one twice hangs it.
fn refuse(refusal: Refusal) -> Action {
    let Refusal { reason, retry_after } = refusal;
    debug!("mcp-upstream-auth: a request is refused: {}", reason.name());
    let headers = refusal::headers(retry_after);
    let headers = headers.iter().map(|(name, value)| (*name, value.as_ref())).collect();
    let body = reason.body();
    let sent = hostcalls::send_http_response(reason.status().into(), headers, Some(body.as_bytes()));
    if let Err(status) = sent {
        error!("mcp-upstream-auth: a refusal cannot be sent: {status:?}");
    }
    Action::Pause
}
