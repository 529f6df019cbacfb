//! A configuration that changes while Envoy runs, or is only validated.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::time::{sleep, timeout};
use wasm_tests::client::{PATIENCE, Protocol};
use wasm_tests::envoy::{Envoy, Options, binary};
use wasm_tests::gateway::{Gateway, LISTENER, cluster, upstream_auth, write_resources};
use wasm_tests::upstream::Upstream;

use crate::fixture::{Fixture, TestRequest, new_id, run, running};
use crate::load::Open;

/// How often a state of Envoy's is looked after.
const POLL: Duration = Duration::from_millis(20);

/// A configuration whose listener, which has the filter with this token, is at `path`.
fn with_listener_at(path: &Path, upstream: std::net::SocketAddr, token: &str) -> Value {
    let plugin = json!({"host": "h", "auth": {"type": "BEARER", "token": token}});
    let gateway = Gateway::default().filter(upstream_auth(&plugin)).cluster(cluster("c", upstream, Protocol::Http1));
    let mut config: Value = serde_json::from_str(&gateway.config()).unwrap();
    let mut listener = config["static_resources"]["listeners"].take()[0].take();
    listener["@type"] = json!("type.googleapis.com/envoy.config.listener.v3.Listener");
    write_resources(path, &[listener]).unwrap();
    config["dynamic_resources"] = json!({"lds_config": {"path_config_source": {"path": path}}});
    config
}

async fn wait_for_stat(envoy: &Envoy, name: &str, value: u64) {
    let reached = async {
        while !envoy.admin_get("/stats").await.unwrap().lines().any(|line| line == format!("{name}: {value}")) {
            sleep(POLL).await;
        }
    };
    timeout(PATIENCE, reached).await.unwrap_or_else(|_| panic!("{name} is not {value}:\n{}", envoy.log().unwrap()));
}

#[test]
fn a_bad_update_is_refused_and_the_old_configuration_serves_on_until_a_good_one_comes() {
    run(async {
        let folder = TempDir::new().unwrap();
        let path = folder.path().join("listener.json");
        let upstream = Upstream::start().await.unwrap();
        let config = with_listener_at(&path, upstream.address(), "first").to_string();
        let envoy = running(&config, &Options::default()).await;
        let address = envoy.listener(LISTENER).await.unwrap();
        let mut fixture = Fixture { envoy, upstream, address };
        let sends = async |fixture: &Fixture| {
            let (_, seen) = fixture.exchange(TestRequest { path: "/c/mcp", ..TestRequest::default() }).await;
            seen[0].head.header("authorization").concat()
        };
        assert_eq!(sends(&fixture).await, "Bearer first");
        let mut open = Open::to(address).await;
        assert_eq!(open.send(&new_id(), "c").await, 200);

        with_listener_at(&path, fixture.upstream.address(), "");
        wait_for_stat(&fixture.envoy, "listener_manager.lds.update_rejected", 1).await;
        assert!(fixture.envoy.log().unwrap().contains("\nauth.token: must not be empty\n"));
        assert_eq!(sends(&fixture).await, "Bearer first");

        with_listener_at(&path, fixture.upstream.address(), "second");
        wait_for_stat(&fixture.envoy, "listener_manager.lds.update_success", 2).await;
        let taken_over = async {
            while fixture.envoy.listener(LISTENER).await.is_err() {
                sleep(POLL).await;
            }
            fixture.address = fixture.envoy.listener(LISTENER).await.unwrap();
            while sends(&fixture).await != "Bearer second" {
                sleep(POLL).await;
            }
        };
        timeout(PATIENCE, taken_over).await.unwrap();
        // A connection that was open before is Envoy's to drain, which takes it minutes, and keeps what it began with.
        let id = new_id();
        assert_eq!(open.send(&id, "c").await, 200);
        assert_eq!(fixture.upstream.seen(&id)[0].head.header("authorization"), ["Bearer first"]);
    });
}

#[test]
fn envoys_validate_mode_checks_the_plugin_configuration() {
    let address = std::net::SocketAddr::from(([127, 0, 0, 1], 1));
    for (token, is_valid) in [("t", true), ("", false)] {
        let plugin = json!({"host": "h", "auth": {"type": "BEARER", "token": token}});
        let gateway = Gateway::default().filter(upstream_auth(&plugin)).cluster(cluster("c", address, Protocol::Http1));
        let output = Command::new(binary().unwrap())
            .args(["--mode", "validate", "--config-yaml", &gateway.config()])
            .output()
            .unwrap();
        let log = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.success(), is_valid, "{log}");
        assert_eq!(log.contains("\nauth.token: must not be empty\n"), !is_valid, "{log}");
    }
}

#[test]
fn a_thousand_servers_load_and_each_gets_its_own_credential() {
    run(async {
        let server = |index: usize| {
            (format!("s{index}"), json!({"host": "h", "auth": {"type": "BEARER", "token": format!("t{index}")}}))
        };
        let servers: serde_json::Map<String, Value> = (0..1000).map(server).collect();
        let fixture = Fixture::start(|upstream| {
            let gateway = Gateway::default().filter(upstream_auth(&json!({"servers": servers, "selectBy": "route"})));
            [0, 499, 999].into_iter().fold(gateway, |gateway, index| {
                gateway.cluster(cluster(&format!("s{index}"), upstream, Protocol::Http1))
            })
        })
        .await;
        for index in [0, 499, 999] {
            let (_, seen) =
                fixture.exchange(TestRequest { path: &format!("/s{index}/mcp"), ..TestRequest::default() }).await;
            assert_eq!(seen[0].head.header("authorization"), [format!("Bearer t{index}")]);
        }
    });
}
