//! A credential that its upstream challenged serves until there is a better one.

use std::time::Duration;

use bytes::Bytes;
use hyper::StatusCode;
use serde_json::json;
use wasm_tests::client::Protocol;
use wasm_tests::gateway::{Gateway, cluster, upstream_auth};
use wasm_tests::token_server::{Behaviour, TokenServer};
use wasm_tests::upstream::Refused;

use super::{ANY, Place, TOKENS, World, auth, options};
use crate::fixture::{Fixture, TestRequest, run};

/// What a token server says that is down.
fn down() -> Behaviour {
    Behaviour::Answers(StatusCode::SERVICE_UNAVAILABLE, Vec::new(), Bytes::new())
}

/// What it says as the client's secret was revoked.
fn denies() -> Behaviour {
    Behaviour::Says(StatusCode::UNAUTHORIZED, json!({"error": "invalid_client"}))
}

#[test]
fn one_bare_401_costs_one_request_while_no_token_comes() {
    run(async {
        for (place, behaviour) in [(Place::Listener, down()), (Place::Cluster, down()), (Place::Listener, denies())] {
            let world = World::start(place, json!({}), |_| {}).await;
            world.until("is served", |reply, _| reply.status == 200).await;
            world.tokens.behave(behaviour);
            let (reply, _) = world.request_to("/c/status/401").await;
            assert_eq!(reply.status, 502);
            assert_eq!(reply.json()["error"]["data"]["reason"], "upstream_unauthorized");
            for number in 0..200 {
                let (reply, seen) = world.request().await;
                assert_eq!(reply.status, 200, "{place:?} {number}: {:?}", reply.json());
                assert_eq!(seen[0].head.header("authorization"), ["Bearer token-1"]);
            }
            world.metric_is("dropped_tokens.server.c", 1).await;
            let expires = world.metric("token_expires_at_seconds.server.c").await;
            assert!(expires.is_some_and(|expires| expires > 0), "{expires:?}");
            // The replacement comes as soon as the token server is well.
            if place == Place::Cluster {
                world.tokens.behave(Behaviour::Grants(json!(3600)));
                let is_new = |seen: &[wasm_tests::upstream::Seen]| {
                    seen.iter().any(|seen| seen.head.header("authorization") == ["Bearer token-2"])
                };
                world.until("has the new token", |_, seen| is_new(seen)).await;
            }
        }
    });
}

#[test]
fn a_server_that_refuses_all_costs_its_neighbour_no_request() {
    run(async {
        let tokens = TokenServer::start(ANY).await.unwrap();
        let server = |host: &str| json!({"host": host, "auth": auth(tokens.address(), json!({}))});
        let fixture = Fixture::start_with(&options(), |upstream| {
            Gateway::default()
                .filter(upstream_auth(&json!({"servers": {"c": server("c"), "refuses": server("refuses")}})))
                .cluster(cluster("c", upstream, Protocol::Http1))
                .cluster(cluster("refuses", upstream, Protocol::Http1))
                .cluster(cluster(TOKENS, tokens.address(), Protocol::Http1))
        })
        .await;
        let world = World { fixture, tokens };
        world.until("is served", |reply, _| reply.status == 200).await;
        world.tokens.behave(down());
        for number in 0..150 {
            let path = "/refuses/status/401";
            let refused = world.fixture.exchange(TestRequest { path, ..TestRequest::default() });
            let ((refused, _), (served, _)) = tokio::join!(refused, world.request());
            assert_eq!((refused.status.as_u16(), served.status.as_u16()), (502, 200), "{number}");
        }
    });
}

/// The lifetime of tokens while the upstream's clock is behind: they are refreshed 2 to 3 s before their end.
const LIFETIME: u64 = 10;

/// How far it is behind.
const BEHIND: Duration = Duration::from_millis(1500);

#[test]
fn an_upstream_whose_clock_is_behind_costs_few_requests() {
    const CLIENTS: usize = 4;
    const REFRESHES: usize = 3;
    async fn requests(world: &World) -> (usize, usize) {
        let (mut served, mut refused) = (0, 0);
        while world.tokens.asked().len() <= REFRESHES {
            match world.request().await.0.status.as_u16() {
                200 => served += 1,
                502 => refused += 1,
                status => panic!("{status}"),
            }
        }
        (served, refused)
    }
    run(async {
        let world = World::start(Place::Listener, json!({}), |tokens| {
            tokens.behave(Behaviour::Grants(json!(LIFETIME)));
        })
        .await;
        world.until("is served", |reply, _| reply.status == 200).await;
        world.fixture.upstream.refuse(Refused::Younger(world.tokens.issued(), BEHIND));
        // The first token has no former one that could serve.
        world.until("is served again", |reply, _| reply.status == 200).await;
        let counts = tokio::join!(requests(&world), requests(&world), requests(&world), requests(&world));
        let counts: [(usize, usize); CLIENTS] = [counts.0, counts.1, counts.2, counts.3];
        let served: usize = counts.iter().map(|(served, _)| served).sum();
        let refused: usize = counts.iter().map(|(_, refused)| refused).sum();
        // Each client may meet a new token once before all workers know that it was challenged.
        assert!(refused <= (REFRESHES + 1) * CLIENTS, "{refused} of {}", refused + served);
        assert!(served > 20 * refused, "{refused} of {}", refused + served);
    });
}
