//! What is compared. Every case is an Envoy with the same listener, route and clusters; they differ in one filter.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use http_body_util::Full;
use hyper::Request;
use hyper::body::Bytes;
use hyper::header::HeaderValue;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tokio::time::{sleep, timeout};
use wasm_tests::client::{PATIENCE, Protocol, send};
use wasm_tests::envoy::Envoy;
use wasm_tests::gateway::{
    Gateway, LISTENER, any, cluster, filtered_cluster, http_filter, lua, sees_bodies, upstream_auth, wasm_filter,
};
use wasm_tests::repository;
use wasm_tests::upstream::ID;

use crate::load::{CALLERS, CALLERS_OTHER, PATH, body, headers};
use crate::stage::{Stage, on_core, start};
use crate::{Failure, progress};

/// The cluster, and so the server, that all requests are for.
const SERVER: &str = "tools";

/// The host that this server is called by.
const HOST: &str = "tools.example";

/// The cluster of the token server.
const TOKENS: &str = "tokens";

/// The credential of the server where it is not fetched.
const OWN: &str = "the-servers-own-token";

/// What requests are signed with.
const ACCESS_KEY: &str = "AKIDEXAMPLE";
const SECRET_KEY: &str = "the-secret-access-key";

/// How often a state is looked after.
const POLL: Duration = Duration::from_millis(20);

/// How many servers are many.
pub const MANY: usize = 10_000;

/// One row of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Case {
    /// Envoy with no filter but the router.
    Bare,
    /// The same once more: what this differs by from the first is noise.
    BareAgain,
    /// Envoy's credential_injector with a credential from a secret.
    NativeGeneric,
    /// Envoy's credential_injector with a token that it fetches.
    NativeOauth2,
    /// Lua that removes and sets the same headers as this filter.
    Lua,
    /// A wasm filter that does nothing, in the listener.
    NoopListener,
    /// The same in the cluster.
    NoopUpstream,
    /// This filter in the cluster, with `BEARER`.
    UpstreamBearer,
    /// This filter in the cluster, with `OAUTH2` and a token in hand.
    UpstreamOauth2,
    /// This filter in the listener, `selectBy` cluster, with one server of `BEARER`.
    Listener,
    /// The same with [`MANY`] servers.
    ListenerMany,
    /// This filter in the listener, with one server of `OAUTH2` and a token in hand.
    ListenerOauth2,
    /// Envoy's aws_request_signing, in the listener.
    NativeSigV4,
    /// This filter in the listener, with one server of `AWS_SIGV4`.
    ListenerSigV4,
}

/// All of them, in the order of the table.
pub const CASES: [Case; 14] = [
    Case::Bare,
    Case::BareAgain,
    Case::NativeGeneric,
    Case::NativeOauth2,
    Case::Lua,
    Case::NoopListener,
    Case::NoopUpstream,
    Case::UpstreamBearer,
    Case::UpstreamOauth2,
    Case::Listener,
    Case::ListenerMany,
    Case::ListenerOauth2,
    Case::NativeSigV4,
    Case::ListenerSigV4,
];

/// An Envoy that is measured.
#[derive(Debug)]
pub struct Running {
    /// What it is.
    pub case: Case,
    /// Its process.
    pub envoy: Envoy,
    /// Where it listens.
    pub address: SocketAddr,
}

/// What must have become of a request on its way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Arrives {
    /// All as the caller sent it.
    AsSent,
    /// The server's credential in place of the caller's, all else as it was.
    Replaced(Credential),
    /// The same, and the caller's other credential is gone, and the host is the server's.
    Cleaned(Credential),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Credential {
    Own,
    Fetched,
    Signature,
}

impl Case {
    /// As the table calls it.
    pub fn label(self) -> &'static str {
        match self {
            Self::Bare => "bare Envoy",
            Self::BareAgain => "bare Envoy again: the noise",
            Self::NativeGeneric => "Envoy's credential_injector, generic",
            Self::NativeOauth2 => "Envoy's credential_injector, oauth2",
            Self::Lua => "Lua, same removals and injection",
            Self::NoopListener => "no-op wasm, listener",
            Self::NoopUpstream => "no-op wasm, upstream filter",
            Self::UpstreamBearer => "ours, upstream filter, BEARER",
            Self::UpstreamOauth2 => "ours, upstream filter, OAUTH2, cached",
            Self::Listener => "ours, listener, BEARER, 1 server",
            Self::ListenerMany => "ours, listener, BEARER, 10,000 servers",
            Self::ListenerOauth2 => "ours, listener, OAUTH2, cached",
            Self::NativeSigV4 => "Envoy's aws_request_signing, signed payload",
            Self::ListenerSigV4 => "ours, listener, AWS_SIGV4, signed payload",
        }
    }

    /// As the JSON calls it.
    pub fn key(self) -> &'static str {
        match self {
            Self::Bare => "bare",
            Self::BareAgain => "bare_again",
            Self::NativeGeneric => "credential_injector_generic",
            Self::NativeOauth2 => "credential_injector_oauth2",
            Self::Lua => "lua",
            Self::NoopListener => "noop_listener",
            Self::NoopUpstream => "noop_upstream",
            Self::UpstreamBearer => "upstream_bearer",
            Self::UpstreamOauth2 => "upstream_oauth2",
            Self::Listener => "listener_bearer_1",
            Self::ListenerMany => "listener_bearer_10000",
            Self::ListenerOauth2 => "listener_oauth2",
            Self::NativeSigV4 => "aws_request_signing",
            Self::ListenerSigV4 => "listener_aws_sigv4",
        }
    }

    /// Envoy's configuration, with the upstream and `tokens` as the token server.
    pub fn config(self, upstream: SocketAddr, tokens: SocketAddr) -> String {
        let in_cluster = |filter| gateway(filtered_cluster(SERVER, upstream, Protocol::Http1, filter), tokens);
        let in_listener = |filter| gateway(cluster(SERVER, upstream, Protocol::Http1), tokens).filter(filter);
        let gateway = match self {
            Self::Bare | Self::BareAgain => gateway(cluster(SERVER, upstream, Protocol::Http1), tokens),
            Self::NativeGeneric => in_listener(injector("generic", "Generic", json!({"credential": {"name": "own"}}))),
            Self::NativeOauth2 => in_listener(injector("oauth2", "OAuth2", native_oauth2(tokens))),
            Self::Lua => in_listener(lua(&removals_and_injection())),
            Self::NoopListener => in_listener(noop()),
            Self::NoopUpstream => in_cluster(noop()),
            Self::UpstreamBearer => in_cluster(plugin(&json!({"host": HOST, "auth": bearer(OWN)}))),
            Self::UpstreamOauth2 => in_cluster(plugin(&json!({"host": HOST, "auth": oauth2(tokens)}))),
            Self::Listener => in_listener(plugin(&servers(1))),
            Self::ListenerMany => in_listener(plugin(&servers(MANY))),
            Self::ListenerOauth2 => {
                in_listener(plugin(&json!({"servers": {SERVER: {"host": HOST, "auth": oauth2(tokens)}}})))
            }
            Self::NativeSigV4 => in_listener(native_sigv4()),
            Self::ListenerSigV4 => in_listener(sigv4()),
        };
        gateway.config()
    }

    fn arrives(self) -> Arrives {
        match self {
            Self::Bare | Self::BareAgain | Self::NoopListener | Self::NoopUpstream => Arrives::AsSent,
            Self::NativeGeneric => Arrives::Replaced(Credential::Own),
            Self::NativeOauth2 => Arrives::Replaced(Credential::Fetched),
            Self::NativeSigV4 => Arrives::Replaced(Credential::Signature),
            Self::Lua | Self::UpstreamBearer | Self::Listener | Self::ListenerMany => Arrives::Cleaned(Credential::Own),
            Self::UpstreamOauth2 | Self::ListenerOauth2 => Arrives::Cleaned(Credential::Fetched),
            Self::ListenerSigV4 => Arrives::Cleaned(Credential::Signature),
        }
    }

    /// Sends one request to the Envoy at `address` and looks at what arrives: whoever measures a filter that does nothing
    /// is not to think that it is fast.
    ///
    /// # Errors
    /// If it is not what it must be.
    pub async fn check(self, address: SocketAddr, stage: &Stage) -> Result<(), Failure> {
        timeout(PATIENCE, self.until_answered(address)).await??;
        let seen = stage.shows.seen(self.key());
        let arrival = &seen.last().ok_or_else(|| format!("{}: no request arrives", self.label()))?.head;
        let is_hashed = arrival.header("x-amz-content-sha256") == [sha256(&body())];
        let has_arrived = |credential| match (credential, arrival.header(CALLERS.0).as_slice()) {
            (Credential::Signature, [one]) => is_hashed && one.starts_with("AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/"),
            (Credential::Own, [one]) => *one == format!("Bearer {OWN}"),
            (Credential::Fetched, [one]) => {
                one.strip_prefix("Bearer ").is_some_and(|token| stage.tokens.issued().has(token))
            }
            _ => false,
        };
        let has_callers_other = arrival.header(CALLERS_OTHER.0) == [CALLERS_OTHER.1];
        let is_right = match self.arrives() {
            Arrives::AsSent => arrival.header(CALLERS.0) == [CALLERS.1] && has_callers_other,
            Arrives::Replaced(credential) => has_arrived(credential) && has_callers_other,
            Arrives::Cleaned(credential) => {
                has_arrived(credential) && arrival.header(CALLERS_OTHER.0).is_empty() && arrival.authority == HOST
            }
        };
        match is_right {
            true => Ok(()),
            false => Err(format!("{}: this is not what should arrive: {arrival:?}", self.label()).into()),
        }
    }

    /// Sends requests until one is answered 2xx: the first token may be on its way.
    async fn until_answered(self, address: SocketAddr) -> Result<(), Failure> {
        loop {
            if send(address, Protocol::Http1, shown(self.key())?).await?.status.is_success() {
                return Ok(());
            }
            sleep(POLL).await;
        }
    }
}

/// The request that the load is made of.
///
/// # Errors
/// If it is none.
pub fn request() -> hyper::http::Result<Request<Full<Bytes>>> {
    let request = Request::post(PATH).header("host", "gateway.example");
    let request = headers().fold(request, |request, (name, value)| request.header(name, value));
    request.body(Full::new(Bytes::from(body())))
}

fn sha256(body: &str) -> String {
    Sha256::digest(body).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The same, to be looked at.
fn shown(id: &'static str) -> hyper::http::Result<Request<Full<Bytes>>> {
    let mut request = request()?;
    request.headers_mut().insert(ID, HeaderValue::from_static(id));
    Ok(request)
}

/// Starts an Envoy for each case, on the core for it, and checks each.
///
/// # Errors
/// If one does not start, or does not do what it is for.
pub async fn start_all(stage: &Stage) -> Result<Vec<Running>, Failure> {
    let mut running = Vec::new();
    for case in CASES {
        progress(&format!("starting and checking: {}", case.label()));
        let config = case.config(stage.upstream, stage.tokens.address());
        let envoy = start(&config, &on_core(stage.cores.envoy)).await?;
        let address = envoy.listener(LISTENER).await?;
        case.check(address, stage).await?;
        running.push(Running { case, envoy, address });
    }
    Ok(running)
}

/// The same for all cases but for one filter.
fn gateway(server: Value, tokens: SocketAddr) -> Gateway {
    let gateway = Gateway::default().secret("own", &format!("Bearer {OWN}")).secret("client", "the-clients-secret");
    gateway.cluster(server).cluster(cluster(TOKENS, tokens, Protocol::Http1))
}

fn injector(kind: &str, message: &str, config: Value) -> Value {
    let message = format!("envoy.extensions.http.injected_credentials.{kind}.v3.{message}");
    let credential =
        json!({"name": format!("envoy.http.injected_credentials.{kind}"), "typed_config": any(&message, config)});
    http_filter(
        "envoy.filters.http.credential_injector",
        "envoy.extensions.filters.http.credential_injector.v3.CredentialInjector",
        json!({"overwrite": true, "credential": credential}),
    )
}

fn native_oauth2(tokens: SocketAddr) -> Value {
    json!({
        "token_endpoint": {"uri": token_url(tokens), "cluster": TOKENS, "timeout": "5s"},
        "client_credentials": {"client_id": "odock", "client_secret": {"name": "client"}},
    })
}

/// It replaces nothing but `Authorization`, and signs with a key that is written there.
fn native_sigv4() -> Value {
    let key = json!({"access_key_id": ACCESS_KEY, "secret_access_key": SECRET_KEY});
    http_filter(
        "envoy.filters.http.aws_request_signing",
        "envoy.extensions.filters.http.aws_request_signing.v3.AwsRequestSigning",
        json!({
            "service_name": "bedrock-agentcore",
            "region": "eu-west-1",
            "host_rewrite": HOST,
            "credential_provider": {"inline_credential": key},
        }),
    )
}

/// This filter, which signs bodies.
fn sigv4() -> Value {
    let auth = json!({
        "type": "AWS_SIGV4",
        "region": "eu-west-1",
        "service": "bedrock-agentcore",
        "accessKeyId": ACCESS_KEY,
        "secretAccessKey": SECRET_KEY,
    });
    sees_bodies(plugin(&json!({"servers": {SERVER: {"host": HOST, "auth": auth}}})))
}

/// What this filter does to the headers of a request, with as few calls.
fn removals_and_injection() -> String {
    let removed = ["x-api-key", "content-length", "cookie", "proxy-authorization"];
    let removals: String = removed.iter().map(|name| format!("headers:remove(\"{name}\") ")).collect();
    format!(
        "local headers = handle:headers() {removals} headers:replace(\":authority\", \"{HOST}\") \
         headers:replace(\"authorization\", \"Bearer {OWN}\")"
    )
}

/// The filter that does nothing.
pub fn noop() -> Value {
    let configuration = any("google.protobuf.StringValue", json!({"value": ""}));
    wasm_filter("noop", &noop_module(), configuration)
}

/// Where `make bench` leaves the module of [`noop`].
fn noop_module() -> PathBuf {
    repository().join("dist/noop_filter.wasm")
}

/// This filter, with its configuration as text.
fn plugin(config: &Value) -> Value {
    upstream_auth(&Value::String(config.to_string()))
}

/// A configuration of this many servers; the one that requests are for is among them.
fn servers(count: usize) -> Value {
    let others = (1..count).map(|number| {
        let server = json!({"host": format!("server-{number}.example"), "auth": bearer(&format!("{OWN}-{number}"))});
        (format!("server-{number}"), server)
    });
    let own = (SERVER.to_owned(), json!({"host": HOST, "auth": bearer(OWN)}));
    json!({"servers": others.chain([own]).collect::<serde_json::Map<_, _>>()})
}

/// A gateway with this many servers in the filter in its listener; with none, the filter that does nothing.
pub fn with_servers(count: usize, stage: &Stage) -> String {
    let filter = if count == 0 { noop() } else { plugin(&servers(count)) };
    gateway(cluster(SERVER, stage.upstream, Protocol::Http1), stage.tokens.address()).filter(filter).config()
}

fn bearer(token: &str) -> Value {
    json!({"type": "BEARER", "token": token})
}

fn oauth2(tokens: SocketAddr) -> Value {
    json!({
        "type": "OAUTH2",
        "tokenUrl": token_url(tokens),
        "tokenCluster": TOKENS,
        "clientId": "odock",
        "clientSecret": "the-clients-secret",
    })
}

fn token_url(tokens: SocketAddr) -> String {
    format!("http://{tokens}/oauth/token")
}
