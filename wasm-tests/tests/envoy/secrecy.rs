//! No secret is in Envoy's log, at the level where it shows all that the filter does and says.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hyper::Method;
use wasm_tests::envoy::Options;
use wasm_tests::gateway::Gateway;

use crate::fixture::{Fixture, SECRET, TestRequest, listener_gateway, run, servers, upstream_gateway};

const THEIRS: &str = "th3irs-9876543210";

#[test]
fn at_trace_level_no_secret_is_logged_neither_ours_nor_the_callers() {
    let options = Options { environment: &[("TEST_SECRET", SECRET)], wasm_log_level: "trace", ..Options::default() };
    let gateways: [fn(std::net::SocketAddr) -> Gateway; 2] = [listener_gateway, upstream_gateway];
    run(async {
        for gateway in gateways {
            let fixture = Fixture::start_with(&options, gateway).await;
            let theirs = format!("Bearer {THEIRS}");
            let headers = [("authorization", theirs.as_str()), ("x-api-key", THEIRS), ("cookie", THEIRS)];
            let mut refused = 0;
            for name in servers().as_object().unwrap().keys() {
                for method in [Method::POST, Method::GET] {
                    let path = format!("/{name}/mcp?api_key={THEIRS}");
                    let request = TestRequest {
                        method: method.as_str(),
                        path: &path,
                        headers: &headers,
                        ..TestRequest::default()
                    };
                    let (reply, _) = fixture.exchange(request).await;
                    refused += usize::from(reply.status == 503);
                    assert!(!String::from_utf8_lossy(&reply.body).contains(SECRET));
                }
            }
            assert_eq!(refused, 2, "the server that is switched off");
            let log = fixture.envoy.log().unwrap();
            // The log is the one meant: it has each call into the module and out of it, and its own words.
            for shown in [
                "[host->vm] proxy_on_request_headers",
                "[vm->host] env.proxy_replace_header_map_value",
                "server_disabled",
            ] {
                assert!(log.contains(shown), "{shown} is not in the log");
            }
            for secret in [SECRET, THEIRS] {
                for form in
                    [secret.to_owned(), STANDARD.encode(format!("odock:grüße {secret}")), STANDARD.encode(secret)]
                {
                    assert!(!log.contains(&form), "{form} is in the log");
                }
            }
        }
    });
}
