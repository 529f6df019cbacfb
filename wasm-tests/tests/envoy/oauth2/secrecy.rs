//! No token and no client secret is in Envoy's log, at the level where it shows all that the filter does.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hyper::StatusCode;
use serde_json::json;
use wasm_tests::envoy::Options;
use wasm_tests::token_server::Behaviour;
use wasm_tests::upstream::Refused;

use super::{Place, SECRET, World, options};
use crate::fixture::run;

#[test]
fn at_trace_level_neither_tokens_nor_the_clients_secret_are_logged() {
    run(async {
        for (place, method) in [
            (Place::Listener, "client_secret_basic"),
            (Place::Cluster, "client_secret_post"),
            (Place::Listener, "client_secret_jwt"),
        ] {
            let trace = Options { wasm_log_level: "trace", ..options() };
            let auth = json!({"clientAuth": method, "maxWaitMs": 200});
            let world =
                World::start_with(&trace, place, auth, |tokens| tokens.behave(Behaviour::Grants(json!(2)))).await;
            // One token after the other, one of them refused by the upstream, and a token server that repeats
            // what it was sent.
            world
                .until("has the second token", |_, seen| {
                    seen.first().is_some_and(|seen| seen.head.header("authorization") == ["Bearer token-2"])
                })
                .await;
            world.fixture.upstream.refuse(Refused::All);
            assert_eq!(world.request().await.0.status, 502);
            world.fixture.upstream.refuse(Refused::Nobody);
            world.until("is served again", |reply, _| reply.status == 200).await;
            let asked = world.tokens.asked().pop().unwrap();
            let authorization = asked.head.header("authorization").concat();
            let repeated = format!("{:?} {}", asked.form, authorization.trim_start_matches("Basic "));
            let body = json!({"error": "invalid_client", "error_description": repeated});
            world.tokens.behave(Behaviour::Says(StatusCode::UNAUTHORIZED, body));
            world.until("is refused", |reply, _| reply.status == 503).await;

            let log = world.fixture.envoy.log().unwrap();
            for shown in ["proxy_set_shared_data", "proxy_http_call", "it answers 401 invalid_client"] {
                assert!(log.contains(shown), "{shown} is not in the log");
            }
            let basic = STANDARD.encode(format!("odock:{SECRET}"));
            for secret in [SECRET, basic.as_str(), "eyJ", "theirs"] {
                assert!(!log.contains(secret), "{method}: {secret} is in the log");
            }
            let granted = |text: &str| text.starts_with(|first: char| first.is_ascii_digit());
            assert!(!log.split("token-").skip(1).any(granted), "{method}: a token is in the log");
        }
    });
}
