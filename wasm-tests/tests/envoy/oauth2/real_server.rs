//! `OAUTH2` against a real authorization server: what counts is what that says about the token that
//! arrived upstream.

use std::collections::HashMap;
use std::net::SocketAddr;

use base64::Engine;
use base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD};
use form_urlencoded::byte_serialize;
use rcgen::KeyPair;
use serde_json::{Value, json};
use wasm_tests::client::{Protocol, Reply};
use wasm_tests::envoy::Options;
use wasm_tests::gateway::{Gateway, LISTENER, cluster, filtered_cluster, upstream_auth};
use wasm_tests::mcp_server::{Demand, McpServer};
use wasm_tests::oidc_provider::{BASIC, ES256, KeyClient, OidcProvider, POST, RS256, SECRET_JWT, SecretClient};
use wasm_tests::upstream::Seen;

use super::{ANY, Place, TOKENS};
use crate::fixture::{Fixture, TestRequest, envoy_has, run, running};
use crate::mcp_client::{Era, converse};

pub const PLACES: [Place; 2] = [Place::Listener, Place::Cluster];

/// What `private_key_jwt` needs of Envoy.
const SIGNATURES: &str = "signatures with a private key";

/// What the tokens are for.
pub const RESOURCE: &str = "https://tools.example/mcp";

/// What a caller sends that must not arrive.
const THEIRS: [(&str, &str); 1] = [("authorization", "Bearer theirs")];

/// The `auth` of each MCP server, by its name.
type Auths = Vec<(&'static str, Value)>;

/// An `auth` that asks at `token_url` for a token for [`RESOURCE`], with the keys of `more` beside or in
/// place of the rest.
pub fn auth(token_url: &str, client_id: &str, more: Value) -> Value {
    let mut auth = json!({
        "type": "OAUTH2",
        "tokenUrl": token_url,
        "tokenCluster": TOKENS,
        "clientId": client_id,
        "scope": "mcp:tools",
        "resource": RESOURCE,
    });
    auth.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    auth
}

/// An `auth` with a secret.
fn secret_auth(issuer: &OidcProvider, method: &str, client: SecretClient) -> Value {
    auth(issuer.token_url(), client.id, json!({"clientAuth": method, "clientSecret": client.secret}))
}

/// An `auth` with the private key of the client `id`.
fn key_auth(issuer: &OidcProvider, client: KeyClient) -> Value {
    let key = issuer.private_key(client.id);
    let more = json!({"clientAuth": "private_key_jwt", "privateKey": key, "keyId": client.key_id});
    auth(issuer.token_url(), client.id, more)
}

/// An `auth` for each method that proves itself within the request.
fn each_method(issuer: &OidcProvider) -> Auths {
    vec![
        ("basic", secret_auth(issuer, "client_secret_basic", BASIC)),
        ("post", secret_auth(issuer, "client_secret_post", POST)),
        ("secret-jwt", secret_auth(issuer, "client_secret_jwt", SECRET_JWT)),
        ("rs256", key_auth(issuer, RS256)),
        ("es256", key_auth(issuer, ES256)),
    ]
}

/// A gateway to one MCP server for each of `auths`, and to the token server.
fn gateway(place: Place, auths: &Auths, upstream: SocketAddr, tokens: Value) -> Gateway {
    let servers = auths.iter().map(|(name, auth)| (*name, json!({"host": format!("{name}.example"), "auth": auth})));
    let servers: Vec<_> = servers.collect();
    let gateway = match place {
        Place::Listener => {
            let by_name: serde_json::Map<_, _> =
                servers.iter().map(|(name, server)| ((*name).to_owned(), server.clone())).collect();
            let gateway = Gateway::default().filter(upstream_auth(&json!({"servers": by_name})));
            servers.iter().fold(gateway, |gateway, (name, _)| gateway.cluster(cluster(name, upstream, Protocol::Http1)))
        }
        Place::Cluster => servers.iter().fold(Gateway::default(), |gateway, (name, server)| {
            gateway.cluster(filtered_cluster(name, upstream, Protocol::Http1, upstream_auth(server)))
        }),
    };
    gateway.cluster(tokens)
}

/// An Envoy that tells all, with an upstream that stands for every MCP server.
pub async fn start(place: Place, auths: &Auths, tokens: Value) -> Fixture {
    Fixture::start_with(&Options::default(), |upstream| gateway(place, auths, upstream, tokens)).await
}

/// The same with a token server that is spoken to without TLS.
async fn start_at(issuer: &OidcProvider, place: Place, auths: &Auths) -> Fixture {
    start(place, auths, cluster(TOKENS, issuer.address(), Protocol::Http1)).await
}

async fn request(fixture: &Fixture, name: &str) -> (Reply, Vec<Seen>) {
    let path = format!("/{name}/mcp");
    fixture.exchange(TestRequest { path: &path, headers: &THEIRS, ..TestRequest::default() }).await
}

/// The token that arrives at the MCP server `name`.
pub async fn token(fixture: &Fixture, name: &str) -> String {
    let (reply, seen) = request(fixture, name).await;
    assert_eq!(reply.status, 200, "{name}: {}", reply.json());
    assert_eq!(seen.len(), 1, "{name}");
    assert_eq!(seen[0].head.authority, format!("{name}.example"));
    bearer(&seen[0].head.header("authorization"))
}

/// The token in the one `Authorization`.
fn bearer(values: &[String]) -> String {
    let [value] = values else { panic!("{values:?}") };
    value.strip_prefix("Bearer ").unwrap_or_else(|| panic!("{value}")).to_owned()
}

/// That the MCP server `name` gets `reason` in place of a token, and how soon one may ask again.
pub async fn refused(fixture: &Fixture, name: &str, reason: &str) -> u64 {
    let (reply, seen) = request(fixture, name).await;
    assert_eq!(reply.status, 503, "{name}");
    assert_eq!(reply.json()["error"]["data"]["reason"], reason, "{name}");
    assert!(seen.is_empty(), "{name}");
    reply.header("retry-after").unwrap().parse().unwrap()
}

/// That the token of `name` is such a one.
pub async fn assert_issued(issuer: &OidcProvider, token: &str, expected: Value, context: &str) {
    let known = issuer.introspect(token).await.unwrap();
    for (member, value) in expected.as_object().unwrap() {
        assert_eq!(&known[member], value, "{context}: {member} of {known}");
    }
}

/// All forms in which the credentials in an `auth` may be sent.
fn forms(auth: &Value) -> Vec<String> {
    let encode = |text: &str| byte_serialize(text.as_bytes()).collect::<String>();
    let text = |key: &str| auth[key].as_str().unwrap_or_default();
    let mut forms = Vec::new();
    if let Some(secret) = auth["clientSecret"].as_str() {
        let pair = format!("{}:{}", encode(text("clientId")), encode(secret));
        for form in [secret, &encode(secret), &pair] {
            forms.extend([form.to_owned(), STANDARD_NO_PAD.encode(form), URL_SAFE_NO_PAD.encode(form)]);
        }
    }
    // A line of it is as secret as the whole.
    forms.extend(text("privateKey").lines().filter(|line| !line.starts_with("-----")).map(str::to_owned));
    forms
}

/// That `log` has none of the credentials of `auths` and no assertion.
fn assert_secret(log: &str, auths: &Auths) {
    // It is the log that would have them.
    assert!(log.contains("[host->vm] proxy_on_http_call_response"));
    let mut forms: Vec<_> = auths.iter().flat_map(|(_, auth)| forms(auth)).collect();
    forms.push(URL_SAFE_NO_PAD.encode(r#"{"alg""#));
    for form in forms {
        assert!(form.len() > 6, "{form} would be found by chance");
        assert!(!log.contains(&form), "{form} is in the log");
    }
}

#[test]
fn each_method_of_client_authentication_gets_a_token_that_the_server_knows_and_logs_nothing_secret() {
    run(async {
        let issuer = OidcProvider::start().await.unwrap();
        let mut auths = each_method(&issuer);
        let has_signatures = envoy_has(37, SIGNATURES);
        auths.retain(|(_, auth)| has_signatures || auth["clientAuth"] != "private_key_jwt");
        for place in PLACES {
            let fixture = start_at(&issuer, place, &auths).await;
            let mut tokens = Vec::new();
            for (name, auth) in &auths {
                let token = token(&fixture, name).await;
                let expected = json!({
                    "active": true,
                    "client_id": auth["clientId"],
                    "auth_method": auth["clientAuth"],
                    "scope": "mcp:tools",
                    "aud": RESOURCE,
                    "token_type": "Bearer",
                });
                assert_issued(&issuer, &token, expected, &format!("{place:?}, {name}")).await;
                tokens.push(token);
            }
            let log = fixture.envoy.log().unwrap();
            assert_secret(&log, &auths);
            assert!(tokens.iter().all(|token| !log.contains(token)));
        }
    });
}

/// The server takes an assertion without a `kid`, too, but none with one that it does not know.
#[test]
fn an_assertion_names_its_key() {
    if !envoy_has(37, SIGNATURES) {
        return;
    }
    run(async {
        let issuer = OidcProvider::start().await.unwrap();
        let unknown = |client: KeyClient| key_auth(&issuer, KeyClient { key_id: "unknown", ..client });
        let auths = vec![("rs256", unknown(RS256)), ("es256", unknown(ES256))];
        let fixture = start_at(&issuer, Place::Listener, &auths).await;
        for (name, _) in &auths {
            refused(&fixture, name, "token_refused").await;
        }
    });
}

#[test]
fn a_wrong_secret_is_refused_and_neither_asked_for_again_nor_logged() {
    run(async {
        let wrong =
            |client: SecretClient| SecretClient { secret: "a wr:ng secret/with+30 characters & more", ..client };
        for place in PLACES {
            let issuer = OidcProvider::start().await.unwrap();
            let mut auths = vec![
                ("basic", secret_auth(&issuer, "client_secret_basic", wrong(BASIC))),
                ("post", secret_auth(&issuer, "client_secret_post", wrong(POST))),
                ("secret-jwt", secret_auth(&issuer, "client_secret_jwt", wrong(SECRET_JWT))),
            ];
            if envoy_has(37, SIGNATURES) {
                let mut wrong_key = key_auth(&issuer, ES256);
                wrong_key["privateKey"] = json!(KeyPair::generate().unwrap().serialize_pem());
                auths.push(("es256", wrong_key));
            }
            // Less than the shortest pause after a refusal: else a request may wait for the next attempt.
            auths.iter_mut().for_each(|(_, auth)| auth["maxWaitMs"] = json!(3000));
            let fixture = start_at(&issuer, place, &auths).await;
            for (name, _) in &auths {
                for _ in 0..2 {
                    let seconds = refused(&fixture, name, "token_refused").await;
                    assert!((1..=10).contains(&seconds), "{place:?}, {name}: {seconds}");
                }
            }
            let refusals = issuer.log().unwrap().matches("grant.error: invalid_client").count();
            assert_eq!(refusals, auths.len(), "{place:?}");
            let log = fixture.envoy.log().unwrap();
            for (name, _) in &auths {
                // By its name or, in a cluster, by its host.
                let warned = |line: &str| line.contains(&format!("server \"{name}")) && line.contains("invalid_client");
                assert!(log.lines().any(warned), "{place:?}, {name}");
            }
            assert_secret(&log, &auths);
        }
    });
}

#[test]
fn each_scope_of_a_list_is_asked_for_and_granted() {
    run(async {
        let issuer = OidcProvider::start().await.unwrap();
        let more =
            |scope: Value| json!({"clientAuth": "client_secret_post", "clientSecret": POST.secret, "scope": scope});
        let auths = vec![
            ("both", auth(issuer.token_url(), POST.id, more(json!(["mcp:tools", "mcp:read"])))),
            ("one", auth(issuer.token_url(), POST.id, more(json!(["mcp:read"])))),
        ];
        let fixture = start_at(&issuer, Place::Listener, &auths).await;
        for (name, scope) in [("both", "mcp:tools mcp:read"), ("one", "mcp:read")] {
            let token = token(&fixture, name).await;
            assert_issued(&issuer, &token, json!({"active": true, "scope": scope, "aud": RESOURCE}), name).await;
        }
    });
}

/// This server issues no token for two resources; that it says so shows that both of them arrived.
#[test]
fn a_resource_that_the_server_does_not_know_is_refused_and_so_are_two_where_it_takes_one() {
    run(async {
        let issuer = OidcProvider::start().await.unwrap();
        let asking_for = |resource: Value| {
            let mut auth = secret_auth(&issuer, "client_secret_basic", BASIC);
            auth["resource"] = resource;
            auth
        };
        let auths = vec![
            ("unknown", asking_for(json!("https://unknown.example/mcp"))),
            ("two", asking_for(json!([RESOURCE, "https://tools.example/other"]))),
        ];
        let fixture = start_at(&issuer, Place::Listener, &auths).await;
        for (name, why) in
            [("unknown", "unknown resource"), ("two", "only a single resource indicator value is supported")]
        {
            refused(&fixture, name, "token_refused").await;
            let log = fixture.envoy.log().unwrap();
            let warned = |line: &str| line.contains("invalid_target") && line.contains(why);
            assert!(log.lines().any(warned), "{name}");
        }
    });
}

#[test]
fn an_mcp_session_of_a_client_without_a_credential_runs_on_one_token() {
    run(async {
        let issuer = OidcProvider::start().await.unwrap();
        let auths = vec![("jwt", secret_auth(&issuer, "client_secret_jwt", SECRET_JWT))];
        for place in PLACES {
            let demands = HashMap::from([("jwt.example".to_owned(), Demand::Nothing)]);
            let server = McpServer::start(ANY, demands).await.unwrap();
            let tokens = cluster(TOKENS, issuer.address(), Protocol::Http1);
            let config = gateway(place, &auths, server.address(), tokens).config();
            let envoy = running(&config, &Options::default()).await;
            let url = format!("http://{}/jwt/mcp", envoy.listener(LISTENER).await.unwrap());
            for era in [Era::Sessions, Era::Stateless] {
                let transcript = converse(&url, &THEIRS, Protocol::Http1, era).await.unwrap();
                assert!(!transcript.tools.is_empty() && !transcript.results.is_empty(), "{place:?}, {era:?}");
            }
            // The server asks for nothing, as no test knows the token before: whether it came is seen here.
            let tokens: Vec<_> =
                server.arrivals().iter().map(|arrival| bearer(&arrival.header("authorization"))).collect();
            assert!(tokens.windows(2).all(|pair| pair[0] == pair[1]), "{place:?}");
            let expected = json!({"active": true, "client_id": SECRET_JWT.id, "aud": RESOURCE});
            assert_issued(&issuer, tokens.first().unwrap(), expected, &format!("{place:?}")).await;
        }
    });
}
