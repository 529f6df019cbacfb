//! The reference server of MCP, `@modelcontextprotocol/server-everything` on Node.js, as
//! `everything/server.mjs` runs it.

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};
use tokio::time::timeout;

/// It may take this long to start on a busy machine.
const STARTUP: Duration = Duration::from_secs(60);

/// A running reference server, on the path `/mcp` of one address. It serves everybody, and ends when this is
/// dropped.
#[derive(Debug)]
pub struct Everything {
    /// Holds the server's standard input open: the server ends with it, even if this process is killed.
    _process: Child,
    files: TempDir,
    address: SocketAddr,
}

impl Everything {
    /// Starts it on a free port of loopback.
    ///
    /// # Errors
    /// If Node.js or the packages are missing, or it does not get ready.
    pub async fn start() -> io::Result<Self> {
        let folder = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/everything"));
        if !folder.join("node_modules/@modelcontextprotocol/server-everything").is_dir() {
            return Err(missing(&format!("there is no server-everything in {}", folder.display())));
        }
        let files = TempDir::new()?;
        let mut process = Command::new("node")
            .arg("server.mjs")
            .current_dir(folder)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(std::fs::File::create(files.path().join(LOG))?)
            .kill_on_drop(true)
            .spawn()
            .map_err(|error| match error.kind() {
                io::ErrorKind::NotFound => missing("there is no program `node`"),
                _ => error,
            })?;
        let mut line = String::new();
        if let Some(output) = process.stdout.take() {
            // Whatever goes wrong here, the line is not JSON and the log says why.
            let _ = timeout(STARTUP, BufReader::new(output).read_line(&mut line)).await;
        }
        let ready: Value = serde_json::from_str(&line).unwrap_or_default();
        let address = ready.get("address").and_then(Value::as_str).and_then(|address| address.parse().ok());
        let Some(address) = address else {
            return Err(io::Error::other(format!("server-everything did not get ready\n{}", read(files.path())?)));
        };
        Ok(Self { _process: process, files, address })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What it printed until now.
    ///
    /// # Errors
    /// If the file cannot be read.
    pub fn log(&self) -> io::Result<String> {
        read(self.files.path())
    }
}

impl Drop for Everything {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("--- the log of server-everything\n{}", self.log().unwrap_or_default());
        }
    }
}

const LOG: &str = "log";

fn read(folder: &Path) -> io::Result<String> {
    std::fs::read_to_string(folder.join(LOG))
}

fn missing(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::NotFound, format!("{what}: run `make peers`"))
}
