//! The counters, in Envoy's own words. How they become labels is seen on the shipped configuration.

use serde_json::{Value, json};
use wasm_tests::client::Protocol;
use wasm_tests::gateway::{Gateway, cluster, upstream_auth};

use crate::fixture::{Fixture, TestRequest, run};

/// All counters of the filter and their values, by what follows the common part of their names.
async fn counters(fixture: &Fixture) -> Vec<(String, u64)> {
    const COMMON: &str = "wasmcustom.mcp_upstream_auth.requests.outcome.";
    let stats = fixture.envoy.admin_get("/stats?format=json&filter=^wasmcustom").await.unwrap();
    let stats: Value = serde_json::from_str(&stats).unwrap();
    let counter = |stat: &Value| {
        let name = stat["name"].as_str().unwrap().strip_prefix(COMMON).expect("a counter of another name");
        (name.to_owned(), stat["value"].as_u64().unwrap())
    };
    let mut counters: Vec<_> = stats["stats"].as_array().unwrap().iter().map(counter).collect();
    counters.sort();
    counters
}

#[test]
fn requests_are_counted_by_server_and_outcome() {
    run(async {
        let servers = json!({
            "bearer": {"host": "h", "auth": {"type": "BEARER", "token": "t"}},
            "query": {"host": "h", "auth": {"type": "API_KEY", "query": "k", "value": "v"}},
            "none": {"host": "h"},
            "disabled": {"host": "h", "enabled": false},
        });
        for (unmatched, unknown) in [("reject", "rejected_unknown_server"), ("strip", "stripped"), ("pass", "passed")] {
            let plugin = json!({"servers": servers, "unmatched": unmatched});
            let fixture = Fixture::start(|upstream| {
                ["bearer", "query", "none", "disabled", "unknown"]
                    .into_iter()
                    .fold(Gateway::default().filter(upstream_auth(&plugin)), |gateway, name| {
                        gateway.cluster(cluster(name, upstream, Protocol::Http1))
                    })
            })
            .await;
            assert_eq!(counters(&fixture).await, []);
            for (name, count) in [("bearer", 3), ("query", 1), ("none", 2), ("disabled", 1), ("unknown", 4)] {
                for _ in 0..count {
                    fixture.exchange(TestRequest { path: &format!("/{name}/mcp"), ..TestRequest::default() }).await;
                }
            }
            let mut expected = [
                ("injected.server.bearer", 3),
                ("injected.server.query", 1),
                ("rejected_server_disabled.server.disabled", 1),
                ("stripped.server.none", 2),
                (unknown, 4),
            ]
            .map(|(name, count)| (name.to_owned(), count));
            expected.sort();
            assert_eq!(counters(&fixture).await, expected, "{unmatched}");
        }
    });
}
