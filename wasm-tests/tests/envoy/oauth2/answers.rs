//! What token servers answer, and what becomes of it.

use std::io::Write;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use hyper::StatusCode;
use serde_json::{Value, json};
use wasm_tests::client::Protocol;
use wasm_tests::gateway::{Gateway, cluster, upstream_auth};
use wasm_tests::token_server::{Behaviour, TokenServer};

use super::{ANY, Place, SECRET, TOKENS, World, auth, metric, options};
use crate::fixture::{Fixture, TestRequest, run};

/// What a caller gets.
enum Expected {
    /// 200 by a token that serves further requests, too.
    Served,
    /// 200, each request by a token of its own.
    ServedOnce,
    /// 503 with this reason.
    Refused(&'static str),
}

fn cases() -> Vec<(&'static str, Behaviour, Expected)> {
    use Behaviour::{Answers, Says, Truncates};
    use Expected::{Refused, Served, ServedOnce};
    const OK: StatusCode = StatusCode::OK;
    const BAD: StatusCode = StatusCode::BAD_REQUEST;
    let token = |more: Value| {
        let mut body = json!({"access_token": "{token}", "token_type": "Bearer"});
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        Says(OK, body)
    };
    let bytes = |body: &str| Answers(OK, vec![], Bytes::copy_from_slice(body.as_bytes()));
    let mut cases = vec![
        ("no-expires-in", Behaviour::Grants(Value::Null), Served),
        ("expires-in-text", token(json!({"expires_in": "3600"})), Served),
        ("expires-in-rubbish", token(json!({"expires_in": {"a": 1}})), Served),
        ("expires-in-huge", token(json!({"expires_in": 1_000_000_000_000_u64})), Served),
        ("expires-in-zero", token(json!({"expires_in": 0})), ServedOnce),
        ("expires-in-negative", token(json!({"expires_in": -3600})), ServedOnce),
        ("lower-case-type", token(json!({"token_type": "bearer"})), Served),
        ("with-extras", token(json!({"scope": "other", "refresh_token": "r", "error": null})), Served),
        ("status-201", Says(StatusCode::CREATED, json!({"access_token": "{token}", "token_type": "Bearer"})), Served),
        ("error-in-200", token(json!({"error": "invalid_scope"})), Refused("token_refused")),
        ("empty-error", token(json!({"error": ""})), Served),
        ("false-error", token(json!({"error": false})), Served),
        ("object-error", token(json!({"error": {}})), Served),
        ("no-type", Says(OK, json!({"access_token": "{token}", "expires_in": 3600})), Served),
        ("another-name-of-bearer", token(json!({"token_type": "BearerToken"})), Served),
        ("bearer-with-space", token(json!({"token_type": "Bearer "})), Served),
        ("byte-order-mark", bytes("\u{feff}{\"access_token\":\"token-7000\",\"token_type\":\"Bearer\"}"), Served),
        (
            "latin-1",
            Answers(OK, vec![], Bytes::from_static(b"{\"org\":\"M\xfcller\",\"access_token\":\"token-7001\"}")),
            Served,
        ),
        ("lone-surrogate", bytes(r#"{"org":"\ud800","access_token":"token-7002"}"#), Served),
        (
            "gzip",
            Answers(OK, vec![("content-encoding", "gzip".to_owned())], gzip(br#"{"access_token":"evil"}"#)),
            Refused("token_unavailable"),
        ),
        (
            "gzip-401",
            Answers(
                StatusCode::UNAUTHORIZED,
                vec![("content-encoding", "gzip".to_owned())],
                gzip(br#"{"error":"invalid_client"}"#),
            ),
            Refused("token_refused"),
        ),
        (
            "150-headers",
            Answers(OK, many_headers(), Bytes::from_static(b"{\"access_token\":\"evil\"}")),
            Refused("token_unavailable"),
        ),
        ("foreign-type", token(json!({"access_token": "evil", "token_type": "mac"})), Refused("token_unavailable")),
        ("no-token", Says(OK, json!({"token_type": "Bearer"})), Refused("token_unavailable")),
        ("token-is-a-number", token(json!({"access_token": 1})), Refused("token_unavailable")),
        ("empty-token", token(json!({"access_token": ""})), Refused("token_unavailable")),
        ("token-with-lines", token(json!({"access_token": "evil\r\nx-evil: 1"})), Refused("token_unavailable")),
        ("token-with-nul", token(json!({"access_token": "evil\0"})), Refused("token_unavailable")),
        ("token-with-spaces", token(json!({"access_token": "evil token"})), Refused("token_unavailable")),
        ("token-beyond-ascii", token(json!({"access_token": "evil\u{e9}"})), Refused("token_unavailable")),
        ("empty-body", bytes(""), Refused("token_unavailable")),
        ("html", bytes("<html><body>evil</body></html>"), Refused("token_unavailable")),
        ("not-an-object", bytes(r#"["evil"]"#), Refused("token_unavailable")),
        ("half-of-it", bytes(r#"{"access_token":"evil","token_type":"Bea"#), Refused("token_unavailable")),
        ("truncated", Truncates, Refused("token_unavailable")),
        ("ten-megabytes", bytes(&" ".repeat(10_000_000)), Refused("token_unavailable")),
        ("large-but-right", token(json!({"padding": "x".repeat(65_536)})), Refused("token_unavailable")),
        (
            "redirect",
            Answers(StatusCode::FOUND, vec![("location", "/elsewhere".to_owned())], Bytes::new()),
            Refused("token_unavailable"),
        ),
        (
            "redirect-of-a-post",
            Answers(StatusCode::TEMPORARY_REDIRECT, vec![("location", "/elsewhere".to_owned())], Bytes::new()),
            Refused("token_unavailable"),
        ),
        ("not-found", Answers(StatusCode::NOT_FOUND, vec![], Bytes::from_static(b"no")), Refused("token_unavailable")),
        ("forbidden", Answers(StatusCode::FORBIDDEN, vec![], Bytes::from_static(b"no")), Refused("token_unavailable")),
        ("misdirected", Answers(StatusCode::MISDIRECTED_REQUEST, vec![], Bytes::new()), Refused("token_unavailable")),
        (
            "unauthorized",
            Answers(StatusCode::UNAUTHORIZED, vec![], Bytes::from_static(b"no")),
            Refused("token_refused"),
        ),
        ("server-error", Says(StatusCode::INTERNAL_SERVER_ERROR, json!({})), Refused("token_unavailable")),
        ("says-later", Says(BAD, json!({"error": "temporarily_unavailable"})), Refused("token_unavailable")),
        (
            "repeats-the-secret",
            Says(BAD, json!({"error": "invalid_client", "error_description": format!("is it {SECRET}?")})),
            Refused("token_refused"),
        ),
    ];
    for error in [
        "invalid_client",
        "unauthorized_client",
        "unsupported_grant_type",
        "invalid_scope",
        "invalid_target",
        "invalid_request",
    ] {
        cases.push((
            error,
            Says(BAD, json!({"error": error, "error_description": "who\nare you"})),
            Refused("token_refused"),
        ));
    }
    cases
}

fn gzip(text: &[u8]) -> Bytes {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(text).unwrap();
    encoder.finish().unwrap().into()
}

/// More headers than Envoy takes.
fn many_headers() -> Vec<(&'static str, String)> {
    (0..150).map(|number| (&*format!("x-header-{number}").leak(), "x".to_owned())).collect()
}

#[test]
fn each_answer_is_a_token_or_a_refusal_and_never_injected_otherwise() {
    run(async {
        let tokens = TokenServer::start(ANY).await.unwrap();
        let mut servers = serde_json::Map::new();
        for (name, behaviour, _) in cases() {
            tokens.behave_for(name, behaviour);
            let auth = auth(tokens.address(), json!({"scope": name, "maxWaitMs": 300}));
            servers.insert(name.to_owned(), json!({"host": "h", "auth": auth}));
        }
        let fixture = Fixture::start_with(&options(), |upstream| {
            let gateway = Gateway::default().filter(upstream_auth(&json!({"servers": servers})));
            cases()
                .iter()
                .fold(gateway, |gateway, (name, ..)| gateway.cluster(cluster(name, upstream, Protocol::Http1)))
                .cluster(cluster(TOKENS, tokens.address(), Protocol::Http1))
        })
        .await;
        let asked_by = |name: &str| tokens.asked().iter().filter(|asked| asked.parameter("scope") == [name]).count();
        for (name, _, expected) in cases() {
            let path = format!("/{name}/mcp");
            let mut used = Vec::new();
            for _ in 0..3 {
                let headers = &[("authorization", "Bearer theirs")];
                let (reply, seen) =
                    fixture.exchange(TestRequest { path: &path, headers, ..TestRequest::default() }).await;
                match expected {
                    Expected::Served | Expected::ServedOnce => {
                        assert_eq!(reply.status, 200, "{name}");
                        used.push(seen[0].head.header("authorization").concat());
                    }
                    Expected::Refused(reason) => {
                        assert_eq!(reply.status, 503, "{name}");
                        assert_eq!(reply.json()["error"]["data"]["reason"], reason, "{name}");
                        assert!(reply.header("retry-after").is_some(), "{name}");
                        assert_eq!(seen.len(), 0, "{name}: something went upstream");
                    }
                }
            }
            used.dedup();
            assert!(used.iter().all(|token| token.starts_with("Bearer token-")), "{name}: {used:?}");
            match expected {
                Expected::Served => assert_eq!((used.len(), asked_by(name)), (1, 1), "{name}"),
                Expected::ServedOnce => assert_eq!(used.len(), 3, "{name}"),
                Expected::Refused("token_refused") => assert_eq!(asked_by(name), 1, "{name}: asked again at once"),
                Expected::Refused(_) => assert!(asked_by(name) <= 6, "{name}: {}", asked_by(name)),
            }
        }
        assert!(
            tokens.asked().iter().all(|asked| asked.head.path_and_query == "/oauth/token"),
            "a redirect was followed"
        );
        let encodings = tokens.asked().into_iter().map(|asked| asked.head.header("accept-encoding").concat());
        assert!(encodings.into_iter().all(|encoding| encoding == "identity"));
        let expires = metric(&fixture, "token_expires_at_seconds.server.expires-in-huge").await.unwrap();
        let month = SystemTime::now() + Duration::from_secs(30 * 24 * 3600 + 60);
        assert!(expires <= month.duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs());

        let log = fixture.envoy.log().unwrap();
        for said in [
            "invalid_target (who are you)",
            "it redirects (302)",
            "is larger than 65536 bytes",
            "its answer broke off",
            "is encoded as gzip",
            "it answers 502, or Envoy cannot read its answer: it has more than 100 headers",
            "it answers 404 without an OAuth error",
        ] {
            assert!(log.contains(said), "{said} is not in the log");
        }
        let granted = |text: &str| text.starts_with(|first: char| first.is_ascii_digit());
        assert!(!log.split("token-").skip(1).any(granted), "a token is in the log");
        for unsaid in [SECRET, "evil", "theirs"] {
            assert!(!log.contains(unsaid), "{unsaid} is in the log");
        }
    });
}

#[test]
fn retry_after_is_honoured() {
    run(async {
        for status in [StatusCode::TOO_MANY_REQUESTS, StatusCode::SERVICE_UNAVAILABLE] {
            let world = World::start(Place::Listener, json!({"maxWaitMs": 500}), |tokens| {
                let headers = vec![("retry-after", "3".to_owned())];
                tokens.behave(Behaviour::Answers(status, headers, Bytes::new()));
            })
            .await;
            world.tokens.wait_for(1).await.unwrap();
            world.metric_is("token_fetches.outcome.unavailable.server.c", 1).await;
            let (reply, _) = world.request().await;
            assert_eq!(reply.status, 503);
            assert_eq!(reply.json()["error"]["data"]["reason"], "token_unavailable");
            let seconds: u64 = reply.header("retry-after").unwrap().parse().unwrap();
            assert!((1..=3).contains(&seconds), "{seconds}");
            world.tokens.behave(Behaviour::Grants(json!(3600)));
            world.until("is served", |reply, _| reply.status == 200).await;
            let asked = world.tokens.asked();
            assert_eq!(asked.len(), 2, "{status}");
            // Two clocks measure it, in milliseconds.
            assert!(asked[1].at.duration_since(asked[0].at) >= Duration::from_millis(2990), "{status}");
        }
    });
}
