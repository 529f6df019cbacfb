//! A server that is a program of Node.js: it says in one line of JSON when it is ready.

use std::io;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};
use tokio::time::timeout;

/// It may take this long to start on a busy machine.
const STARTUP: Duration = Duration::from_secs(30);

const LOG: &str = "log";

/// A running `server.mjs`. It ends when this is dropped.
#[derive(Debug)]
pub struct NodeServer {
    package: &'static str,
    /// Holds the server's standard input open: the server ends with it, even if this process is killed.
    _process: Child,
    files: TempDir,
    ready: Value,
}

impl NodeServer {
    /// Starts the program in `folder` of this crate, which needs `package`; `target` of make installs that.
    ///
    /// # Errors
    /// If Node.js or the package is missing, or the program cannot be run.
    pub async fn start(folder: &str, package: &'static str, target: &str, arguments: &[String]) -> io::Result<Self> {
        let missing = |what: String| io::Error::new(io::ErrorKind::NotFound, format!("{what}: run `make {target}`"));
        let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(folder);
        if !folder.join("node_modules").join(package).is_dir() {
            return Err(missing(format!("there is no {package} in {}", folder.display())));
        }
        let files = TempDir::new()?;
        let mut process = Command::new("node")
            .arg("server.mjs")
            .args(arguments)
            .current_dir(folder)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(std::fs::File::create(files.path().join(LOG))?)
            .kill_on_drop(true)
            .spawn()
            .map_err(|error| match error.kind() {
                io::ErrorKind::NotFound => missing("there is no program `node`".to_owned()),
                _ => error,
            })?;
        let mut line = String::new();
        if let Some(output) = process.stdout.take() {
            // Whatever goes wrong here, the line is not JSON and the log says why.
            let _ = timeout(STARTUP, BufReader::new(output).read_line(&mut line)).await;
        }
        let ready = serde_json::from_str(&line).unwrap_or_default();
        Ok(Self { package, _process: process, files, ready })
    }

    /// What it said when it was ready; null if it did not get ready.
    pub fn ready(&self) -> &Value {
        &self.ready
    }

    /// That it did not get ready, and all that it printed.
    pub fn not_ready(&self) -> io::Error {
        io::Error::other(format!("{} did not get ready\n{}", self.package, self.log().unwrap_or_default()))
    }

    /// What it printed until now.
    ///
    /// # Errors
    /// If the file cannot be read.
    pub fn log(&self) -> io::Result<String> {
        read(self.files.path())
    }
}

impl Drop for NodeServer {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("--- the log of {}\n{}", self.package, self.log().unwrap_or_default());
        }
    }
}

fn read(folder: &Path) -> io::Result<String> {
    std::fs::read_to_string(folder.join(LOG))
}
