//! `envoy/istio`: the manifests are of Istio's types, fit together, and their very configurations do what they say in
//! an Envoy whose clusters have Istio's names. Istio itself does not run here.

use istio_api_rs::extensions::v1alpha1::wasm_plugin::WasmPlugin;
use istio_api_rs::networking::v1::destination_rule::DestinationRule;
use istio_api_rs::networking::v1::gateway::Gateway as IstioGateway;
use istio_api_rs::networking::v1::service_entry::ServiceEntry;
use istio_api_rs::networking::v1::virtual_service::VirtualService;
use istio_api_rs::networking::v1alpha3::envoy_filter::EnvoyFilter;
use istio_api_rs::security::v1::authorization_policy::AuthorizationPolicy;
use istio_api_rs::security::v1::request_authentication::RequestAuthentication;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{Service, ServiceAccount};
use serde_json::{Value, json};
use wasm_tests::client::{Protocol, send_raw};
use wasm_tests::envoy::Options;
use wasm_tests::gateway::{Gateway, LISTENER, any, cluster};
use wasm_tests::module;
use wasm_tests::token_server::TokenServer;
use wasm_tests::upstream::{ID, Seen, Upstream};

use crate::fixture::{Fixture, new_id, run, running};
use crate::manifests::{Manifests, assert_is, is_sha256};

const GATEWAY: &str = "envoy/istio/gateway.yaml";
const SIDECAR: &str = "envoy/istio/sidecar.yaml";
const UPSTREAM_FILTER: &str = "envoy/istio/upstream-filter.yaml";

#[test]
fn every_manifest_is_of_istios_types_and_of_no_other_field() {
    for document in [GATEWAY, SIDECAR, UPSTREAM_FILTER].iter().flat_map(|path| Manifests::read(path).all().to_vec()) {
        match document["kind"].as_str().unwrap() {
            "Service" => assert_is::<Service>(&document),
            "ServiceAccount" => assert_is::<ServiceAccount>(&document),
            "Deployment" => assert_is::<Deployment>(&document),
            "ServiceEntry" => assert_is::<ServiceEntry>(&document),
            "DestinationRule" => assert_is::<DestinationRule>(&document),
            "Gateway" => assert_is::<IstioGateway>(&document),
            "VirtualService" => assert_is::<VirtualService>(&document),
            "RequestAuthentication" => assert_is::<RequestAuthentication>(&document),
            "AuthorizationPolicy" => assert_is::<AuthorizationPolicy>(&document),
            "WasmPlugin" => assert_is::<WasmPlugin>(&document),
            "EnvoyFilter" => assert_is::<EnvoyFilter>(&document),
            kind => panic!("{kind}"),
        }
    }
}

#[test]
fn the_gateway_serves_callers_with_a_jwt_alone_and_no_route_is_there_before_that() {
    let manifests = Manifests::read(GATEWAY);
    assert_eq!(manifests.named("Service", "mcp-gateway")["spec"]["type"], "ClusterIP");
    let authentication = &manifests.named("RequestAuthentication", "mcp")["spec"];
    let [rule] = authentication["jwtRules"].as_array().unwrap().as_slice() else { panic!("{authentication}") };
    for key in ["issuer", "jwksUri", "audiences"] {
        assert!(!rule[key].is_null(), "{key}");
    }
    assert_eq!(rule["fromHeaders"], json!([{"name": "Authorization", "prefix": "Bearer "}]));
    let authorization = &manifests.named("AuthorizationPolicy", "mcp")["spec"];
    assert_eq!(authorization["action"], "ALLOW");
    assert_eq!(
        authorization["rules"],
        json!([{
            "from": [{"source": {"requestPrincipals": ["*"]}}],
            "to": [{"operation": {"methods": ["GET", "POST", "DELETE"]}}],
        }])
    );
    let denied = &manifests.named("AuthorizationPolicy", "mcp-only")["spec"];
    assert_eq!(denied["action"], "DENY");
    assert_eq!(denied["selector"], authorization["selector"]);
    assert_eq!(
        denied["rules"],
        json!([
            {"when": [{"key": "request.headers[origin]", "values": ["*"]}]},
            {"when": [{"key": "request.headers[sec-fetch-site]", "values": ["*"]}]},
            {"to": [{"operation": {"paths": ["/.well-known/*"]}}]},
        ])
    );
    let before = ["RequestAuthentication", "AuthorizationPolicy", "WasmPlugin", "EnvoyFilter"];
    manifests.assert_order(&before, &["Gateway", "VirtualService"]);
}

#[test]
fn a_plugin_fails_closed_and_stands_behind_all_others() {
    for (path, matching) in [(GATEWAY, Value::Null), (SIDECAR, json!([{"mode": "CLIENT", "ports": [{"number": 80}]}]))]
    {
        let manifests = Manifests::read(path);
        let spec = &manifests.named("WasmPlugin", "mcp-upstream-auth")["spec"];
        assert_eq!(spec["failStrategy"], "FAIL_RELOAD", "{path}");
        assert_eq!(spec["phase"], "UNSPECIFIED_PHASE", "{path}");
        assert_eq!(spec["priority"], -1000, "{path}");
        assert_eq!(spec["match"], matching, "{path}");
        assert!(is_sha256(&spec["sha256"]), "{path}");
    }
    for (name, patch) in patches(&Manifests::read(UPSTREAM_FILTER)) {
        let options =
            &patch["typed_extension_protocol_options"]["envoy.extensions.upstreams.http.v3.HttpProtocolOptions"];
        assert_eq!(options["http_filters"][0]["typed_config"]["config"]["failure_policy"], "FAIL_RELOAD", "{name}");
    }
}

#[test]
fn the_upstream_filters_are_there_before_the_plugin_goes() {
    assert_eq!(
        Manifests::read(UPSTREAM_FILTER).commands(),
        [
            "kubectl -n mcp-gateway create configmap mcp-upstream-auth --from-file=plugin.wasm=dist/mcp_upstream_auth.wasm",
            "kubectl -n mcp-gateway rollout restart deployment mcp-gateway",
            "kubectl -n mcp-gateway rollout status deployment mcp-gateway",
            "kubectl apply -f envoy/istio/upstream-filter.yaml",
            "kubectl -n mcp-gateway delete wasmplugin mcp-upstream-auth",
        ]
    );
}

/// The names of the clusters that Istio makes of the ServiceEntries.
fn clusters(manifests: &Manifests) -> Vec<String> {
    let mut clusters = Vec::new();
    for entry in manifests.of_kind("ServiceEntry") {
        for host in entry["spec"]["hosts"].as_array().unwrap() {
            for port in entry["spec"]["ports"].as_array().unwrap() {
                clusters.push(format!("outbound|{}||{}", port["number"], host.as_str().unwrap()));
            }
        }
    }
    clusters
}

/// Every value of a `key` anywhere in `value`.
fn all<'a>(key: &str, value: &'a Value) -> Vec<&'a Value> {
    match value {
        Value::Array(values) => values.iter().flat_map(|value| all(key, value)).collect(),
        Value::Object(object) => {
            let deeper = object.values().flat_map(|value| all(key, value));
            object.get(key).into_iter().chain(deeper).collect()
        }
        _ => Vec::new(),
    }
}

#[test]
fn every_cluster_that_a_manifest_names_is_there_and_checks_the_certificate_of_its_host() {
    for (path, services) in [(GATEWAY, GATEWAY), (SIDECAR, SIDECAR), (UPSTREAM_FILTER, GATEWAY)] {
        let (manifests, services) = (Manifests::read(path), Manifests::read(services));
        let clusters = clusters(&services);
        let mut named = Vec::new();
        for document in manifests.all() {
            named.extend(all("tokenCluster", document).into_iter().map(|name| name.as_str().unwrap().to_owned()));
            named.extend(all("destination", document).into_iter().map(cluster_of));
            for servers in all("servers", &document["spec"]["pluginConfig"]) {
                for (name, server) in servers.as_object().unwrap() {
                    assert!(name.ends_with(server["host"].as_str().unwrap()), "{path}: {name} is another host");
                    named.push(name.clone());
                }
            }
        }
        named.extend(patches(&manifests).into_iter().map(|(name, _)| name));
        assert!(named.len() >= 3, "{path}: {named:?}");
        for name in named {
            assert!(clusters.contains(&name), "{path}: there is no {name}");
            let host = name.rsplit('|').next().unwrap();
            let mut rules = services.of_kind("DestinationRule").filter(|rule| rule["spec"]["host"] == host);
            let tls =
                &rules.next().unwrap_or_else(|| panic!("{path}: {host} has no TLS"))["spec"]["trafficPolicy"]["tls"];
            assert_eq!(
                *tls,
                json!({
                    "mode": "SIMPLE",
                    "sni": host,
                    "subjectAltNames": [host],
                    "caCertificates": "/etc/ssl/certs/ca-certificates.crt",
                }),
                "{path}"
            );
        }
    }
}

#[test]
fn a_workload_selector_matches_the_pods_that_have_the_secrets() {
    for (path, with_pods) in [(GATEWAY, GATEWAY), (SIDECAR, SIDECAR), (UPSTREAM_FILTER, GATEWAY)] {
        let (manifests, with_pods) = (Manifests::read(path), Manifests::read(with_pods));
        let deployment = with_pods.of_kind("Deployment").next().unwrap();
        let labels = deployment["spec"]["template"]["metadata"]["labels"].as_object().unwrap();
        let with_selector = ["WasmPlugin", "RequestAuthentication", "AuthorizationPolicy"];
        let plugins = with_selector.iter().flat_map(|kind| manifests.of_kind(kind));
        let plugins = plugins.map(|plugin| &plugin["spec"]["selector"]["matchLabels"]);
        let filters = manifests.of_kind("EnvoyFilter").map(|filter| &filter["spec"]["workloadSelector"]["labels"]);
        let selectors: Vec<_> = plugins.chain(filters).collect();
        assert!(!selectors.is_empty(), "{path}");
        for selector in selectors {
            for (label, value) in selector.as_object().unwrap() {
                assert_eq!(labels.get(label), Some(value), "{path}");
            }
        }
        for document in manifests.all() {
            let namespace = &document["metadata"]["namespace"];
            assert_eq!(*namespace, deployment["metadata"]["namespace"], "{path}: each selects in its own namespace");
        }
    }
}

/// The cluster that Istio makes of a VirtualService's destination.
fn cluster_of(destination: &Value) -> String {
    format!("outbound|{}||{}", destination["port"]["number"], destination["host"].as_str().unwrap())
}

/// The routes that Istio makes of a VirtualService: none behind one that takes everything
/// (`BuildHTTPRoutesForVirtualService`), and with no timeout where none is set.
fn routes(service: &Value) -> Vec<Value> {
    let route = |http: &Value| {
        let condition = &http["match"][0];
        let mut matching = match condition["uri"]["exact"].as_str() {
            Some(path) => json!({"path": path}),
            None => json!({"prefix": condition["uri"]["prefix"].as_str().unwrap_or("/")}),
        };
        if let Some(method) = condition["method"]["exact"].as_str() {
            matching["headers"] = json!([{"name": ":method", "string_match": {"exact": method}}]);
        }
        if let Some(methods) = condition["method"]["regex"].as_str() {
            matching["headers"] = json!([{"name": ":method", "string_match": {"safe_regex": {"regex": methods}}}]);
        }
        for name in condition["headers"].as_object().into_iter().flat_map(serde_json::Map::keys) {
            assert_eq!(condition["headers"][name], json!({}), "Istio looks whether it is there");
            matching["headers"] = json!([{"name": name, "present_match": true}]);
        }
        if http.get("directResponse").is_some() {
            return json!({"match": matching, "direct_response": http["directResponse"]});
        }
        let mut action = json!({"cluster": cluster_of(&http["route"][0]["destination"]), "timeout": "0s"});
        if let Some(timeout) = http.get("timeout") {
            action["timeout"] = timeout.clone();
        }
        if let Some(rewrite) = http["rewrite"]["uri"].as_str() {
            action["prefix_rewrite"] = json!(rewrite);
        }
        json!({"match": matching, "route": action, "request_headers_to_remove": http["headers"]["request"]["remove"]})
    };
    let mut routes: Vec<Value> = service["spec"]["http"].as_array().unwrap().iter().map(route).collect();
    if let Some(last) = routes.iter().position(|route| route["match"] == json!({"prefix": "/"})) {
        routes.truncate(last + 1);
    }
    routes
}

/// The filter that Istio makes of a WasmPlugin (pilot/pkg/model/extensions.go): the configuration is JSON in a string,
/// the variables stand in `host_env_keys`, and there is no `vm_id`.
fn filter_of(plugin: &Value) -> Value {
    let spec = &plugin["spec"];
    let keys: Vec<_> = spec["vmConfig"]["env"]
        .as_array()
        .unwrap()
        .iter()
        .map(|variable| {
            assert_eq!(variable["valueFrom"], "HOST");
            &variable["name"]
        })
        .collect();
    let name = format!(
        "{}.{}",
        plugin["metadata"]["namespace"].as_str().unwrap(),
        plugin["metadata"]["name"].as_str().unwrap()
    );
    let failure_policy = match spec["failStrategy"].as_str().unwrap() {
        "FAIL_CLOSE" => "FAIL_CLOSED",
        same => same,
    };
    let wasm = json!({"config": {
        "name": name,
        "failure_policy": failure_policy,
        "vm_config": {
            "runtime": "envoy.wasm.runtime.v8",
            "code": {"local": {"filename": module()}},
            "environment_variables": {
                "key_values": {"ISTIO_META_WASM_PLUGIN_RESOURCE_VERSION": "1"},
                "host_env_keys": keys,
            },
        },
        "configuration": any("google.protobuf.StringValue", json!({"value": spec["pluginConfig"].to_string()})),
    }});
    json!({"name": name, "typed_config": any("envoy.extensions.filters.http.wasm.v3.Wasm", wasm)})
}

/// The clusters that an EnvoyFilter patches, with what it merges into each.
fn patches(manifests: &Manifests) -> Vec<(String, Value)> {
    let patches =
        manifests.of_kind("EnvoyFilter").flat_map(|filter| filter["spec"]["configPatches"].as_array().unwrap());
    let clusters = patches.filter(|patch| patch["applyTo"] == "CLUSTER");
    clusters
        .map(|patch| (patch["match"]["cluster"]["name"].as_str().unwrap().to_owned(), patch["patch"]["value"].clone()))
        .collect()
}

/// `patch` merged into `target` as Istio merges messages.
fn merge(target: &mut Value, patch: &Value) {
    match (target, patch) {
        (Value::Object(target), Value::Object(patch)) => {
            for (key, value) in patch {
                merge(target.entry(key).or_insert(Value::Null), value);
            }
        }
        (target, patch) => *target = patch.clone(),
    }
}

/// What the container `istio-proxy` has in its environment.
fn environment(manifests: &Manifests) -> Vec<(&'static str, &'static str)> {
    let pod = &manifests.of_kind("Deployment").next().unwrap()["spec"]["template"]["spec"];
    let mut containers = pod["containers"].as_array().unwrap().iter();
    manifests.environment(&containers.find(|container| container["name"] == "istio-proxy").unwrap()["env"])
}

/// An Envoy in the place of Istio's proxy.
struct Proxy {
    fixture: Fixture,
    tokens: TokenServer,
}

impl Proxy {
    /// Starts one with the configuration that `configure` makes of a gateway that has the clusters of `manifests`, all
    /// of which lead to one upstream, but for the token server's.
    async fn start(manifests: &Manifests, configure: impl FnOnce(Vec<Value>) -> String) -> Self {
        let tokens = TokenServer::start(([127, 0, 0, 1], 0).into()).await.unwrap();
        let upstream = Upstream::start().await.unwrap();
        let clusters = clusters(manifests).into_iter().map(|name| {
            let address = if name.ends_with("|auth.example.com") { tokens.address() } else { upstream.address() };
            cluster(&name, address, Protocol::Http1)
        });
        let config = configure(clusters.collect());
        let environment = environment(manifests);
        let options = Options { environment: &environment, wasm_log_level: "debug", ..Options::default() };
        let envoy = running(&config, &options).await;
        let address = envoy.listener(LISTENER).await.unwrap();
        Self { fixture: Fixture { envoy, upstream, address }, tokens }
    }

    /// Sends a request with the caller's own credentials; gives the answer and what arrived.
    async fn send(&self, method: &str, host: &str, path: &str) -> (String, Vec<Seen>) {
        self.send_with("", method, host, path).await
    }

    /// The same with further lines of header.
    async fn send_with(&self, lines: &str, method: &str, host: &str, path: &str) -> (String, Vec<Seen>) {
        let id = new_id();
        let request = format!(
            "{method} {path} HTTP/1.1\r\nhost: {host}\r\n{ID}: {id}\r\nauthorization: Bearer theirs\r\nx-api-key: theirs\r\n\
             x_api_key: theirs\r\nx-http-method-override: DELETE\r\n{lines}content-length: 0\r\nconnection: close\r\n\r\n"
        );
        let answer = send_raw(self.fixture.address, request.as_bytes()).await.unwrap();
        (answer, self.fixture.upstream.seen(&id))
    }

    /// Asserts that the server at `host` gets this credential, and nothing of the caller's.
    async fn assert_injects(&self, host: &str, path: &str, server: &str, authorization: &str) {
        let (answer, seen) = self.send("POST", host, path).await;
        assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
        assert_eq!(seen.len(), 1);
        let head = &seen[0].head;
        assert_eq!((head.authority.as_str(), head.path_and_query.as_str()), (server, "/mcp"));
        assert_eq!(head.header("authorization"), [authorization]);
        assert!(head.header("x-api-key").is_empty() && head.header("x-http-method-override").is_empty());
    }

    /// Asserts that the token server was asked for one token, as the configuration says.
    fn assert_asked_once(&self) {
        let asked = self.tokens.asked();
        assert_eq!(asked.len(), 1);
        assert_eq!(asked[0].head.authority, "auth.example.com");
        assert_eq!(asked[0].head.path_and_query, "/oauth/token");
        // odock-mcp-client:test-secret
        assert_eq!(asked[0].head.header("authorization"), ["Basic b2RvY2stbWNwLWNsaWVudDp0ZXN0LXNlY3JldA=="]);
        assert_eq!(asked[0].parameter("resource"), ["https://tools.example.com/mcp"]);
    }
}

/// The gateway of `gateway.yaml` with these clusters.
fn gateway(manifests: &Manifests, clusters: Vec<Value>) -> Gateway {
    let gateway = routes(manifests.named("VirtualService", "mcp")).into_iter().fold(Gateway::default(), Gateway::route);
    let token_server = manifests.named("VirtualService", "token-server");
    let host =
        json!({"name": "token-server", "domains": token_server["spec"]["hosts"], "routes": routes(token_server)});
    clusters.into_iter().fold(gateway.virtual_host(host), Gateway::cluster)
}

/// The same with the filter of its WasmPlugin, and its EnvoyFilter merged in.
fn gateway_with_plugin(manifests: &Manifests, clusters: Vec<Value>) -> String {
    let filter = filter_of(manifests.named("WasmPlugin", "mcp-upstream-auth"));
    let mut config: Value = serde_json::from_str(&gateway(manifests, clusters).filter(filter).config()).unwrap();
    let patch = &manifests.named("EnvoyFilter", "mcp-no-underscores")["spec"]["configPatches"][0];
    let manager = &mut config["static_resources"]["listeners"][0]["filter_chains"][0]["filters"][0];
    assert_eq!(manager["name"], patch["match"]["listener"]["filterChain"]["filter"]["name"]);
    merge(manager, &patch["patch"]["value"]);
    config.to_string()
}

#[test]
fn the_gateways_plugin_gives_each_server_its_credential() {
    run(async {
        let manifests = Manifests::read(GATEWAY);
        let proxy = Proxy::start(&manifests, |clusters| gateway_with_plugin(&manifests, clusters)).await;
        proxy.assert_injects("any.example", "/github/mcp", "mcp.example.com", "Bearer test-token").await;
        proxy.assert_injects("any.example", "/tools/mcp", "tools.example.com", "Bearer token-1").await;
        proxy.assert_asked_once();
        let (_, seen) = proxy.send("POST", "any.example", "/github/mcp").await;
        assert!(seen[0].head.header("x_api_key").is_empty(), "the EnvoyFilter drops it");
        let (answer, seen) = proxy.send("TRACE", "any.example", "/github/mcp").await;
        assert!(answer.starts_with("HTTP/1.1 503 ") && seen.is_empty(), "{answer}");
        // Nobody reaches the token server by the VirtualService that only names its cluster.
        let (answer, _) = proxy.send("POST", "token-server.invalid", "/oauth/token").await;
        assert!(answer.contains("unknown_server"), "{answer}");
        proxy.assert_asked_once();
    });
}

#[test]
fn a_gateway_that_drops_the_token_servers_cluster_says_so() {
    run(async {
        let manifests = Manifests::read(GATEWAY);
        let proxy = Proxy::start(&manifests, |clusters| {
            let token_server = |cluster: &Value| cluster["name"] == "outbound|443||auth.example.com";
            // As with PILOT_FILTER_GATEWAY_CLUSTER_CONFIG, and no VirtualService that names it.
            let kept = clusters.into_iter().filter(|cluster| !token_server(cluster)).collect();
            let mut config: Value = serde_json::from_str(&gateway_with_plugin(&manifests, kept)).unwrap();
            let hosts = &mut config["static_resources"]["listeners"][0]["filter_chains"][0]["filters"][0]["typed_config"]
                ["route_config"]["virtual_hosts"];
            hosts.as_array_mut().unwrap().retain(|host| host["name"] != "token-server");
            config.to_string()
        })
        .await;
        let (answer, seen) = proxy.send("POST", "any.example", "/tools/mcp").await;
        assert!(answer.contains("token_cluster_unknown") && seen.is_empty(), "{answer}");
        proxy.assert_injects("any.example", "/github/mcp", "mcp.example.com", "Bearer test-token").await;
    });
}

#[test]
fn the_sidecars_plugin_gives_each_server_its_credential_and_leaves_others_alone() {
    run(async {
        let manifests = Manifests::read(SIDECAR);
        let other = "outbound|80||other.agents.svc.cluster.local";
        let proxy = Proxy::start(&manifests, |clusters| {
            // A sidecar has a virtual host for each service, which knows no other host.
            let host = |name: &str, routes: Vec<Value>| {
                json!({"name": name, "domains": [name, format!("{name}:80")], "routes": routes})
            };
            let hosts = manifests.of_kind("VirtualService").map(|service| {
                assert_eq!(service["spec"].get("gateways"), None, "it is for sidecars");
                let [name] = service["spec"]["hosts"].as_array().unwrap().as_slice() else { panic!("{service}") };
                host(name.as_str().unwrap(), routes(service))
            });
            let mut other_cluster = clusters[0].clone();
            other_cluster["name"] = json!(other);
            let other_route = json!({"match": {"prefix": "/"}, "route": {"cluster": other, "timeout": "0s"}});
            let gateway = Gateway::default()
                .filter(filter_of(manifests.named("WasmPlugin", "mcp-upstream-auth")))
                .domains(&["nobody.example"])
                .virtual_host(host("other", vec![other_route]));
            let gateway = hosts.fold(gateway, Gateway::virtual_host);
            clusters.into_iter().fold(gateway.cluster(other_cluster), Gateway::cluster).config()
        })
        .await;
        proxy.assert_injects("mcp.example.com", "/mcp", "mcp.example.com", "Bearer test-token").await;
        proxy.assert_injects("tools.example.com", "/mcp", "tools.example.com", "Bearer token-1").await;
        proxy.assert_asked_once();
        let (_, seen) = proxy.send("POST", "other", "/any").await;
        assert_eq!(seen[0].head.authority, "other");
        assert_eq!(seen[0].head.header("authorization"), ["Bearer theirs"]);
        for server in ["mcp.example.com", "tools.example.com"] {
            for (method, path, status) in [
                ("TRACE", "/mcp", 405),
                ("PUT", "/mcp", 405),
                ("GET", "/.well-known/oauth-protected-resource/mcp", 404),
                ("GET", "/.well-known;a=1/oauth-protected-resource", 404),
                ("GET", "/", 404),
            ] {
                let (answer, seen) = proxy.send(method, server, path).await;
                assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")) && seen.is_empty(), "{method}: {answer}");
            }
            let (answer, seen) = proxy.send_with("origin: https://evil.example\r\n", "POST", server, "/mcp").await;
            assert!(answer.starts_with("HTTP/1.1 403 ") && seen.is_empty(), "{answer}");
        }
    });
}

/// The clusters of the gateway with the upstream filters.
fn patch_clusters(clusters: &mut [Value]) {
    for (name, patch) in patches(&Manifests::read(UPSTREAM_FILTER)) {
        let cluster = clusters.iter_mut().find(|cluster| cluster["name"] == name).unwrap();
        // A map's entries are replaced.
        cluster["typed_extension_protocol_options"] = patch["typed_extension_protocol_options"].clone();
    }
}

/// `config` with the module where it is, in place of where the Deployment mounts it.
fn mounted(manifests: &Manifests, config: &str) -> String {
    let container = &manifests.named("Deployment", "mcp-gateway")["spec"]["template"]["spec"]["containers"][0];
    let file = format!("{}/plugin.wasm", container["volumeMounts"][0]["mountPath"].as_str().unwrap());
    assert_eq!(config.matches(&file).count(), 2, "the Deployment mounts it there");
    config.replace(&file, module().to_str().unwrap())
}

#[test]
fn the_upstream_filters_give_each_server_its_credential() {
    run(async {
        let manifests = Manifests::read(GATEWAY);
        let proxy = Proxy::start(&manifests, |mut clusters| {
            patch_clusters(&mut clusters);
            mounted(&manifests, &gateway(&manifests, clusters).config())
        })
        .await;
        proxy.assert_injects("any.example", "/github/mcp", "mcp.example.com", "Bearer test-token").await;
        proxy.assert_injects("any.example", "/tools/mcp", "tools.example.com", "Bearer token-1").await;
        proxy.assert_asked_once();
        let (answer, seen) = proxy.send("TRACE", "any.example", "/github/mcp").await;
        assert!(answer.starts_with("HTTP/1.1 405 ") && seen.is_empty(), "{answer}");
        let (answer, _) = proxy.send("POST", "token-server.invalid", "/oauth/token").await;
        assert!(answer.starts_with("HTTP/1.1 404 "), "{answer}");
        proxy.assert_asked_once();
    });
}

#[test]
fn the_plugin_and_the_upstream_filters_get_on_until_the_plugin_is_deleted() {
    run(async {
        let manifests = Manifests::read(GATEWAY);
        let proxy = Proxy::start(&manifests, |mut clusters| {
            patch_clusters(&mut clusters);
            mounted(&manifests, &gateway_with_plugin(&manifests, clusters))
        })
        .await;
        proxy.assert_injects("any.example", "/github/mcp", "mcp.example.com", "Bearer test-token").await;
        let (answer, seen) = proxy.send("POST", "any.example", "/tools/mcp").await;
        assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
        // Which token it is depends on who asked first: their VMs are not the same.
        let authorization = seen[0].head.header("authorization");
        assert!(
            [["Bearer token-1"], ["Bearer token-2"]].iter().any(|token| authorization == *token),
            "{authorization:?}"
        );
    });
}
