//! The `log` crate's messages, and panics, in Envoy's log.

use std::panic;

use log::{Level, LevelFilter, Log, Metadata, Record};

use crate::abi;

struct Logger;

/// Sends every message to Envoy. Envoy's own level for the component `wasm` decides which of them are shown.
pub fn install() {
    if log::set_logger(&Logger).is_ok() {
        log::set_max_level(LevelFilter::Debug);
        panic::set_hook(Box::new(|panic| abi::log(abi::LogLevel::Critical, &panic.to_string())));
    }
}

impl Log for Logger {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.level() <= log::max_level()
    }

    fn log(&self, record: &Record<'_>) {
        let level = match record.level() {
            Level::Trace => abi::LogLevel::Trace,
            Level::Debug => abi::LogLevel::Debug,
            Level::Info => abi::LogLevel::Info,
            Level::Warn => abi::LogLevel::Warn,
            Level::Error => abi::LogLevel::Error,
        };
        if self.enabled(record.metadata()) {
            abi::log(level, &record.args().to_string());
        }
    }

    fn flush(&self) {}
}
