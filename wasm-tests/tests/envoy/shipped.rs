//! What people copy, in the real Envoy: `envoy/envoy.yaml` and the configurations in the README.

use std::collections::HashMap;
use std::net::SocketAddr;

use serde_json::json;
use tempfile::TempDir;
use wasm_tests::client::{Protocol, send_raw};
use wasm_tests::demo;
use wasm_tests::envoy::{Envoy, Options};
use wasm_tests::gateway::{Gateway, LISTENER, any, cluster, write_resources};
use wasm_tests::mcp_server::{Demand, McpServer};
use wasm_tests::token_server::TokenServer;
use wasm_tests::{module, repository};

use crate::fixture::{envoy_has, run, running};
use crate::mcp_client::{Era, converse};
use crate::only_mcp::{self, is_refused, is_refused_by_other_names};
use crate::tls::{Authority, behind_tls};

/// An Envoy with a shipped configuration, which differs from it in nothing but ports.
pub struct Shipped {
    pub envoy: Envoy,
    pub server: McpServer,
    pub tokens: TokenServer,
    pub gateway: SocketAddr,
}

impl Shipped {
    async fn start(config: &str, listener: &str, options: &Options<'_>) -> Self {
        let tokens = demo::start_token_server(any_port()).await.unwrap();
        Self::start_with(tokens, config, listener, options).await
    }

    /// The same with a token server that has been told how to behave.
    pub async fn start_with(tokens: TokenServer, config: &str, listener: &str, options: &Options<'_>) -> Self {
        let server = McpServer::start(any_port(), demo::demands(&tokens.issued())).await.unwrap();
        let mut config = config.to_owned();
        let ports =
            [(demo::GATEWAY.port(), 0), (demo::ADMIN.port(), 0), (demo::MCP_SERVER.port(), server.address().port())];
        if config.contains("OAUTH2") {
            let (shipped, free) = (demo::TOKEN_SERVER.port(), tokens.address().port());
            assert_eq!(config.matches(&shipped.to_string()).count(), 2, "{config}");
            config = config.replace(&shipped.to_string(), &free.to_string());
        }
        for (shipped, free) in ports {
            let port = format!("port_value: {shipped} ");
            assert!(config.contains(&port), "no {port}in\n{config}");
            config = config.replace(&port, &format!("port_value: {free} "));
        }
        let envoy = running(&config, options).await;
        let gateway = envoy.listener(listener).await.unwrap();
        Self { envoy, server, tokens, gateway }
    }
}

/// An address to listen on.
pub fn any_port() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 0))
}

pub fn options() -> Options<'static> {
    Options { environment: &demo::SECRETS, wasm_log_level: "trace", ..Options::default() }
}

#[test]
fn envoy_yaml_serves_all_its_servers() {
    run(async {
        let config = std::fs::read_to_string(repository().join("envoy/envoy.yaml")).unwrap();
        let mut shipped = Shipped::start(&config, "gateway", &options()).await;
        let theirs = [("authorization", "Bearer theirs"), ("x-api-key", "theirs"), ("x_api_key", "theirs")];
        for (name, _) in demo::servers(&shipped.tokens.issued()) {
            for (era, protocol) in [(Era::Sessions, Protocol::Http1), (Era::Stateless, Protocol::Http2)] {
                let url = format!("http://{}/{name}/mcp?api_key=theirs", shipped.gateway);
                let transcript = converse(&url, &theirs, protocol, era).await.unwrap();
                assert_eq!(transcript.results.len(), 4, "{name}");
            }
            for arrival in shipped.server.arrivals() {
                assert!(arrival.path_and_query.starts_with("/mcp?"), "{name}: the route's rewrite stands");
                for (header, value) in &arrival.headers {
                    let is_path = header == "x-envoy-original-path";
                    assert!(is_path || !String::from_utf8_lossy(value).contains("theirs"), "{name}: {header}");
                }
                let is_keyed = arrival.authority == "keyed.example";
                assert_eq!(format!("{arrival:?}").contains("api_key=theirs"), !is_keyed, "{name}");
            }
        }
        assert_metrics(&shipped.envoy).await;
        let asked = shipped.tokens.asked();
        assert_eq!(asked.len(), 1);
        assert_eq!(asked[0].parameter("scope"), ["mcp:tools"]);
        assert_eq!(asked[0].parameter("resource"), ["http://fetched.example/mcp"]);
        let arrived = shipped.server.arrivals().len();
        let trace = "TRACE /github-mcp/mcp HTTP/1.1\r\nhost: h\r\nconnection: close\r\n\r\n";
        let answer = send_raw(shipped.gateway, trace.as_bytes()).await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 403 "), "{answer}");
        for (name, _) in demo::servers(&shipped.tokens.issued()) {
            is_refused(shipped.gateway, &format!("/{name}/mcp"), &[]).await;
            is_refused_by_other_names(shipped.gateway, &format!("/{name}/mcp")).await;
        }
        assert_eq!(shipped.server.arrivals().len(), arrived, "something arrived");
        assert_overrides_are_removed(&shipped, "/github-mcp/mcp").await;
        let log = shipped.envoy.stop().await.unwrap();
        assert!(log.contains("POST /keyed/mcp 200 keyed"), "the access log is not there:\n{log}");
        for (_, secret) in demo::SECRETS {
            assert!(!log.contains(secret), "{secret} is in the log");
        }
    });
}

/// The stack itself runs where there is a Docker engine (`make compose-test`); its configuration, everywhere.
#[test]
fn the_configuration_of_the_compose_stack_serves_its_servers() {
    run(async {
        let mut config = std::fs::read_to_string(repository().join("envoy/compose/envoy.yaml")).unwrap();
        for (theirs, ours, count) in [
            ("/etc/envoy/mcp_upstream_auth.wasm", module().to_str().unwrap(), 1),
            ("address: 0.0.0.0,", "address: 127.0.0.1,", 1),
            ("address: mcp-server,", "address: 127.0.0.1,", 1),
            ("address: token-server,", "address: 127.0.0.1,", 1),
        ] {
            assert_eq!(config.matches(theirs).count(), count, "{theirs}");
            config = config.replace(theirs, ours);
        }
        let shipped = Shipped::start(&config, "gateway", &options()).await;
        for name in ["github-mcp", "fetched"] {
            let url = format!("http://{}/{name}/mcp", shipped.gateway);
            let transcript =
                converse(&url, &[("authorization", "Bearer theirs")], Protocol::Http1, Era::Sessions).await;
            assert_eq!(transcript.unwrap().results.len(), 4, "{name}");
            let arrived = shipped.server.arrivals().len();
            is_refused(shipped.gateway, &format!("/{name}/mcp"), &[]).await;
            is_refused_by_other_names(shipped.gateway, &format!("/{name}/mcp")).await;
            assert_eq!(shipped.server.arrivals().len(), arrived, "{name}");
        }
        assert_overrides_are_removed(&shipped, "/github-mcp/mcp").await;
        // As compose/test.sh asks, by the name that other containers know.
        let request = "GET / HTTP/1.1\r\nhost: gateway\r\nconnection: close\r\n\r\n";
        let answer = send_raw(shipped.gateway, request.as_bytes()).await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 503 ") && answer.contains("unknown_server"), "{answer}");
    });
}

/// The headers by which some servers take another method or path do not reach the server.
async fn assert_overrides_are_removed(shipped: &Shipped, endpoint: &str) {
    const OVERRIDES: [&str; 5] =
        ["x-http-method-override", "x-http-method", "x-method-override", "x-original-url", "x-rewrite-url"];
    let arrived = shipped.server.arrivals().len();
    only_mcp::request(shipped.gateway, "POST", endpoint, &OVERRIDES.map(|name| (name, "theirs"))).await;
    let arrivals = shipped.server.arrivals();
    assert_eq!(arrivals.len(), arrived + 1);
    for name in OVERRIDES {
        assert_eq!(arrivals[arrived].header(name), [""; 0], "{name}");
    }
}

/// The tags of the shipped configuration make labels of outcome and server.
async fn assert_metrics(envoy: &Envoy) {
    let metrics = envoy.admin_get("/stats/prometheus").await.unwrap();
    for (metric, labels, least) in [
        ("requests", r#"outcome="injected",server="github-mcp""#, 10),
        ("requests", r#"outcome="injected",server="keyed""#, 10),
        ("requests", r#"outcome="injected",server="fetched""#, 10),
        ("requests", r#"outcome="injected",server="custom.example""#, 10),
        ("requests", r#"outcome="stripped",server="open""#, 10),
        ("token_fetches", r#"outcome="granted",server="fetched""#, 1),
        // Envoy merges histograms every few seconds only.
        ("token_fetch_ms_count", r#"server="fetched""#, 0),
        ("token_expires_at_seconds", r#"server="fetched""#, 1_700_000_000),
    ] {
        // Up to Envoy 1.39, a VM that a filter in a cluster made has that cluster before all its names.
        let name = format!("mcp_upstream_auth_{metric}{{");
        let line = metrics.lines().find(|line| line.contains(&name) && line.contains(labels));
        let value = line.and_then(|line| line.rsplit(' ').next()?.parse::<u64>().ok());
        let ours = || metrics.lines().filter(|line| line.contains("mcp_upstream_auth_")).collect::<Vec<_>>();
        assert!(value.is_some_and(|value| value >= least), "{metric} {labels} is not in {:#?}", ours());
    }
}

/// The text of each code block of this language in the README.
pub fn readme_blocks(language: &str) -> Vec<String> {
    let readme = std::fs::read_to_string(repository().join("README.md")).unwrap();
    let fence = format!("\n```{language}\n");
    let blocks = readme.split(&fence).skip(1);
    blocks.map(|block| block.split("\n```").next().unwrap().to_owned() + "\n").collect()
}

#[test]
fn the_configuration_in_the_readme_serves_an_mcp_server() {
    run(async {
        let blocks = readme_blocks("yaml");
        let complete = &blocks[0];
        let shipped = Shipped::start(complete, "mcp", &options()).await;
        let url = format!("http://{}/mcp", shipped.gateway);
        let transcript =
            converse(&url, &[("authorization", "Bearer theirs")], Protocol::Http1, Era::Sessions).await.unwrap();
        assert_eq!(transcript.results.len(), 4);
        for arrival in shipped.server.arrivals() {
            assert_eq!(arrival.header("authorization"), ["Bearer demo-github-token"]);
            assert_eq!(arrival.authority, "github-mcp.example");
        }
        let arrived = shipped.server.arrivals().len();
        is_refused(shipped.gateway, "/mcp", &[]).await;
        is_refused_by_other_names(shipped.gateway, "/mcp").await;
        assert_eq!(shipped.server.arrivals().len(), arrived);
        assert_overrides_are_removed(&shipped, "/mcp").await;
        // The pieces that the README adds to it.
        let tls = blocks.iter().find(|block| block.starts_with("    transport_socket")).unwrap();
        let stats = blocks.iter().find(|block| block.starts_with("stats_config")).unwrap();
        assert!(tls.contains("UpstreamTlsContext") && stats.contains("stats_tags"));
        let tls = tls.replace("/etc/ssl/certs/ca-certificates.crt", authorities());
        Shipped::start(&format!("{complete}{tls}{stats}"), "mcp", &options()).await;
    });
}

/// Where this machine keeps its certificate authorities.
fn authorities() -> &'static str {
    let known = ["/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/ca-bundle.pem"];
    known
        .into_iter()
        .find(|path| std::path::Path::new(path).is_file())
        .expect("no certificate authorities (ca-certificates)")
}

/// An Envoy that ends TLS for the two hosts of the README's example, and hands on to the servers behind it.
async fn tls_in_front(authority: &Authority, server: &McpServer, tokens: &TokenServer) -> Envoy {
    let host = |name: &str, cluster: &str| {
        json!({"name": cluster, "domains": [name], "routes": [
            {"match": {"prefix": "/"}, "route": {"cluster": cluster, "timeout": "0s"}},
        ]})
    };
    let gateway = Gateway::default()
        .domains(&["nobody.example"])
        .virtual_host(host("tools.example.com", "mcp"))
        .virtual_host(host("auth.example.com", "auth"))
        .cluster(cluster("mcp", server.address(), Protocol::Http1))
        .cluster(cluster("auth", tokens.address(), Protocol::Http1));
    let identity = authority.certify(&["tools.example.com", "auth.example.com"]);
    let context = json!({"common_tls_context": {"tls_certificates": [identity]}});
    running(&behind_tls(gateway, context), &Options::default()).await
}

#[test]
fn the_oauth2_configuration_in_the_readme_serves_an_mcp_server_over_tls() {
    run(async {
        let blocks = readme_blocks("yaml");
        let example = blocks.iter().find(|block| block.contains("type: OAUTH2")).unwrap();
        let tokens = TokenServer::start(any_port()).await.unwrap();
        let demands = HashMap::from([("tools.example.com".to_owned(), Demand::TokenOf(tokens.issued()))]);
        let server = McpServer::start(any_port(), demands).await.unwrap();
        let authority = Authority::new();
        let front = tls_in_front(&authority, &server, &tokens).await;
        let folder = TempDir::new().unwrap();
        let trusted = folder.path().join("authority.pem");
        std::fs::write(&trusted, authority.pem()).unwrap();

        let mut config = example.clone();
        let port = front.listener(LISTENER).await.unwrap().port();
        for (theirs, ours, count) in [
            ("port_value: 10000", "port_value: 0", 1),
            ("address: tools.example.com, port_value: 443", &format!("address: 127.0.0.1, port_value: {port}"), 1),
            ("address: auth.example.com, port_value: 443", &format!("address: 127.0.0.1, port_value: {port}"), 1),
            ("/etc/ssl/certs/ca-certificates.crt", trusted.to_str().unwrap(), 2),
        ] {
            assert_eq!(config.matches(theirs).count(), count, "{theirs}");
            config = config.replace(theirs, ours);
        }
        let environment = [("CLIENT_SECRET", "s3cr3t")];
        let envoy = running(&config, &Options { environment: &environment, ..Options::default() }).await;
        let url = format!("http://{}/mcp", envoy.listener("mcp").await.unwrap());
        let transcript = converse(&url, &[("authorization", "Bearer theirs")], Protocol::Http1, Era::Sessions).await;
        assert_eq!(transcript.unwrap().results.len(), 4);
        let arrived = server.arrivals().len();
        is_refused(envoy.listener("mcp").await.unwrap(), "/mcp", &[]).await;
        is_refused_by_other_names(envoy.listener("mcp").await.unwrap(), "/mcp").await;
        assert_eq!(server.arrivals().len(), arrived);
        let asked = tokens.asked();
        assert_eq!(asked.len(), 1);
        assert_eq!(asked[0].head.authority, "auth.example.com");
        assert_eq!(asked[0].parameter("resource"), ["https://tools.example.com/mcp"]);
        // The policy that the README shows for a retry is one that Envoy takes.
        let retry = blocks.iter().find(|block| block.starts_with("retry_policy: ")).unwrap();
        let with_retry = config.replace("timeout: 0s }", &format!("timeout: 0s, {} }}", retry.trim()));
        assert_ne!(with_retry, config);
        running(&with_retry, &Options { environment: &environment, ..Options::default() }).await;
    });
}

#[test]
fn the_watched_secret_in_the_readme_is_injected() {
    if !envoy_has(38, "secrets in the filter state") {
        return;
    }
    run(async {
        let blocks = readme_blocks("yaml");
        let piece = blocks.iter().find(|block| block.contains("set_filter_state")).unwrap();
        let folder = TempDir::new().unwrap();
        let path = folder.path().join("github.yaml");
        let secret =
            json!({"name": "github-token", "generic_secret": {"secret": {"inline_string": "demo-github-token"}}});
        write_resources(&path, &[any("envoy.extensions.transport_sockets.tls.v3.Secret", secret)]).unwrap();
        let indented: String = piece.lines().map(|line| format!("          {line}\n")).collect();
        let mut config = format!("node: {{ id: gateway, cluster: gateway }}\n{}", blocks[0]);
        for (theirs, ours) in [
            ("          - name: mcp_upstream_auth\n", format!("{indented}          - name: mcp_upstream_auth\n")),
            (r#"token: "${GITHUB_TOKEN}""#, "token: { fromFilterState: mcp.secret.github }".to_owned()),
            ("/etc/envoy/secrets/github.yaml", path.display().to_string()),
        ] {
            assert_eq!(config.matches(theirs).count(), 1, "{theirs}");
            config = config.replace(theirs, &ours);
        }
        let shipped = Shipped::start(&config, "mcp", &Options::default()).await;
        let url = format!("http://{}/mcp", shipped.gateway);
        converse(&url, &[("authorization", "Bearer theirs")], Protocol::Http1, Era::Stateless).await.unwrap();
        for arrival in shipped.server.arrivals() {
            assert_eq!(arrival.header("authorization"), ["Bearer demo-github-token"]);
        }
    });
}
