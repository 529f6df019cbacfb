//! A real MCP client (the official Python SDK, `python/client.py`) that holds fixed conversations.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Stdio;

use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};

/// A running Python, for one conversation after the other. It ends when this is dropped.
pub struct PythonClient {
    _process: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl PythonClient {
    pub fn start() -> Self {
        let folder = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/python"));
        let python = folder.join(".venv/bin/python");
        assert!(python.exists(), "there is no {}: run `make peers`", python.display());
        let mut process = Command::new(python)
            .arg(folder.join("client.py"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let input = process.stdin.take().unwrap();
        let output = BufReader::new(process.stdout.take().unwrap());
        Self { _process: process, input, output }
    }

    /// Talks with the server at `address`, in this revision of the protocol; gives the transcript, or why there is
    /// none. `headers` go with each request.
    pub async fn talk(
        &mut self,
        address: SocketAddr,
        headers: &[(&str, &str)],
        revision: &str,
        conversation: &str,
    ) -> Result<Value, String> {
        let order = json!({
            "url": format!("http://{address}/mcp"),
            "headers": headers.iter().copied().collect::<HashMap<_, _>>(),
            "revision": revision,
            "conversation": conversation,
        });
        self.input.write_all(format!("{order}\n").as_bytes()).await.unwrap();
        let mut line = String::new();
        self.output.read_line(&mut line).await.unwrap();
        let mut told: Value = serde_json::from_str(&line).unwrap();
        match told["failure"].as_str() {
            Some(failure) => Err(failure.to_owned()),
            None => Ok(told["transcript"].take()),
        }
    }
}
