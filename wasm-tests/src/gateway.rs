//! Envoy configurations for tests, written as data.

use std::io;
use std::net::SocketAddr;
use std::path::Path;

use serde_json::{Value, json};

use crate::client::Protocol;
use crate::module;

/// The name of the one listener.
pub const LISTENER: &str = "gateway";

/// A gateway: routes, the clusters they lead to, and the filters on the way.
#[derive(Debug, Default)]
pub struct Gateway {
    filters: Vec<Value>,
    routes: Vec<Value>,
    clusters: Vec<Value>,
    access_logs: Vec<Value>,
    domains: Option<Value>,
    other_hosts: Vec<Value>,
    secrets: Vec<Value>,
    buffer_limit: Option<u32>,
}

impl Gateway {
    /// Puts `filter` behind those that the listener has already.
    #[must_use]
    pub fn filter(mut self, filter: Value) -> Self {
        self.filters.push(filter);
        self
    }

    /// Puts `filter` before those that the listener has already.
    #[must_use]
    pub fn filter_first(mut self, filter: Value) -> Self {
        self.filters.insert(0, filter);
        self
    }

    /// Adds `route` behind those that there are already.
    #[must_use]
    pub fn route(mut self, route: Value) -> Self {
        self.routes.push(route);
        self
    }

    /// Adds `cluster` and a route of the same name, by which it is reached under `/<name>/`.
    #[must_use]
    pub fn cluster(mut self, cluster: Value) -> Self {
        let name = cluster.get("name").cloned().unwrap_or_default();
        let prefix = format!("/{}/", name.as_str().unwrap_or_default());
        self.clusters.push(cluster);
        self.route(json!({
            "name": name,
            "match": {"prefix": prefix},
            "route": {"cluster": name, "timeout": "0s"},
        }))
    }

    /// Sets the domains of the virtual host in place of all.
    #[must_use]
    pub fn domains(mut self, domains: &[&str]) -> Self {
        self.domains = Some(json!(domains));
        self
    }

    /// Adds another virtual host with its routes.
    #[must_use]
    pub fn virtual_host(mut self, host: Value) -> Self {
        self.other_hosts.push(host);
        self
    }

    /// Adds an access log.
    #[must_use]
    pub fn access_log(mut self, log: Value) -> Self {
        self.access_logs.push(log);
        self
    }

    /// Adds a secret, for filters of Envoy's own.
    #[must_use]
    pub fn secret(mut self, name: &str, value: &str) -> Self {
        self.secrets.push(json!({"name": name, "generic_secret": {"secret": {"inline_string": value}}}));
        self
    }

    /// Sets how many bytes Envoy buffers of a request, in place of its default.
    #[must_use]
    pub fn buffer_limit(mut self, bytes: u32) -> Self {
        self.buffer_limit = Some(bytes);
        self
    }

    /// The whole as an Envoy configuration, on free ports.
    pub fn config(self) -> String {
        let mut filters = self.filters;
        filters.push(http_filter(
            "envoy.filters.http.router",
            "envoy.extensions.filters.http.router.v3.Router",
            json!({}),
        ));
        let domains = self.domains.unwrap_or_else(|| json!(["*"]));
        let mut hosts = vec![json!({"name": "all", "domains": domains, "routes": self.routes})];
        hosts.extend(self.other_hosts);
        let any_port = json!({"socket_address": {"address": "127.0.0.1", "port_value": 0}});
        let connection_manager = any(
            "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
            json!({
                "stat_prefix": "gateway",
                "http_protocol_options": {"enable_trailers": true},
                "route_config": {"virtual_hosts": hosts},
                "http_filters": filters,
                "upgrade_configs": [{"upgrade_type": "websocket"}],
                "access_log": self.access_logs,
            }),
        );
        let config = json!({
            // What is discovered is asked for in the name of a node.
            "node": {"id": "test", "cluster": "test"},
            "admin": {"address": any_port},
            "static_resources": {
                "listeners": [{
                    "name": LISTENER,
                    "address": any_port,
                    "per_connection_buffer_limit_bytes": self.buffer_limit,
                    "filter_chains": [{"filters": [{
                        "name": "envoy.filters.network.http_connection_manager",
                        "typed_config": connection_manager,
                    }]}],
                }],
                "clusters": self.clusters,
                "secrets": self.secrets,
            },
        });
        config.to_string()
    }
}

/// This filter with `plugin` as its configuration, which is given as a string if it is one, and else as
/// the Struct that YAML makes of it.
pub fn upstream_auth(plugin: &Value) -> Value {
    let configuration = match plugin {
        Value::String(text) => any("google.protobuf.StringValue", json!({"value": text})),
        _ => any("google.protobuf.Struct", json!({"value": plugin})),
    };
    let mut filter = wasm_filter("mcp_upstream_auth", &module(), configuration);
    if let Some(vm) = filter.pointer_mut("/typed_config/config/vm_config").and_then(Value::as_object_mut) {
        vm.insert("environment_variables".to_owned(), json!({"host_env_keys": ["TEST_SECRET"]}));
    }
    filter
}

/// A filter that Envoy shows the bodies of requests whose heads it holds back, as signing them takes.
pub fn sees_bodies(mut filter: Value) -> Value {
    if let Some(config) = filter.pointer_mut("/typed_config/config").and_then(Value::as_object_mut) {
        config.insert("allow_on_headers_stop_iteration".to_owned(), json!(true));
    }
    filter
}

/// A filter that runs this module, with `name` for everything that has one.
pub fn wasm_filter(name: &str, module: &Path, configuration: Value) -> Value {
    let wasm = json!({"config": {
        "name": name,
        "vm_config": {
            "vm_id": name,
            "runtime": "envoy.wasm.runtime.v8",
            "code": {"local": {"filename": module}},
        },
        "configuration": configuration,
    }});
    http_filter(name, "envoy.extensions.filters.http.wasm.v3.Wasm", wasm)
}

/// A filter of this name whose configuration Envoy reads from the file at `path`, and again whenever
/// [`write_filter`] puts another one there.
pub fn discovered_filter(name: &str, path: &Path) -> Value {
    json!({"name": name, "config_discovery": {
        "config_source": {"path_config_source": {"path": path}},
        "type_urls": ["type.googleapis.com/envoy.extensions.filters.http.wasm.v3.Wasm"],
    }})
}

/// Puts `filter` at `path`, for [`discovered_filter`].
///
/// # Errors
/// If the file cannot be written.
pub fn write_filter(path: &Path, filter: Value) -> io::Result<()> {
    write_resources(path, &[any("envoy.config.core.v3.TypedExtensionConfig", filter)])
}

/// Puts `resources` at `path` for Envoy, which watches for a file that is moved to its place.
///
/// # Errors
/// If the file cannot be written.
pub fn write_resources(path: &Path, resources: &[Value]) -> io::Result<()> {
    let new = path.with_extension("new");
    std::fs::write(&new, json!({"resources": resources}).to_string())?;
    std::fs::rename(new, path)
}

/// A filter that runs this Lua on each request, which it knows as `handle`.
pub fn lua(code: &str) -> Value {
    let code = format!("function envoy_on_request(handle) {code} end");
    let config = json!({"default_source_code": {"inline_string": code}});
    http_filter("envoy.filters.http.lua", "envoy.extensions.filters.http.lua.v3.Lua", config)
}

/// A filter of Envoy's own that changes nothing, but asks for the route.
pub fn asks_for_the_route() -> Value {
    let message = "envoy.extensions.filters.http.header_mutation.v3.HeaderMutation";
    http_filter("envoy.filters.http.header_mutation", message, json!({}))
}

/// A cluster of one upstream that is spoken to in `protocol`.
pub fn cluster(name: &str, address: SocketAddr, protocol: Protocol) -> Value {
    cluster_with_filters(name, address, protocol, Vec::new())
}

/// A cluster with an upstream filter.
pub fn filtered_cluster(name: &str, address: SocketAddr, protocol: Protocol, filter: Value) -> Value {
    let codec = "envoy.extensions.filters.http.upstream_codec.v3.UpstreamCodec";
    let codec = http_filter("envoy.filters.http.upstream_codec", codec, json!({}));
    cluster_with_filters(name, address, protocol, vec![filter, codec])
}

fn cluster_with_filters(name: &str, address: SocketAddr, protocol: Protocol, filters: Vec<Value>) -> Value {
    let explicit = match protocol {
        Protocol::Http1 => json!({"http_protocol_options": {"enable_trailers": true}}),
        Protocol::Http2 => json!({"http2_protocol_options": {}}),
    };
    let options = any(
        "envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
        json!({"explicit_http_config": explicit, "http_filters": filters}),
    );
    let endpoint = json!({"socket_address": {"address": address.ip(), "port_value": address.port()}});
    json!({
        "name": name,
        "load_assignment": {
            "cluster_name": name,
            "endpoints": [{"lb_endpoints": [{"endpoint": {"address": endpoint}}]}],
        },
        "typed_extension_protocol_options": {"envoy.extensions.upstreams.http.v3.HttpProtocolOptions": options},
    })
}

/// A filter of this name and message.
pub fn http_filter(name: &str, message: &str, config: Value) -> Value {
    json!({"name": name, "typed_config": any(message, config)})
}

/// `config` as a message of this type.
pub fn any(message: &str, mut config: Value) -> Value {
    if let Some(object) = config.as_object_mut() {
        object.insert("@type".to_owned(), json!(format!("type.googleapis.com/{message}")));
    }
    config
}
