//! The counters, in Envoy's own words and as Prometheus labels.

use crate::fixture::{TestRequest, in_listener, run};

async fn counter(name: &str) -> u64 {
    let stats = in_listener().await.envoy.admin_get(&format!("/stats?format=json&filter=^{name}$")).await.unwrap();
    let stats: serde_json::Value = serde_json::from_str(&stats).unwrap();
    stats["stats"].as_array().unwrap().first().map_or(0, |stat| stat["value"].as_u64().unwrap())
}

#[test]
fn requests_are_counted_by_server_and_outcome() {
    run(async {
        let fixture = in_listener().await;
        for (path, counted) in [
            ("/header/mcp", "injected.server.header"),
            ("/omitted/mcp", "stripped.server.omitted"),
            ("/disabled/mcp", "rejected_server_disabled.server.disabled"),
            ("/nowhere", "stripped"),
        ] {
            let name = format!("wasmcustom.mcp_upstream_auth.requests.outcome.{counted}");
            let before = counter(&name).await;
            for _ in 0..3 {
                fixture.exchange(TestRequest { path, ..TestRequest::default() }).await;
            }
            // Other tests use the same servers at the same time.
            assert!(counter(&name).await >= before + 3, "{name}");
        }
    });
}
