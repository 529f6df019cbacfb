//! When the credentials do not come.

use std::time::{Duration, Instant};

use hyper::StatusCode;
use serde_json::json;
use wasm_tests::credentials_server::{Behaviour, CredentialsServer};

use super::fetched::{KINDS, World, each_kind};
use crate::fixture::run;
use crate::oauth2::Place;

#[test]
fn while_the_endpoint_is_down_the_old_credentials_serve_until_they_expire_and_then_all_heals_by_itself() {
    const LIFETIME: Duration = Duration::from_secs(3);
    run(async {
        let short = Behaviour::Grants(LIFETIME);
        let servers = each_kind(&json!({"maxWaitMs": 200}));
        let world = World::start(Place::Listener, &servers, |endpoint| endpoint.behave(short.clone())).await;
        let check = async |kind| {
            world.metric_reaches("token_fetches.outcome.granted", kind, 1).await;
            let endpoint = world.endpoint(kind);
            let down = Instant::now();
            endpoint.behave(Behaviour::Says(StatusCode::SERVICE_UNAVAILABLE, String::new()));
            // The refresh fails, and requests are served still.
            world.metric_reaches("token_fetches.outcome.unavailable", kind, 1).await;
            assert_eq!(world.request(kind).await.0.status, 200, "{kind}");
            let reply = world.until(kind, 503).await;
            assert!(down.elapsed() <= LIFETIME + Duration::from_secs(1), "{kind}: served long after they expired");
            assert_eq!(reply.json()["error"]["data"]["reason"], "token_unavailable", "{kind}");
            assert!(reply.header("retry-after").is_some(), "{kind}");
            let before = world.granted(kind).len();
            endpoint.behave(Behaviour::Grants(Duration::from_secs(3600)));
            world.until(kind, 200).await;
            assert_eq!(world.granted(kind).len(), before + 1, "{kind}");
        };
        tokio::join!(check("container"), check("imds"), check("webIdentity"));
    });
}

#[test]
fn an_endpoint_that_refuses_is_said_to_refuse() {
    let servers = [
        ("another-token", "container", json!({"authorizationToken": "another"})),
        ("no-token", "container", json!({"authorizationToken": null})),
        ("another-role", "imds", json!({"roleName": "nobody"})),
        ("another-identity", "webIdentity", json!({"webIdentityToken": "another"})),
        ("another-arn", "webIdentity", json!({"roleArn": "arn:aws:iam::123456789012:role/another"})),
    ];
    run(async {
        let world = World::start(Place::Listener, &servers, |_| {}).await;
        for (server, ..) in &servers {
            world.metric_reaches("token_fetches.outcome.refused", server, 1).await;
            assert_eq!(world.refused(server).await, "token_refused", "{server}");
        }
    });
}

#[test]
fn what_is_no_credentials_is_not_taken_for_some() {
    let answers = [
        ("nothing", "container", ""),
        ("page", "container", "<html>hello</html>"),
        ("cut", "container", r#"{"AccessKeyId":"ASIA","SecretAccessKey":"s""#),
        (
            "empty",
            "container",
            r#"{"AccessKeyId":"ASIA","SecretAccessKey":"","Token":"t","Expiration":"2999-01-01T00:00:00Z"}"#,
        ),
        (
            "line",
            "container",
            r#"{"AccessKeyId":"A\nB","SecretAccessKey":"s","Token":"t","Expiration":"2999-01-01T00:00:00Z"}"#,
        ),
        (
            "date",
            "container",
            r#"{"AccessKeyId":"A","SecretAccessKey":"s","Token":"t","Expiration":"2999-13-41T00:00:00Z"}"#,
        ),
        ("open", "webIdentity", "<Credentials><AccessKeyId>ASIA</AccessKeyId><SecretAccessKey>s"),
    ];
    run(async {
        let servers = answers.map(|(name, kind, _)| (name, kind, json!({"maxWaitMs": 200})));
        let world = World::start(Place::Listener, &servers, CredentialsServer::hold).await;
        for (server, _, answer) in answers {
            world.endpoint(server).behave(Behaviour::Says(StatusCode::OK, answer.to_owned()));
            world.endpoint(server).release();
        }
        for (server, ..) in answers {
            world.metric_reaches("token_fetches.outcome.malformed", server, 1).await;
            assert_eq!(world.refused(server).await, "token_unavailable", "{server}");
        }
    });
}

#[test]
fn an_endpoint_that_has_none_or_only_old_ones_is_asked_again() {
    let failed = r#"{"Code":"AssumeRoleUnauthorizedAccess","LastUpdated":"2026-01-01T00:00:00Z","Message":"no"}"#;
    run(async {
        let servers = [("none", "imds", json!({"maxWaitMs": 200})), ("old", "imds", json!({"maxWaitMs": 200}))];
        let world = World::start(Place::Cluster, &servers, CredentialsServer::hold).await;
        world.endpoint("none").behave(Behaviour::Says(StatusCode::OK, failed.to_owned()));
        world.endpoint("old").behave(Behaviour::Grants(Duration::ZERO));
        for (server, why) in [("none", "it answers AssumeRoleUnauthorizedAccess"), ("old", "keys that have expired")] {
            world.endpoint(server).release();
            world.metric_reaches("token_fetches.outcome.unavailable", server, 1).await;
            assert_eq!(world.refused(server).await, "token_unavailable", "{server}");
            let log = world.fixture.envoy.log().unwrap();
            assert!(log.contains(why), "{log}");
            world.endpoint(server).behave(Behaviour::Grants(Duration::from_secs(3600)));
            world.until(server, 200).await;
        }
    });
}

#[test]
fn an_endpoint_that_never_answers_costs_a_request_no_more_than_it_may_wait() {
    run(async {
        let more = json!({"maxWaitMs": 300, "requestTimeoutMs": 60_000});
        let world = World::start(Place::Cluster, &each_kind(&more), CredentialsServer::hold).await;
        for kind in KINDS {
            assert_eq!(world.refused(kind).await, "token_timeout", "{kind}");
            assert_eq!(world.endpoint(kind).asked().len(), 1, "{kind}");
        }
    });
}

#[test]
fn a_cluster_that_envoy_does_not_know_is_said_to_be_unknown() {
    run(async {
        let more = json!({"credentialsCluster": "nobody", "maxWaitMs": 200});
        let world = World::start(Place::Listener, &each_kind(&more), |_| {}).await;
        for kind in KINDS {
            world.metric_reaches("token_fetches.outcome.cluster_unknown", kind, 1).await;
            assert_eq!(world.refused(kind).await, "token_cluster_unknown", "{kind}");
        }
    });
}

#[test]
fn one_challenge_costs_one_request_while_the_endpoint_is_down() {
    run(async {
        let servers = each_kind(&json!({}));
        let world = World::start(Place::Listener, &servers, |_| {}).await;
        for kind in KINDS {
            world.until(kind, 200).await;
            world.endpoint(kind).behave(Behaviour::Says(StatusCode::SERVICE_UNAVAILABLE, String::new()));
            let challenged = world.granted(kind);
            world.expired.lock().unwrap().extend(challenged.clone());
            assert_eq!(world.request(kind).await.0.status, 502, "{kind}");
            world.expired.lock().unwrap().clear();
            for number in 0..50 {
                let (reply, _) = world.request(kind).await;
                assert_eq!(reply.status, 200, "{kind} {number}: {:?}", reply.json());
            }
            assert_eq!(world.granted(kind), challenged, "{kind}");
            world.endpoint(kind).behave(Behaviour::Grants(Duration::from_secs(3600)));
            world.metric_reaches("token_fetches.outcome.granted", kind, 2).await;
        }
    });
}
