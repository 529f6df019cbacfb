//! An Envoy process, from start to end.

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;
use tokio::process::{Child, ChildStdin, Command};
use tokio::time::{sleep, timeout};

use crate::client::get;
use crate::repository;

/// Envoy may take this long to start on a busy machine.
const STARTUP: Duration = Duration::from_secs(60);

/// How often a start is looked after.
const POLL: Duration = Duration::from_millis(20);

/// How much of its log a failed test shows.
const SHOWN_LINES: usize = 60;

/// Runs Envoy and ends it, by its id, when standard input ends: that also happens when the process that
/// started it dies, so that no Envoy outlives its tests. The id is left in the file `$0`.
const SUPERVISOR: &str = r#"exec 3<&0; "$@" </dev/null & envoy=$!; echo $envoy >"$0"; (cat <&3 >/dev/null; kill $envoy 2>/dev/null) & guard=$!; wait $envoy; status=$?; kill $guard 2>/dev/null; exit $status"#;

/// A running Envoy. It ends when this is dropped.
#[derive(Debug)]
pub struct Envoy {
    process: Child,
    /// Envoy ends when this is closed.
    lifeline: Option<ChildStdin>,
    files: TempDir,
    admin: SocketAddr,
}

/// How to run Envoy.
#[derive(Debug)]
pub struct Options<'a> {
    /// Environment variables, beside those of this process.
    pub environment: &'a [(&'a str, &'a str)],
    /// The level of the component `wasm`.
    pub wasm_log_level: &'a str,
    /// Worker threads.
    pub concurrency: u32,
    /// The only core that it may run on, with all of its threads; else any.
    pub core: Option<usize>,
    /// Whether Envoy prints on the terminal; else [`Envoy::log`] has what it prints.
    pub on_terminal: bool,
}

impl Default for Options<'_> {
    fn default() -> Self {
        Self { environment: &[], wasm_log_level: "trace", concurrency: 2, core: None, on_terminal: false }
    }
}

/// Envoy did not start; its log says why.
#[derive(Debug)]
pub struct Refused {
    /// All that it printed.
    pub log: String,
}

impl Envoy {
    /// Starts Envoy with the text `config` as its configuration; see [`Envoy::start_file`].
    ///
    /// # Errors
    /// As [`Envoy::start_file`].
    pub async fn start(config: &str, options: &Options<'_>) -> io::Result<Result<Self, Refused>> {
        let folder = TempDir::new()?;
        let path = folder.path().join("envoy.yaml");
        tokio::fs::write(&path, config).await?;
        Self::start_file(&path, options).await
    }

    /// Starts Envoy with the configuration at `path`, in the repository's folder, and waits until it is live.
    ///
    /// # Errors
    /// [`Refused`] if it ends instead; an I/O error if it cannot be run or does not get live.
    pub async fn start_file(path: &Path, options: &Options<'_>) -> io::Result<Result<Self, Refused>> {
        let files = TempDir::new()?;
        let log = std::fs::File::create(files.path().join(LOG))?;
        let admin_path = files.path().join("admin");
        let mut command = Command::new("sh");
        command
            .args(["-c", SUPERVISOR])
            .arg(files.path().join(ID))
            .args(
                options
                    .core
                    .map(|core| ["taskset".to_owned(), "-c".to_owned(), core.to_string()])
                    .into_iter()
                    .flatten(),
            )
            .arg(binary()?)
            .args(["--disable-hot-restart", "--log-level", "warning"])
            .args(["--component-log-level", &format!("wasm:{}", options.wasm_log_level)])
            .args(["--concurrency", &options.concurrency.to_string()])
            .arg("--admin-address-path")
            .arg(&admin_path)
            .arg("--config-path")
            .arg(std::path::absolute(path)?)
            .envs(options.environment.iter().copied())
            .current_dir(repository())
            .stdin(Stdio::piped());
        if !has_admin(&std::fs::read_to_string(path)?) {
            command.args(["--config-yaml", ADMIN]);
        }
        if !options.on_terminal {
            command.stdout(log.try_clone()?).stderr(log);
        }
        let mut process = command.spawn()?;
        let lifeline = process.stdin.take();
        match timeout(STARTUP, live(&mut process, &admin_path)).await {
            Ok(Ok(admin)) => Ok(Ok(Self { process, lifeline, files, admin })),
            Ok(Err(Ended)) => Ok(Err(Refused { log: read(files.path())? })),
            Err(_) => {
                let message = format!("Envoy is not live after {STARTUP:?}\n{}", read(files.path())?);
                Err(io::Error::new(io::ErrorKind::TimedOut, message))
            }
        }
    }

    /// All that Envoy printed until now.
    ///
    /// # Errors
    /// If the file cannot be read.
    pub fn log(&self) -> io::Result<String> {
        read(self.files.path())
    }

    /// Prints the end of the log.
    pub fn show_log(&self) {
        let log = self.log().unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        let end = lines.iter().skip(lines.len().saturating_sub(SHOWN_LINES));
        eprintln!("--- the end of Envoy's log");
        end.for_each(|line| eprintln!("{line}"));
    }

    /// The id of its process, under which Linux accounts for it.
    ///
    /// # Errors
    /// If it is not known.
    pub fn id(&self) -> io::Result<u32> {
        std::fs::read_to_string(self.files.path().join(ID))?.trim().parse().map_err(io::Error::other)
    }

    /// Where the admin interface listens.
    pub fn admin(&self) -> SocketAddr {
        self.admin
    }

    /// Where the listener `name` listens.
    ///
    /// # Errors
    /// If there is none of that name.
    pub async fn listener(&self, name: &str) -> io::Result<SocketAddr> {
        let listeners: Value = serde_json::from_str(&self.admin_get("/listeners?format=json").await?)?;
        let statuses = listeners.get("listener_statuses").and_then(Value::as_array).into_iter().flatten();
        let address = statuses
            .filter(|status| status.get("name").and_then(Value::as_str) == Some(name))
            .find_map(|status| status.pointer("/local_address/socket_address"))
            .and_then(|socket| {
                let port = socket.get("port_value")?.as_u64()?;
                Some(format!("{}:{port}", socket.get("address")?.as_str()?))
            });
        address
            .and_then(|address| address.parse().ok())
            .ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, format!("no listener {name}")))
    }

    /// What the admin interface answers to a GET.
    ///
    /// # Errors
    /// If it does not answer.
    pub async fn admin_get(&self, path: &str) -> io::Result<String> {
        get(self.admin, path).await
    }

    /// Waits until Envoy ends by itself.
    ///
    /// # Errors
    /// If it cannot be waited for.
    pub async fn ended(&mut self) -> io::Result<ExitStatus> {
        self.process.wait().await
    }

    /// Ends Envoy, waits for that, and gives all that it printed: access logs come late.
    ///
    /// # Errors
    /// If it cannot be waited for.
    pub async fn stop(&mut self) -> io::Result<String> {
        self.lifeline = None;
        self.process.wait().await?;
        read(self.files.path())
    }
}

impl Drop for Envoy {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.show_log();
        }
    }
}

/// What a configuration without an admin interface gets: there is no other way to see that Envoy is live.
const ADMIN: &str = "admin: { address: { socket_address: { address: 127.0.0.1, port_value: 0 } } }";

/// Whether `config`, in YAML or JSON, has an admin interface.
fn has_admin(config: &str) -> bool {
    config.lines().any(|line| line.starts_with("admin:")) || config.contains(r#""admin":"#)
}

const LOG: &str = "log";

const ID: &str = "id";

fn read(folder: &Path) -> io::Result<String> {
    std::fs::read(folder.join(LOG)).map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
}

/// The Envoy program: `ENVOY`, or what `make envoy` fetched.
///
/// # Errors
/// If it is not there.
pub fn binary() -> io::Result<PathBuf> {
    let path = std::env::var_os("ENVOY").map_or_else(|| repository().join(".envoy/envoy"), PathBuf::from);
    if path.is_file() {
        return std::path::absolute(path);
    }
    let message = format!("there is no Envoy at {}: run `make envoy`, or set ENVOY to its path", path.display());
    Err(io::Error::new(io::ErrorKind::NotFound, message))
}

struct Ended;

async fn live(process: &mut Child, admin_path: &Path) -> Result<SocketAddr, Ended> {
    loop {
        if let Ok(Some(_)) = process.try_wait() {
            return Err(Ended);
        }
        let admin = tokio::fs::read_to_string(admin_path).await.ok().and_then(|text| text.parse().ok());
        if let Some(admin) = admin
            && get(admin, "/ready").await.is_ok_and(|answer| answer.starts_with("LIVE"))
        {
            return Ok(admin);
        }
        sleep(POLL).await;
    }
}
