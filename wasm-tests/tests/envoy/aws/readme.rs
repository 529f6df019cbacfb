//! The configuration of the README, before a server that computes every signature itself.

use wasm_tests::envoy::Options;
use wasm_tests::upstream::Upstream;

use super::{ACCESS_KEY, OPTIONS, REGION, SECRET, fixed, key_id, verifier};
use crate::fixture::{Fixture, TestRequest, run, running};
use crate::shipped::readme_blocks;

/// The first configuration of the README with the filter that it shows for AWS in place of its own.
fn config(port: u16) -> String {
    let blocks = readme_blocks("yaml");
    let filter = blocks.iter().find(|block| block.contains("type: AWS_SIGV4")).unwrap();
    let filter: String = filter.lines().map(|line| format!("          {line}\n")).collect();
    let (before, rest) = blocks[0].split_once("          - name: mcp_upstream_auth\n").unwrap();
    let (_, after) = rest.split_once("          - name: envoy.filters.http.router\n").unwrap();
    let mut config = format!("{before}{filter}          - name: envoy.filters.http.router\n{after}");
    for (theirs, ours, count) in [
        ("port_value: 9901", "port_value: 0", 1),
        ("port_value: 10000", "port_value: 0", 1),
        ("port_value: 10001", &format!("port_value: {port}"), 1),
        // In the route, and in the cluster twice.
        ("my-server", "agent-tools", 3),
        ("eu-west-1", REGION, 2),
        // The name by which the fixture comes.
        ("(localhost|", "(caller.example|", 1),
    ] {
        assert_eq!(config.matches(theirs).count(), count, "{theirs} in\n{config}");
        config = config.replace(theirs, ours);
    }
    config
}

#[test]
fn the_configuration_in_the_readme_signs_what_an_aws_server_accepts() {
    run(async {
        let upstream = Upstream::start().await.unwrap();
        upstream.judge(|seen| verifier::verify(seen, &fixed));
        let environment = [("AWS_ACCESS_KEY_ID", ACCESS_KEY), ("AWS_SECRET_ACCESS_KEY", SECRET)];
        let options = Options { environment: &environment, ..OPTIONS };
        let envoy = running(&config(upstream.address().port()), &options).await;
        let address = envoy.listener("mcp").await.unwrap();
        let fixture = Fixture { envoy, upstream, address };
        let headers = &[("authorization", "Bearer theirs"), ("content-type", "application/json")];
        for method in ["GET", "POST", "DELETE"] {
            let body: &[u8] = if method == "POST" { br#"{"jsonrpc":"2.0"}"# } else { b"" };
            let (reply, seen) =
                fixture.exchange(TestRequest { method, path: "/mcp", headers, body, ..TestRequest::default() }).await;
            assert_eq!(reply.status, 200, "{method}: {}", String::from_utf8_lossy(&reply.body));
            assert_eq!(key_id(&seen[0]), ACCESS_KEY);
            assert!(seen[0].head.authority.ends_with(".amazonaws.com"), "{}", seen[0].head.authority);
        }
    });
}
