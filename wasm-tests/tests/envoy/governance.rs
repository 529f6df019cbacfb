//! `envoy/gateway.yaml`: who fails governance causes no injection and no token fetch, and who passes it leaves no
//! credential of theirs with the MCP server.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use http_body_util::Full;
use http_body_util::channel::Channel;
use hyper::Request;
use hyper::body::{Body, Frame};
use hyper::header::HeaderValue;
use ring::hmac;
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::time::timeout;
use wasm_tests::client::{PATIENCE, Protocol, Reply, send};
use wasm_tests::demo;
use wasm_tests::envoy::Options;
use wasm_tests::gateway::{Gateway, LISTENER};
use wasm_tests::repository;
use wasm_tests::token_server::Behaviour;

use crate::fixture::{envoy_has, run, running};
use crate::mcp_client::{Era, converse};
use crate::only_mcp::is_refused;
use crate::shipped::{Shipped, any_port, options};
use crate::tls::{Authority, behind_tls};

/// The virtual keys of the example: of a caller who may do all, and of one who may call `echo` of `github-mcp`.
const NIGHT_JOB: &str = "vk-demo-night-job";
const SUPPORT_BOT: &str = "vk-demo-support-bot";

const SERVERS: [&str; 2] = ["github-mcp", "fetched"];

/// An authorization server's key, made for one test.
struct Issuer(EcdsaKeyPair);

impl Issuer {
    fn new() -> Self {
        let random = SystemRandom::new();
        let key = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &random).unwrap();
        Self(EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, key.as_ref(), &random).unwrap())
    }

    fn jwks(&self) -> Value {
        // 4, and the two coordinates (SEC 1 §2.3.3).
        let (x, y) = self.0.public_key().as_ref()[1..].split_at(32);
        let coordinate = |bytes| URL_SAFE_NO_PAD.encode(bytes);
        json!({"keys": [{"kty": "EC", "crv": "P-256", "kid": "test", "x": coordinate(x), "y": coordinate(y)}]})
    }

    /// A JWT of a caller in `group`, with `changes` to its claims; those that are null are left out.
    fn jwt(&self, group: &str, changes: Value) -> String {
        let input = signing_input("ES256", group, changes);
        let signature = self.0.sign(&SystemRandom::new(), input.as_bytes()).unwrap();
        format!("{input}.{}", URL_SAFE_NO_PAD.encode(signature))
    }

    /// One that is signed with what everybody knows: the public key, as a secret.
    fn jwt_by_public_key(&self, group: &str) -> String {
        let input = signing_input("HS256", group, json!({}));
        let key = hmac::Key::new(hmac::HMAC_SHA256, self.0.public_key().as_ref());
        format!("{input}.{}", URL_SAFE_NO_PAD.encode(hmac::sign(&key, input.as_bytes())))
    }
}

fn signing_input(algorithm: &str, group: &str, changes: Value) -> String {
    let mut claims = json!({
        "iss": "https://login.example.com",
        "aud": "https://gateway.example.com",
        "sub": "ann",
        "groups": [group],
        "exp": seconds_from_now(300),
    });
    claims.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
    claims.as_object_mut().unwrap().retain(|_, value| !value.is_null());
    let header = json!({"alg": algorithm, "typ": "JWT", "kid": "test"});
    [header, claims].map(|part| URL_SAFE_NO_PAD.encode(part.to_string())).join(".")
}

fn seconds_from_now(seconds: i64) -> i64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO).as_secs();
    i64::try_from(now).unwrap() + seconds
}

fn example() -> String {
    std::fs::read_to_string(repository().join("envoy/gateway.yaml")).unwrap()
}

/// The gateway of the example, with the JWKS of `issuer` in place of its own.
async fn start(issuer: &Issuer) -> Shipped {
    start_with(&with_jwks(&example(), issuer)).await
}

/// The gateway of `config`. Each token serves once, so that every request that gets to the filter causes a fetch.
async fn start_with(config: &str) -> Shipped {
    let tokens = demo::start_token_server(any_port()).await.unwrap();
    tokens.behave(Behaviour::Grants(json!(0)));
    let gateway = Shipped::start_with(tokens, config, "gateway", &options()).await;
    // The first is fetched when the configuration loads, for nobody.
    let mut asked = gateway.tokens.subscribe();
    timeout(PATIENCE, asked.wait_for(|asked| *asked > 0)).await.unwrap().unwrap();
    gateway
}

/// How the line begins that has the JWKS.
const JWKS: &str = r#"inline_string: '{"keys":"#;

/// `config` with the JWKS of `issuer`.
fn with_jwks(config: &str, issuer: &Issuer) -> String {
    assert_eq!(config.matches(JWKS).count(), 1, "{config}");
    let replaced = config.lines().map(|line| match line.split_once(JWKS) {
        Some((indent, _)) => format!("{indent}inline_string: '{}'\n", issuer.jwks()),
        None => format!("{line}\n"),
    });
    replaced.collect()
}

/// `config` with what it shows in comments, from the line that begins with `first` to the end of these comments.
fn uncommented(config: &str, first: &str) -> String {
    let mut shown = false;
    let lines = config.lines().map(|line| match line.split_once("# ") {
        Some((indent, rest)) if indent.trim().is_empty() && (shown || rest.starts_with(first)) => {
            shown = true;
            format!("{indent}{rest}\n")
        }
        _ => {
            shown = false;
            format!("{line}\n")
        }
    });
    lines.collect()
}

/// A request of a caller.
#[derive(Clone)]
struct Call {
    method: &'static str,
    path: String,
    headers: Vec<(&'static str, Vec<u8>)>,
    body: String,
}

impl Call {
    fn to(server: &str, body: impl ToString) -> Self {
        Self {
            method: "POST",
            path: format!("/{server}/mcp"),
            headers: vec![
                ("content-type", b"application/json".to_vec()),
                ("accept", b"application/json, text/event-stream".to_vec()),
            ],
            body: body.to_string(),
        }
    }

    fn with(mut self, name: &'static str, value: impl AsRef<[u8]>) -> Self {
        self.headers.retain(|(own, _)| *own != name);
        self.headers.push((name, value.as_ref().to_vec()));
        self
    }

    fn at(self, path: &str) -> Self {
        Self { path: path.to_owned(), ..self }
    }

    fn by(self, caller: &Credential) -> Self {
        self.with(caller.0, &caller.1)
    }

    fn method(self, method: &'static str) -> Self {
        Self { method, ..self }
    }

    async fn send(&self, gateway: &Shipped, protocol: Protocol) -> Reply {
        let uri = match protocol {
            Protocol::Http1 => self.path.clone(),
            Protocol::Http2 => format!("http://gateway.example{}", self.path),
        };
        let mut request = Request::builder().method(self.method).uri(uri);
        if protocol == Protocol::Http1 {
            request = request.header("host", "gateway.example");
        }
        for (name, value) in &self.headers {
            request = request.header(*name, value.as_slice());
        }
        let body = Full::new(Bytes::from(self.body.clone()));
        send(gateway.gateway, protocol, request.body(body).unwrap()).await.unwrap()
    }
}

fn message(method: &str, params: Value) -> Value {
    json!({"jsonrpc": "2.0", "id": 1, "method": method, "params": params})
}

fn tool_call(tool: &str) -> Value {
    message("tools/call", json!({"name": tool, "arguments": {"text": "hello", "to": 1}}))
}

/// A call of `tool` in revision 2026-07-28, whose headers say that it is this method and name.
fn stateless_call(server: &str, tool: &str, method: &str, name: &str) -> Call {
    let meta = json!({
        "io.modelcontextprotocol/protocolVersion": "2026-07-28",
        "io.modelcontextprotocol/clientCapabilities": {},
    });
    let params = json!({"name": tool, "arguments": {"text": "hello", "to": 1}, "_meta": meta});
    Call::to(server, message("tools/call", params))
        .with("mcp-protocol-version", "2026-07-28")
        .with("mcp-method", method)
        .with("mcp-name", name)
}

/// A header by which callers show who they are.
type Credential = (&'static str, String);

fn key(key: &str) -> Credential {
    ("x-api-key", key.to_owned())
}

fn bearer(jwt: &str) -> Credential {
    ("authorization", format!("Bearer {jwt}"))
}

/// What is wrong with a request, the request, and the status of its refusal.
type Case = (&'static str, Call, u16);

/// Requests of nobody that the gateway knows.
fn unauthenticated(server: &str, issuer: &Issuer) -> Vec<Case> {
    let call = || Call::to(server, tool_call("echo"));
    let jwt = |changes| call().by(&bearer(&issuer.jwt("engineering", changes)));
    let valid = issuer.jwt("engineering", json!({}));
    let none = signing_input("none", "engineering", json!({}));
    vec![
        ("no credential", call(), 401),
        ("an unknown virtual key", call().by(&key("vk-demo-night-joba")), 401),
        ("an empty virtual key", call().by(&key("")), 401),
        ("a virtual key that is not UTF-8", call().with("x-api-key", b"\xff"), 401),
        ("a virtual key with more that is not UTF-8", call().with("x-api-key", b"vk-demo-night-job\xff"), 401),
        ("a valid JWT beside what is not UTF-8", jwt(json!({})).with("x-api-key", b"\xc3\x28"), 401),
        ("a virtual key by another spelling", call().with("x_api_key", NIGHT_JOB), 401),
        ("a virtual key as a bearer token", call().by(&bearer(NIGHT_JOB)), 401),
        ("a virtual key in the query", call().at(&format!("/{server}/mcp?x-api-key={NIGHT_JOB}")), 401),
        ("somebody else's name", call().with("x-gateway-client", "night-job"), 401),
        ("a valid JWT beside an unknown virtual key", jwt(json!({})).by(&key("unknown")), 401),
        ("a valid JWT beside an empty virtual key", jwt(json!({})).by(&key("")), 401),
        ("a valid JWT in the query", call().at(&format!("/{server}/mcp?access_token={valid}")), 401),
        ("an expired JWT", jwt(json!({"exp": seconds_from_now(-120)})), 401),
        ("a JWT that does not expire", jwt(json!({"exp": null})), 401),
        ("a JWT of another issuer", jwt(json!({"iss": "https://other.example.com"})), 401),
        ("a JWT for somebody else", jwt(json!({"aud": "https://github-mcp.example"})), 403),
        ("a JWT for anybody", jwt(json!({"aud": null})), 403),
        ("a JWT by a foreign key", call().by(&bearer(&Issuer::new().jwt("engineering", json!({})))), 401),
        ("a JWT that nobody signed", call().by(&bearer(&format!("{none}."))), 401),
        ("a JWT that the public key signed", call().by(&bearer(&issuer.jwt_by_public_key("engineering"))), 401),
    ]
}

/// Requests for what their caller may not do: `limited` may call `echo` of this server, and `stranger` nothing.
fn unauthorized(server: &str, limited: &Credential, stranger: &Credential) -> Vec<Case> {
    let call = |body: Value| Call::to(server, body).by(limited);
    let echo = || call(tool_call("echo"));
    let large = message("tools/call", json!({"name": "echo", "arguments": {"text": "x".repeat(1 << 20)}}));
    vec![
        ("a server that is not theirs", Call::to(server, tool_call("echo")).by(stranger), 403),
        ("no server", echo().at("/nowhere/mcp"), 403),
        ("another tool", call(tool_call("count")), 403),
        ("another tool, by somebody else's name", call(tool_call("count")).with("x-gateway-client", "night-job"), 403),
        ("a tool of no name", call(message("tools/call", json!({}))), 403),
        ("a resource", call(message("resources/read", json!({"uri": "file:///etc"}))), 403),
        ("a prompt", call(message("prompts/get", json!({"name": "echo"}))), 403),
        ("a method of tomorrow", call(message("tools/call2", json!({"name": "echo"}))), 403),
        ("a body that is too large", call(large), 400),
        ("a body that is no JSON", Call::to(server, "tools/call").by(limited), 400),
        ("a body that is no MCP", call(json!({"method": "tools/call", "params": {"name": "echo"}})), 400),
        ("a body of another type", echo().with("content-type", "text/plain"), 400),
        ("no body", Call::to(server, "").by(limited), 400),
        ("PUT", echo().method("PUT"), 403),
        ("a web page", echo().with("origin", "https://evil.example"), 403),
        ("a preflight", echo().method("OPTIONS").with("origin", "https://evil.example"), 403),
        ("TRACE", Call::to(server, "").by(limited).method("TRACE"), 403),
        ("GET without a stream", Call::to(server, "").by(limited).method("GET").with("accept", "*"), 400),
    ]
}

/// Requests for what else there is on the host of an MCP server, by whoever may use that server.
fn beside_the_endpoint(server: &str, caller: &Credential) -> Vec<Case> {
    let places = ["admin", "", "mcp/", "mcp/x", "mcp/../admin", "mcp/%2e%2e/admin", "mcp;/admin", "MCP"];
    let calls = places.into_iter().flat_map(|place| {
        let call = |body: &str| Call::to(server, body).at(&format!("/{server}/{place}")).by(caller);
        [
            ("GET beside the endpoint", call("").method("GET").with("accept", "*/*"), 403),
            ("DELETE beside the endpoint", call("").method("DELETE").with("mcp-session-id", "any"), 403),
            ("POST beside the endpoint", call(&tool_call("echo").to_string()), 403),
        ]
    });
    calls.collect()
}

/// Calls of `count` that look like something else; `limited` may call `echo` of this server.
fn hidden(server: &str, limited: &Credential) -> Vec<Case> {
    let call = |body: Value| Call::to(server, body).by(limited);
    let raw = |rest: &str| Call::to(server, format!(r#"{{"jsonrpc":"2.0","id":1,{rest}}}"#)).by(limited);
    let (echo, count) = (tool_call("echo"), tool_call("count"));
    let saying = |method, name| stateless_call(server, "count", method, name).by(limited);
    let padding = "x".repeat(1_000_000);
    // Some servers know UTF-16 by its zeros, whatever the headers say.
    let utf16 = |text: &Value| text.to_string().chars().flat_map(|char| [char, '\0']).collect::<String>();
    vec![
        ("a batch", call(json!([count])), 400),
        ("a batch that begins well", call(json!([echo, count])), 400),
        ("behind a message", Call::to(server, format!("{echo}\n{count}")).by(limited), 400),
        (
            "at the end of a large body",
            raw(&format!(r#""params":{{"a":"{padding}","name":"count"}},"method":"tools/call""#)),
            403,
        ),
        ("an honest name", saying("tools/call", "count"), 403),
        ("a lying name", saying("tools/call", "echo"), 400),
        ("a lying method", saying("tools/list", "count"), 400),
        ("a lying name and revision", saying("tools/call", "echo").with("mcp-protocol-version", "2025-11-25"), 403),
        ("a lying name and no revision", call(count.clone()).with("mcp-name", "echo"), 403),
        ("two names", raw(r#""method":"tools/call","params":{"name":"echo","name":"count"}"#), 400),
        ("two methods", raw(r#""method":"tools/call","method":"tools/list","params":{"name":"count"}"#), 400),
        ("two params", raw(r#""method":"tools/call","params":{"name":"echo"},"params":{"name":"count"}"#), 400),
        (
            "a name elsewhere",
            raw(r#""method":"tools/call","params.name":"echo","name":"echo","params":{"name":"count"}"#),
            403,
        ),
        ("in UTF-16", Call::to(server, utf16(&count)).by(limited), 400),
        ("behind a message, in UTF-16", Call::to(server, format!("{echo}{}", utf16(&count))).by(limited), 400),
        ("escapes", raw(r#""m\u0065thod":"tools\/call","params":{"n\u0061me":"c\u006funt"}"#), 403),
        ("an answer", raw(r#""method":"tools/call","params":{"name":"count"},"result":{}"#), 403),
    ]
}

/// What the filter has counted, and what reached the servers behind it.
async fn effects(gateway: &Shipped) -> (String, usize, usize) {
    let counters = gateway.envoy.admin_get("/stats?filter=^wasmcustom.mcp_upstream_auth.requests").await.unwrap();
    (counters, gateway.server.arrivals().len(), gateway.tokens.asked().len())
}

#[test]
fn a_caller_who_fails_governance_causes_no_injection_and_no_token_fetch() {
    if !envoy_has(40, "the filters before this one in gateway.yaml") {
        return;
    }
    run(async {
        let issuer = Issuer::new();
        let gateway = start(&issuer).await;
        let support = bearer(&issuer.jwt("support", json!({})));
        let mut refused = Vec::new();
        for server in SERVERS {
            let (limited, stranger) = match server {
                "github-mcp" => (key(SUPPORT_BOT), support.clone()),
                _ => (support.clone(), key(SUPPORT_BOT)),
            };
            refused.extend(unauthenticated(server, &issuer));
            let of = |groups: Value| {
                let jwt = issuer.jwt("engineering", json!({"groups": groups}));
                Call::to(server, tool_call("echo")).by(&bearer(&jwt))
            };
            refused.extend([
                ("a JWT of no group", of(Value::Null), 403),
                ("a JWT whose group only begins like one", of(json!(["engineering2"])), 403),
            ]);
            refused.extend(unauthorized(server, &limited, &stranger));
            refused.extend(beside_the_endpoint(server, &limited));
            refused.extend(hidden(server, &limited));
        }
        let engineering = bearer(&issuer.jwt("engineering", json!({})));
        let elsewhere = |path: &str| Call::to("", tool_call("echo")).by(&key(SUPPORT_BOT)).at(path);
        refused.extend([
            ("rights of a JWT beside a key", elsewhere("/fetched/mcp").by(&engineering), 403),
            ("a server that is not theirs, by way of theirs", elsewhere("/github-mcp/../fetched/mcp"), 403),
            ("the same, encoded", elsewhere("/github-mcp/%2e%2e/fetched/mcp"), 403),
            ("the same, with the slash encoded", elsewhere("/github-mcp/..%2ffetched/mcp"), 400),
            ("the same, by two slashes", elsewhere("//fetched/mcp"), 403),
        ]);

        let before = effects(&gateway).await;
        for (what, call, status) in &refused {
            for protocol in [Protocol::Http1, Protocol::Http2] {
                let reply = call.send(&gateway, protocol).await;
                assert_eq!(reply.status, *status, "{what}, {}, {protocol:?}: {:?}", call.path, reply.body);
                assert_eq!(effects(&gateway).await, before, "{what}, {}, {protocol:?}", call.path);
            }
        }

        // So that the above is not for want of looking: whom governance lets through causes each of these once.
        let call = stateless_call("fetched", "echo", "tools/call", "echo").by(&support);
        let reply = call.send(&gateway, Protocol::Http1).await;
        assert_eq!(reply.status, 200, "{:?}", reply.body);
        let (counters, arrived, asked) = effects(&gateway).await;
        assert!(counters.contains("injected.server.fetched: 1\n"), "{counters}");
        assert_eq!((arrived, asked), (before.1 + 1, before.2 + 1));
    });
}

/// What one of the two filters takes for a credential, and the other does not, must not get past both. That nobody
/// is named in a policy is no help here: in this gateway, the policies let in everybody.
#[test]
fn a_caller_whom_no_filter_authenticates_is_refused_whatever_the_policies_say() {
    if !envoy_has(40, "the filters before this one in gateway.yaml") {
        return;
    }
    run(async {
        const SHIPPED: &str = "&night_job { header: { name: x-gateway-client, string_match: { exact: night-job } } }";
        let example = example();
        assert_eq!(example.matches(SHIPPED).count(), 1, "{example}");
        let issuer = Issuer::new();
        let gateway = start_with(&with_jwks(&example.replace(SHIPPED, "&night_job { any: true }"), &issuer)).await;
        let before = effects(&gateway).await;
        for server in SERVERS {
            for (what, call, status) in unauthenticated(server, &issuer) {
                for protocol in [Protocol::Http1, Protocol::Http2] {
                    let reply = call.send(&gateway, protocol).await;
                    assert_eq!(reply.status, status, "{what}, {server}, {protocol:?}: {:?}", reply.body);
                    assert_eq!(effects(&gateway).await, before, "{what}, {server}, {protocol:?}");
                }
            }
        }
        let call = Call::to("fetched", tool_call("echo")).by(&bearer(&issuer.jwt("nobody", json!({}))));
        call.send(&gateway, Protocol::Http1).await;
        assert_eq!(gateway.server.arrivals().len(), before.1 + 1, "the policies let in nobody");
    });
}

/// A body that does not say how long it is. Over HTTP/2, it ends with its one frame.
struct Unsized(Full<Bytes>);

impl Body for Unsized {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Pin::new(&mut self.0).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.0.is_end_stream()
    }
}

/// A GET or DELETE of one who may call `echo` and no other tool, with this body.
fn without_body<B>(method: &str, protocol: Protocol, body: B) -> Request<B> {
    let request = Request::builder()
        .method(method)
        .uri("http://gateway.example/github-mcp/mcp")
        .header("x-api-key", SUPPORT_BOT)
        .header("accept", "text/event-stream")
        .header("mcp-session-id", "any");
    let request = match protocol {
        Protocol::Http1 => request.header("host", "gateway.example"),
        Protocol::Http2 => request,
    };
    request.body(body).unwrap()
}

/// `request` in chunks, where HTTP has them.
fn chunked<B>(mut request: Request<B>, protocol: Protocol) -> Request<B> {
    if protocol == Protocol::Http1 {
        request.headers_mut().insert("transfer-encoding", HeaderValue::from_static("chunked"));
    }
    request
}

/// Over HTTP/2, a body needs no `content-length` (RFC 9113 §8.1.1).
#[test]
fn a_get_or_delete_has_no_body_whatever_it_says_of_its_length() {
    if !envoy_has(40, "the filters before this one in gateway.yaml") {
        return;
    }
    run(async {
        let gateway = start(&Issuer::new()).await;
        let call = tool_call("count").to_string();
        for (method, protocol) in
            ["GET", "DELETE"].into_iter().flat_map(|method| [(method, Protocol::Http1), (method, Protocol::Http2)])
        {
            for body in [call.clone(), "{".to_owned()] {
                let full = || Full::new(Bytes::from(body.clone()));
                let sized = send(gateway.gateway, protocol, without_body(method, protocol, full()));
                let unsized_ = chunked(without_body(method, protocol, Unsized(full())), protocol);
                let unsized_ = send(gateway.gateway, protocol, unsized_);
                let (mut sender, pieces) = Channel::<Bytes, Infallible>::new(1);
                let pieces = chunked(without_body(method, protocol, pieces), protocol);
                let pieces = tokio::spawn(send(gateway.gateway, protocol, pieces));
                let _ = sender.send_data(Bytes::from(body.clone())).await;
                drop(sender);
                let replies = [sized.await, unsized_.await, pieces.await.unwrap()];
                for (shape, reply) in ["sized", "unsized", "in pieces"].into_iter().zip(replies) {
                    let status = reply.unwrap().status.as_u16();
                    assert!(
                        matches!(status, 403 | 413),
                        "{method} {protocol:?}, {} bytes {shape}: {status}",
                        body.len()
                    );
                }
            }
            // Nobody keeps Envoy's buffers by a body that does not end.
            let (mut sender, unfinished) = Channel::<Bytes, Infallible>::new(1);
            let unfinished = chunked(without_body(method, protocol, unfinished), protocol);
            let unfinished = tokio::spawn(send(gateway.gateway, protocol, unfinished));
            let _ = sender.send_data(Bytes::from(call.clone())).await;
            assert_eq!(unfinished.await.unwrap().unwrap().status, 413, "{method} {protocol:?}");
        }
        assert!(gateway.server.arrivals().is_empty());
        // Some clients say of no body that its length is 0.
        let mut empty = without_body("DELETE", Protocol::Http1, Full::new(Bytes::new()));
        empty.headers_mut().insert("content-length", HeaderValue::from_static("0"));
        send(gateway.gateway, Protocol::Http1, empty).await.unwrap();
        assert_eq!(gateway.server.arrivals().len(), 1);
    });
}

/// The forms that the example shows in comments.
#[test]
fn a_web_page_that_is_allowed_gets_its_preflight_answered() {
    if !envoy_has(40, "the filters before this one in gateway.yaml") {
        return;
    }
    run(async {
        const OURS: &str = "https://app.example.com";
        let refusing = |line: &str| line.trim().starts_with("web_pages: {");
        let example: String =
            example().lines().filter(|line| !refusing(line)).map(|line| format!("{line}\n")).collect();
        let mut config = example;
        for first in ["- name: envoy.filters.http.cors", "typed_per_filter_config:", "web_pages: {"] {
            config = uncommented(&config, first);
        }
        let issuer = Issuer::new();
        let gateway = start_with(&with_jwks(&config, &issuer)).await;
        let preflight = |origin| Call::to("github-mcp", "").method("OPTIONS").with("origin", origin);
        let before = effects(&gateway).await;
        let reply = preflight(OURS).with("access-control-request-method", "POST").send(&gateway, Protocol::Http1).await;
        assert_eq!((reply.status.as_u16(), reply.header("access-control-allow-origin").as_deref()), (200, Some(OURS)));
        for origin in ["https://evil.example", "null", "https://app.example.com.evil.example"] {
            let call = preflight(origin).with("access-control-request-method", "POST");
            let reply = call.send(&gateway, Protocol::Http1).await;
            assert_eq!((reply.status.as_u16(), reply.header("access-control-allow-origin")), (403, None), "{origin}");
            let call = Call::to("github-mcp", tool_call("echo")).by(&key(SUPPORT_BOT)).with("origin", origin);
            assert_eq!(call.send(&gateway, Protocol::Http1).await.status, 403, "{origin}");
        }
        assert_eq!(effects(&gateway).await, before);
        let echo = stateless_call("github-mcp", "echo", "tools/call", "echo").by(&key(SUPPORT_BOT));
        assert_eq!(echo.send(&gateway, Protocol::Http1).await.status, 200, "no web page");
        let frame = Call::to("github-mcp", "").method("GET").by(&key(SUPPORT_BOT)).with("sec-fetch-site", "cross-site");
        assert_eq!(frame.send(&gateway, Protocol::Http1).await.status, 403, "a web page that says no origin");
        let echo = echo.with("sec-fetch-site", "cross-site");
        let reply = echo.with("origin", OURS).send(&gateway, Protocol::Http1).await;
        assert_eq!((reply.status.as_u16(), reply.header("access-control-allow-origin").as_deref()), (200, Some(OURS)));
    });
}

#[test]
fn only_what_mcp_has_passes() {
    if !envoy_has(40, "the filters before this one in gateway.yaml") {
        return;
    }
    run(async {
        let gateway = start(&Issuer::new()).await;
        let before = effects(&gateway).await;
        is_refused(gateway.gateway, "/github-mcp/mcp", &[("x-api-key", NIGHT_JOB)]).await;
        assert_eq!(effects(&gateway).await, before);
    });
}

/// In UTF-7, the second name of this call is `name` as well, and the last one counts. Envoy reads bytes.
#[test]
fn nothing_reaches_the_server_by_which_it_would_read_a_request_in_another_way() {
    if !envoy_has(40, "the filters before this one in gateway.yaml") {
        return;
    }
    run(async {
        let gateway = start(&Issuer::new()).await;
        let echo = stateless_call("github-mcp", "echo", "tools/call", "echo").by(&key(SUPPORT_BOT));
        let body = echo.body.replacen(r#""name":"echo""#, r#""name":"echo","+AG4-ame":"count""#, 1);
        assert_ne!(body, echo.body);
        let echo = Call { body, ..echo }
            .with("x-http-method-override", "GET")
            .with("x-http-method", "GET")
            .with("x-method-override", "GET")
            .with("x-original-url", "/admin")
            .with("x-rewrite-url", "/admin");
        for (content_type, content_encoding) in [
            ("application/json", "identity"),
            ("application/json; charset=utf-8", "gzip"),
            ("application/json; charset=utf-7", "br"),
            ("application/json;charset=UTF-16LE", "x, deflate"),
            ("application/json; a,text/plain; charset=utf-7", "deflate"),
        ] {
            for protocol in [Protocol::Http1, Protocol::Http2] {
                let context = format!("{content_type}, {content_encoding}, {protocol:?}");
                let call = echo.clone().with("content-type", content_type).with("content-encoding", content_encoding);
                let reply = call.send(&gateway, protocol).await;
                assert_eq!(reply.status, 200, "{context}: {:?}", reply.body);
                let arrival = gateway.server.arrivals().pop().unwrap();
                assert_eq!(arrival.method, "POST", "{context}");
                assert_eq!(arrival.path_and_query, "/mcp", "{context}");
                assert_eq!(arrival.header("content-type"), ["application/json"], "{context}");
                for name in [
                    "content-encoding",
                    "x-http-method-override",
                    "x-http-method",
                    "x-method-override",
                    "x-original-url",
                    "x-rewrite-url",
                ] {
                    assert_eq!(arrival.header(name), [""; 0], "{context}: {name}");
                }
            }
        }
    });
}

/// What the README says that Envoy does not see. If one of these is refused, the note can go.
#[test]
fn a_second_message_far_behind_the_first_and_a_key_in_capitals_reach_the_server() {
    if !envoy_has(40, "the filters before this one in gateway.yaml") {
        return;
    }
    run(async {
        let gateway = start(&Issuer::new()).await;
        let (echo, count) = (tool_call("echo"), tool_call("count"));
        let capitals = json!({"name": "echo", "Name": "count"});
        for body in [format!("{echo}{}{count}", " ".repeat(200_000)), message("tools/call", capitals).to_string()] {
            let before = gateway.server.arrivals().len();
            Call::to("github-mcp", body).by(&key(SUPPORT_BOT)).send(&gateway, Protocol::Http1).await;
            assert_eq!(gateway.server.arrivals().len(), before + 1);
        }
    });
}

#[test]
fn a_caller_who_passes_governance_leaves_no_credential_of_theirs_with_the_server() {
    if !envoy_has(40, "the filters before this one in gateway.yaml") {
        return;
    }
    run(async {
        let issuer = Issuer::new();
        let mut gateway = start(&issuer).await;
        let jwt = issuer.jwt("engineering", json!({}));
        let bearer = format!("Bearer {jwt}");
        let callers: [&[(&str, &str)]; 3] = [
            &[("x-api-key", NIGHT_JOB)],
            &[("authorization", &bearer)],
            // Who sends a key is judged by that alone.
            &[("x-api-key", NIGHT_JOB), ("x_api_key", "theirs"), ("authorization", "Bearer theirs")],
        ];
        for server in SERVERS {
            for caller in callers {
                for (era, protocol) in [(Era::Sessions, Protocol::Http1), (Era::Stateless, Protocol::Http2)] {
                    let url = format!("http://{}/{server}/mcp", gateway.gateway);
                    let transcript = converse(&url, caller, protocol, era).await.unwrap();
                    assert_eq!(transcript.results.len(), 4, "{server}, {caller:?}, {era:?}");
                }
            }
        }
        let granted: Vec<_> = gateway.tokens.asked().into_iter().filter_map(|asked| asked.token).collect();
        let arrivals = gateway.server.arrivals();
        for server in SERVERS {
            let host = format!("{server}.example");
            assert!(arrivals.iter().filter(|arrival| arrival.authority == host).count() >= 30, "{server}");
        }
        for arrival in arrivals {
            assert_eq!(arrival.path_and_query, "/mcp", "{}", arrival.authority);
            let headers =
                arrival.headers.iter().map(|(name, value)| format!("{name}: {}", String::from_utf8_lossy(value)));
            let whole = [arrival.path_and_query.clone()].into_iter().chain(headers).collect::<Vec<_>>().join("\n");
            for theirs in
                [NIGHT_JOB, "night-job", "theirs", &jwt, jwt.split('.').nth(1).unwrap(), "x-api-key", "x-gateway"]
            {
                assert!(!whole.contains(theirs), "{theirs} arrived:\n{whole}");
            }
            let presented = arrival.header("authorization").concat();
            match arrival.authority.as_str() {
                "github-mcp.example" => assert_eq!(presented, "Bearer demo-github-token"),
                _ => assert!(granted.iter().any(|token| presented == format!("Bearer {token}")), "{presented}"),
            }
        }

        // Who called what is in the log, and by what they showed it is nowhere.
        let dump = gateway.envoy.admin_get("/config_dump").await.unwrap();
        assert!(
            dump.contains("api_key_auth") && !dump.contains("vk-demo"),
            "a virtual key is in the configuration dump"
        );
        let log = gateway.envoy.stop().await.unwrap();
        for (who, of) in [("key", "night-job"), ("subject", "ann")] {
            let called = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok()).any(|line| {
                line[who] == of && line["method"] == "tools/call" && line["name"] == "echo" && line["status"] == 200
            });
            assert!(called, "{of} is not in the access log:\n{log}");
        }
        for secret in [NIGHT_JOB, SUPPORT_BOT, &jwt, "demo-github-token", "demo-client-secret"] {
            assert!(!log.contains(secret), "{secret} is in the log");
        }
    });
}

/// The form that the example shows in comments.
#[test]
fn the_jwks_that_is_fetched_decides_as_the_one_in_the_configuration_does() {
    if !envoy_has(40, "the filters before this one in gateway.yaml") {
        return;
    }
    run(async {
        let issuer = Issuer::new();
        let authority = Authority::new();
        let login = Gateway::default().domains(&["nobody.example"]).virtual_host(json!({
            "name": "login",
            "domains": ["login.example.com"],
            "routes": [{
                "match": {"path": "/jwks.json"},
                "direct_response": {"status": 200, "body": {"inline_string": issuer.jwks().to_string()}},
            }],
        }));
        let identity = authority.certify(&["login.example.com"]);
        let tls = json!({"common_tls_context": {"tls_certificates": [identity]}});
        let login = running(&behind_tls(login, tls), &Options::default()).await;
        let port = login.listener(LISTENER).await.unwrap().port();
        let folder = TempDir::new().unwrap();
        let trusted = folder.path().join("authority.pem");
        std::fs::write(&trusted, authority.pem()).unwrap();

        let local = |line: &str| line.contains(JWKS) || line.trim() == "local_jwks:";
        let remote: String = example().lines().filter(|line| !local(line)).map(|line| format!("{line}\n")).collect();
        let mut config = uncommented(&uncommented(&remote, "remote_jwks:"), "- name: login");
        for (theirs, ours) in [
            ("address: login.example.com, port_value: 443", format!("address: 127.0.0.1, port_value: {port}")),
            ("/etc/ssl/certs/ca-certificates.crt", trusted.display().to_string()),
        ] {
            assert_eq!(config.matches(theirs).count(), 1, "{theirs}");
            config = config.replace(theirs, &ours);
        }
        let gateway = start_with(&config).await;
        let call = |issuer: &Issuer| {
            let jwt = issuer.jwt("engineering", json!({}));
            stateless_call("github-mcp", "count", "tools/call", "count").by(&bearer(&jwt))
        };
        assert_eq!(call(&Issuer::new()).send(&gateway, Protocol::Http1).await.status, 401);
        assert_eq!(gateway.server.arrivals().len(), 0);
        let reply = call(&issuer).send(&gateway, Protocol::Http1).await;
        assert_eq!(reply.status, 200, "{:?}", reply.body);
        assert_eq!(gateway.server.arrivals()[0].header("authorization"), ["Bearer demo-github-token"]);
    });
}
