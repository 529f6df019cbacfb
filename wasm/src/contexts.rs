//! The contexts of one VM: root contexts with a plugin each, and a stream for each request.
//!
//! A callback takes its context out of the lists here, and borrows neither list while it acts. Envoy may then call
//! back before a host call returns. It does so where a callout goes to a cluster that has this filter in its own
//! `http_filters`: that callout is a request that passes the filter, see [`during_callout`].

use std::cell::RefCell;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::rc::Rc;

use log::{debug, error};
use mcp_upstream_auth::filter::Filter;
use mcp_upstream_auth::refusal::Reason;
use rustc_hash::FxHashMap;

use crate::abi::{self, Action, BufferType};
use crate::envoy::{messages, with_reply};
use crate::plugin::{Plugin, refuse};
use crate::stream::Stream;

thread_local! {
    static CONTEXTS: Contexts = Contexts::default();
}

#[derive(Default)]
struct Contexts {
    roots: RefCell<FxHashMap<u32, Rc<Root>>>,
    streams: RefCell<FxHashMap<u32, Rc<RefCell<Stream>>>>,
    /// While a callout is being sent: the streams that Envoy makes of it.
    came_back: RefCell<Option<Vec<u32>>>,
}

/// One plugin configuration in one VM.
struct Root {
    id: u32,
    /// Empty until a configuration has loaded.
    plugin: RefCell<Option<Rc<Plugin>>>,
}

/// Envoy makes a root context, for a plugin configuration.
pub fn create_root(id: u32) {
    let root = Rc::new(Root { id, plugin: RefCell::default() });
    CONTEXTS.with(|contexts| contexts.roots.borrow_mut().insert(id, root));
}

/// Envoy makes a stream context, for a request that passes the filter of `root`.
pub fn create_stream(id: u32, root: u32) {
    let plugin = root_of(root).and_then(|root| root.plugin());
    CONTEXTS.with(|contexts| {
        let stream = match &mut *contexts.came_back.borrow_mut() {
            None => Stream::new(id, plugin),
            Some(came_back) => {
                came_back.push(id);
                Stream::of_callout(id)
            }
        };
        contexts.streams.borrow_mut().insert(id, Rc::new(RefCell::new(stream)));
    });
}

/// Envoy is done with a context.
pub fn delete(id: u32) {
    // It is dropped when both lists are free again, as it makes host calls.
    let stream = CONTEXTS.with(|contexts| contexts.streams.borrow_mut().remove(&id));
    if stream.is_none() {
        let root = CONTEXTS.with(|contexts| contexts.roots.borrow_mut().remove(&id));
        drop(root);
    }
}

/// Sends a callout. Gives the streams as which it came back to this filter: each is held, and must be rejected.
///
/// A stream must not be rejected earlier. If the answer to a callout comes while the callout is being sent, and Envoy
/// ends a callback of the same VM in between, then Envoy puts the answer off again and again, and its thread hangs.
pub fn during_callout<T>(send: impl FnOnce() -> T) -> (T, Vec<u32>) {
    let take = |streams| CONTEXTS.with(|contexts| contexts.came_back.replace(streams));
    let outer = take(Some(Vec::new()));
    let result = send();
    (result, take(outer).unwrap_or_default())
}

/// Loads the configuration of a root context. Says whether it is valid.
pub fn configure(root: u32, size: usize) -> bool {
    root_of(root).is_some_and(|root| root.configure(size))
}

/// The tick that a root context asked for.
pub fn tick(root: u32) {
    with_plugin(root, |plugin| {
        plugin.refuse_late_bodies();
        plugin.filter.tokens().run(&plugin.envoy());
    });
}

/// There are messages in a queue of a root context.
pub fn queue_ready(root: u32, queue: u32) {
    with_plugin(root, |plugin| {
        messages(queue).for_each(|message| plugin.filter.tokens().hear(&message));
        plugin.filter.tokens().run(&plugin.envoy());
    });
}

/// The answer to a callout, with so many headers and so long a body.
pub fn call_response(root: u32, call: u32, headers: usize, body_size: usize) {
    with_plugin(root, |plugin| {
        with_reply(headers, body_size, |reply| plugin.filter.tokens().answered(call, reply, &plugin.envoy()));
    });
}

/// The head of a request.
pub fn request_headers(stream: u32, end_of_stream: bool) -> Action {
    let action = with_stream(stream, |stream| stream.on_request_headers(end_of_stream));
    action.unwrap_or_else(|| refuse(Reason::Internal.into()))
}

/// A part of its body. Envoy holds `size` bytes of it.
pub fn request_body(stream: u32, size: usize, end_of_stream: bool) -> Action {
    with_stream(stream, |stream| stream.on_request_body(size, end_of_stream)).unwrap_or(Action::Pause)
}

/// Its trailers.
pub fn request_trailers(stream: u32) -> Action {
    with_stream(stream, Stream::on_request_trailers).unwrap_or(Action::Pause)
}

/// The head of its response.
pub fn response_headers(stream: u32) -> Action {
    with_stream(stream, |stream| stream.on_response_headers()).unwrap_or(Action::Continue)
}

impl Root {
    fn configure(&self, size: usize) -> bool {
        let text = match abi::buffer(BufferType::PluginConfiguration, 0, size) {
            Ok(text) => text,
            // An empty configuration is invalid, and that has words of its own.
            Err(abi::Status::NOT_FOUND) => Vec::new(),
            Err(status) => {
                error!("mcp-upstream-auth: the configuration cannot be read: {status:?}");
                return false;
            }
        };
        let hash = hash(&text);
        // A second filter with the same configuration shares the root context, and Envoy configures it again.
        if self.plugin().is_some_and(|plugin| plugin.text == hash) {
            return true;
        }
        let filter = match Filter::from_config(&text, &|name| std::env::var(name).ok()) {
            Ok(filter) => filter,
            Err(errors) => {
                error!("mcp-upstream-auth: the configuration is refused:\n{errors}");
                return false;
            }
        };
        let plugin = Plugin::new(filter, self.id, hash);
        if let Err(why) = plugin.filter.tokens().load(&plugin.envoy()) {
            error!("mcp-upstream-auth: the configuration is refused:\n{why}");
            return false;
        }
        debug!("mcp-upstream-auth: loaded with {} server(s)", plugin.filter.servers().list().len());
        let former = self.plugin.replace(Some(Rc::new(plugin)));
        drop(former);
        true
    }

    fn plugin(&self) -> Option<Rc<Plugin>> {
        self.plugin.borrow().clone()
    }
}

impl Drop for Root {
    /// There is `proxy_on_done` as well, but a callback that is left out costs no request anything.
    fn drop(&mut self) {
        if let Some(plugin) = self.plugin() {
            plugin.filter.tokens().stop(&plugin.envoy());
        }
    }
}

fn root_of(id: u32) -> Option<Rc<Root>> {
    CONTEXTS.with(|contexts| contexts.roots.borrow().get(&id).cloned())
}

fn with_plugin(root: u32, act: impl FnOnce(&Plugin)) {
    if let Some(plugin) = root_of(root).and_then(|root| root.plugin()) {
        act(&plugin);
    }
}

/// Nothing if Envoy knows no such stream, or is inside a callback of it.
fn with_stream<T>(id: u32, act: impl FnOnce(&mut Stream) -> T) -> Option<T> {
    let stream = CONTEXTS.with(|contexts| contexts.streams.borrow().get(&id).cloned())?;
    let mut stream = stream.try_borrow_mut().ok()?;
    Some(act(&mut stream))
}

fn hash(text: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    text.hash(&mut hasher);
    hasher.finish()
}
