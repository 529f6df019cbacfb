//! Credentials that are not fetched: from the environment, and from the filter state.

use serde_json::json;
use wasm_tests::aws_peer::Credentials;
use wasm_tests::envoy::Options;

use super::{
    ACCESS_KEY, OPTIONS, SECRET, auth, fixed, gateway, into_filter_state, key_id, scoped, seeing_bodies, start,
};
use crate::fixture::{TestRequest, envoy_has, run};
use crate::oauth2::Place;

#[test]
fn static_credentials_come_from_the_environment() {
    run(async {
        let auth = auth(json!({"secretAccessKey": "${TEST_SECRET}"}));
        let options = Options { environment: &[("TEST_SECRET", SECRET)], ..OPTIONS };
        let gateway = |upstream| gateway(Place::Cluster, auth, upstream, seeing_bodies);
        let fixture = start(&options, fixed, gateway).await;
        let (reply, _) = fixture.exchange(TestRequest { path: "/c/mcp", ..TestRequest::default() }).await;
        assert_eq!(reply.status, 200);
    });
}

#[test]
fn static_credentials_come_from_the_filter_state_as_they_are_at_the_moment() {
    if !envoy_has(38, "secrets in the filter state") {
        return;
    }
    run(async {
        let set = into_filter_state(&["x-id", "x-secret", "x-session"]);
        let auth = scoped(json!({
            "accessKeyId": {"fromFilterState": "x-id"},
            "secretAccessKey": {"fromFilterState": "x-secret"},
            "sessionToken": {"fromFilterState": "x-session"},
        }));
        let reversed: String = SECRET.chars().rev().collect();
        let of = |id: &str, secret: &str| Credentials {
            access_key_id: id.to_owned(),
            secret_access_key: secret.to_owned(),
            session_token: Some(format!("session-of-{id}")),
        };
        let known = [of(ACCESS_KEY, SECRET), of("AKIAOTHER", &reversed)];
        for place in [Place::Listener, Place::Cluster] {
            let lookup = {
                let known = known.clone();
                move |id: &str| known.iter().find(|credentials| credentials.access_key_id == id).cloned()
            };
            let fixture = start(&OPTIONS, lookup, |upstream| {
                gateway(place, auth.clone(), upstream, seeing_bodies).filter_first(set.clone())
            })
            .await;
            for round in 0..6 {
                let Credentials { access_key_id, secret_access_key, session_token } = &known[round % 2];
                let headers = [
                    ("x-id", access_key_id.as_str()),
                    ("x-secret", secret_access_key.as_str()),
                    ("x-session", session_token.as_deref().unwrap()),
                ];
                let request = TestRequest { path: "/c/mcp", headers: &headers, ..TestRequest::default() };
                let (reply, seen) = fixture.exchange(request).await;
                assert_eq!(reply.status, 200, "{place:?}");
                assert_eq!(key_id(&seen[0]), *access_key_id, "{place:?}");
            }
            let (reply, seen) = fixture.exchange(TestRequest { path: "/c/mcp", ..TestRequest::default() }).await;
            assert_eq!((reply.status.as_u16(), seen.len()), (503, 0), "{place:?}");
            assert_eq!(reply.json()["error"]["data"]["reason"], "secret_missing", "{place:?}");
        }
    });
}
