//! `AWS_SIGV4` in the real Envoy, before a server that computes every signature itself.

mod bodies;
mod endpoint_down;
mod fetched;
mod fetching;
mod limits;
mod moto;
mod native;
mod readme;
mod refusals;
mod routes;
mod secrecy;
mod signatures;
mod static_keys;
mod verifier;

use std::net::SocketAddr;

use serde_json::{Value, json};
use tokio::sync::OnceCell;
use wasm_tests::aws_peer::{AwsPeer, Credentials};
use wasm_tests::client::Protocol;
use wasm_tests::envoy::Options;
use wasm_tests::gateway::{Gateway, cluster, filtered_cluster, http_filter, sees_bodies, upstream_auth};
use wasm_tests::upstream::Seen;

use crate::fixture::{Fixture, Shared};
use crate::oauth2::Place;

/// The host of the MCP server.
pub const HOST: &str = "mcp.aws.example:8443";

/// Where it is, and what it is to IAM.
pub const REGION: &str = "eu-central-1";
pub const SERVICE: &str = "bedrock-agentcore";

/// The key pair of the gateway; no secret of AWS is longer or shorter.
pub const ACCESS_KEY: &str = "AKIAIOSFODNN7EXAMPLE";
pub const SECRET: &str = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY";

/// The id of a key pair with the same secret and this session token.
pub const TEMPORARY_KEY: &str = "ASIAIOSFODNN7EXAMPLE";
pub const SESSION_TOKEN: &str = "AQoDYXdzEPT//////////wEXAMPLEtc764bNrC9SAPBSM22=";

/// What callers send that must not arrive.
pub const THEIRS: [(&str, &str); 5] = [
    ("authorization", "AWS4-HMAC-SHA256 Credential=theirs/20260101/eu-central-1/execute-api/aws4_request"),
    ("X-Amz-Date", "20200101T000000Z"),
    ("x-amz-content-sha256", "UNSIGNED-PAYLOAD"),
    ("X-Amz-Security-Token", "theirs"),
    ("x-amz-security-token", "theirs-too"),
];

/// The static credentials of these tests by their id.
pub fn fixed(id: &str) -> Option<Credentials> {
    let session_token = match id {
        ACCESS_KEY => None,
        TEMPORARY_KEY => Some(SESSION_TOKEN.to_owned()),
        _ => return None,
    };
    Some(Credentials { access_key_id: id.to_owned(), secret_access_key: SECRET.to_owned(), session_token })
}

/// An `auth` with static credentials, and the keys of `more` beside or in place of the rest; null for none.
pub fn auth(more: Value) -> Value {
    let fixed = json!({"accessKeyId": ACCESS_KEY, "secretAccessKey": SECRET});
    scoped(merged(fixed, more))
}

/// An `auth` of these keys for the MCP server of these tests.
pub fn scoped(keys: Value) -> Value {
    merged(json!({"type": "AWS_SIGV4", "region": REGION, "service": SERVICE}), keys)
}

/// `keys` with those of `more` beside them or in their place.
pub fn merged(mut keys: Value, more: Value) -> Value {
    let object = keys.as_object_mut().unwrap();
    for (key, value) in more.as_object().unwrap() {
        object.insert(key.clone(), value.clone());
    }
    object.retain(|_, value| !value.is_null());
    keys
}

/// This filter, which sees bodies before their heads leave.
pub fn seeing_bodies(plugin: &Value) -> Value {
    sees_bodies(upstream_auth(plugin))
}

/// What the server of [`gateway`] is called in metrics: one that has the filter to itself has no other name.
pub fn server_name(place: Place) -> &'static str {
    match place {
        Place::Listener => "c",
        Place::Cluster => HOST,
    }
}

/// A gateway to the server `c`, with `filter` made of its configuration.
pub fn gateway(place: Place, auth: Value, upstream: SocketAddr, filter: fn(&Value) -> Value) -> Gateway {
    let server = json!({"host": HOST, "auth": auth});
    match place {
        Place::Listener => Gateway::default().filter(filter(&json!({"servers": {"c": server}}))).cluster(cluster(
            "c",
            upstream,
            Protocol::Http1,
        )),
        Place::Cluster => Gateway::default().cluster(filtered_cluster("c", upstream, Protocol::Http1, filter(&server))),
    }
}

/// Puts these headers of a request into its filter state: what others have there from SDS and files, tests bring along.
pub fn into_filter_state(headers: &[&str]) -> Value {
    let state = |name: &&str| {
        let format = json!({"text_format_source": {"inline_string": format!("%REQ({name})%")}});
        json!({"object_key": name, "factory_key": "envoy.string", "format_string": format})
    };
    http_filter(
        "envoy.filters.http.set_filter_state",
        "envoy.extensions.filters.http.set_filter_state.v3.Config",
        json!({"on_request_headers": headers.iter().map(state).collect::<Vec<_>>()}),
    )
}

/// Starts a gateway before an upstream that lets in whoever signs with credentials that `lookup` finds.
pub async fn start(
    options: &Options<'_>,
    lookup: impl Fn(&str) -> Option<Credentials> + Send + Sync + 'static,
    gateway: impl FnOnce(SocketAddr) -> Gateway,
) -> Fixture {
    let fixture = Fixture::start_with(options, gateway).await;
    fixture.upstream.judge(move |seen| verifier::verify(seen, &lookup));
    fixture
}

/// Two workers, and what the filter says.
pub const OPTIONS: Options<'_> =
    Options { environment: &[], wasm_log_level: "debug", concurrency: 2, core: None, on_terminal: false };

/// A server of [`everywhere`]: which credentials and payload, where the filter is, and what the server speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Server {
    pub kind: &'static str,
    pub place: Place,
    pub protocol: Protocol,
}

impl Server {
    /// All of this kind.
    pub fn all(kind: &'static str) -> [Self; 4] {
        [
            (Place::Listener, Protocol::Http1),
            (Place::Listener, Protocol::Http2),
            (Place::Cluster, Protocol::Http1),
            (Place::Cluster, Protocol::Http2),
        ]
        .map(|(place, protocol)| Self { kind, place, protocol })
    }

    /// Its name, and the first part of the path that leads there.
    pub fn name(self) -> String {
        format!("{}-{:?}-{:?}", self.kind, self.place, self.protocol)
    }

    fn config(self) -> Value {
        let more = match self.kind {
            "signed" => json!({"signHeaders": ["X-Tenant", "x-twice", "X-Absent", "accept", "content-type"]}),
            "unsigned" => json!({"payload": "unsigned"}),
            "session" => json!({"accessKeyId": TEMPORARY_KEY, "sessionToken": SESSION_TOKEN}),
            kind => panic!("no kind {kind}"),
        };
        // Else nobody would see why the server refuses.
        json!({"host": HOST, "auth": merged(auth(more), json!({"passChallenge": true}))})
    }
}

/// One Envoy with each kind of server, each in both places and speaking both versions of HTTP.
pub async fn everywhere() -> Shared {
    static FIXTURE: OnceCell<Fixture> = OnceCell::const_new();
    let servers: Vec<Server> = ["signed", "unsigned", "session"].into_iter().flat_map(Server::all).collect();
    let (in_listener, in_clusters): (Vec<_>, Vec<_>) =
        servers.into_iter().partition(|server| server.place == Place::Listener);
    let fixture = FIXTURE.get_or_init(|| {
        start(&OPTIONS, fixed, |upstream| {
            let by_name: serde_json::Map<_, _> =
                in_listener.iter().map(|server| (server.name(), server.config())).collect();
            let filter = seeing_bodies(&json!({"unmatched": "pass", "servers": by_name}));
            let gateway = in_listener.iter().fold(Gateway::default().filter(filter), |gateway, server| {
                gateway.cluster(cluster(&server.name(), upstream, server.protocol))
            });
            in_clusters.iter().fold(gateway, |gateway, server| {
                let filter = seeing_bodies(&server.config());
                gateway.cluster(filtered_cluster(&server.name(), upstream, server.protocol, filter))
            })
        })
    });
    Shared::new(fixture.await)
}

/// The other programs, one for all tests.
pub async fn peer() -> &'static AwsPeer {
    static PEER: OnceCell<AwsPeer> = OnceCell::const_new();
    PEER.get_or_init(async || AwsPeer::start().await.unwrap()).await
}

/// What the `Authorization` of a request says to be signed.
pub fn signed_headers(seen: &Seen) -> Vec<String> {
    let authorization = seen.head.header("authorization").concat();
    let (_, rest) = authorization.split_once("SignedHeaders=").unwrap_or_else(|| panic!("{authorization}"));
    rest.split(',').next().unwrap().split(';').map(str::to_owned).collect()
}

/// The id in a request's signature.
pub fn key_id(seen: &Seen) -> String {
    let authorization = seen.head.header("authorization").concat();
    let (_, rest) = authorization.split_once("Credential=").unwrap_or_else(|| panic!("{authorization}"));
    rest.split('/').next().unwrap().to_owned()
}
