//! No secret is in Envoy's log, at the level where it shows all that the filter does and says.

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hyper::StatusCode;
use serde_json::json;
use wasm_tests::credentials_server::{Behaviour, CONTAINER_TOKEN, CredentialsServer, WEB_IDENTITY};
use wasm_tests::envoy::Options;

use super::fetched::{KINDS, World, each_kind};
use super::{SECRET, SESSION_TOKEN, TEMPORARY_KEY, THEIRS, auth, fixed, gateway, seeing_bodies, start};
use crate::fixture::{TestRequest, run};
use crate::oauth2::Place;

fn assert_secret(log: &str, secrets: &[String], context: &str) {
    for shown in ["[host->vm] proxy_on_request_body", "[vm->host] env.proxy_replace_header_map_value"] {
        assert!(log.contains(shown), "{context}: {shown} is not in the log");
    }
    for secret in secrets {
        for form in [secret.clone(), STANDARD.encode(secret), secret.replace('+', "%2B").replace('/', "%2F")] {
            assert!(!log.contains(&form), "{context}: {form} is in the log");
        }
    }
}

#[test]
fn at_trace_level_no_static_credentials_are_logged_neither_ours_nor_the_callers() {
    run(async {
        for place in [Place::Listener, Place::Cluster] {
            let auth = auth(json!({"accessKeyId": TEMPORARY_KEY, "sessionToken": SESSION_TOKEN}));
            let gateway = |upstream| gateway(place, auth, upstream, seeing_bodies);
            let fixture = start(&Options::default(), fixed, gateway).await;
            for (method, body) in [("POST", &b"b0dy-0f-the-c4ller"[..]), ("GET", b"")] {
                let request = TestRequest { method, path: "/c/mcp", headers: &THEIRS, body, ..TestRequest::default() };
                assert_eq!(fixture.exchange(request).await.0.status, 200, "{place:?}");
            }
            let secrets = [SECRET, SESSION_TOKEN, "theirs", "b0dy-0f-the-c4ller"].map(str::to_owned);
            assert_secret(&fixture.envoy.log().unwrap(), &secrets, &format!("{place:?}"));
        }
    });
}

#[test]
fn at_trace_level_neither_fetched_credentials_nor_what_they_are_fetched_with_are_logged() {
    run(async {
        // One after the other, one of them refused by the MCP server.
        let short = |endpoint: &CredentialsServer| endpoint.behave(Behaviour::Grants(Duration::from_secs(3)));
        let servers = each_kind(&json!({"maxWaitMs": 200}));
        let world = World::start_with(&Options::default(), Place::Cluster, &servers, short).await;
        let check = async |kind| {
            world.until(kind, 200).await;
            // That may be the second by now, or become it.
            while world.request(kind).await.0.status == 200 {
                world.expired.lock().unwrap().extend(world.granted(kind));
            }
            world.until(kind, 200).await;
            // The endpoint repeats what it was sent, and what it gave.
            let granted = world.endpoint(kind).granted().all();
            let repeated = format!("{WEB_IDENTITY} {CONTAINER_TOKEN} {granted:?}");
            let failed = json!({"Code": "Failed", "Message": repeated}).to_string();
            world.endpoint(kind).behave(Behaviour::Says(StatusCode::OK, failed));
            let outcome = if kind == "webIdentity" { "malformed" } else { "unavailable" };
            world.metric_reaches(&format!("token_fetches.outcome.{outcome}"), kind, 1).await;
            let denied = format!("<Error><Code>AccessDenied</Code><Message>{repeated}</Message></Error>");
            world.endpoint(kind).behave(Behaviour::Says(StatusCode::FORBIDDEN, denied));
            world.metric_reaches("token_fetches.outcome.refused", kind, 1).await;
        };
        tokio::join!(check("container"), check("imds"), check("webIdentity"));
        let mut secrets = vec![CONTAINER_TOKEN.to_owned(), WEB_IDENTITY.to_owned(), "s3ss10n".to_owned()];
        for credentials in KINDS.iter().flat_map(|kind| world.endpoint(kind).granted().all()) {
            secrets.extend([credentials.secret_access_key, credentials.session_token.unwrap()]);
        }
        assert_secret(&world.fixture.envoy.log().unwrap(), &secrets, "fetched");
    });
}
