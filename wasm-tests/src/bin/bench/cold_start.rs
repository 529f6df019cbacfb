//! From the start of the process to the first answered request.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::time::{sleep, timeout};
use wasm_tests::client::{PATIENCE, Protocol, send};
use wasm_tests::envoy::Options;

use crate::cases::{Case, request};
use crate::stage::{Stage, quiet, start};
use crate::stats::Summary;
use crate::{Failure, progress};

/// The cases that are started.
const STARTED: [Case; 7] = [
    Case::Bare,
    Case::NativeOauth2,
    Case::NoopListener,
    Case::UpstreamBearer,
    Case::UpstreamOauth2,
    Case::Listener,
    Case::ListenerMany,
];

/// How often each is started.
const TIMES: usize = 5;

/// How often a request is tried: nobody says when Envoy begins to listen.
const POLL: Duration = Duration::from_millis(1);

/// Milliseconds by case.
pub type ColdStarts = Vec<(Case, Summary)>;

/// Starts an Envoy of one worker, which may use all cores, several times for each case.
///
/// # Errors
/// If one does not start, or does not do what it is for.
pub async fn measure(stage: &Stage) -> Result<ColdStarts, Failure> {
    let mut series: Vec<_> = STARTED.iter().map(|case| (*case, Vec::new())).collect();
    for time in 1..=TIMES {
        progress(&format!("cold starts, {time} of {TIMES}"));
        for (case, millis) in &mut series {
            millis.push(cold_start(*case, stage).await?);
        }
    }
    Ok(series.iter().map(|(case, millis)| (*case, Summary::of(millis))).collect())
}

async fn cold_start(case: Case, stage: &Stage) -> Result<f64, Failure> {
    let address = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?;
    let config = on_port(&case.config(stage.upstream, stage.tokens.address()), address)?;
    let options = Options { concurrency: 1, ..quiet() };
    let begin = Instant::now();
    let (envoy, answered) = tokio::join!(start(&config, &options), timeout(PATIENCE, answered(address)));
    let end = answered.map_err(|_| format!("{}: no request is answered", case.label()))??;
    let _envoy = envoy?;
    case.check(address, stage).await?;
    Ok((end - begin).as_secs_f64() * 1e3)
}

/// When the first request is answered 2xx. Before that there may be nobody to answer, or no token.
async fn answered(address: SocketAddr) -> Result<Instant, Failure> {
    loop {
        if let Ok(reply) = send(address, Protocol::Http1, request()?).await
            && reply.status.is_success()
        {
            return Ok(Instant::now());
        }
        sleep(POLL).await;
    }
}

/// `config` with its listener at `address`: whoever waits for it must know where.
fn on_port(config: &str, address: SocketAddr) -> Result<String, Failure> {
    let mut config: Value = serde_json::from_str(config)?;
    let port = config.pointer_mut("/static_resources/listeners/0/address/socket_address/port_value");
    *port.ok_or("the configuration has no listener")? = json!(address.port());
    Ok(config.to_string())
}
