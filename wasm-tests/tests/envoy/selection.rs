//! The server is chosen by cluster, route name or route metadata.

use serde_json::{Value, json};
use wasm_tests::client::Protocol;
use wasm_tests::gateway::{Gateway, cluster, upstream_auth};

use crate::fixture::{Fixture, TestRequest, run};

fn plugin(select_by: &str, names: &[&str]) -> Value {
    let server = |name: &&str| {
        let server = json!({"host": "h", "auth": {"type": "API_KEY", "header": "x-server", "value": name}});
        ((*name).to_owned(), server)
    };
    json!({"selectBy": select_by, "servers": names.iter().map(server).collect::<serde_json::Map<_, _>>()})
}

async fn arrived_at(fixture: &Fixture, path: &str) -> Result<Vec<String>, String> {
    let (reply, seen) = fixture.exchange(TestRequest { path, ..TestRequest::default() }).await;
    match seen.first() {
        Some(seen) => Ok(seen.head.header("x-server")),
        None => Err(reply.json()["error"]["data"]["reason"].as_str().unwrap_or_default().to_owned()),
    }
}

#[test]
fn by_cluster_also_when_its_name_is_one_that_istio_gives() {
    run(async {
        let istio = "outbound|443||mcp.example.com";
        let fixture = Fixture::start(|upstream| {
            let shared = json!({"match": {"prefix": "/weighted/"}, "route": {"weighted_clusters": {"clusters": [{"name": istio, "weight": 1}]}}});
            let by_header = json!({"match": {"prefix": "/by-header/"}, "route": {"cluster_header": "x-cluster"}});
            Gateway::default()
                .filter(upstream_auth(&plugin("cluster", &["a", istio])))
                .route(shared)
                .route(by_header)
                .cluster(cluster("a", upstream, Protocol::Http1))
                .cluster(cluster("b", upstream, Protocol::Http1))
                .cluster(cluster(istio, upstream, Protocol::Http1))
        })
        .await;
        assert_eq!(arrived_at(&fixture, "/a/mcp").await, Ok(vec!["a".to_owned()]));
        assert_eq!(arrived_at(&fixture, "/weighted/mcp").await, Ok(vec![istio.to_owned()]));
        assert_eq!(arrived_at(&fixture, "/b/mcp").await, Err("unknown_server".to_owned()));
        for (header, expected) in [("a", Some("a")), ("b", None)] {
            let headers = [("x-cluster", header)];
            let (_, seen) = fixture
                .exchange(TestRequest { path: "/by-header/", headers: &headers, ..TestRequest::default() })
                .await;
            let arrived = seen.first().map(|seen| seen.head.header("x-server").concat());
            assert_eq!(arrived.as_deref(), expected, "cluster_header: {header}");
        }
    });
}

#[test]
fn by_the_routes_name() {
    run(async {
        let fixture = Fixture::start(|upstream| {
            let route =
                |path: &str, name: Value| json!({"name": name, "match": {"path": path}, "route": {"cluster": "c"}});
            Gateway::default()
                .filter(upstream_auth(&plugin("route", &["first route", "c"])))
                .route(route("/named", json!("first route")))
                .route(route("/unknown", json!("other")))
                .route(route("/nameless", Value::Null))
                .cluster(cluster("c", upstream, Protocol::Http1))
        })
        .await;
        assert_eq!(arrived_at(&fixture, "/named").await, Ok(vec!["first route".to_owned()]));
        assert_eq!(arrived_at(&fixture, "/unknown").await, Err("unknown_server".to_owned()));
        assert_eq!(arrived_at(&fixture, "/nameless").await, Err("unknown_server".to_owned()));
    });
}

#[test]
fn by_the_routes_metadata_which_only_a_string_matches() {
    run(async {
        let fixture = Fixture::start(|upstream| {
            let route = |path: &str, metadata: Value| {
                json!({"match": {"path": path}, "route": {"cluster": "c"}, "metadata": {"filter_metadata": metadata}})
            };
            let server = |server: Value| json!({"mcp_upstream_auth": {"server": server}});
            Gateway::default()
                .filter(upstream_auth(&plugin("metadata", &["m", "1"])))
                .route(route("/m", server(json!("m"))))
                .route(route("/unknown", server(json!("other"))))
                .route(route("/number", server(json!(1))))
                .route(route("/object", server(json!({"m": "m"}))))
                .route(route("/null", server(json!(null))))
                .route(route("/none", json!({})))
                .cluster(cluster("c", upstream, Protocol::Http1))
        })
        .await;
        assert_eq!(arrived_at(&fixture, "/m").await, Ok(vec!["m".to_owned()]));
        for path in ["/unknown", "/number", "/object", "/null", "/none"] {
            assert_eq!(arrived_at(&fixture, path).await, Err("unknown_server".to_owned()), "{path}");
        }
    });
}
