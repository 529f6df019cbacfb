//! Which calls between Envoy and the module one request costs. A call more on the way of every request is a decision.

use serde_json::json;
use tokio::time::{sleep, timeout};
use wasm_tests::client::{PATIENCE, Protocol};
use wasm_tests::envoy::Options;
use wasm_tests::gateway::{Gateway, cluster, filtered_cluster, sees_bodies, upstream_auth};
use wasm_tests::token_server::TokenServer;

use crate::fixture::{Fixture, TestRequest, run};
use crate::oauth2::{ANY, POLL, TOKENS, auth};

/// The names of the calls, in both directions, that one more request makes, from the log of the component `wasm` at
/// trace level.
async fn calls_of_a_request(fixture: &Fixture, path: &str) -> Vec<String> {
    let seen = fixture.envoy.log().unwrap().len();
    let (reply, _) = fixture.exchange(TestRequest { path, ..TestRequest::default() }).await;
    assert_eq!(reply.status, 200);
    let is_over = async {
        loop {
            let log = fixture.envoy.log().unwrap();
            let calls: Vec<_> = log[seen..].lines().filter_map(call).map(str::to_owned).collect();
            if calls.last().is_some_and(|last| last == "on_delete") {
                return calls;
            }
            sleep(POLL).await;
        }
    };
    timeout(PATIENCE, is_over).await.unwrap()
}

/// The name of the call that a line of the log is about.
fn call(line: &str) -> Option<&str> {
    let (_, call) = line.split_once("[vm->host] env.proxy_").or_else(|| line.split_once("[host->vm] proxy_"))?;
    call.split('(').next()
}

const STRIP: &str = "remove_header_map_value";
const SET: &str = "replace_header_map_value";
const COUNT: &str = "increment_metric";
/// What is there, Envoy puts into memory that it asks the module for.
const READ: [&str; 2] = ["get_header_map_value", "on_memory_allocate"];
/// A request that may be an upgrade: `Connection` is looked for, and not there.
const LOOK: &str = READ[0];
/// All headers of a response, in one read.
const READ_ALL: [&str; 2] = ["get_header_map_pairs", "on_memory_allocate"];
/// Envoy hands over the body, which is needed where it is signed, and then that there is no more of it.
const BODY: [&str; 2] = ["on_request_body"; 2];
const ANSWERED: &str = "on_response_headers";

#[test]
fn a_request_costs_the_calls_it_must_and_no_other() {
    let bearer = json!({"host": "h", "auth": {"type": "BEARER", "token": "t"}});
    let query = json!({"host": "h", "auth": {"type": "API_KEY", "query": "k", "value": "v"}});
    let none = json!({"host": "h"});
    // In the form for one server, x-envoy-original-host is stripped as well. Stripped are authorization, unless it is
    // replaced, and x-api-key, content-length, cookie and proxy-authorization. The host is always set.
    // The response's head is read, unless there is no credential that it could be about.
    let of_bearer = [&[STRIP; 4][..], &[SET, SET, COUNT], &BODY, &[ANSWERED], &READ_ALL].concat();
    let of_none = [&[STRIP; 5][..], &[SET, COUNT], &BODY, &[ANSWERED]].concat();
    // Beside that, the path is read, set, and forgotten.
    let of_query = [&[STRIP; 5][..], &[SET], &READ, &[SET, STRIP, COUNT], &BODY, &[ANSWERED], &READ_ALL].concat();
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
                let begin = ["on_context_create", "on_request_headers"];
                let first = if selects { &["get_property", "on_memory_allocate", LOOK][..] } else { &[LOOK, STRIP] };
                let expected = [&begin, first, &expected, &["on_delete"]].concat();
                assert_eq!(calls_of_a_request(&fixture, "/c/mcp").await, expected, "{server}");
            }
        }
    });
}

#[test]
fn a_request_that_is_signed_costs_the_calls_it_must_and_no_other() {
    run(async {
        let options = Options { wasm_log_level: "trace", concurrency: 1, ..Options::default() };
        let server = json!({"host": "h", "auth": {
            "type": "AWS_SIGV4", "region": "r", "service": "s", "accessKeyId": "a", "secretAccessKey": "s",
        }});
        let filter = sees_bodies(upstream_auth(&server));
        let fixture = Fixture::start_with(&options, |upstream| {
            Gateway::default().cluster(filtered_cluster("c", upstream, Protocol::Http1, filter))
        })
        .await;
        // The first request defines the counter, and sets the tick that looks for bodies that do not come.
        calls_of_a_request(&fixture, "/c/mcp").await;
        let now = "get_current_time_nanoseconds";
        let (head, piece) = (["on_context_create", "on_request_headers"], ["on_request_body", "get_buffer_bytes"]);
        // Whether it is an upgrade, which it is not, and what it says of its length.
        let looks = [LOOK, READ[0], READ[0], READ[1]];
        let signs = ["on_request_body", "get_header_map_pairs", READ[1], now];
        let expected = [
            &head[..],
            &looks,
            // What is stripped beside the caller's signature, and that; the host is set.
            &[STRIP; 5],
            &[SET],
            &[STRIP; 4],
            &[now],
            &piece,
            &[READ[1]],
            &signs,
            // The date, the hash, the length and the signature.
            &[SET; 4],
            &[COUNT, ANSWERED],
            &READ_ALL,
            &["on_delete"],
        ]
        .concat();
        assert_eq!(calls_of_a_request(&fixture, "/c/mcp").await, expected);
    });
}
