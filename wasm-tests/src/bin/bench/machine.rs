//! What it was measured on.

use std::fs::read_to_string;

use serde_json::{Value, json};
use tokio::process::Command;
use wasm_tests::envoy::binary;
use wasm_tests::repository;

use crate::Failure;

/// The machine and the programs, as JSON of strings.
///
/// # Errors
/// If there is no Envoy.
pub async fn describe() -> Result<Value, Failure> {
    let envoy = binary()?;
    let version = first_line(Command::new(&envoy).arg("--version")).await.unwrap_or_default();
    let mut git = Command::new("git");
    git.args(["describe", "--always", "--dirty", "--exclude=*"]).current_dir(repository());
    let cores = std::thread::available_parallelism()?.get();
    Ok(json!({
        "cpu": cpu_model(&read_to_string("/proc/cpuinfo").unwrap_or_default()),
        "cores": cores,
        "kernel": read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default().trim(),
        "envoy": envoy_version(&version),
        "h2load": first_line(Command::new("h2load").arg("--version")).await.ok_or("h2load does not run")?,
        "commit": first_line(&mut git).await,
    }))
}

async fn first_line(command: &mut Command) -> Option<String> {
    let output = command.output().await.ok().filter(|output| output.status.success())?;
    let text = String::from_utf8_lossy(&output.stdout);
    text.lines().map(str::trim).find(|line| !line.is_empty()).map(str::to_owned)
}

fn cpu_model(cpuinfo: &str) -> &str {
    let model = cpuinfo.lines().find(|line| line.starts_with("model name")).and_then(|line| line.split_once(':'));
    model.map_or(std::env::consts::ARCH, |(_, model)| model.trim())
}

/// The number in `envoy  version: <commit>/1.40.0/Clean/RELEASE/BoringSSL`.
fn envoy_version(line: &str) -> &str {
    line.split('/').rev().nth(3).unwrap_or(line)
}

#[cfg(test)]
mod tests {
    use super::{cpu_model, envoy_version};

    #[test]
    fn the_version_is_between_slashes_whatever_the_path() {
        assert_eq!(envoy_version("/opt/envoy  version: 9e55809337/1.40.0/Clean/RELEASE/BoringSSL"), "1.40.0");
        assert_eq!(envoy_version("something"), "something");
    }

    #[test]
    fn the_model_of_the_first_core_counts() {
        assert_eq!(cpu_model("processor\t: 0\nmodel name\t: Fast CPU\nmodel name\t: Other\n"), "Fast CPU");
        assert_eq!(cpu_model(""), std::env::consts::ARCH);
    }
}
