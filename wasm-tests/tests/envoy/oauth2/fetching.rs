//! The first token: one fetch for the process, and requests that wait for it.

use serde_json::json;
use tokio::task::JoinSet;
use wasm_tests::client::{Protocol, send};

use super::{Place, World};
use crate::fixture::run;

#[test]
fn two_hundred_requests_at_once_cost_one_token_request() {
    run(async {
        for place in [Place::Listener, Place::Cluster] {
            let world = World::start(place, json!({}), |tokens| tokens.hold()).await;
            let mut requests = JoinSet::new();
            for _ in 0..200 {
                let request = hyper::Request::post("/c/mcp").header("host", "h").body(String::from("{}")).unwrap();
                requests.spawn(send(world.fixture.address, Protocol::Http1, request));
            }
            world.metric_is("waiting_requests.server.c", 200).await;
            world.tokens.release();
            for reply in requests.join_all().await {
                assert_eq!(reply.unwrap().status, 200);
            }
            assert_eq!(world.tokens.asked().len(), 1, "{place:?}");
            let seen = world.fixture.upstream.all();
            assert_eq!(seen.len(), 200);
            assert!(seen.iter().all(|seen| seen.head.header("authorization") == ["Bearer token-1"]));
            world.metric_is("waiting_requests.server.c", 0).await;
        }
    });
}
