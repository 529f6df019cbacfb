//! What happens when a token gets old, and when its server has a bad day.

use std::time::{Duration, Instant};

use hyper::StatusCode;
use serde_json::json;
use wasm_tests::token_server::Behaviour;

use super::{Place, World};
use crate::fixture::run;

#[test]
fn under_steady_load_tokens_are_refreshed_in_the_background_and_no_request_waits() {
    const LIFETIME: Duration = Duration::from_secs(3);
    run(async {
        for place in [Place::Listener, Place::Cluster] {
            let lifetime = Behaviour::Grants(json!(LIFETIME.as_secs()));
            let world = World::start(place, json!({}), |tokens| tokens.behave(lifetime)).await;
            world.metric_is("token_fetches.outcome.granted.server.c", 1).await;
            let begin = Instant::now();
            let mut used = Vec::new();
            while world.tokens.asked().len() < 4 {
                let (reply, seen) = world.request().await;
                assert_eq!(reply.status, 200);
                used.push(seen[0].head.header("authorization").concat());
            }
            assert_eq!(world.metric("waiting_requests.server.c").await, None, "a request waited");
            // A refresh is due after four fifths of the lifetime, and a tenth of it at random before.
            for pair in world.tokens.asked().windows(2) {
                let between = pair[1].at.duration_since(pair[0].at);
                assert!(between >= LIFETIME * 7 / 10, "{between:?}");
            }
            used.dedup();
            assert_eq!(used[..3], ["Bearer token-1", "Bearer token-2", "Bearer token-3"], "{:?}", begin.elapsed());
        }
    });
}

#[test]
fn while_the_token_server_is_down_the_old_token_serves_until_it_expires_and_then_all_heals_by_itself() {
    run(async {
        let lifetime = Behaviour::Grants(json!(4));
        let auth = json!({"maxWaitMs": 200});
        let world = World::start(Place::Listener, auth, |tokens| tokens.behave(lifetime)).await;
        world.metric_is("token_fetches.outcome.granted.server.c", 1).await;
        world.tokens.behave(Behaviour::Says(StatusCode::SERVICE_UNAVAILABLE, json!({})));
        // The refresh fails, and requests are served still.
        world.metric_is("token_fetches.outcome.unavailable.server.c", 1).await;
        let (reply, seen) = world.request().await;
        assert_eq!(reply.status, 200);
        assert_eq!(seen[0].head.header("authorization"), ["Bearer token-1"]);
        let mut served = 0;
        let (reply, _) = loop {
            let (reply, seen) = world.request().await;
            if reply.status != 200 {
                break (reply, seen);
            }
            served += 1;
        };
        assert!(served > 0);
        assert_eq!(reply.status, 503);
        assert_eq!(reply.json()["error"]["data"]["reason"], "token_unavailable");
        assert!(reply.header("retry-after").is_some());
        // Half a second, one, two, four: the delays double.
        world.tokens.wait_for(6).await.unwrap();
        let asked = world.tokens.asked();
        let between: Vec<_> = asked.windows(2).skip(1).map(|pair| pair[1].at.duration_since(pair[0].at)).collect();
        for (pair, least) in between.iter().zip([125, 250, 500, 1000]) {
            assert!(*pair >= Duration::from_millis(least), "{between:?}");
        }
        world.tokens.behave(Behaviour::Grants(json!(3600)));
        let before = world.tokens.asked().len();
        world.until("is served", |reply, _| reply.status == 200).await;
        assert!(world.tokens.asked().len() <= before + 1);
    });
}

#[test]
fn a_client_that_is_refused_is_not_asked_for_again_soon_and_heals_without_a_restart() {
    run(async {
        let world = World::start(Place::Listener, json!({}), |tokens| {
            tokens.behave(Behaviour::Says(StatusCode::UNAUTHORIZED, json!({"error": "invalid_client"})));
        })
        .await;
        world.metric_is("token_fetches.outcome.refused.server.c", 1).await;
        let mut refused = 0;
        while world.tokens.asked().len() < 2 {
            let (reply, _) = world.request().await;
            assert_eq!(reply.status, 503);
            refused += usize::from(reply.json()["error"]["data"]["reason"] == "token_refused");
        }
        assert!(refused > 100, "{refused} requests until the second attempt");
        world.tokens.behave(Behaviour::Grants(json!(3600)));
        world.until("is served", |reply, _| reply.status == 200).await;
        let asked = world.tokens.asked();
        assert!(asked.len() <= 3, "{}", asked.len());
        assert!(asked[1].at.duration_since(asked[0].at) >= Duration::from_secs(5));
    });
}
