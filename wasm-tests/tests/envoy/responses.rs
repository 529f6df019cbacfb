//! What of a response to an injected credential must not reach the caller.

use std::net::SocketAddr;

use hyper::StatusCode;
use serde_json::{Value, json};
use wasm_tests::client::Protocol;
use wasm_tests::gateway::{Gateway, cluster, filtered_cluster, http_filter, upstream_auth};

use crate::fixture::{Fixture, TestRequest, envoy_has, run};
use crate::oauth2::{Place, World};

/// The key in the query, and how it is spelled there.
const KEY: &str = "s3cr3t-key/&=1 +";
const SPELLED: &str = "s3cr3t-key%2F%26%3D1%20%2B";

/// A gateway to the server `c`, with `keys` beside `host`.
fn gateway(place: Place, server: &Value, upstream: SocketAddr) -> Gateway {
    match place {
        Place::Cluster => {
            Gateway::default().cluster(filtered_cluster("c", upstream, Protocol::Http1, upstream_auth(server)))
        }
        Place::Listener => {
            let mut server = server.clone();
            let mut plugin = json!({});
            for key in ["stripHeaders", "stripPresets", "stripQuery", "stripResponseHeaders"] {
                if let Some(value) = server.as_object_mut().unwrap().remove(key) {
                    plugin[key] = value;
                }
            }
            plugin["servers"] = json!({"c": server});
            Gateway::default().filter(upstream_auth(&plugin)).cluster(cluster("c", upstream, Protocol::Http1))
        }
    }
}

async fn start(place: Place, server: &Value) -> Fixture {
    Fixture::start(|upstream| gateway(place, server, upstream)).await
}

const PLACES: [Place; 2] = [Place::Listener, Place::Cluster];

/// The response to a request, with these headers from upstream.
async fn answered(fixture: &Fixture, status: u16, headers: &[(&str, &str)]) -> wasm_tests::client::Reply {
    fixture.upstream.answer(StatusCode::from_u16(status).unwrap(), headers);
    let path = "/c/answer?a=1";
    fixture.exchange(TestRequest { path, ..TestRequest::default() }).await.0
}

/// The values of a header that a caller gets.
fn values(reply: &wasm_tests::client::Reply, name: &str) -> Vec<String> {
    let own = reply.headers.iter().filter(|(own, _)| own == name);
    own.map(|(_, value)| String::from_utf8_lossy(value).into_owned()).collect()
}

/// Response headers with the key, and what the caller gets.
fn with_the_key() -> Vec<(&'static str, Vec<String>, Vec<&'static str>)> {
    let lower = SPELLED.to_lowercase();
    let twice = SPELLED.replace('%', "%25");
    vec![
        (
            "location",
            vec![format!("https://up.example.com/mcp#x/?api_key={SPELLED}")],
            vec!["https://up.example.com/mcp#x/"],
        ),
        ("location", vec![format!("/mcp?x/?api_key={lower}")], vec!["/mcp?x/"]),
        ("location", vec![format!("/x;api_key={SPELLED}")], vec!["/x"]),
        ("location", vec![format!("/login?next=/mcp?api_key={SPELLED}")], vec!["/login?next=/mcp"]),
        ("location", vec![format!("/login?next=%2Fmcp%3Fapi_key%3D{twice}&a=b")], vec!["/login?next=%2Fmcp&a=b"]),
        ("location", vec![format!("/mcp#{SPELLED}")], vec!["/mcp#"]),
        ("location", vec!["/mcp?api_key=s3cr3t-key/%26=1++".to_owned()], vec!["/mcp"]),
        ("content-location", vec![format!("/a?api_key={SPELLED}"), format!("/b?api_key={SPELLED}")], vec!["/a", "/b"]),
        ("link", vec![format!("</mcp?api_key={SPELLED}>; rel=\"canonical\"")], vec!["</mcp>; rel=\"canonical\""]),
        ("refresh", vec![format!("0; url=/mcp?api_key={SPELLED}")], vec!["0; url=/mcp"]),
        ("x-request-url", vec![format!("/mcp?token={SPELLED}")], vec!["/mcp?token="]),
    ]
}

/// Response headers that are none of the filter's business.
const OTHERS: [(&str, &str); 4] = [
    ("location", "https://files.example/d?api_key=report.pdf&sig=1"),
    ("location", "/mcp/?a=%2f+%20;b&&c"),
    ("link", "</mcp?api_key=s3cr3t>; rel=\"next\""),
    ("refresh", "0; url=/mcp?api_key="),
];

async fn hides_the_key(fixture: &Fixture, context: &str) {
    for (name, sent, expected) in with_the_key() {
        let headers: Vec<_> = sent.iter().map(|value| (name, value.as_str())).collect();
        let reply = answered(fixture, 307, &headers).await;
        assert_eq!(values(&reply, name), expected, "{context}: {sent:?}");
    }
    for (name, value) in OTHERS {
        let reply = answered(fixture, 307, &[(name, value)]).await;
        assert_eq!(values(&reply, name), [value], "{context}");
    }
    // Envoy makes a list of several.
    let location = format!("/a?api_key={SPELLED}");
    let reply = answered(fixture, 307, &[("location", &location), ("location", &location)]).await;
    assert_eq!(values(&reply, "location").join(","), "/a,/a", "{context}");
}

#[test]
fn the_key_in_the_query_does_not_come_back() {
    run(async {
        for place in PLACES {
            let auth = json!({"type": "API_KEY", "query": "api_key", "value": KEY});
            let fixture = start(place, &json!({"host": "up.example.com", "auth": auth})).await;
            hides_the_key(&fixture, &format!("{place:?}")).await;
        }
    });
}

#[test]
fn a_key_in_the_filter_state_does_not_come_back_either() {
    if !envoy_has(38, "secrets in the filter state") {
        return;
    }
    run(async {
        let auth = json!({"type": "API_KEY", "query": "api_key", "value": {"fromFilterState": "key"}});
        let plugin = json!({"servers": {"c": {"host": "h", "auth": auth}}});
        let state = json!({"on_request_headers": [{
            "object_key": "key", "factory_key": "envoy.string",
            "format_string": {"text_format_source": {"inline_string": KEY}},
        }]});
        let message = "envoy.extensions.filters.http.set_filter_state.v3.Config";
        let fixture = Fixture::start(|upstream| {
            Gateway::default()
                .filter(http_filter("envoy.filters.http.set_filter_state", message, state))
                .filter(upstream_auth(&plugin))
                .cluster(cluster("c", upstream, Protocol::Http1))
        })
        .await;
        hides_the_key(&fixture, "filter state").await;
    });
}

const COOKIES: [(&str, &str); 2] = [("set-cookie", "session=ours"), ("set-cookie", "b=2")];
const CHALLENGES: [(&str, &str); 2] = [
    ("www-authenticate", "Bearer resource_metadata=\"https://elsewhere.example\""),
    ("proxy-authenticate", "Basic realm=\"x\""),
];

#[test]
fn no_session_and_no_challenge_of_the_gateways_account_reach_the_caller() {
    let bearer = json!({"type": "BEARER", "token": "t"});
    let passing = json!({"type": "BEARER", "token": "t", "passChallenge": true});
    // The server, and whether its cookies and its challenges reach the caller.
    let cases = [
        (json!({"host": "h", "auth": bearer}), false, false),
        (json!({"host": "h", "auth": passing}), false, true),
        (json!({"host": "h", "auth": bearer, "stripHeaders": ["cook*"]}), false, false),
        (json!({"host": "h", "auth": bearer, "stripHeaders": []}), true, false),
        (json!({"host": "h", "auth": bearer, "stripResponseHeaders": []}), true, false),
        (
            json!({"host": "h", "auth": passing, "stripResponseHeaders": ["www-authenticate", "set-cookie"]}),
            false,
            true,
        ),
        (json!({"host": "h"}), true, true),
    ];
    run(async {
        for (server, passes_cookies, passes_challenges) in cases {
            for place in PLACES {
                let fixture = start(place, &server).await;
                for status in [200, 400, 404, 500] {
                    let context = format!("{place:?} {server} {status}");
                    let sent = [&COOKIES[..], &CHALLENGES, &[("x-other", "1")]].concat();
                    let reply = answered(&fixture, status, &sent).await;
                    assert_eq!((reply.status.as_u16(), values(&reply, "x-other").len()), (status, 1), "{context}");
                    assert_eq!(values(&reply, "set-cookie").len(), if passes_cookies { 2 } else { 0 }, "{context}");
                    let expected = usize::from(passes_challenges);
                    assert_eq!(values(&reply, "proxy-authenticate").len(), expected, "{context}");
                    let is_stripped = server["stripResponseHeaders"][0] == "www-authenticate";
                    assert_eq!(
                        values(&reply, "www-authenticate").len(),
                        expected - usize::from(is_stripped),
                        "{context}"
                    );
                }
            }
        }
    });
}

#[test]
fn a_407_is_handled_as_a_401_is() {
    run(async {
        for place in PLACES {
            let world = World::start(place, json!({}), |_| {}).await;
            world.until("is served", |reply, _| reply.status == 200).await;
            let reply = answered(&world.fixture, 407, &[&CHALLENGES[..], &COOKIES].concat()).await;
            assert_eq!(reply.status, 502, "{place:?}");
            assert_eq!(reply.json()["error"]["data"]["reason"], "upstream_unauthorized");
            for name in ["www-authenticate", "proxy-authenticate", "set-cookie"] {
                assert_eq!(values(&reply, name), [""; 0], "{place:?}: {name}");
            }
            let (_, seen) = world.request().await;
            assert_eq!(seen[0].head.header("authorization"), ["Bearer token-2"], "{place:?}");
        }
    });
}
