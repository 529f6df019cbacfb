//! AWS, as its own Python packages and others have it: `aws/peer.py` plays the metadata service and STS with moto,
//! and signs with botocore.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Stdio;

use serde_json::{Value, json};
use tempfile::NamedTempFile;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio::sync::Mutex;
use tokio::time::timeout;

use crate::arrival::Arrival;
use crate::client::{PATIENCE, get};

/// A key pair of AWS, and the token that belongs to a temporary one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Credentials {
    /// The id by which a server looks up the rest.
    pub access_key_id: String,
    /// What signs.
    pub secret_access_key: String,
    /// Goes along with each request.
    pub session_token: Option<String>,
}

/// The running program. It ends with its standard input, and so with this process at the latest.
#[derive(Debug)]
pub struct AwsPeer {
    _process: Child,
    pipes: Mutex<(ChildStdin, BufReader<ChildStdout>)>,
    moto: SocketAddr,
    log: NamedTempFile,
}

impl AwsPeer {
    /// Starts it; moto takes a free port of loopback.
    ///
    /// # Errors
    /// If the packages are missing, or it does not get ready.
    pub async fn start() -> io::Result<Self> {
        let folder = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/aws"));
        let python = folder.join(".venv/bin/python");
        if !python.exists() {
            let message = format!("there is no {}: run `make aws`", python.display());
            return Err(io::Error::new(io::ErrorKind::NotFound, message));
        }
        let log = NamedTempFile::new()?;
        let mut process = Command::new(python)
            .arg(folder.join("peer.py"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(log.reopen()?)
            .kill_on_drop(true)
            .spawn()?;
        let (Some(input), Some(output)) = (process.stdin.take(), process.stdout.take()) else {
            return Err(io::ErrorKind::BrokenPipe.into());
        };
        let mut output = BufReader::new(output);
        let address = said(&mut output).await?.as_str().and_then(|address| address.parse().ok());
        let Some(moto) = address else {
            return Err(io::Error::other(format!("moto did not get ready\n{}", std::fs::read_to_string(log.path())?)));
        };
        Ok(Self { _process: process, pipes: Mutex::new((input, output)), moto, log })
    }

    /// Where moto listens, as the metadata service and as STS.
    pub fn moto(&self) -> SocketAddr {
        self.moto
    }

    /// The roles that were assumed at moto until now.
    ///
    /// # Errors
    /// If it does not answer.
    pub async fn assumed_roles(&self) -> io::Result<Vec<Value>> {
        let mut state: Value = serde_json::from_str(&get(self.moto, "/moto-api/data.json").await?)?;
        let roles = state.pointer_mut("/sts/AssumedRole").map(Value::take);
        Ok(roles.map(serde_json::from_value).transpose()?.unwrap_or_default())
    }

    /// The `Authorization` that botocore gives a request like this one, of the same time and over the same headers.
    ///
    /// # Errors
    /// If the request has none that could be compared, or botocore signs none.
    pub async fn sign(
        &self,
        head: &Arrival,
        service: &str,
        region: &str,
        credentials: &Credentials,
    ) -> io::Result<String> {
        let authorization = head.header("authorization").concat();
        let signed = authorization.split_once("SignedHeaders=").and_then(|(_, rest)| rest.split(',').next());
        let signed: Vec<_> = signed.ok_or(io::ErrorKind::InvalidData)?.split(';').collect();
        let headers = head.headers.iter().filter(|(name, _)| name != "host" && signed.contains(&name.as_str()));
        let headers = headers.map(|(name, value)| (name.as_str(), String::from_utf8_lossy(value).into_owned()));
        let order = json!({
            "method": head.method.as_str(),
            "host": head.authority,
            "path": head.path_and_query,
            "headers": headers.chain([("host", head.authority.clone())]).collect::<Vec<_>>(),
            "service": service,
            "region": region,
            "accessKeyId": credentials.access_key_id,
            "secretAccessKey": credentials.secret_access_key,
        });
        let (input, output) = &mut *self.pipes.lock().await;
        input.write_all(format!("{order}\n").as_bytes()).await?;
        match said(output).await? {
            Value::String(authorization) => Ok(authorization),
            _ => Err(io::Error::other(std::fs::read_to_string(self.log.path())?)),
        }
    }
}

/// The next line; null if there is none.
async fn said(output: &mut BufReader<ChildStdout>) -> io::Result<Value> {
    let mut line = String::new();
    timeout(PATIENCE, output.read_line(&mut line)).await??;
    Ok(serde_json::from_str(&line).unwrap_or_default())
}
