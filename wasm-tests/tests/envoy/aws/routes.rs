//! What a route changes after a filter in the listener has signed, and before one in the cluster does.

use serde_json::{Value, json};
use tokio::sync::OnceCell;
use wasm_tests::upstream::Seen;

use super::{HOST, OPTIONS, auth, fixed, gateway, seeing_bodies, start};
use crate::fixture::{Fixture, Shared, TestRequest, run};
use crate::oauth2::Place;

/// What the routes do, by the first part of the path.
fn routes() -> Value {
    let regex = json!({"pattern": {"regex": "^/regex/"}, "substitution": "/prod/"});
    let retry = json!({"retry_on": "retriable-status-codes", "retriable_status_codes": [200], "num_retries": 2});
    json!({
        "prefix": {"prefix_rewrite": "/prod/"},
        "regex": {"regex_rewrite": regex},
        "host": {"host_rewrite_literal": "other.example"},
        "added": {},
        "retried": {"retry_policy": retry},
    })
}

/// One Envoy for each place, with all of these routes to the server.
async fn routed(place: Place) -> Shared {
    static IN_LISTENER: OnceCell<Fixture> = OnceCell::const_new();
    static IN_CLUSTER: OnceCell<Fixture> = OnceCell::const_new();
    let fixture = match place {
        Place::Listener => &IN_LISTENER,
        Place::Cluster => &IN_CLUSTER,
    };
    let fixture = fixture.get_or_init(|| {
        start(&OPTIONS, fixed, |upstream| {
            let gateway = gateway(place, auth(json!({})), upstream, seeing_bodies);
            routes().as_object().unwrap().iter().fold(gateway, |gateway, (name, action)| {
                let mut route = json!({"match": {"prefix": format!("/{name}/")}, "route": action});
                route["route"]["cluster"] = json!("c");
                if name == "added" {
                    route["request_headers_to_add"] = json!([{"header": {"key": "x-amz-target", "value": "A.B"}}]);
                }
                gateway.route(route)
            })
        })
    });
    Shared::new(fixture.await)
}

/// The status and reason of the answer to a POST by this route, and what arrived.
async fn through(place: Place, route: &str) -> (u16, Value, Vec<Seen>) {
    let path = format!("/{route}/mcp?b=1&a=2");
    let request = TestRequest { path: &path, ..TestRequest::default() };
    let (reply, seen) = routed(place).await.exchange(request).await;
    (reply.status.as_u16(), reply.json()["error"]["data"]["reason"].clone(), seen)
}

#[test]
fn a_path_that_the_route_rewrites_is_signed_in_the_cluster_and_cannot_be_in_the_listener() {
    run(async {
        for route in ["prefix", "regex"] {
            let (status, reason, seen) = through(Place::Listener, route).await;
            assert_eq!(seen[0].head.path_and_query, "/prod/mcp?b=1&a=2", "{route}");
            assert_eq!((status, reason), (502, json!("upstream_unauthorized")), "{route}");
            let (status, _, seen) = through(Place::Cluster, route).await;
            assert_eq!(seen[0].head.path_and_query, "/prod/mcp?b=1&a=2", "{route}");
            assert_eq!(status, 200, "{route}");
        }
    });
}

#[test]
fn a_host_that_the_route_rewrites_is_set_again_and_signed_in_the_cluster_alone() {
    run(async {
        let (status, reason, seen) = through(Place::Listener, "host").await;
        assert_eq!(seen[0].head.authority, "other.example");
        assert_eq!((status, reason), (502, json!("upstream_unauthorized")));
        let (status, _, seen) = through(Place::Cluster, "host").await;
        assert_eq!((status, &*seen[0].head.authority), (200, HOST));
    });
}

#[test]
fn a_header_of_amazons_that_the_route_adds_is_signed_in_the_cluster_alone() {
    run(async {
        let (status, reason, seen) = through(Place::Listener, "added").await;
        assert_eq!(seen[0].head.header("x-amz-target"), ["A.B"]);
        assert_eq!((status, reason), (502, json!("upstream_unauthorized")));
        let (status, _, seen) = through(Place::Cluster, "added").await;
        assert_eq!((status, seen[0].head.header("x-amz-target")), (200, vec!["A.B".to_owned()]));
    });
}

#[test]
fn every_attempt_of_a_retried_request_is_signed_and_has_its_body() {
    run(async {
        for place in [Place::Listener, Place::Cluster] {
            let (status, _, seen) = through(place, "retried").await;
            assert_eq!((status, seen.len()), (200, 3), "{place:?}");
            assert!(seen.iter().all(|seen| seen.body == "{}"), "{place:?}");
        }
    });
}
