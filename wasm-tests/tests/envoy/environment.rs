//! The environment of the filter's VM: each filter has its own, and an update of the configuration replaces it.

use std::net::SocketAddr;

use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::time::{sleep, timeout};
use wasm_tests::client::{PATIENCE, Protocol};
use wasm_tests::envoy::Options;
use wasm_tests::gateway::{Gateway, cluster, discovered_filter, filtered_cluster, upstream_auth, write_filter};
use wasm_tests::token_server::TokenServer;

use crate::fixture::{Fixture, TestRequest, envoy_has, run};
use crate::load::{SECRETS, rotate};
use crate::oauth2::{ANY, POLL, Place, TOKENS, auth};

const OWN: &str = "an environment of its own for each filter of the same `vm_id`";

/// The filter with `plugin`, in which `${ROTATED}` is `secret`.
fn filter(plugin: &Value, secret: &str) -> Value {
    let mut filter = upstream_auth(plugin);
    let vm = &mut filter["typed_config"]["config"]["vm_config"];
    vm["environment_variables"] = json!({"key_values": {"ROTATED": secret}});
    filter
}

fn bearer() -> Value {
    json!({"host": "h", "auth": {"type": "BEARER", "token": "${ROTATED}"}})
}

const SERVERS: [&str; 2] = ["bearer", "oauth2"];

/// Filters that Envoy discovers: one for all servers in the listener, or one in the cluster of each.
struct Discovered {
    folder: TempDir,
    place: Place,
    tokens: TokenServer,
}

impl Discovered {
    /// Writes all of them.
    fn write(&self, secret: &str) {
        let oauth2 = auth(self.tokens.address(), json!({"clientSecret": "${ROTATED}"}));
        let oauth2 = json!({"host": "h", "auth": oauth2});
        match self.place {
            Place::Listener => {
                self.write_one("all", &json!({"servers": {"bearer": bearer(), "oauth2": oauth2}}), secret)
            }
            Place::Cluster => {
                self.write_one("bearer", &bearer(), secret);
                self.write_one("oauth2", &oauth2, secret);
            }
        }
    }

    fn write_one(&self, name: &str, plugin: &Value, secret: &str) {
        let mut filter = filter(plugin, secret);
        filter["name"] = json!(name);
        // An older Envoy goes on with the VM that it has, and with the environment of that.
        if !envoy_has(39, OWN) {
            filter["typed_config"]["config"]["vm_config"]["vm_id"] = json!(format!("mcp_upstream_auth {secret}"));
        }
        write_filter(&self.folder.path().join(name), filter).unwrap();
    }

    fn gateway(&self, upstream: SocketAddr) -> Gateway {
        let filter = |name: &str| discovered_filter(name, &self.folder.path().join(name));
        let gateway = match self.place {
            Place::Listener => Gateway::default().filter(filter("all")),
            Place::Cluster => Gateway::default(),
        };
        let cluster_of = |name: &str| match self.place {
            Place::Listener => cluster(name, upstream, Protocol::Http1),
            Place::Cluster => filtered_cluster(name, upstream, Protocol::Http1, filter(name)),
        };
        let gateway = SERVERS.iter().fold(gateway, |gateway, name| gateway.cluster(cluster_of(name)));
        gateway.cluster(cluster(TOKENS, self.tokens.address(), Protocol::Http1))
    }

    /// Writes all of them anew, and waits until Envoy says of each that it has the new one.
    async fn replace(&self, secret: &str, fixture: &Fixture) {
        let stats = async || fixture.envoy.admin_get("/stats?filter=extension_config_discovery.*config_reload$").await;
        let before = stats().await.unwrap();
        self.write(secret);
        let is_new = |line: &str| before.lines().all(|old| old != line);
        let taken = async {
            while !stats().await.unwrap().lines().all(is_new) {
                sleep(POLL).await;
            }
        };
        timeout(PATIENCE, taken).await.expect("no update of the filters");
    }
}

#[test]
fn an_environment_that_is_replaced_is_used_within_a_second_under_load_and_no_request_fails() {
    run(async {
        for place in [Place::Listener, Place::Cluster] {
            let tokens = TokenServer::start(ANY).await.unwrap();
            let filters = Discovered { folder: TempDir::new().unwrap(), place, tokens };
            filters.write(SECRETS[0]);
            let options = Options { wasm_log_level: "debug", concurrency: 2, ..Options::default() };
            let fixture = Fixture::start_with(&options, |upstream| filters.gateway(upstream)).await;
            rotate(&fixture, &filters.tokens, &SERVERS, filters.replace(SECRETS[1], &fixture)).await;
            // One for each secret.
            assert_eq!(filters.tokens.asked().len(), 2, "{place:?}");
        }
    });
}

#[test]
fn each_filter_has_its_own_environment() {
    if !envoy_has(39, OWN) {
        return;
    }
    run(async {
        let fixture = Fixture::start(|upstream| {
            SECRETS.iter().fold(Gateway::default(), |gateway, secret| {
                gateway.cluster(filtered_cluster(secret, upstream, Protocol::Http1, filter(&bearer(), secret)))
            })
        })
        .await;
        for secret in SECRETS {
            let path = &format!("/{secret}/mcp");
            let (_, seen) = fixture.exchange(TestRequest { path, ..TestRequest::default() }).await;
            assert_eq!(seen[0].head.header("authorization"), [format!("Bearer {secret}")]);
        }
    });
}

#[test]
fn line_breaks_at_the_end_of_a_variable_are_left_out() {
    run(async {
        let server = json!({"host": "h", "auth": {"type": "BEARER", "token": "${TEST_SECRET}"}});
        let options = Options { environment: &[("TEST_SECRET", "from-a-file\r\n")], ..Options::default() };
        let fixture = Fixture::start_with(&options, |upstream| {
            Gateway::default().cluster(filtered_cluster("c", upstream, Protocol::Http1, upstream_auth(&server)))
        })
        .await;
        let (_, seen) = fixture.exchange(TestRequest { path: "/c/mcp", ..TestRequest::default() }).await;
        assert_eq!(seen[0].head.header("authorization"), ["Bearer from-a-file"]);
    });
}
