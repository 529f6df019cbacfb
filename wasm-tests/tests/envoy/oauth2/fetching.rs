//! The first token: one fetch for the process, and requests that wait for it.

use std::path::PathBuf;

use hyper::Request;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use wasm_tests::client::{PATIENCE, Protocol, open, send};
use wasm_tests::gateway::{Gateway, LISTENER, any, cluster, upstream_auth, write_resources};
use wasm_tests::token_server::{Behaviour, TokenServer};
use wasm_tests::upstream::Upstream;

use super::{ANY, POLL, Place, TOKENS, World, auth, metric, options};
use crate::fixture::{Fixture, TestRequest, run, running};

fn request() -> Request<String> {
    Request::post("/c/mcp").header("host", "h").body(String::from("{}")).unwrap()
}

#[test]
fn two_hundred_requests_at_once_cost_one_token_request() {
    run(async {
        for place in [Place::Listener, Place::Cluster] {
            let world = World::start(place, json!({}), |tokens| tokens.hold()).await;
            let mut requests = JoinSet::new();
            for _ in 0..200 {
                requests.spawn(send(world.fixture.address, Protocol::Http1, request()));
            }
            world.metric_is("waiting_requests.server.c", 200).await;
            world.tokens.release();
            for reply in requests.join_all().await {
                assert_eq!(reply.unwrap().status, 200);
            }
            assert_eq!(world.tokens.asked().len(), 1, "{place:?}");
            let seen = world.fixture.upstream.all();
            assert_eq!(seen.len(), 200);
            assert!(seen.iter().all(|seen| seen.head.header("authorization") == ["Bearer token-1"]));
            world.metric_is("waiting_requests.server.c", 0).await;
        }
    });
}

#[test]
fn the_first_request_long_after_the_start_finds_its_token_there() {
    run(async {
        for place in [Place::Listener, Place::Cluster] {
            let world = World::start(place, json!({}), |_| {}).await;
            world.metric_is("token_fetches.outcome.granted.server.c", 1).await;
            for _ in 0..16 {
                let (reply, seen) = world.request().await;
                assert_eq!(reply.status, 200);
                assert_eq!(seen[0].head.header("authorization"), ["Bearer token-1"]);
                assert_eq!(seen[0].head.authority, "c");
            }
            assert_eq!(world.tokens.asked().len(), 1, "{place:?}");
            assert_eq!(world.metric("waiting_requests.server.c").await, None, "a request waited");
        }
    });
}

#[test]
fn a_client_that_goes_away_while_it_waits_harms_nobody_even_if_it_was_the_first() {
    run(async {
        for place in [Place::Listener, Place::Cluster] {
            // Such a token is fetched for whoever asks: by the first request, here.
            let world = World::start(place, json!({"maxWaitMs": 30_000, "requestTimeoutMs": 30_000}), |tokens| {
                tokens.behave(Behaviour::Grants(json!(0)));
            })
            .await;
            world.metric_is("token_fetches.outcome.granted.server.c", 1).await;
            world.tokens.hold();
            let first = tokio::spawn(open(world.fixture.address, Protocol::Http1, request()));
            world.tokens.wait_for(2).await.unwrap();
            world.metric_is("waiting_requests.server.c", 1).await;
            let mut others = JoinSet::new();
            for _ in 0..20 {
                others.spawn(send(world.fixture.address, Protocol::Http1, request()));
            }
            world.metric_is("waiting_requests.server.c", 21).await;
            first.abort();
            world.metric_is("waiting_requests.server.c", 20).await;
            world.tokens.release();
            for reply in others.join_all().await {
                assert_eq!(reply.unwrap().status, 200);
            }
            assert_eq!(world.tokens.asked().len(), 2, "{place:?}");
            assert_eq!(world.fixture.upstream.all().len(), 20);
        }
    });
}

#[test]
fn a_token_server_that_never_answers_costs_a_request_no_more_than_it_may_wait() {
    run(async {
        for place in [Place::Listener, Place::Cluster] {
            let world =
                World::start(place, json!({"maxWaitMs": 300, "requestTimeoutMs": 60_000}), |tokens| tokens.hold())
                    .await;
            for _ in 0..3 {
                let (reply, seen) = world.request().await;
                assert_eq!(reply.status, 503);
                assert_eq!(reply.json()["error"]["data"]["reason"], "token_timeout");
                assert_eq!(reply.header("retry-after").as_deref(), Some("1"));
                assert_eq!(seen.len(), 0);
            }
            assert_eq!(world.tokens.asked().len(), 1, "{place:?}");
            world.metric_is("requests.outcome.rejected_token_timeout.server.c", 3).await;
            world.metric_is("waiting_requests.server.c", 0).await;
        }
    });
}

#[test]
fn a_large_request_that_waits_arrives_whole() {
    run(async {
        for place in [Place::Listener, Place::Cluster] {
            let world = World::start(place, json!({}), |tokens| tokens.hold()).await;
            let body = vec![b'x'; 5_000_000];
            let request = TestRequest { path: "/c/mcp", body: &body, ..TestRequest::default() };
            let exchange = world.fixture.exchange(request);
            let release = async {
                world.metric_is("waiting_requests.server.c", 1).await;
                world.tokens.release();
            };
            let ((reply, seen), ()) = tokio::join!(exchange, release);
            assert_eq!(reply.status, 200, "{place:?}");
            assert_eq!(seen[0].body, body);
        }
    });
}

#[test]
fn servers_share_a_token_if_they_would_ask_for_the_same_one() {
    run(async {
        let tokens = TokenServer::start(ANY).await.unwrap();
        let server = |more: Value| json!({"host": "h", "auth": auth(tokens.address(), more)});
        let servers = json!({
            "a": server(json!({"scope": "mcp:tools"})),
            "b": server(json!({"scope": ["mcp:tools"], "maxWaitMs": 1000})),
            "c": server(json!({"scope": "mcp:read"})),
            "d": server(json!({"scope": "mcp:tools", "resource": "https://d.example/mcp"})),
            "e": server(json!({"scope": "mcp:tools", "clientSecret": "another"})),
        });
        let fixture = Fixture::start_with(&options(), |upstream| {
            let gateway = Gateway::default().filter(upstream_auth(&json!({"servers": servers})));
            let names = servers.as_object().unwrap().keys();
            names
                .fold(gateway, |gateway, name| gateway.cluster(cluster(name, upstream, Protocol::Http1)))
                .cluster(cluster(TOKENS, tokens.address(), Protocol::Http1))
        })
        .await;
        let token_of = async |name: &str| {
            let path = format!("/{name}/mcp");
            let (reply, seen) = fixture.exchange(TestRequest { path: &path, ..TestRequest::default() }).await;
            assert_eq!(reply.status, 200, "{name}");
            seen[0].head.header("authorization").concat()
        };
        let mut distinct = Vec::new();
        for name in ["a", "c", "d", "e"] {
            let token = token_of(name).await;
            let asked = tokens.asked();
            let asked = asked.iter().find(|asked| asked.token.as_deref() == token.strip_prefix("Bearer ")).unwrap();
            let keys = &servers[name]["auth"];
            assert_eq!(asked.parameter("scope"), [keys["scope"].as_str().unwrap()]);
            assert_eq!(asked.parameter("resource"), keys["resource"].as_str().into_iter().collect::<Vec<_>>());
            distinct.push(token);
        }
        assert_eq!(token_of("b").await, distinct[0]);
        distinct.sort();
        distinct.dedup();
        assert_eq!(distinct.len(), 4);
        assert_eq!(tokens.asked().len(), 4);
    });
}

#[test]
fn a_thousand_servers_do_not_stampede_the_token_server_nor_wait_long_for_it() {
    const WIDTH: usize = 8;
    const SERVERS: usize = 1000;
    run(async {
        let tokens = TokenServer::start(ANY).await.unwrap();
        tokens.hold();
        let server = |index: usize| {
            let auth = auth(tokens.address(), json!({"scope": format!("s{index}"), "requestTimeoutMs": 60_000}));
            (format!("s{index}"), json!({"host": "h", "auth": auth}))
        };
        let servers: serde_json::Map<String, Value> = (0..SERVERS).map(server).collect();
        let fixture = Fixture::start_with(&options(), |upstream| {
            Gateway::default()
                .filter(upstream_auth(&json!({"servers": servers})))
                .cluster(cluster("s0", upstream, Protocol::Http1))
                .cluster(cluster("s999", upstream, Protocol::Http1))
                .cluster(cluster(TOKENS, tokens.address(), Protocol::Http1))
        })
        .await;
        tokens.wait_for(WIDTH).await.unwrap();
        tokens.release();
        tokens.wait_for(SERVERS).await.unwrap();
        for name in ["s0", "s999"] {
            let path = format!("/{name}/mcp");
            let (reply, _) = fixture.exchange(TestRequest { path: &path, ..TestRequest::default() }).await;
            assert_eq!(reply.status, 200, "{name}");
        }
        assert_eq!(tokens.asked().len(), SERVERS);
        assert_eq!(tokens.most_at_once(), WIDTH);
    });
}

#[test]
fn a_token_server_is_asked_over_http2_just_as_well() {
    run(async {
        let tokens = TokenServer::start(ANY).await.unwrap();
        let more = json!({"tokenUrl": format!("http://localhost:{}/oauth/token?a=1&b=%2F", tokens.address().port())});
        let server = json!({"host": "c", "auth": auth(tokens.address(), more)});
        let fixture = Fixture::start_with(&options(), |upstream| {
            Gateway::default()
                .filter(upstream_auth(&json!({"servers": {"c": server}})))
                .cluster(cluster("c", upstream, Protocol::Http1))
                .cluster(cluster(TOKENS, tokens.address(), Protocol::Http2))
        })
        .await;
        let (reply, _) = fixture.exchange(TestRequest { path: "/c/mcp", ..TestRequest::default() }).await;
        assert_eq!(reply.status, 200);
        let [asked] = &tokens.asked()[..] else { panic!("not asked once") };
        assert_eq!(asked.head.version, hyper::Version::HTTP_2);
        assert_eq!(asked.head.method, "POST");
        assert_eq!(asked.head.authority, format!("localhost:{}", tokens.address().port()));
        assert_eq!(asked.head.path_and_query, "/oauth/token?a=1&b=%2F");
        assert_eq!(asked.head.header("content-type"), ["application/x-www-form-urlencoded"]);
        assert_eq!(asked.form, [("grant_type".to_owned(), "client_credentials".to_owned())]);
    });
}

/// A world whose token cluster Envoy discovers: it is `resources` at first, and then what is written there.
async fn discovering(folder: &TempDir, resources: impl FnOnce(&TokenServer) -> Vec<Value>) -> (World, PathBuf) {
    let path = folder.path().join("clusters.json");
    let (upstream, tokens) = (Upstream::start().await.unwrap(), TokenServer::start(ANY).await.unwrap());
    write_resources(&path, &resources(&tokens)).unwrap();
    let server = json!({"host": "c", "auth": auth(tokens.address(), json!({"maxWaitMs": 100}))});
    let gateway = Gateway::default().filter(upstream_auth(&json!({"servers": {"c": server}}))).cluster(cluster(
        "c",
        upstream.address(),
        Protocol::Http1,
    ));
    let mut config: Value = serde_json::from_str(&gateway.config()).unwrap();
    config["dynamic_resources"] = json!({"cds_config": {"path_config_source": {"path": path}}});
    let envoy = running(&config.to_string(), &options()).await;
    let address = envoy.listener(LISTENER).await.unwrap();
    let fixture = Fixture { envoy, upstream, address };
    (World { fixture, tokens }, path)
}

/// The token cluster as Envoy discovers it.
fn discovered(tokens: &TokenServer) -> Value {
    any("envoy.config.cluster.v3.Cluster", cluster(TOKENS, tokens.address(), Protocol::Http1))
}

#[test]
fn a_cluster_that_envoy_does_not_know_is_reported_and_heals_when_it_appears() {
    run(async {
        let folder = TempDir::new().unwrap();
        let (world, path) = discovering(&folder, |_| Vec::new()).await;
        let (reply, _) = world
            .until("is refused for its cluster", |reply, _| {
                reply.json()["error"]["data"]["reason"] == "token_cluster_unknown"
            })
            .await;
        assert_eq!(reply.status, 503);
        assert!(reply.header("retry-after").is_some());
        let log = world.fixture.envoy.log().unwrap();
        let said =
            r#"no token for server "c" from the token server in cluster "tokens": Envoy has no cluster of that name"#;
        assert!(log.contains(said), "{log}");

        write_resources(&path, &[discovered(&world.tokens)]).unwrap();
        world.until("is served", |reply, _| reply.status == 200).await;
        assert!(metric(&world.fixture, "token_fetches.outcome.cluster_unknown.server.c").await.unwrap() >= 1);
    });
}

/// With the delays of a token server that is down, the eighth look would come eight seconds after the seventh, or more.
#[test]
fn a_cluster_without_a_healthy_host_is_looked_at_often() {
    const LOOKS: u64 = 7;
    const UNAVAILABLE: &str = "token_fetches.outcome.unavailable.server.c";
    run(async {
        let folder = TempDir::new().unwrap();
        let no_host = |tokens: &TokenServer| {
            let mut cluster = discovered(tokens);
            cluster["load_assignment"]["endpoints"] = json!([]);
            vec![cluster]
        };
        let (world, path) = discovering(&folder, no_host).await;
        let looks = async {
            while world.metric(UNAVAILABLE).await.is_none_or(|looks| looks < LOOKS) {
                sleep(POLL).await;
            }
        };
        timeout(PATIENCE, looks).await.expect("it is not looked at often");
        let (reply, _) = world.until("is rejected", |reply, _| reply.status != 200).await;
        assert_eq!(reply.json()["error"]["data"]["reason"], "token_unavailable");
        let seconds: u64 = reply.header("retry-after").unwrap().parse().unwrap();
        assert!(seconds <= 2, "{seconds}");
        assert!(world.fixture.envoy.log().unwrap().contains("Envoy has no healthy host in that cluster"));
        assert_eq!(world.tokens.asked().len(), 0);

        write_resources(&path, &[discovered(&world.tokens)]).unwrap();
        world.until("is served", |reply, _| reply.status == 200).await;
        assert_eq!(world.tokens.asked().len(), 1);
    });
}
