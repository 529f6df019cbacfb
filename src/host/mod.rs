//! The only part that talks to Envoy: callbacks in, host calls out.
//!
//! Host calls go through `proxy_wasm::hostcalls`, bytes only: the SDK's string getters trap on a header
//! that is not UTF-8. Most of its calls also trap on a status that is not OK; where one returns it, the
//! request is refused.

mod headers;
mod metrics;
mod plugin;
mod stream;
mod tokens;

use std::hash::{DefaultHasher, Hash, Hasher};
use std::rc::Rc;

use log::{debug, error};
use proxy_wasm::hostcalls;
use proxy_wasm::traits::{Context, HttpContext, RootContext};
use proxy_wasm::types::{BufferType, ContextType, LogLevel};

use self::plugin::Plugin;
use self::stream::Stream;
use self::tokens::{messages, with_reply};
use crate::filter::Filter;

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
        let plugin = Plugin::new(filter, self.id, hash);
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
            plugin.refuse_late_bodies();
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
        Some(Box::new(Stream::new(id, self.plugin.clone())))
    }
}

fn hash(text: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    text.hash(&mut hasher);
    hasher.finish()
}
