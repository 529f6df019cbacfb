//! The only file that talks to Envoy: callbacks in, host calls out.
//!
//! Host calls go through `proxy_wasm::hostcalls`, bytes only: the SDK's string getters trap on a header
//! that is not UTF-8. Most of its calls also trap on a status that is not OK; where one returns it, the
//! request is refused.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;

use log::{debug, error};
use proxy_wasm::hostcalls;
use proxy_wasm::traits::{Context, HttpContext, RootContext};
use proxy_wasm::types::{Action, BufferType, ContextType, LogLevel, MapType, MetricType};

use crate::filter::{Filter, Outcome, Verdict};
use crate::metrics;
use crate::refusal::{self, Reason};
use crate::request::Headers;

proxy_wasm::main! {{
    // Envoy's own level for the component `wasm` decides what is shown.
    proxy_wasm::set_log_level(LogLevel::Debug);
    proxy_wasm::set_root_context(|_| Box::new(Root { plugin: None }));
}}

/// One plugin configuration in one VM.
struct Root {
    /// `None` until a configuration has loaded.
    plugin: Option<Rc<Plugin>>,
}

/// A loaded configuration. It lives here and not in a static, as several share a VM.
struct Plugin {
    filter: Filter,
    counters: Counters,
}

/// One request. It keeps the configuration that it began with.
struct Stream {
    plugin: Option<Rc<Plugin>>,
    verdict: Option<Verdict>,
}

impl Context for Root {}

impl RootContext for Root {
    fn on_configure(&mut self, size: usize) -> bool {
        let text = match hostcalls::get_buffer(BufferType::PluginConfiguration, 0, size) {
            Ok(text) => text.unwrap_or_default(),
            Err(status) => {
                error!("mcp-upstream-auth: the configuration cannot be read: {status:?}");
                return false;
            }
        };
        match Filter::from_config(&text, &|name| std::env::var(name).ok()) {
            Ok(filter) => {
                debug!("mcp-upstream-auth: loaded with {} server(s)", filter.servers().list().len());
                self.plugin = Some(Rc::new(Plugin { filter, counters: Counters::default() }));
                true
            }
            Err(errors) => {
                error!("mcp-upstream-auth: the configuration is refused:\n{errors}");
                false
            }
        }
    }

    fn get_type(&self) -> Option<ContextType> {
        Some(ContextType::HttpContext)
    }

    fn create_http_context(&self, _context_id: u32) -> Option<Box<dyn HttpContext>> {
        Some(Box::new(Stream { plugin: self.plugin.clone(), verdict: None }))
    }
}

impl Context for Stream {}

impl HttpContext for Stream {
    fn on_http_request_headers(&mut self, _count: usize, _end_of_stream: bool) -> Action {
        let Some(plugin) = &self.plugin else { return refuse(Reason::Internal) };
        let mut headers = HeaderMap::new(MapType::HttpRequestHeaders);
        let mut verdict = plugin.filter.on_request(read_attribute, &mut headers);
        if headers.has_failed {
            verdict.outcome = Outcome::Rejected(Reason::Internal);
        }
        self.verdict = Some(verdict);
        plugin.count(verdict);
        match verdict.outcome {
            Outcome::Injected | Outcome::Stripped | Outcome::Passed => Action::Continue,
            Outcome::Rejected(reason) => refuse(reason),
        }
    }

    fn on_http_request_trailers(&mut self, _count: usize) -> Action {
        if let (Some(plugin), Some(verdict)) = (&self.plugin, self.verdict) {
            let mut trailers = HeaderMap::new(MapType::HttpRequestTrailers);
            plugin.filter.on_trailers(verdict, &mut trailers);
            trailers.report_failure();
        }
        Action::Continue
    }

    fn on_http_response_headers(&mut self, _count: usize, _end_of_stream: bool) -> Action {
        if let (Some(plugin), Some(verdict)) = (&self.plugin, self.verdict) {
            let mut headers = HeaderMap::new(MapType::HttpResponseHeaders);
            plugin.filter.on_response(verdict, &mut headers);
            headers.report_failure();
        }
        Action::Continue
    }
}

impl Plugin {
    fn count(&self, verdict: Verdict) {
        let server = verdict.server.and_then(|id| self.filter.servers().get(id));
        self.counters.increment(verdict, server.map(|server| &*server.name));
    }
}

/// The counters of one configuration. Each is defined when it first counts, so that ten thousand
/// servers do not make as many counters before there is a request.
#[derive(Default)]
struct Counters(RefCell<HashMap<Verdict, u32>>);

impl Counters {
    fn increment(&self, verdict: Verdict, server: Option<&str>) {
        let mut ids = self.0.borrow_mut();
        let id = ids.get(&verdict).copied().or_else(|| {
            let name = metrics::requests(verdict.outcome, server);
            let id = hostcalls::define_metric(MetricType::Counter, &name).ok()?;
            ids.insert(verdict, id);
            Some(id)
        });
        if let Some(Err(status)) = id.map(|id| hostcalls::increment_metric(id, 1)) {
            debug!("mcp-upstream-auth: a counter is lost: {status:?}");
        }
    }
}

/// A header map of the request at hand.
struct HeaderMap {
    map: MapType,
    /// Whether Envoy refused a change. A request must not leave half changed.
    has_failed: bool,
}

impl HeaderMap {
    fn new(map: MapType) -> Self {
        Self { map, has_failed: false }
    }

    /// For where it is too late to refuse the request.
    fn report_failure(&self) {
        if self.has_failed {
            error!("mcp-upstream-auth: Envoy refused a change of trailers or of a response");
        }
    }
}

impl Headers for HeaderMap {
    fn get(&self, name: &str) -> Option<Vec<u8>> {
        hostcalls::get_map_value_bytes(self.map, name).ok().flatten()
    }

    fn remove(&mut self, name: &str) {
        self.has_failed |= hostcalls::remove_map_value(self.map, name).is_err();
    }

    fn set(&mut self, name: &str, value: &[u8]) {
        self.has_failed |= hostcalls::set_map_value_bytes(self.map, name, Some(value)).is_err();
    }
}

fn read_attribute(path: &[&str]) -> Option<Vec<u8>> {
    hostcalls::get_property(path.to_vec()).ok().flatten()
}

/// The only place that answers a request: answering one twice hangs it.
fn refuse(reason: Reason) -> Action {
    debug!("mcp-upstream-auth: a request is refused: {}", reason.name());
    let body = reason.body();
    let sent = hostcalls::send_http_response(
        reason.status().as_u16().into(),
        refusal::HEADERS.to_vec(),
        Some(body.as_bytes()),
    );
    if let Err(status) = sent {
        error!("mcp-upstream-auth: a refusal cannot be sent: {status:?}");
    }
    Action::Pause
}
