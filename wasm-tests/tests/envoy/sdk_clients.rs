//! Clients and servers that others have written: the official Python SDK as the client; the reference server
//! from npm, and one of the Rust SDK, as servers. Between them a network that drops streams.

use std::collections::HashMap;
use std::net::SocketAddr;

use serde_json::{Value, json};
use wasm_tests::arrival::Arrival;
use wasm_tests::client::Protocol;
use wasm_tests::envoy::{Envoy, Options};
use wasm_tests::everything::Everything;
use wasm_tests::gateway::{Gateway, LISTENER, cluster, filtered_cluster, upstream_auth};
use wasm_tests::guard::{Dropped, Guard};
use wasm_tests::mcp_server::{Demand, McpServer};
use wasm_tests::token_server::TokenServer;

use crate::fixture::{run, running};
use crate::oauth2::{ANY, Place, TOKENS, auth};
use crate::python_client::PythonClient;

/// The host that the filter asks for.
const HOST: &str = "server.example";

/// What the server demands, where it is no token that has to be fetched.
const CREDENTIAL: &str = "Bearer s3cr3t-0123456789";

/// What a caller has and no server may see.
const THEIRS: [(&str, &str); 3] = [("authorization", "Bearer theirs"), ("x-api-key", "theirs"), ("cookie", "theirs")];

fn demand() -> Demand {
    Demand::Headers(vec![("authorization".to_owned(), CREDENTIAL.to_owned())])
}

fn bearer() -> Value {
    json!({"type": "BEARER", "token": CREDENTIAL.trim_start_matches("Bearer ")})
}

/// A server of the Rust SDK, which makes its demand itself.
async fn rust_server() -> McpServer {
    McpServer::start(ANY, HashMap::from([(HOST.to_owned(), demand())])).await.unwrap()
}

/// An Envoy in front of a server, with the filter in one of its places.
struct Front {
    place: Place,
    envoy: Envoy,
    address: SocketAddr,
}

impl Front {
    /// One for each place, with a static credential.
    async fn both(server: SocketAddr) -> [Self; 2] {
        [
            Self::start(Place::Listener, server, &bearer(), None).await,
            Self::start(Place::Cluster, server, &bearer(), None).await,
        ]
    }

    /// The filter has this `auth`; there is a cluster for the token server at `tokens`.
    async fn start(place: Place, server: SocketAddr, auth: &Value, tokens: Option<SocketAddr>) -> Self {
        let filter = upstream_auth(&json!({"host": HOST, "auth": auth}));
        let route = json!({"match": {"path": "/mcp"}, "route": {"cluster": "server", "timeout": "0s"}});
        let mut gateway = Gateway::default().route(route);
        gateway = match place {
            Place::Listener => gateway.filter(filter).cluster(cluster("server", server, Protocol::Http1)),
            Place::Cluster => gateway.cluster(filtered_cluster("server", server, Protocol::Http1, filter)),
        };
        if let Some(tokens) = tokens {
            gateway = gateway.cluster(cluster(TOKENS, tokens, Protocol::Http1));
        }
        let options = Options { wasm_log_level: "debug", ..Options::default() };
        let envoy = running(&gateway.config(), &options).await;
        let address = envoy.listener(LISTENER).await.unwrap();
        Self { place, envoy, address }
    }
}

/// The same talks with one server, directly and by other ways, with one Python.
struct Talks {
    python: PythonClient,
    revision: &'static str,
    conversation: &'static str,
    /// What came of it directly.
    directly: Value,
}

impl Talks {
    /// Talks with the server with `credential` in the client's own hand.
    async fn directly(
        mut python: PythonClient,
        server: SocketAddr,
        credential: &str,
        revision: &'static str,
        conversation: &'static str,
    ) -> Self {
        let headers = [("host", HOST), ("authorization", credential)];
        let directly = python.talk(server, &headers, revision, conversation).await;
        let directly = directly.unwrap_or_else(|why| panic!("{revision} {conversation}: {why}"));
        Self { python, revision, conversation, directly }
    }

    /// Talks at `address`, an Envoy's or in front of it, and sees the same.
    async fn equals(&mut self, address: SocketAddr, headers: &[(&str, &str)], front: &Front) {
        let case = format!("{} {} {:?}", self.revision, self.conversation, front.place);
        let through = self.python.talk(address, headers, self.revision, self.conversation).await;
        let through = through.unwrap_or_else(|why| panic!("{case}: {why}\n{}", front.envoy.log().unwrap()));
        // The whole is long: what is of interest is where they part.
        let [ours, theirs] = [&through, &self.directly].map(|transcript| format!("{transcript:#}"));
        for (number, (ours, theirs)) in ours.lines().zip(theirs.lines()).enumerate() {
            assert_eq!(ours, theirs, "line {number} of {case}");
        }
        assert_eq!(through, self.directly, "{case}");
    }
}

/// Each had this credential and nothing of the caller's.
fn assert_credential(arrivals: &[Arrival], credential: &str) {
    assert!(!arrivals.is_empty());
    for arrival in arrivals {
        assert_eq!(arrival.header("authorization"), [credential], "{arrival:?}");
        assert_eq!(arrival.authority, HOST);
        assert!(!format!("{arrival:?}").contains("theirs"), "{arrival:?}");
    }
}

/// How many requests there were of this method.
fn count(arrivals: &[Arrival], method: &str) -> usize {
    arrivals.iter().filter(|arrival| arrival.method == method).count()
}

/// The members of this name.
fn each<'a>(list: &'a Value, name: &str) -> Vec<&'a Value> {
    list.as_array().unwrap().iter().map(|member| &member[name]).collect()
}

fn assert_progress(transcript: &Value, numbers: &[f64]) {
    let progress = transcript["seen"]["progress"].as_array().unwrap();
    let told: Vec<_> = progress.iter().map(|progress| progress[0].as_f64().unwrap()).collect();
    assert_eq!(told, numbers);
}

/// Otherwise two empty transcripts would be equal, too.
fn assert_everything(transcript: &Value, version: &str) {
    assert_eq!(transcript["server"]["version"], version);
    assert_eq!(transcript["server"]["info"]["name"], "mcp-servers/everything");
    let seen = &transcript["seen"];
    let tools = each(&seen["list_tools"]["tools"], "name");
    assert!(tools.contains(&&json!("trigger-elicitation-request")), "{tools:?}");
    assert_eq!(seen["echo"]["content"][0]["text"], "Echo: grüß dich");
    assert_eq!(seen["get-tiny-image"]["content"][1]["type"], "image");
    assert_eq!(seen["get-structured-content"]["structuredContent"]["conditions"], "Cloudy");
    assert_eq!(seen["gzip-file-as-resource"]["content"][0]["resource"]["mimeType"], "application/gzip");
    assert_eq!(seen["no-such-tool"]["isError"], true);
    assert_eq!(seen["demo://no-such-resource"]["error"]["code"], -32602);
    assert_progress(transcript, &[1.0, 2.0, 3.0, 4.0, 5.0]);
    assert_eq!(transcript["asked"].as_array().unwrap().len(), 2);
    let notified = [
        "notifications/message",
        "notifications/message",
        "notifications/resources/list_changed",
        "notifications/resources/updated",
    ];
    assert_eq!(each(&transcript["notifications"], "method"), notified);
    let methods = each(&transcript["exchanges"], "method");
    for method in ["GET", "DELETE"] {
        assert_eq!(methods.iter().filter(|own| **own == method).count(), 1, "{method}");
    }
}

#[test]
fn the_python_sdk_sees_of_the_reference_server_through_envoy_what_it_sees_directly() {
    run(async {
        let everything = Everything::start().await.unwrap();
        let guard = Guard::start(everything.address(), demand()).await.unwrap();
        let fronts = Front::both(guard.address()).await;
        let mut python = PythonClient::start();
        // "auto" asks in the newest revision first. The server, which does not know it, refuses that with a 400,
        // and the client must see it to speak an older one.
        for (revision, version, refused) in
            [("2025-06-18", "2025-06-18", 0), ("2025-11-25", "2025-11-25", 0), ("auto", "2025-11-25", 1)]
        {
            let mut talks = Talks::directly(python, guard.address(), CREDENTIAL, revision, "everything").await;
            assert_everything(&talks.directly, version);
            let statuses = each(&talks.directly["exchanges"], "status");
            assert_eq!(statuses.iter().filter(|status| **status == 400).count(), refused, "{revision}");
            for front in &fronts {
                let before = guard.arrivals().len();
                talks.equals(front.address, &THEIRS, front).await;
                let arrivals = &guard.arrivals()[before..];
                assert_credential(arrivals, CREDENTIAL);
                assert_eq!((count(arrivals, "GET"), count(arrivals, "DELETE")), (1, 1), "{:?}", front.place);
            }
            python = talks.python;
        }
    });
}

#[test]
fn the_python_sdk_sees_the_same_with_a_token_that_the_filter_fetched() {
    run(async {
        let everything = Everything::start().await.unwrap();
        let tokens = TokenServer::start(ANY).await.unwrap();
        let guard = Guard::start(everything.address(), Demand::TokenOf(tokens.issued())).await.unwrap();
        let auth = auth(tokens.address(), json!({}));
        let mut python = PythonClient::start();
        for (index, place) in [Place::Listener, Place::Cluster].into_iter().enumerate() {
            // Each Envoy fetches a token of its own. With the first talk, it is certain to be there.
            let front = Front::start(place, guard.address(), &auth, Some(tokens.address())).await;
            python.talk(front.address, &[], "2025-11-25", "long").await.unwrap();
            let asked = tokens.asked();
            assert_eq!(asked.len(), index + 1, "{place:?}");
            let credential = format!("Bearer {}", asked[index].token.clone().unwrap());
            let mut talks = Talks::directly(python, guard.address(), &credential, "2025-11-25", "everything").await;
            assert_everything(&talks.directly, "2025-11-25");
            let before = guard.arrivals().len();
            // Without any credential of its own.
            talks.equals(front.address, &[], &front).await;
            assert_credential(&guard.arrivals()[before..], &credential);
            assert_eq!(tokens.asked().len(), index + 1, "one token serves the whole session");
            python = talks.python;
        }
    });
}

#[test]
fn the_guard_lets_in_no_python_client_that_comes_without_the_credential() {
    run(async {
        let everything = Everything::start().await.unwrap();
        let guard = Guard::start(everything.address(), demand()).await.unwrap();
        let mut python = PythonClient::start();
        for headers in [&[][..], &THEIRS[..]] {
            let before = guard.arrivals().len();
            let refused = python.talk(guard.address(), headers, "2025-11-25", "everything").await;
            assert!(refused.is_err(), "{refused:?}");
            assert_eq!(guard.arrivals().len(), before + 1);
        }
    });
}

#[test]
fn the_python_sdk_sees_of_a_server_of_the_rust_sdk_through_envoy_what_it_sees_directly() {
    run(async {
        let server = rust_server().await;
        let fronts = Front::both(server.address()).await;
        let mut python = PythonClient::start();
        for (revision, version, streams) in
            [("2025-11-25", "2025-11-25", 1), ("2026-07-28", "2026-07-28", 0), ("auto", "2026-07-28", 0)]
        {
            let mut talks = Talks::directly(python, server.address(), CREDENTIAL, revision, "count").await;
            assert_eq!(talks.directly["server"]["version"], version, "{revision}");
            let seen = &talks.directly["seen"];
            assert_eq!(seen["echo"]["content"][0]["text"], "grüß dich");
            assert_eq!(seen["announce"]["content"][0]["text"], "announced");
            assert_progress(&talks.directly, &[1.0, 2.0, 3.0]);
            for front in &fronts {
                let before = server.arrivals().len();
                talks.equals(front.address, &THEIRS, front).await;
                let arrivals = &server.arrivals()[before..];
                assert_credential(arrivals, CREDENTIAL);
                assert_eq!((count(arrivals, "GET"), count(arrivals, "DELETE")), (streams, streams), "{revision}");
            }
            python = talks.python;
        }
    });
}

/// The client came back once for a stream that was dropped, with the credential.
fn assert_resumed(arrivals: &[Arrival]) {
    assert_credential(arrivals, CREDENTIAL);
    let resumed = arrivals.iter().filter(|arrival| !arrival.header("last-event-id").is_empty());
    assert_eq!(resumed.map(|arrival| arrival.method.as_str()).collect::<Vec<_>>(), ["GET"], "{arrivals:?}");
}

#[test]
fn a_dropped_stream_of_the_reference_server_is_resumed_with_the_credential_and_brings_the_rest() {
    run(async {
        let everything = Everything::start().await.unwrap();
        let mut python = PythonClient::start();
        // Of its own accord, the server lets only a client of the newer revision resume from the very start.
        for revision in ["2025-06-18", "2025-11-25"] {
            let start = || Guard::start_dropping(everything.address(), demand(), Dropped::TowardsTheCaller);
            let guard = start().await.unwrap();
            let mut talks = Talks::directly(python, guard.address(), CREDENTIAL, revision, "long").await;
            assert_eq!(guard.dropped(), 1);
            let result = &talks.directly["seen"]["trigger-long-running-operation"]["content"][0]["text"];
            assert!(result.as_str().unwrap().starts_with("Long running operation completed"), "{result}");
            assert_progress(&talks.directly, &[1.0, 2.0, 3.0, 4.0, 5.0]);
            for place in [Place::Listener, Place::Cluster] {
                let guard = start().await.unwrap();
                let front = Front::start(place, guard.address(), &bearer(), None).await;
                talks.equals(front.address, &THEIRS, &front).await;
                assert_eq!(guard.dropped(), 1, "{place:?} {revision}");
                assert_resumed(&guard.arrivals());
            }
            python = talks.python;
        }
    });
}

/// The server goes on only when the client has what came after the drop: the rest comes as it is written, not
/// from a store.
#[test]
fn a_stream_that_is_dropped_on_either_side_of_envoy_is_resumed_while_the_server_is_still_at_work() {
    run(async {
        let server = rust_server().await;
        let guard = Guard::start_dropping(server.address(), demand(), Dropped::OnBothSides).await.unwrap();
        let mut talks = Talks::directly(PythonClient::start(), guard.address(), CREDENTIAL, "2025-11-25", "hold").await;
        assert_eq!(guard.dropped(), 1);
        assert_eq!(talks.directly["seen"]["count"]["content"][0]["text"], "counted to 3");
        // The server begins with the event that the client named, instead of the one after it.
        assert_progress(&talks.directly, &[1.0, 1.0, 2.0, 3.0]);
        for place in [Place::Listener, Place::Cluster] {
            let behind = Guard::start_dropping(server.address(), demand(), Dropped::OnBothSides).await.unwrap();
            let front = Front::start(place, behind.address(), &bearer(), None).await;
            let before = server.arrivals().len();
            talks.equals(front.address, &THEIRS, &front).await;
            assert_eq!(behind.dropped(), 1, "{place:?}");
            assert_resumed(&server.arrivals()[before..]);

            let front = Front::start(place, server.address(), &bearer(), None).await;
            let ahead = Guard::start_dropping(front.address, Demand::Nothing, Dropped::OnBothSides).await.unwrap();
            let before = server.arrivals().len();
            talks.equals(ahead.address(), &THEIRS, &front).await;
            assert_eq!(ahead.dropped(), 1, "{place:?}");
            assert_resumed(&server.arrivals()[before..]);
        }
    });
}
