//! Secrets that Envoy watches and a filter before this one puts into the filter state.

use std::path::Path;

use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::time::{sleep, timeout};
use wasm_tests::client::{PATIENCE, Protocol};
use wasm_tests::envoy::Options;
use wasm_tests::gateway::{Gateway, any, cluster, filtered_cluster, http_filter, upstream_auth, write_resources};
use wasm_tests::token_server::TokenServer;

use crate::fixture::{Fixture, TestRequest, envoy_has, run};
use crate::load::{SECRETS, rotate};
use crate::oauth2::{ANY, POLL, Place, TOKENS, auth};

/// The keys in the filter state.
const FILE: &str = "mcp.secret.file";
const SDS: &str = "mcp.secret.sds";

/// Puts the file `secret` and the SDS secret of `sds.json` in `folder` into the filter state.
fn set_filter_state(folder: &Path) -> Value {
    // A secret that is missing would be a `-`, but for this.
    let value = |key: &str, mut format: Value| {
        format["omit_empty_values"] = json!(true);
        json!({"object_key": key, "factory_key": "envoy.string", "format_string": format, "read_only": true})
    };
    let inline = |text: String| json!({"inline_string": text});
    let file = inline(format!("%FILE_CONTENT({}:{})%", folder.join("secret").display(), folder.display()));
    let sds_config = json!({"path_config_source": {"path": folder.join("sds.json")}});
    let formatter = any(
        "envoy.extensions.formatter.generic_secret.v3.GenericSecret",
        json!({"secret_configs": {"s": {"name": "s", "sds_config": sds_config}}}),
    );
    http_filter(
        "envoy.filters.http.set_filter_state",
        "envoy.extensions.filters.http.set_filter_state.v3.Config",
        json!({"on_request_headers": [
            value(FILE, json!({
                "text_format_source": file,
                "formatters": [{
                    "name": "envoy.formatter.file_content",
                    "typed_config": any("envoy.extensions.formatter.file_content.v3.FileContent", json!({})),
                }],
            })),
            value(SDS, json!({
                "text_format_source": inline("%SECRET(s)%".to_owned()),
                "formatters": [{"name": "envoy.formatter.generic_secret", "typed_config": formatter}],
            })),
        ]}),
    )
}

/// Puts `secret` in both places, by moving new files there.
fn write(folder: &Path, secret: &str) {
    let new = folder.join("new");
    std::fs::write(&new, format!("{secret}\n")).unwrap();
    std::fs::rename(new, folder.join("secret")).unwrap();
    let generic = json!({"secret": {"inline_string": format!("{secret}\n")}});
    let resource =
        any("envoy.extensions.transport_sockets.tls.v3.Secret", json!({"name": "s", "generic_secret": generic}));
    write_resources(&folder.join("sds.json"), &[resource]).unwrap();
}

/// A world with one server for each secret, by BEARER and by OAUTH2.
struct World {
    fixture: Fixture,
    tokens: TokenServer,
    folder: TempDir,
}

const SERVERS: [&str; 4] = ["bearer-file", "bearer-sds", "oauth2-file", "oauth2-sds"];

impl World {
    async fn start(place: Place) -> Self {
        let tokens = TokenServer::start(ANY).await.unwrap();
        let folder = TempDir::new().unwrap();
        write(folder.path(), SECRETS[0]);
        let server = |name: &str| {
            let source = json!({"fromFilterState": if name.ends_with("file") { FILE } else { SDS }});
            let auth = match name.starts_with("bearer") {
                true => json!({"type": "BEARER", "token": source}),
                false => auth(tokens.address(), json!({"clientSecret": source, "scope": name})),
            };
            json!({"host": "h", "auth": auth})
        };
        let options = Options { wasm_log_level: "debug", concurrency: 2, ..Options::default() };
        let fixture = Fixture::start_with(&options, |upstream| {
            let gateway = Gateway::default().filter(set_filter_state(folder.path()));
            let gateway = match place {
                Place::Listener => {
                    let servers: serde_json::Map<_, _> =
                        SERVERS.iter().map(|name| ((*name).to_owned(), server(name))).collect();
                    let gateway = gateway.filter(upstream_auth(&json!({"servers": servers})));
                    SERVERS
                        .iter()
                        .fold(gateway, |gateway, name| gateway.cluster(cluster(name, upstream, Protocol::Http1)))
                }
                Place::Cluster => SERVERS.iter().fold(gateway, |gateway, name| {
                    gateway.cluster(filtered_cluster(name, upstream, Protocol::Http1, upstream_auth(&server(name))))
                }),
            };
            gateway.cluster(cluster(TOKENS, tokens.address(), Protocol::Http1))
        })
        .await;
        Self { fixture, tokens, folder }
    }

    /// Replaces the secret in both places, and waits until Envoy has read it. It says so of SDS alone; but to it, that
    /// is the later one of two changes to files, which its main thread learns of in their order.
    async fn replace(&self, secret: &str) {
        let updates = async || self.fixture.envoy.admin_get("/stats?filter=^sds.*update_success$").await.unwrap();
        let before = updates().await;
        write(self.folder.path(), secret);
        let taken = async {
            while updates().await == before {
                sleep(POLL).await;
            }
        };
        timeout(PATIENCE, taken).await.expect("no update of SDS");
    }
}

#[test]
fn a_secret_that_is_replaced_on_disk_is_used_within_a_second_under_load_and_no_request_fails() {
    if !envoy_has(38, "secrets in the filter state") {
        return;
    }
    run(async {
        for place in [Place::Listener, Place::Cluster] {
            let world = World::start(place).await;
            rotate(&world.fixture, &world.tokens, &SERVERS, world.replace(SECRETS[1])).await;
            // Each secret and scope was good for one token.
            assert_eq!(world.tokens.asked().len(), 4, "{place:?}");
            let log = world.fixture.envoy.log().unwrap();
            assert!(!log.contains(SECRETS[1]) && !log.contains("token-1"), "{log}");
        }
    });
}

#[test]
fn without_the_secret_a_request_is_refused() {
    run(async {
        let server = json!({"host": "h", "auth": {"type": "BEARER", "token": {"fromFilterState": "nobody.sets.this"}}});
        for place in [Place::Listener, Place::Cluster] {
            let fixture = Fixture::start(|upstream| match place {
                Place::Listener => Gateway::default()
                    .filter(upstream_auth(&json!({"servers": {"c": server}})))
                    .cluster(cluster("c", upstream, Protocol::Http1)),
                Place::Cluster => {
                    Gateway::default().cluster(filtered_cluster("c", upstream, Protocol::Http1, upstream_auth(&server)))
                }
            })
            .await;
            let (reply, seen) = fixture.exchange(TestRequest { path: "/c/mcp", ..TestRequest::default() }).await;
            assert_eq!((reply.status.as_u16(), seen.len()), (503, 0), "{place:?}");
            assert_eq!(reply.json()["error"]["data"]["reason"], "secret_missing", "{place:?}");
        }
    });
}
