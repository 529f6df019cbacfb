//! Secrets that Envoy watches and a filter before this one puts into the filter state.

use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rcgen::KeyPair;
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
fn set_filter_state(folder: &Path, omits_empty_values: bool) -> Value {
    // A secret that is missing would be a `-`, but for this.
    let value = |key: &str, mut format: Value| {
        format["omit_empty_values"] = json!(omits_empty_values);
        json!({"object_key": key, "factory_key": "envoy.string", "format_string": format})
    };
    let inline = |text: String| json!({"inline_string": text});
    let file = inline(format!("%FILE_CONTENT({}:{})%", folder.join("secret").display(), folder.display()));
    let sds_config = json!({
        "path_config_source": {"path": folder.join("sds.json")},
        "initial_fetch_timeout": "0.1s",
    });
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
            let gateway = Gateway::default().filter(set_filter_state(folder.path(), true));
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

/// An Envoy whose one server authenticates with what `folder` has.
async fn with_server(folder: &Path, omits_empty_values: bool, tokens: &TokenServer, auth: Value) -> Fixture {
    let options = Options { wasm_log_level: "debug", concurrency: 1, ..Options::default() };
    Fixture::start_with(&options, |upstream| {
        Gateway::default()
            .filter(set_filter_state(folder, omits_empty_values))
            .filter(upstream_auth(&json!({"servers": {"c": {"host": "h", "auth": auth}}})))
            .cluster(cluster("c", upstream, Protocol::Http1))
            .cluster(cluster(TOKENS, tokens.address(), Protocol::Http1))
    })
    .await
}

#[test]
fn a_secret_that_has_not_come_yet_is_missing_and_no_dash_goes_out_for_it() {
    if !envoy_has(38, "secrets in the filter state") {
        return;
    }
    run(async {
        for omits_empty_values in [true, false] {
            let tokens = TokenServer::start(ANY).await.unwrap();
            let source = json!({"fromFilterState": SDS});
            for auth in [
                json!({"type": "BEARER", "token": source}),
                json!({"type": "BASIC", "username": "u", "password": source}),
                json!({"type": "API_KEY", "query": "k", "value": source}),
                json!({"type": "HEADERS", "headers": {"x-k": source}}),
                auth(tokens.address(), json!({"clientSecret": source})),
            ] {
                let folder = TempDir::new().unwrap();
                std::fs::write(folder.path().join("secret"), "").unwrap();
                write_resources(&folder.path().join("sds.json"), &[]).unwrap();
                let fixture = with_server(folder.path(), omits_empty_values, &tokens, auth.clone()).await;
                let (reply, seen) = fixture.exchange(TestRequest { path: "/c/mcp", ..TestRequest::default() }).await;
                assert_eq!((reply.status.as_u16(), seen.len()), (503, 0), "{auth}");
                assert_eq!(reply.json()["error"]["data"]["reason"], "secret_missing", "{auth}");
            }
            assert!(tokens.asked().is_empty());
        }
    });
}

#[test]
fn a_private_key_that_is_watched_signs_and_one_that_cannot_is_tried_once() {
    if !envoy_has(38, "secrets in the filter state") {
        return;
    }
    run(async {
        let tokens = TokenServer::start(ANY).await.unwrap();
        let more =
            json!({"clientSecret": null, "clientAuth": "private_key_jwt", "privateKey": {"fromFilterState": FILE}});
        let auth = auth(tokens.address(), more);
        let folder = TempDir::new().unwrap();
        let no_key =
            format!("-----BEGIN RSA PRIVATE KEY-----\n{}\n-----END RSA PRIVATE KEY-----", STANDARD.encode([48; 99]));
        for (key, expected) in [(no_key, 503), (KeyPair::generate().unwrap().serialize_pem(), 200)] {
            write(folder.path(), &key);
            let fixture = with_server(folder.path(), true, &tokens, auth.clone()).await;
            for _ in 0..3 {
                let (reply, seen) = fixture.exchange(TestRequest { path: "/c/mcp", ..TestRequest::default() }).await;
                assert_eq!(reply.status.as_u16(), expected, "{}", reply.json());
                if expected == 200 {
                    assert_eq!(seen[0].head.header("authorization"), ["Bearer token-1"]);
                } else {
                    assert_eq!(reply.json()["error"]["data"]["reason"], "secret_invalid");
                }
            }
            let log = fixture.envoy.log().unwrap();
            let warnings = log.matches("servers.c.auth.privateKey: cannot sign").count();
            assert_eq!(warnings, usize::from(expected == 503), "{log}");
        }
        assert_eq!(tokens.asked().len(), 1);
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
