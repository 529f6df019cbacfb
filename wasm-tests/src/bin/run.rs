//! `make run`: a real Envoy with the filter, a built-in MCP server that demands credentials, a built-in token
//! server, and a look at what arrives at both.

use std::error::Error;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::RecvError;
use wasm_tests::arrival::Arrival;
use wasm_tests::client::{Protocol, send};
use wasm_tests::demo;
use wasm_tests::envoy::{Envoy, Options};
use wasm_tests::mcp_server::McpServer;
use wasm_tests::repository;
use wasm_tests::token_server::TokenServer;

type Failure = Box<dyn Error + Send + Sync>;

#[tokio::main]
async fn main() -> ExitCode {
    let outcome = match std::env::args_os().nth(1) {
        Some(config) => run_config(&PathBuf::from(config)).await,
        None => run_demo().await,
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("make run: {failure}");
            ExitCode::FAILURE
        }
    }
}

/// Runs `envoy/envoy.yaml` with the built-in servers behind it.
async fn run_demo() -> Result<(), Failure> {
    let tokens = demo::start_token_server(demo::TOKEN_SERVER).await;
    let tokens =
        tokens.map_err(|error| format!("the token server cannot listen on {}: {error}", demo::TOKEN_SERVER))?;
    let server = McpServer::start(demo::MCP_SERVER, demo::demands(&tokens.issued())).await;
    let server = server.map_err(|error| format!("the MCP server cannot listen on {}: {error}", demo::MCP_SERVER))?;
    let envoy = start(&repository().join("envoy/envoy.yaml"), &demo::SECRETS).await?;
    println!("Envoy is ready at http://{}, its admin interface at http://{}", demo::GATEWAY, envoy.admin());
    let names = demo::servers(&tokens.issued()).map(|(name, _)| name).join(", ");
    println!("Behind it are six MCP servers: {names}\n");
    println!("Try this (any of the six in place of github-mcp); the key is the caller's, and no server takes it:\n");
    println!("{}\n", curl());

    let arrivals = server.subscribe();
    let reply = send(demo::GATEWAY, Protocol::Http1, demo::call("github-mcp")?).await?;
    println!("It was sent once. The answer:\n\n{} {}\n", reply.status, String::from_utf8_lossy(&reply.body));
    println!("What the MCP server (→) and the token server (⇒) saw arrive, now and from now on (Ctrl-C ends all):\n");
    let watch = async {
        tokio::join!(print_token_requests(&tokens), print_heads(arrivals));
    };
    until_ended(envoy, watch).await
}

/// Runs a configuration of the user's, with the built-in servers where they can listen.
async fn run_config(path: &Path) -> Result<(), Failure> {
    // Without its own place, nobody asks it, and a free one does.
    let tokens = match demo::start_token_server(demo::TOKEN_SERVER).await {
        Ok(tokens) => tokens,
        Err(_) => demo::start_token_server(SocketAddr::new(demo::TOKEN_SERVER.ip(), 0)).await?,
    };
    let server = McpServer::start(demo::MCP_SERVER, demo::demands(&tokens.issued())).await;
    let envoy = start(path, &[]).await?;
    println!("Envoy is ready with {}, its admin interface at http://{}", path.display(), envoy.admin());
    match server {
        Ok(server) => {
            println!(
                "The built-in MCP server listens on {}; this is what arrives there (Ctrl-C ends all):\n",
                server.address()
            );
            let watch = async {
                tokio::join!(print_token_requests(&tokens), print_heads(server.subscribe()));
            };
            until_ended(envoy, watch).await
        }
        Err(error) => {
            println!("The built-in MCP server is not there, {}: {error} (Ctrl-C ends Envoy)", demo::MCP_SERVER);
            until_ended(envoy, std::future::pending()).await
        }
    }
}

async fn start(config: &Path, secrets: &[(&str, &str)]) -> Result<Envoy, Failure> {
    if !config.is_file() {
        return Err(format!("there is no file {}", config.display()).into());
    }
    let options = Options { environment: secrets, wasm_log_level: "info", on_terminal: true, ..Options::default() };
    let started = Envoy::start_file(config, &options).await?;
    Ok(started.map_err(|_| format!("Envoy does not run with {}: it says why above", config.display()))?)
}

/// Goes on with `watch` until Envoy ends, or the user ends it.
async fn until_ended(mut envoy: Envoy, watch: impl Future<Output = ()>) -> Result<(), Failure> {
    let mut terminate = signal(SignalKind::terminate())?;
    let watch = async {
        watch.await;
        std::future::pending::<()>().await
    };
    tokio::select! {
        () = watch => Ok(()),
        ended = envoy.ended() => Err(format!("Envoy ended by itself: {}", ended?).into()),
        _ = tokio::signal::ctrl_c() => stop(envoy).await,
        _ = terminate.recv() => stop(envoy).await,
    }
}

async fn stop(mut envoy: Envoy) -> Result<(), Failure> {
    envoy.stop().await?;
    Ok(())
}

async fn print_heads(mut arrivals: Receiver<Arrival>) {
    loop {
        match arrivals.recv().await {
            Ok(arrival) => println!("{}", head('→', &arrival)),
            Err(RecvError::Lagged(count)) => println!("  ({count} more, too many to show)\n"),
            Err(RecvError::Closed) => return,
        }
    }
}

async fn print_token_requests(tokens: &TokenServer) {
    let mut arrivals = tokens.subscribe();
    let mut printed = 0;
    loop {
        for asked in tokens.asked().iter().skip(printed) {
            let form: Vec<_> = asked.form.iter().map(|(name, value)| format!("{name}={value}")).collect();
            println!("{}  {}\n", head('⇒', &asked.head), form.join("  "));
            printed += 1;
        }
        if arrivals.changed().await.is_err() {
            return;
        }
    }
}

fn curl() -> String {
    let headers: String =
        demo::CALL_HEADERS.iter().map(|(name, value)| format!("  -H '{name}: {value}' \\\n")).collect();
    format!("curl {} \\\n{headers}  -d '{}'", demo::url("github-mcp"), demo::CALL)
}

/// The head of a request as HTTP/1.1 writes it.
fn head(arrow: char, arrival: &Arrival) -> String {
    let mut text = format!("{arrow} {} {}\n", arrival.method, arrival.path_and_query);
    for (name, value) in &arrival.headers {
        text.push_str(&format!("  {name}: {}\n", String::from_utf8_lossy(value)));
    }
    text
}
