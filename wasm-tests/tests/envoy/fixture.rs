//! An Envoy with an upstream behind it, shared by the tests that need the same configuration.

use std::net::SocketAddr;
use std::ops::Deref;
use std::process::Command;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use http_body_util::Full;
use hyper::Request;
use serde_json::{Value, json};
use tokio::runtime::Runtime;
use tokio::sync::OnceCell;
use wasm_tests::client::{Protocol, Reply, send};
use wasm_tests::envoy::{Envoy, Options, binary};
use wasm_tests::gateway::{Gateway, LISTENER, cluster, filtered_cluster, upstream_auth};
use wasm_tests::upstream::{ID, Seen, Upstream};

/// One runtime for all tests: what one of them starts, the next ones share.
static RUNTIME: LazyLock<Runtime> = LazyLock::new(|| Runtime::new().unwrap());

/// Runs a test.
pub fn run<T>(test: impl Future<Output = T>) -> T {
    RUNTIME.block_on(test)
}

/// The second part of Envoy's version.
static MINOR_VERSION: LazyLock<u32> = LazyLock::new(|| {
    let output = Command::new(binary().unwrap()).arg("--version").output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    // envoy  version: <commit>/1.40.0/Clean/RELEASE/BoringSSL
    let version = text.split('/').find_map(|part| part.strip_prefix("1."));
    version.and_then(|version| version.split('.').next()?.parse().ok()).unwrap_or_else(|| panic!("{text}"))
});

/// Whether this Envoy has `what`, which came with version 1.`minor`; says so if not.
pub fn envoy_has(minor: u32, what: &str) -> bool {
    let has = *MINOR_VERSION >= minor;
    if !has {
        println!("not in this Envoy: {what} (1.{minor})");
    }
    has
}

/// An Envoy that has taken `config`.
pub async fn running(config: &str, options: &Options<'_>) -> Envoy {
    let envoy = Envoy::start(config, options).await.unwrap();
    envoy.unwrap_or_else(|refused| panic!("Envoy did not start with {config}\n{}", refused.log))
}

/// A running Envoy and what stands behind it.
pub struct Fixture {
    pub envoy: Envoy,
    pub upstream: Upstream,
    pub address: SocketAddr,
}

/// A fixture lent to one test of several. If that fails, it shows the end of Envoy's log; an Envoy that
/// ends with its test does so by itself.
pub struct Shared(&'static Fixture);

impl Shared {
    /// Lends `fixture`.
    pub fn new(fixture: &'static Fixture) -> Self {
        Self(fixture)
    }
}

impl Deref for Shared {
    type Target = Fixture;

    fn deref(&self) -> &Fixture {
        self.0
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.envoy.show_log();
        }
    }
}

impl Fixture {
    /// Starts Envoy with the gateway that `gateway` makes for the upstream's address.
    pub async fn start(gateway: impl FnOnce(SocketAddr) -> Gateway) -> Fixture {
        Self::start_with(&Options { wasm_log_level: "debug", ..Options::default() }, gateway).await
    }

    /// The same with other options.
    pub async fn start_with(options: &Options<'_>, gateway: impl FnOnce(SocketAddr) -> Gateway) -> Fixture {
        let upstream = Upstream::start().await.unwrap();
        let envoy = running(&gateway(upstream.address()).config(), options).await;
        let address = envoy.listener(LISTENER).await.unwrap();
        Fixture { envoy, upstream, address }
    }

    /// Sends a request with these headers and body; gives the answer and what arrived upstream.
    pub async fn exchange(&self, request: TestRequest<'_>) -> (Reply, Vec<Seen>) {
        self.exchange_as(&new_id(), request).await
    }

    /// The same, by an id from [`new_id`].
    pub async fn exchange_as(&self, id: &str, request: TestRequest<'_>) -> (Reply, Vec<Seen>) {
        let uri = match request.protocol {
            Protocol::Http1 => request.path.to_owned(),
            Protocol::Http2 => format!("http://caller.example{}", request.path),
        };
        let mut builder = Request::builder().method(request.method).uri(uri).header(ID, id);
        if request.protocol == Protocol::Http1 {
            builder = builder.header("host", "caller.example");
        }
        for (name, value) in request.headers {
            builder = builder.header(*name, *value);
        }
        let body = Full::new(Bytes::copy_from_slice(request.body));
        let reply = send(self.address, request.protocol, builder.body(body).unwrap()).await.unwrap();
        (reply, self.upstream.seen(id))
    }
}

/// A request of a test; `..TestRequest::default()` fills in what does not matter.
#[derive(Clone, Copy)]
pub struct TestRequest<'a> {
    pub protocol: Protocol,
    pub method: &'a str,
    pub path: &'a str,
    pub headers: &'a [(&'a str, &'a str)],
    pub body: &'a [u8],
}

impl Default for TestRequest<'_> {
    fn default() -> Self {
        Self { protocol: Protocol::Http1, method: "POST", path: "/", headers: &[], body: b"{}" }
    }
}

/// A value for [`ID`] that no other test has.
pub fn new_id() -> String {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    format!("test-{}", NEXT.fetch_add(1, Ordering::Relaxed))
}

/// Every kind of credential, by the name of the server that has it.
pub fn servers() -> Value {
    json!({
        "bearer": {"host": "bearer.example", "auth": {"type": "BEARER", "token": "${TEST_SECRET}"}},
        "basic": {"host": "basic.example:8443", "auth": {"type": "basic", "username": "odock", "password": "grüße ${TEST_SECRET}"}},
        "header": {"host": "header.example", "auth": {"type": "API_KEY", "header": "X-API-Key", "value": SECRET}},
        "query": {"host": "query.example", "auth": {"type": "API_KEY", "query": "api_key", "value": "${TEST_SECRET}&x"}},
        "headers": {"host": "headers.example", "auth": {"type": "HEADERS", "headers": {"X-Client-ID": "gateway", "X-Custom-Key": "${TEST_SECRET}", "Cookie": "ours=1"}}},
        "none": {"host": "none.example", "auth": {"type": "NONE"}},
        "omitted": {"host": "omitted.example"},
        "disabled": {"host": "disabled.example", "enabled": false, "auth": {"type": "BEARER", "token": "${NOT_SET}"}},
    })
}

/// The value of `${TEST_SECRET}` in the fixtures.
pub const SECRET: &str = "s3cr3t-0123456789";

/// Options for an Envoy with [`servers`].
pub const OPTIONS: Options<'_> = Options {
    environment: &[("TEST_SECRET", SECRET)],
    wasm_log_level: "debug",
    concurrency: 2,
    core: None,
    on_terminal: false,
};

/// All servers behind one filter in the listener, which goes by the cluster.
pub fn listener_gateway(upstream: SocketAddr) -> Gateway {
    let filter = upstream_auth(&json!({"servers": servers()}));
    servers().as_object().unwrap().keys().fold(Gateway::default().filter(filter), |gateway, name| {
        gateway.cluster(cluster(name, upstream, Protocol::Http1))
    })
}

/// A filter in each server's cluster, and none in the listener.
pub fn upstream_gateway(upstream: SocketAddr) -> Gateway {
    servers().as_object().unwrap().iter().fold(Gateway::default(), |gateway, (name, server)| {
        gateway.cluster(filtered_cluster(name, upstream, Protocol::Http1, upstream_auth(server)))
    })
}

/// [`listener_gateway`], running.
pub async fn in_listener() -> Shared {
    static FIXTURE: OnceCell<Fixture> = OnceCell::const_new();
    Shared(FIXTURE.get_or_init(|| Fixture::start_with(&OPTIONS, listener_gateway)).await)
}

/// [`upstream_gateway`], running.
pub async fn in_clusters() -> Shared {
    static FIXTURE: OnceCell<Fixture> = OnceCell::const_new();
    Shared(FIXTURE.get_or_init(|| Fixture::start_with(&OPTIONS, upstream_gateway)).await)
}

/// Both ways of loading the filter.
pub async fn both() -> [(&'static str, Shared); 2] {
    [("in the listener", in_listener().await), ("in the cluster", in_clusters().await)]
}
