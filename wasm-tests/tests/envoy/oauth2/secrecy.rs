//! No token and no client secret is in Envoy's log, at the level where it shows all that the filter does.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hyper::StatusCode;
use serde_json::json;
use wasm_tests::client::{PATIENCE, Protocol};
use wasm_tests::envoy::Options;
use wasm_tests::gateway::{Gateway, cluster, upstream_auth};
use wasm_tests::token_server::{Behaviour, TokenServer};
use wasm_tests::upstream::Refused;

use super::{ANY, POLL, Place, SECRET, TOKENS, World, auth, metric, options};
use crate::fixture::{Fixture, run};

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

/// A secret that no spelling leaves as it is.
const ODD: &str = "p&ss<w\"rd/k+=%41zz";

/// [`ODD`] in spellings in which token servers repeat what they were sent.
fn spellings() -> Vec<String> {
    let bytes = ODD.as_bytes();
    let json = serde_json::to_string(ODD).unwrap();
    vec![
        ODD.to_owned(),
        bytes.iter().map(|byte| format!("%{byte:02x}")).collect(),
        bytes.iter().map(|byte| format!("%{byte:02X}")).collect(),
        bytes.iter().map(|byte| format!("&#{byte};")).collect(),
        bytes.iter().map(|byte| format!("\\u{byte:04x}")).collect(),
        ODD.replace('&', "&amp;").replace('<', "&lt;").replace('"', "&quot;"),
        json.trim_matches('"').to_owned(),
        form_urlencoded::byte_serialize(bytes).collect(),
        STANDARD.encode(ODD),
        STANDARD.encode(format!("odock:{ODD}")),
        STANDARD.encode(format!("i{ODD}")),
        STANDARD.encode(&ODD[3..9]),
        bytes.iter().map(|byte| format!("&#{byte}")).collect(),
        bytes.iter().map(|byte| format!("\\x{byte:02x}")).collect(),
        bytes.iter().map(|byte| format!("%u{byte:04x}")).collect(),
        html_names(),
        ODD[..12].to_owned(),
        ODD[5..11].to_owned(),
    ]
}

/// [`ODD`] as libraries write it that escape all punctuation.
fn html_names() -> String {
    let names = [
        ('&', "&amp;"),
        ('<', "&lt;"),
        ('"', "&quot;"),
        ('/', "&sol;"),
        ('+', "&plus;"),
        ('=', "&equals;"),
        ('%', "&percnt;"),
    ];
    names.into_iter().fold(ODD.to_owned(), |text, (letter, name)| text.replace(letter, name))
}

#[test]
fn no_piece_of_an_assertion_is_logged() {
    run(async {
        let trace = Options { wasm_log_level: "trace", ..options() };
        let auth = json!({"clientAuth": "client_secret_jwt", "maxWaitMs": 200});
        let world = World::start_with(&trace, Place::Listener, auth, |tokens| tokens.behave(Behaviour::Repeats)).await;
        world.metric_is("token_fetches.outcome.refused.server.c", 1).await;
        let asked = world.tokens.asked();
        let log = world.fixture.envoy.log().unwrap();
        assert!(log.contains("invalid_client (its description is withheld"), "{log}");
        let assertion = asked[0].parameter("client_assertion").concat();
        for piece in assertion.as_bytes().windows(6) {
            let piece = std::str::from_utf8(piece).unwrap();
            assert!(!log.contains(piece), "{piece} of {assertion}");
        }
    });
}

#[test]
fn no_spelling_of_the_clients_secret_is_logged() {
    run(async {
        let tokens = TokenServer::start(ANY).await.unwrap();
        let mut servers = serde_json::Map::new();
        for (number, spelling) in spellings().into_iter().enumerate() {
            let scope = format!("s{number}");
            let body = json!({"error": "invalid_client", "error_description": format!("it is {spelling}, or is it")});
            tokens.behave_for(&scope, Behaviour::Says(StatusCode::UNAUTHORIZED, body));
            let more = json!({"scope": scope, "clientSecret": ODD, "maxWaitMs": 300});
            servers.insert(scope.clone(), json!({"host": scope, "auth": auth(tokens.address(), more)}));
        }
        let trace = Options { wasm_log_level: "trace", ..options() };
        let fixture = Fixture::start_with(&trace, |_| {
            Gateway::default().filter(upstream_auth(&json!({"servers": servers}))).cluster(cluster(
                TOKENS,
                tokens.address(),
                Protocol::Http1,
            ))
        })
        .await;
        for name in servers.keys() {
            let reached = async {
                let denied = format!("token_fetches.outcome.refused.server.{name}");
                while metric(&fixture, &denied).await.is_none() {
                    tokio::time::sleep(POLL).await;
                }
            };
            tokio::time::timeout(PATIENCE, reached).await.unwrap();
        }
        let log = fixture.envoy.log().unwrap();
        assert_eq!(log.matches("invalid_client (its description is withheld").count(), servers.len(), "{log}");
        for spelling in spellings() {
            for window in spelling.as_bytes().windows(6) {
                let window = std::str::from_utf8(window).unwrap();
                assert!(!log.contains(window), "{window} of {spelling}");
            }
        }
    });
}
