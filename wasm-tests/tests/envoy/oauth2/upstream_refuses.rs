//! The MCP server refuses the credential.

use bytes::Bytes;
use hyper::StatusCode;
use serde_json::{Value, json};
use wasm_tests::client::Protocol;
use wasm_tests::gateway::{Gateway, cluster, filtered_cluster, upstream_auth};
use wasm_tests::token_server::{Behaviour, TokenServer};
use wasm_tests::upstream::Refused;

use super::{ANY, Place, TOKENS, World, auth, gateway, options};
use crate::fixture::{Fixture, TestRequest, new_id, run};

#[test]
fn a_refused_token_is_dropped_and_the_next_request_has_a_fresh_one_on_every_worker() {
    run(async {
        for place in [Place::Listener, Place::Cluster] {
            let world = World::start(place, json!({}), |_| {}).await;
            world.metric_is("token_fetches.outcome.granted.server.c", 1).await;
            for _ in 0..16 {
                assert_eq!(world.request().await.0.status, 200);
            }
            world.fixture.upstream.refuse(Refused::These(vec!["Bearer token-1".to_owned()]));
            let (reply, seen) = world.request().await;
            assert_eq!(seen[0].head.header("authorization"), ["Bearer token-1"]);
            assert_eq!(reply.status, 502);
            assert_eq!(reply.json()["error"]["data"]["reason"], "upstream_unauthorized");
            assert_eq!(reply.header("www-authenticate"), None);
            for _ in 0..32 {
                let (reply, seen) = world.request().await;
                assert_eq!(seen[0].head.header("authorization"), ["Bearer token-2"], "{place:?}");
                assert_eq!(reply.status, 200);
            }
            assert_eq!(world.tokens.asked().len(), 2);
            world.metric_is("dropped_tokens.server.c", 1).await;
            world.metric_is("refused_replies.outcome.upstream_unauthorized.server.c", 1).await;
        }
    });
}

#[test]
fn a_late_word_against_a_token_that_is_gone_drops_no_other() {
    run(async {
        for place in [Place::Listener, Place::Cluster] {
            let world = World::start(place, json!({}), |_| {}).await;
            world.until("is served", |reply, _| reply.status == 200).await;
            world.fixture.upstream.refuse(Refused::These(vec!["Bearer token-1".to_owned()]));
            // It goes out with the first token, and its 401 comes when the second is long there.
            let id = new_id();
            let late = world.fixture.exchange_as(&id, TestRequest { path: "/c/held", ..TestRequest::default() });
            let others = async {
                world.fixture.upstream.wait_for(&id, 1).await.unwrap();
                assert_eq!(world.request().await.0.status, 502);
                assert_eq!(world.request().await.0.status, 200);
                world.fixture.upstream.release(&id);
            };
            let ((reply, _), ()) = tokio::join!(late, others);
            assert_eq!(reply.status, 502, "{place:?}");
            for _ in 0..16 {
                let (reply, seen) = world.request().await;
                assert_eq!(reply.status, 200, "{place:?}");
                assert_eq!(seen[0].head.header("authorization"), ["Bearer token-2"]);
            }
            assert_eq!(world.tokens.asked().len(), 2, "{place:?}");
            assert_eq!(world.metric("dropped_tokens.server.c").await, Some(1), "{place:?}");
        }
    });
}

#[test]
fn an_upstream_that_refuses_every_token_costs_few_token_requests() {
    run(async {
        for place in [Place::Listener, Place::Cluster] {
            let world = World::start(place, json!({}), |_| {}).await;
            world.fixture.upstream.refuse(Refused::All);
            for _ in 0..300 {
                let (reply, _) = world.request().await;
                assert_eq!(reply.status, 502);
                assert_eq!(reply.json()["error"]["data"]["reason"], "upstream_unauthorized");
            }
            // The first, one in its place, and one more if this took longer than the first backoff.
            assert!(world.tokens.asked().len() <= 3, "{}", world.tokens.asked().len());
            // It heals as soon as the upstream does.
            world.fixture.upstream.refuse(Refused::Nobody);
            assert_eq!(world.request().await.0.status, 200);
        }
    });
}

/// A route to `c` that retries a 401 once.
fn retrying(server: &Value, upstream: std::net::SocketAddr, tokens: std::net::SocketAddr) -> Gateway {
    let retry = json!({"retry_on": "retriable-status-codes", "retriable_status_codes": [401], "num_retries": 1});
    let route = json!({"match": {"prefix": "/c/"}, "route": {"cluster": "c", "timeout": "0s", "retry_policy": retry}});
    Gateway::default()
        .route(route)
        .cluster(filtered_cluster("c", upstream, Protocol::Http1, upstream_auth(server)))
        .cluster(cluster(TOKENS, tokens, Protocol::Http1))
}

/// A filter with `retryOn401` in a cluster whose route retries, after the first request was served.
async fn retrying_world() -> World {
    let tokens = TokenServer::start(ANY).await.unwrap();
    let server = json!({"host": "c", "auth": auth(tokens.address(), json!({"retryOn401": true}))});
    let fixture = Fixture::start_with(&options(), |upstream| retrying(&server, upstream, tokens.address())).await;
    let world = World { fixture, tokens };
    world.until("is served", |reply, _| reply.status == 200).await;
    world
}

#[test]
fn in_a_cluster_the_retry_of_a_401_carries_a_fresh_token() {
    run(async {
        let world = retrying_world().await;
        world.fixture.upstream.refuse(Refused::These(vec!["Bearer token-1".to_owned()]));
        let (reply, seen) = world.request().await;
        assert_eq!(reply.status, 200);
        let sent: Vec<_> = seen.iter().map(|seen| seen.head.header("authorization").concat()).collect();
        assert_eq!(sent, ["Bearer token-1", "Bearer token-2"]);
        assert_eq!(seen[0].body, seen[1].body);

        // If that one is refused, too, the caller is told so.
        world.fixture.upstream.refuse(Refused::All);
        for _ in 0..3 {
            let (reply, _) = world.request().await;
            assert_eq!(reply.status, 502);
            assert_eq!(reply.json()["error"]["data"]["reason"], "upstream_unauthorized");
            assert_eq!(reply.header("www-authenticate"), None);
        }
        assert!(world.tokens.asked().len() <= 3);
    });
}

/// The retry would carry the second best, which is the same token: its bare 401 would be the caller's.
#[test]
fn a_retry_without_another_token_does_not_bring_the_caller_a_401() {
    run(async {
        let world = retrying_world().await;
        let down = Behaviour::Answers(StatusCode::SERVICE_UNAVAILABLE, Vec::new(), Bytes::new());
        world.tokens.behave(down);
        world.fixture.upstream.refuse(Refused::All);
        for number in 0..50 {
            let (reply, seen) = world.request().await;
            assert_eq!(reply.status, 502, "{number}");
            assert_eq!(reply.json()["error"]["data"]["reason"], "upstream_unauthorized");
            assert_eq!(reply.header("www-authenticate"), None);
            assert!(seen.iter().all(|seen| seen.head.header("authorization") == ["Bearer token-1"]));
        }
        // The token is good for the rest.
        world.fixture.upstream.refuse(Refused::Nobody);
        assert_eq!(world.request().await.0.status, 200);
    });
}

#[test]
fn a_challenge_does_not_reach_the_caller_unless_it_may() {
    const PASSED: Option<&str> = None;
    let cases = [
        ("401", Some("upstream_unauthorized")),
        ("401/challenge", Some("upstream_unauthorized")),
        ("403", PASSED),
        ("403/challenge", Some("upstream_forbidden")),
        ("400", PASSED),
        ("404", PASSED),
        ("404/challenge", PASSED),
        ("405", PASSED),
        ("500", PASSED),
        ("200/challenge", PASSED),
    ];
    run(async {
        let tokens = TokenServer::start(ANY).await.unwrap();
        let bearer = |more: &str| json!({"type": "BEARER", "token": "t", "passChallenge": more == "pass"});
        let auths = [
            (auth(tokens.address(), json!({})), true),
            (bearer(""), true),
            (json!({"type": "API_KEY", "query": "k", "value": "v"}), true),
            (bearer("pass"), false),
            (auth(tokens.address(), json!({"passChallenge": true})), false),
            (json!({"type": "NONE"}), false),
        ];
        for (auth, hides) in auths {
            for place in [Place::Listener, Place::Cluster] {
                let server = json!({"host": "c", "auth": auth});
                let fixture = Fixture::start(|upstream| gateway(place, &server, upstream, tokens.address())).await;
                for (path, reason) in cases {
                    let uri = format!("/c/status/{path}");
                    let (reply, seen) = fixture.exchange(TestRequest { path: &uri, ..TestRequest::default() }).await;
                    assert_eq!(seen.len(), 1, "{auth} {place:?} {path}");
                    let status = path.split('/').next().unwrap();
                    match reason.filter(|_| hides) {
                        Some(reason) => {
                            assert_eq!(reply.status, 502, "{auth} {place:?} {path}");
                            assert_eq!(reply.json()["error"]["data"]["reason"], reason);
                            assert_eq!(reply.header("content-type").as_deref(), Some("application/json"));
                            assert_eq!(reply.header("www-authenticate"), None, "{auth} {place:?} {path}");
                        }
                        None => {
                            assert_eq!(reply.status.as_str(), status, "{auth} {place:?} {path}");
                            let has_challenge = reply.header("www-authenticate").is_some();
                            let may_have = path.ends_with("challenge") && !hides;
                            assert_eq!(has_challenge, may_have, "{auth} {place:?} {path}");
                        }
                    }
                }
            }
        }
    });
}
