//! The programs of the stack in `envoy/compose`, in one static binary: its two servers, their health check, and
//! the test that goes through the gateway.

use std::collections::HashMap;
use std::env;
use std::error::Error;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::process::ExitCode;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http_body_util::Full;
use hyper::{Request, StatusCode};
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::{Instant, sleep};
use wasm_tests::client::{Protocol, get, send};
use wasm_tests::demo;
use wasm_tests::mcp_client::{Era, converse};
use wasm_tests::mcp_server::{Demand, McpServer};
use wasm_tests::signed_token::SigningKey;
use wasm_tests::token_server::{Behaviour, TokenServer};

const USAGE: &str = "stack mcp-server | token-server | health PORT | sessions | load SECONDS | fetches OUTCOME";

/// The host whose demand the health check does not meet.
const STATIC_HOST: &str = "github-mcp.example";

/// The host that wants a token of the token server.
const OAUTH2_HOST: &str = "fetched.example";

/// Between two requests of one caller: the test asks whether one fails, not how many there can be.
const PAUSE: Duration = Duration::from_millis(20);

/// How many failures `load` prints.
const SHOWN_FAILURES: usize = 5;

type Failure = Box<dyn Error + Send + Sync>;

#[tokio::main]
async fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let outcome = match arguments.as_slice() {
        ["mcp-server"] => mcp_server().await,
        ["token-server"] => token_server().await,
        ["health", port] => health(port).await,
        ["sessions"] => sessions().await,
        ["load", seconds] => load(seconds).await,
        ["fetches", outcome] => print_fetches(outcome).await,
        _ => Err(format!("usage: {USAGE}").into()),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("stack: {failure}");
            ExitCode::FAILURE
        }
    }
}

/// An MCP server that serves nobody without the credentials that the gateway puts in.
async fn mcp_server() -> Result<(), Failure> {
    let token = format!("Bearer {}", secret("GITHUB_TOKEN")?);
    let demands = HashMap::from([
        (STATIC_HOST.to_owned(), Demand::Headers(vec![("authorization".to_owned(), token)])),
        (OAUTH2_HOST.to_owned(), Demand::SignedBy(signing_key()?)),
    ]);
    let server = McpServer::start(everywhere(demo::MCP_SERVER), demands).await?;
    println!("the MCP server listens on {}", server.address());
    until_ended().await
}

/// A token server that knows one client.
async fn token_server() -> Result<(), Failure> {
    let tokens = TokenServer::start(everywhere(demo::TOKEN_SERVER)).await?;
    tokens.demand(format!("Basic {}", STANDARD.encode(format!("odock:{}", secret("CLIENT_SECRET")?))));
    tokens.sign_with(signing_key()?);
    let lifetime: u64 = secret("TOKEN_LIFETIME")?.parse().map_err(|error| format!("TOKEN_LIFETIME: {error}"))?;
    tokens.behave(Behaviour::Grants(lifetime.into()));
    println!("the token server listens on {}; its tokens live for {lifetime} s", tokens.address());
    until_ended().await
}

/// Whether the server on `port` of this container is up, and refuses who has no credential.
async fn health(port: &str) -> Result<(), Failure> {
    let address = SocketAddr::new(demo::MCP_SERVER.ip(), port.parse()?);
    let request = Request::post("/").header("host", STATIC_HOST).body(Full::new(Bytes::new()))?;
    match send(address, Protocol::Http1, request).await?.status {
        StatusCode::UNAUTHORIZED => Ok(()),
        status => Err(format!("{address} answers {status} to who has no credential").into()),
    }
}

/// An MCP session of each kind through the gateway, with each server.
async fn sessions() -> Result<(), Failure> {
    for (path, host) in [("github-mcp", STATIC_HOST), ("fetched", OAUTH2_HOST)] {
        for (era, protocol) in [(Era::Sessions, Protocol::Http1), (Era::Stateless, Protocol::Http2)] {
            let url = format!("http://{}/{path}/mcp", demo::GATEWAY);
            let transcript = converse(&url, &[("authorization", "Bearer theirs")], protocol, era).await;
            let transcript = transcript.map_err(|failure| format!("{host}, {era:?}: {failure}"))?;
            let (tools, calls) = (transcript.tools.len(), transcript.results.len());
            println!("{host}, {era:?} over {protocol:?}: {tools} tools listed, {calls} called");
        }
    }
    Ok(())
}

/// Tool calls through the gateway to the server that wants a token, for so long; none may fail.
async fn load(seconds: &str) -> Result<(), Failure> {
    let end = Instant::now() + Duration::from_secs(seconds.parse()?);
    let (asked, failed) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let caller = || async {
        while Instant::now() < end {
            let outcome = call().await;
            // Said once there is an answer: the test waits for it.
            if asked.fetch_add(1, Ordering::Relaxed) == 0 {
                println!("load: on");
            }
            if let Err(failure) = outcome
                && failed.fetch_add(1, Ordering::Relaxed) < SHOWN_FAILURES
            {
                eprintln!("load: {failure}");
            }
            sleep(PAUSE).await;
        }
    };
    tokio::join!(caller(), caller(), caller(), caller());
    let (asked, failed) = (asked.into_inner(), failed.into_inner());
    println!("load: {asked} requests, {failed} failed");
    if asked == 0 || failed > 0 { Err("not every request was served".into()) } else { Ok(()) }
}

/// One tool call, and that its result is there.
async fn call() -> Result<(), Failure> {
    let reply = send(demo::GATEWAY, Protocol::Http1, demo::call("fetched")?).await?;
    let body = String::from_utf8_lossy(&reply.body);
    if reply.status == StatusCode::OK && body.contains("hello") {
        return Ok(());
    }
    Err(format!("{} {body}", reply.status).into())
}

/// How many of the gateway's token requests ended like this: `granted`, `unavailable` and so on.
async fn print_fetches(outcome: &str) -> Result<(), Failure> {
    let counter = format!("wasmcustom.mcp_upstream_auth.token_fetches.outcome.{outcome}.server.fetched: ");
    let stats = get(demo::ADMIN, "/stats?filter=token_fetches").await?;
    println!("{}", stats.lines().find_map(|line| line.strip_prefix(&counter)).unwrap_or("0"));
    Ok(())
}

/// What `NAME` or the file named by `NAME_FILE` says; the end of the file's last line does not count.
fn secret(name: &str) -> Result<String, Failure> {
    if let Ok(path) = env::var(format!("{name}_FILE")) {
        let text = std::fs::read_to_string(&path).map_err(|error| format!("{path}: {error}"))?;
        return Ok(text.trim_end_matches(['\r', '\n']).to_owned());
    }
    env::var(name).map_err(|error| format!("{name}: {error}").into())
}

fn signing_key() -> Result<SigningKey, Failure> {
    Ok(SigningKey::new(&secret("TOKEN_SIGNING_KEY")?)?)
}

/// The port of `address`, for other containers too.
fn everywhere(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), address.port())
}

/// As the first process of its container, it gets no end by SIGTERM unless it asks for the signal.
async fn until_ended() -> Result<(), Failure> {
    let mut terminate = signal(SignalKind::terminate())?;
    tokio::select! {
        _ = terminate.recv() => Ok(()),
        interrupted = tokio::signal::ctrl_c() => Ok(interrupted?),
    }
}
