//! Which calls into Envoy one request costs. A call more on the way of every request is a decision.

use serde_json::json;
use wasm_tests::client::Protocol;
use wasm_tests::envoy::Options;
use wasm_tests::gateway::{Gateway, cluster, filtered_cluster, upstream_auth};
use wasm_tests::token_server::TokenServer;

use crate::fixture::{Fixture, TestRequest, run};
use crate::oauth2::{ANY, TOKENS, auth};

/// The names of the calls that one more request makes, from the log of the component `wasm` at trace level.
async fn calls_of_a_request(fixture: &Fixture, path: &str) -> Vec<String> {
    let seen = fixture.envoy.log().unwrap().len();
    let (reply, _) = fixture.exchange(TestRequest { path, ..TestRequest::default() }).await;
    assert_eq!(reply.status, 200);
    let log = fixture.envoy.log().unwrap();
    let calls = log[seen..].lines().filter_map(|line| line.split_once("[vm->host] env.proxy_"));
    calls.map(|(_, call)| call.split('(').next().unwrap().to_owned()).collect()
}

const STRIP: &str = "remove_header_map_value";
const SET: &str = "replace_header_map_value";
const COUNT: &str = "increment_metric";
const READ: &str = "get_header_map_value";

#[test]
fn a_request_costs_the_calls_it_must_and_no_other() {
    let bearer = json!({"host": "h", "auth": {"type": "BEARER", "token": "t"}});
    let query = json!({"host": "h", "auth": {"type": "API_KEY", "query": "k", "value": "v"}});
    let none = json!({"host": "h"});
    // In the form for one server, x-envoy-original-host is stripped as well. Stripped are authorization, unless it is replaced, and x-api-key, content-length, cookie and
    // proxy-authorization. The host is always set.
    // Of the response, the status is read, unless there is no credential that it could be about.
    let of_bearer = vec![STRIP, STRIP, STRIP, STRIP, SET, SET, COUNT, READ];
    let of_none = vec![STRIP, STRIP, STRIP, STRIP, STRIP, SET, COUNT];
    // Beside that, the path is read, set, and forgotten; of the response, two headers more are read.
    let of_query = [&[STRIP; 5][..], &[SET, READ, SET, STRIP, COUNT, READ, READ, READ]].concat();
    run(async {
        let options = Options { wasm_log_level: "trace", concurrency: 1, ..Options::default() };
        let tokens = TokenServer::start(ANY).await.unwrap();
        // A token in hand costs what a fixed one does: neither the time nor shared data is asked for.
        let oauth2 = json!({"host": "h", "auth": auth(tokens.address(), json!({}))});
        let of_oauth2 = of_bearer.clone();
        for (server, expected) in [(bearer, of_bearer), (none, of_none), (query, of_query), (oauth2, of_oauth2)] {
            let in_cluster = Fixture::start_with(&options, |upstream| {
                Gateway::default()
                    .cluster(filtered_cluster("c", upstream, Protocol::Http1, upstream_auth(&server)))
                    .cluster(cluster(TOKENS, tokens.address(), Protocol::Http1))
            });
            let in_listener = Fixture::start_with(&options, |upstream| {
                let plugin = json!({"servers": {"c": server, "other": {"host": "h"}}});
                Gateway::default()
                    .filter(upstream_auth(&plugin))
                    .cluster(cluster("c", upstream, Protocol::Http1))
                    .cluster(cluster(TOKENS, tokens.address(), Protocol::Http1))
            });
            for (fixture, selects) in [(in_cluster.await, false), (in_listener.await, true)] {
                // The first request defines the counter.
                calls_of_a_request(&fixture, "/c/mcp").await;
                let selection = selects.then_some("get_property");
                let also_stripped = (!selects).then_some(STRIP);
                let expected = selection.into_iter().chain(also_stripped).chain(expected.iter().copied());
                let expected: Vec<_> = expected.collect();
                assert_eq!(calls_of_a_request(&fixture, "/c/mcp").await, expected, "{server}");
            }
        }
    });
}
