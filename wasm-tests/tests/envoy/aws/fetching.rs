//! Credentials that are fetched, once for all and again in time.

use std::time::Duration;

use hyper::Request;
use serde_json::json;
use tokio::task::JoinSet;
use tokio::time::sleep;
use wasm_tests::client::{Protocol, send};
use wasm_tests::credentials_server::{Behaviour, CredentialsServer, ROLE, ROLES, SESSIONS, WEB_IDENTITY};
use wasm_tests::gateway::cluster;
use wasm_tests::upstream::Denied;

use super::fetched::{KINDS, World, auth, each_kind, one_fetch};
use super::{OPTIONS, gateway, into_filter_state, key_id, merged, seeing_bodies, start};
use crate::fixture::{TestRequest, envoy_has, run};
use crate::oauth2::{ANY, POLL, Place};

#[test]
fn many_requests_at_once_on_four_workers_cost_one_fetch() {
    const REQUESTS: u64 = 50;
    run(async {
        for place in [Place::Listener, Place::Cluster] {
            let world = World::start(place, &each_kind(&json!({})), CredentialsServer::hold).await;
            let mut requests = JoinSet::new();
            for kind in KINDS {
                for _ in 0..REQUESTS {
                    let request = Request::post(format!("/{kind}/mcp")).header("host", "h");
                    let request = request.body(String::from("{}")).unwrap();
                    requests.spawn(send(world.fixture.address, Protocol::Http1, request));
                }
            }
            for kind in KINDS {
                world.metric_reaches("waiting_requests", kind, REQUESTS).await;
                world.endpoint(kind).release();
            }
            for reply in requests.join_all().await {
                assert_eq!(reply.unwrap().status, 200, "{place:?}");
            }
            let all = world.fixture.upstream.all();
            for kind in KINDS {
                assert_eq!(world.asked(kind), one_fetch(kind), "{place:?}");
                let granted = world.endpoint(kind).granted().all().remove(0);
                let seen: Vec<_> = all.iter().filter(|seen| seen.head.authority == kind).collect();
                assert_eq!(seen.len() as u64, REQUESTS, "{place:?} {kind}");
                for seen in seen {
                    assert_eq!(key_id(seen), granted.access_key_id, "{place:?} {kind}");
                    let token = granted.session_token.as_deref().unwrap();
                    assert_eq!(seen.head.header("x-amz-security-token"), [token], "{place:?} {kind}");
                    assert_eq!(seen.body, "{}", "{place:?} {kind}");
                }
            }
        }
    });
}

#[test]
fn the_endpoints_are_asked_as_they_want_to_be() {
    run(async {
        let servers = [
            ("by-name", "imds", json!({"roleName": ROLE})),
            ("default", "webIdentity", json!({})),
            ("named", "webIdentity", json!({"roleSessionName": "session-of@mcp"})),
        ];
        let world = World::start(Place::Listener, &servers, |_| {}).await;
        for (server, ..) in &servers {
            assert_eq!(world.request(server).await.0.status, 200, "{server}");
        }
        assert_eq!(world.asked("by-name"), [format!("PUT {SESSIONS}"), format!("GET {ROLES}{ROLE}")]);
        for (server, name) in [("default", "mcp-upstream-auth"), ("named", "session-of@mcp")] {
            let asked = world.endpoint(server).asked().remove(0);
            assert!(asked.form.contains(&("RoleSessionName".to_owned(), name.to_owned())), "{:?}", asked.form);
            assert_eq!(asked.head.authority, world.endpoint(server).address().to_string());
        }
    });
}

#[test]
fn under_steady_load_credentials_are_replaced_in_the_background_and_no_request_waits() {
    run(async {
        let check = async |place| {
            let short = Behaviour::Grants(Duration::from_secs(3));
            let world = World::start(place, &each_kind(&json!({})), |endpoint| endpoint.behave(short.clone())).await;
            for kind in KINDS {
                world.metric_reaches("token_fetches.outcome.granted", kind, 1).await;
            }
            // A session of the metadata service may end with its instance.
            world.endpoint("imds").forget_sessions();
            let mut used = KINDS.map(|kind| (kind, Vec::new()));
            while KINDS.iter().any(|kind| world.granted(kind).len() < 3) {
                for (kind, used) in &mut used {
                    let (reply, seen) = world.request(kind).await;
                    assert_eq!(reply.status, 200, "{place:?} {kind}");
                    used.push(key_id(&seen[0]));
                }
                sleep(POLL).await;
            }
            for (kind, mut used) in used {
                assert_eq!(world.metric("waiting_requests", kind).await, None, "{place:?} {kind}: a request waited");
                used.dedup();
                let granted = world.granted(kind);
                assert_eq!(used[..2], granted[..2], "{place:?} {kind}");
                let fetches = std::iter::repeat_with(|| one_fetch(kind)).take(granted.len()).flatten();
                assert_eq!(world.asked(kind), fetches.collect::<Vec<_>>(), "{place:?}");
            }
        };
        tokio::join!(check(Place::Listener), check(Place::Cluster));
    });
}

#[test]
fn credentials_that_the_server_calls_expired_are_dropped_and_fetched_anew_for_every_worker() {
    run(async {
        for place in [Place::Listener, Place::Cluster] {
            let world = World::start(place, &each_kind(&json!({})), |_| {}).await;
            for kind in KINDS {
                world.until(kind, 200).await;
                let first = world.granted(kind).remove(0);
                world.expired.lock().unwrap().push(first.clone());
                let (reply, seen) = world.request(kind).await;
                assert_eq!(key_id(&seen[0]), first);
                assert_eq!(reply.status, 502, "{place:?} {kind}");
                assert_eq!(reply.json()["error"]["data"]["reason"], "upstream_unauthorized", "{place:?} {kind}");
                for _ in 0..16 {
                    let (reply, seen) = world.request(kind).await;
                    assert_eq!(reply.status, 200, "{place:?} {kind}");
                    assert_ne!(key_id(&seen[0]), first, "{place:?} {kind}");
                }
                assert_eq!(world.granted(kind).len(), 2, "{place:?} {kind}");
                assert_eq!(world.metric("dropped_tokens", kind).await, Some(1), "{place:?} {kind}");
            }
        }
    });
}

#[test]
fn a_caller_whose_requests_are_all_refused_costs_few_fetches_and_no_other_caller_a_request() {
    run(async {
        for place in [Place::Listener, Place::Cluster] {
            let world = World::start(place, &[("c", "container", json!({}))], |_| {}).await;
            world.fixture.upstream.judge(|seen| match seen.head.path_and_query.strip_prefix("/c/error/") {
                Some(error_type) => Err(Denied { error_type: error_type.to_owned(), why: String::new() }),
                None => Ok(()),
            });
            for (error_type, status, fetches) in [
                // What API Gateway says where it has no such path, which is up to the caller.
                ("MissingAuthenticationTokenException", 403, 1),
                // No other credentials would help.
                ("InvalidSignatureException", 502, 1),
                // The first, one in its place, and one more if this takes longer than the first backoff.
                ("ExpiredTokenException", 502, 3),
            ] {
                let path = format!("/c/error/{error_type}");
                for _ in 0..50 {
                    let request = TestRequest { path: &path, ..TestRequest::default() };
                    assert_eq!(world.fixture.exchange(request).await.0.status, status, "{place:?} {error_type}");
                    assert_eq!(world.request("c").await.0.status, 200, "{place:?} {error_type}");
                }
                assert!(world.granted("c").len() <= fetches, "{place:?} {error_type}");
            }
        }
    });
}

#[test]
fn a_web_identity_comes_from_the_filter_state_and_a_new_one_is_tried_at_once() {
    if !envoy_has(38, "secrets in the filter state") {
        return;
    }
    run(async {
        let endpoint = CredentialsServer::start(ANY).await.unwrap();
        let identity = json!({"webIdentityToken": {"fromFilterState": "x-identity"}});
        let auth = merged(auth("webIdentity", endpoint.address(), "sts"), identity);
        let granted = endpoint.granted();
        let lookup = move |id: &str| granted.by_id(id);
        let fixture = start(&OPTIONS, lookup, |upstream| {
            gateway(Place::Listener, auth, upstream, seeing_bodies)
                .filter_first(into_filter_state(&["x-identity"]))
                .cluster(cluster("sts", endpoint.address(), Protocol::Http1))
        })
        .await;
        for (identity, status) in [("another", 503), (WEB_IDENTITY, 200), (WEB_IDENTITY, 200)] {
            let headers = &[("x-identity", identity)];
            let request = TestRequest { path: "/c/mcp", headers, ..TestRequest::default() };
            let (reply, _) = fixture.exchange(request).await;
            assert_eq!(reply.status, status, "{identity}: {}", reply.json());
            if status == 503 {
                assert_eq!(reply.json()["error"]["data"]["reason"], "token_refused");
            }
        }
        assert_eq!(endpoint.asked().len(), 2);
    });
}
