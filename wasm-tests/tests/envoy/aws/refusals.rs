//! What the server says about the signature or the credentials.

use serde_json::json;
use wasm_tests::aws_peer::Credentials;
use wasm_tests::upstream::{Denied, Seen};

use super::{ACCESS_KEY, OPTIONS, SECRET, auth, gateway, seeing_bodies, start};
use crate::fixture::{Fixture, TestRequest, run};
use crate::oauth2::Place;

/// The error type that a path asks for, behind this.
const ERROR: &str = "/c/error/";

const UNAUTHORIZED: [&str; 10] = [
    "ExpiredTokenException",
    "ExpiredToken",
    "RequestExpired",
    "RequestTimeTooSkewed",
    "InvalidAccessKeyId",
    "InvalidSignatureException",
    "SignatureDoesNotMatch",
    "UnrecognizedClientException",
    "InvalidClientTokenId",
    "IncompleteSignatureException",
];

const FORBIDDEN: [&str; 2] = ["AccessDeniedException", "AccessDenied"];

fn ask(seen: &Seen) -> Result<(), Denied> {
    match seen.head.path_and_query.strip_prefix(ERROR) {
        Some(error_type) => Err(Denied { error_type: error_type.replace("%23", "#"), why: "no".to_owned() }),
        None => Ok(()),
    }
}

#[test]
fn a_word_against_the_gateways_signature_does_not_reach_the_caller_unless_it_may() {
    const NAMESPACE: &str = "com.amazon.coral.service#";
    const SUFFIX: &str = ":http://internal.amazon.com/coral/com.amazon.coral.service/";
    run(async {
        for (place, passes) in [(Place::Listener, false), (Place::Cluster, false), (Place::Listener, true)] {
            let auth = auth(json!({"passChallenge": passes}));
            let fixture = Fixture::start_with(&OPTIONS, |upstream| gateway(place, auth, upstream, seeing_bodies)).await;
            fixture.upstream.judge(ask);
            let cases = UNAUTHORIZED.iter().map(|name| (*name, "upstream_unauthorized"));
            let cases = cases.chain(FORBIDDEN.iter().map(|name| (*name, "upstream_forbidden")));
            for (name, reason) in cases {
                for (namespace, suffix) in [("", ""), ("", SUFFIX), (NAMESPACE, ""), (NAMESPACE, SUFFIX)] {
                    let name = format!("{namespace}{name}{suffix}");
                    let path = format!("{ERROR}{}", name.replace('#', "%23"));
                    let request = TestRequest { path: &path, ..TestRequest::default() };
                    let (reply, seen) = fixture.exchange(request).await;
                    assert_eq!(seen.len(), 1);
                    if passes {
                        assert_eq!(reply.status, 403, "{place:?} {name}");
                        assert_eq!(reply.header("x-amzn-errortype"), Some(name));
                        assert_eq!(reply.body, "no");
                    } else {
                        assert_eq!(reply.status, 502, "{place:?} {name}");
                        assert_eq!(reply.json()["error"]["data"]["reason"], reason, "{place:?} {name}");
                        assert_eq!(reply.header("x-amzn-errortype"), None, "{place:?} {name}");
                    }
                }
            }
            // API Gateway says this where it has no such path, and other statuses are the server's own.
            let missing = format!("{ERROR}MissingAuthenticationTokenException");
            for (path, status) in
                [(missing.as_str(), 403), ("/c/status/403", 403), ("/c/status/400", 400), ("/c/status/500", 500)]
            {
                let (reply, _) = fixture.exchange(TestRequest { path, ..TestRequest::default() }).await;
                assert_eq!(reply.status, status, "{place:?} {passes} {path}");
            }
        }
    });
}

#[test]
fn a_server_that_knows_another_secret_refuses_what_is_signed_with_ours() {
    run(async {
        let other = |id: &str| {
            let secret_access_key = SECRET.chars().rev().collect();
            (id == ACCESS_KEY).then(|| Credentials {
                access_key_id: id.to_owned(),
                secret_access_key,
                session_token: None,
            })
        };
        let lookups = [Box::new(other) as Box<dyn Fn(&str) -> _ + Send + Sync>, Box::new(|_: &str| None)];
        for (place, lookup) in [Place::Listener, Place::Cluster].into_iter().zip(lookups) {
            let gateway = |upstream| gateway(place, auth(json!({})), upstream, seeing_bodies);
            let fixture = start(&OPTIONS, lookup, gateway).await;
            let (reply, seen) = fixture.exchange(TestRequest { path: "/c/mcp", ..TestRequest::default() }).await;
            assert_eq!((reply.status.as_u16(), seen.len()), (502, 1), "{place:?}");
            assert_eq!(reply.json()["error"]["data"]["reason"], "upstream_unauthorized", "{place:?}");
        }
    });
}
