//! After a suspend, the wall clock has gone on and Envoy's timers have not.

use std::io::Write;
use std::path::Path;
use std::process::Command;

use bytes::Bytes;
use hyper::StatusCode;
use serde_json::json;
use tempfile::TempDir;
use wasm_tests::envoy::Options;
use wasm_tests::repository;
use wasm_tests::token_server::Behaviour;

use super::{Place, World, options};
use crate::fixture::run;

/// Compiles the library that shifts the wall clock of the program that loads it.
fn compile(library: &Path) {
    let source = repository().join("wasm-tests/clock/shift.c");
    let status =
        Command::new("cc").args(["-shared", "-fPIC", "-O1", "-o"]).args([library, &source]).arg("-ldl").status();
    assert!(status.unwrap().success());
}

#[test]
fn a_token_that_expired_in_a_suspend_is_sent_no_more() {
    run(async {
        let folder = TempDir::new().unwrap();
        let (library, shift) = (folder.path().join("shift.so"), folder.path().join("shift"));
        compile(&library);
        std::fs::write(&shift, 0_i64.to_ne_bytes()).unwrap();
        let environment = [("LD_PRELOAD", library.to_str().unwrap()), ("CLOCK_SHIFT", shift.to_str().unwrap())];
        let options = Options { environment: &environment, ..options() };
        let world = World::start_with(&options, Place::Listener, json!({"maxWaitMs": 100}), |_| {}).await;
        // The tokens of this server live for an hour.
        world.until("is served", |reply, _| reply.status == 200).await;
        world.tokens.behave(Behaviour::Answers(StatusCode::SERVICE_UNAVAILABLE, Vec::new(), Bytes::new()));
        let mut clock = std::fs::File::options().write(true).open(&shift).unwrap();
        clock.write_all(&7200_i64.to_ne_bytes()).unwrap();
        // Nothing but the clock tells the filter. `until` gives up after 30 seconds.
        let (reply, _) = world.until("is rejected", |reply, _| reply.status != 200).await;
        assert_eq!(reply.json()["error"]["data"]["reason"], "token_unavailable");
        world.tokens.behave(Behaviour::Grants(json!(3600)));
        let (_, seen) = world.until("is served again", |reply, _| reply.status == 200).await;
        assert_eq!(seen[0].head.header("authorization"), ["Bearer token-2"]);
    });
}
