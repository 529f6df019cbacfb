//! `envoy/envoy-gateway`: the manifests are of Envoy Gateway's types, and their very configurations do what they say in
//! an Envoy that is set up as Envoy Gateway does it. Envoy Gateway itself does not run here.

use gateway_api::backendtlspolicies::BackendTLSPolicy;
use gateway_api::gateways::Gateway as GatewayResource;
use gateway_api::httproutes::HTTPRoute;
use k8s_openapi::api::core::v1::EnvVar;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use wasm_tests::client::{Protocol, send_raw};
use wasm_tests::envoy::Options;
use wasm_tests::gateway::{Gateway, any, cluster};
use wasm_tests::module;
use wasm_tests::token_server::TokenServer;

use crate::fixture::{Fixture, TestRequest, run};
use crate::manifests::{Manifests, assert_is, is_sha256};

const MANIFESTS: &str = "envoy/envoy-gateway/gateway.yaml";

/// A struct with these fields of a custom resource of Envoy Gateway's own, written by hand after `api/v1alpha1` there, as
/// no crate has them: this finds a slip in the file, not a mistake made twice.
macro_rules! strict {
    ($($name:ident { $($(#[$attribute:meta])* $field:ident: $type:ty),* $(,)? })*) => {$(
        #[derive(Deserialize, Serialize)]
        #[serde(deny_unknown_fields, rename_all = "camelCase")]
        struct $name {
            $($(#[$attribute])* #[serde(skip_serializing_if = "is_null")] $field: $type,)*
        }
    )*};
}

/// Whether `value` is a field that is not there.
fn is_null(value: &impl Serialize) -> bool {
    serde_json::to_value(value).is_ok_and(|value| value.is_null())
}

/// Any custom resource.
#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Resource<S> {
    api_version: String,
    kind: String,
    metadata: Metadata,
    spec: S,
}

strict! {
    Metadata { name: String, namespace: String }
    Reference { group: String, kind: String, name: String }

    EnvoyProxySpec { provider: Provider, filter_order: Vec<FilterPosition> }
    Provider { r#type: String, kubernetes: KubernetesProvider }
    KubernetesProvider { envoy_service: EnvoyService, envoy_deployment: EnvoyDeployment }
    EnvoyService { r#type: String }
    EnvoyDeployment { container: Container }
    Container { env: Vec<EnvVar> }
    FilterPosition { name: String, after: String }

    ClientTrafficPolicySpec { target_refs: Vec<Reference>, timeout: Timeout, headers: Headers }
    Timeout { http: HttpTimeout }
    HttpTimeout { stream_idle_timeout: String }
    Headers { with_underscores_action: String }

    SecurityPolicySpec { target_refs: Vec<Reference>, jwt: Jwt, authorization: Authorization }
    Jwt { providers: Vec<JwtProvider> }
    JwtProvider {
        name: String,
        issuer: String,
        audiences: Vec<String>,
        #[serde(rename = "remoteJWKS")] remote_jwks: RemoteJwks,
        extract_from: Extractor,
    }
    RemoteJwks { uri: String }
    Extractor { headers: Vec<HeaderExtractor> }
    HeaderExtractor { name: String, value_prefix: String }
    Authorization { default_action: String, rules: Vec<AuthorizationRule> }
    AuthorizationRule { name: String, action: String, operation: Operation, principal: Principal }
    Operation { methods: Vec<String> }
    Principal { jwt: JwtPrincipal }
    JwtPrincipal { provider: String, scopes: Vec<String> }

    BackendSpec { endpoints: Vec<Endpoint> }
    Endpoint { fqdn: Fqdn }
    Fqdn { hostname: String, port: u16 }

    HttpRouteFilterSpec { direct_response: DirectResponse }
    DirectResponse { status_code: u16 }

    EnvoyExtensionPolicySpec { target_refs: Vec<Reference>, wasm: Vec<Wasm> }
    Wasm { name: String, code: Code, fail_open: bool, env: Option<WasmEnv>, config: Value }
    WasmEnv { host_keys: Vec<String> }
    Code { r#type: String, image: Image }
    Image { url: String, sha256: String }
}

#[test]
fn every_manifest_is_of_envoy_gateways_types_and_of_no_other_field() {
    for document in Manifests::read(MANIFESTS).all() {
        match document["kind"].as_str().unwrap() {
            "EnvoyProxy" => assert_is::<Resource<EnvoyProxySpec>>(document),
            "Gateway" => assert_is::<GatewayResource>(document),
            "ClientTrafficPolicy" => assert_is::<Resource<ClientTrafficPolicySpec>>(document),
            "SecurityPolicy" => assert_is::<Resource<SecurityPolicySpec>>(document),
            "Backend" => assert_is::<Resource<BackendSpec>>(document),
            "BackendTLSPolicy" => assert_is::<BackendTLSPolicy>(document),
            "HTTPRoute" => assert_is::<HTTPRoute>(document),
            "HTTPRouteFilter" => assert_is::<Resource<HttpRouteFilterSpec>>(document),
            "EnvoyExtensionPolicy" => assert_is::<Resource<EnvoyExtensionPolicySpec>>(document),
            kind => panic!("{kind}"),
        }
    }
}

#[test]
fn the_gateway_serves_callers_with_a_jwt_alone_and_no_route_is_there_before_that() {
    let manifests = Manifests::read(MANIFESTS);
    let kubernetes = &manifests.named("EnvoyProxy", "mcp")["spec"]["provider"]["kubernetes"];
    assert_eq!(kubernetes["envoyService"], json!({"type": "ClusterIP"}));
    let policy = &manifests.named("SecurityPolicy", "mcp")["spec"];
    let gateway = json!([{"group": "gateway.networking.k8s.io", "kind": "Gateway", "name": "mcp"}]);
    assert_eq!(policy["targetRefs"], gateway);
    let headers = json!([{"name": "Authorization", "valuePrefix": "Bearer "}]);
    assert_eq!(policy["jwt"]["providers"][0]["extractFrom"]["headers"], headers);
    assert_eq!(
        policy["authorization"],
        json!({"defaultAction": "Deny", "rules": [{
            "name": "mcp",
            "action": "Allow",
            "operation": {"methods": ["GET", "POST", "DELETE"]},
            "principal": {"jwt": {"provider": policy["jwt"]["providers"][0]["name"], "scopes": ["mcp"]}},
        }]})
    );
    manifests.assert_order(&["SecurityPolicy", "EnvoyExtensionPolicy", "ClientTrafficPolicy"], &["HTTPRoute"]);
    let client = &manifests.named("ClientTrafficPolicy", "mcp")["spec"];
    assert_eq!(
        *client,
        json!({
            "targetRefs": gateway,
            "timeout": {"http": {"streamIdleTimeout": "1h"}},
            "headers": {"withUnderscoresAction": "DropHeader"},
        })
    );
}

#[test]
fn a_policy_fails_closed() {
    for policy in Manifests::read(MANIFESTS).of_kind("EnvoyExtensionPolicy") {
        let [wasm] = policy["spec"]["wasm"].as_array().unwrap().as_slice() else { panic!("{policy}") };
        assert_eq!(wasm["failOpen"], false);
        assert!(is_sha256(&wasm["code"]["image"]["sha256"]), "{wasm}");
    }
}

/// As `sortHTTPFilters` in internal/xds/translator/httpfilters.go: behind the last of those that a filter is to come after.
fn sorted<'a>(mut filters: Vec<&'a str>, order: &Value) -> Vec<&'a str> {
    for position in order.as_array().unwrap() {
        let is = |filter: &str, key: &str| filter.starts_with(position[key].as_str().unwrap());
        if !filters.iter().any(|filter| is(filter, "after")) {
            continue;
        }
        let moved: Vec<&str> = filters.extract_if(.., |filter| is(filter, "name")).collect();
        let behind = filters.iter().rposition(|filter| is(filter, "after")).unwrap() + 1;
        filters.splice(behind..behind, moved);
    }
    filters
}

#[test]
fn the_filter_is_the_last_whichever_others_there_are() {
    const WASM: [&str; 2] = [
        "envoy.filters.http.wasm/envoyextensionpolicy/mcp/github/wasm/0",
        "envoy.filters.http.wasm/envoyextensionpolicy/mcp/tools/wasm/0",
    ];
    const BEHIND: [&str; 3] =
        ["envoy.filters.http.rbac", "envoy.filters.http.local_ratelimit", "envoy.filters.http.ratelimit"];
    let manifests = Manifests::read(MANIFESTS);
    let order = &manifests.named("EnvoyProxy", "mcp")["spec"]["filterOrder"];
    for present in 0..1 << BEHIND.len() {
        let others = (0..BEHIND.len()).filter(|place| present >> place & 1 == 1).map(|place| BEHIND[place]);
        let others: Vec<&str> = others.collect();
        let filters =
            [&["envoy.filters.http.jwt_authn"], &WASM[..], &others[..], &["envoy.filters.http.router"]].concat();
        let wanted =
            [&["envoy.filters.http.jwt_authn"], &others[..], &WASM[..], &["envoy.filters.http.router"]].concat();
        assert_eq!(sorted(filters, order), wanted);
    }
}

#[test]
fn every_route_has_a_policy_and_a_backend_whose_certificate_is_checked() {
    let manifests = Manifests::read(MANIFESTS);
    for route in manifests.of_kind("HTTPRoute") {
        let name = &route["metadata"]["name"];
        let policies = manifests.of_kind("EnvoyExtensionPolicy");
        assert_eq!(policies.filter(|policy| policy["spec"]["targetRefs"][0]["name"] == *name).count(), 1, "{name}");
        let backend = route["spec"]["rules"][0]["backendRefs"][0]["name"].as_str().unwrap();
        let hostname = &manifests.named("Backend", backend)["spec"]["endpoints"][0]["fqdn"]["hostname"];
        let tls = manifests.named("BackendTLSPolicy", backend);
        assert_eq!(tls["spec"]["targetRefs"][0]["name"], backend);
        assert_eq!(tls["spec"]["validation"]["hostname"], *hostname);
        let policy = manifests.named("EnvoyExtensionPolicy", name.as_str().unwrap());
        assert_eq!(policy["spec"]["wasm"][0]["config"]["host"], *hostname);
    }
}

/// The name that Envoy Gateway gives the cluster of a route's first rule.
fn cluster_of(route: &Value) -> String {
    let metadata = &route["metadata"];
    format!("httproute/{}/{}/rule/0", metadata["namespace"].as_str().unwrap(), metadata["name"].as_str().unwrap())
}

/// The name of a policy's filter, and of its VM.
fn id_of(policy: &Value) -> String {
    let metadata = &policy["metadata"];
    let (namespace, name) = (metadata["namespace"].as_str().unwrap(), metadata["name"].as_str().unwrap());
    format!("envoyextensionpolicy/{namespace}/{name}/wasm/0")
}

/// The filter that Envoy Gateway makes of a policy (internal/xds/translator/wasm.go): switched off, but for its route.
fn filter_of(policy: &Value) -> Value {
    let (id, wasm) = (id_of(policy), &policy["spec"]["wasm"][0]);
    let config = json!({"config": {
        "name": wasm["name"],
        "vm_config": {
            "vm_id": id,
            "runtime": "envoy.wasm.runtime.v8",
            "code": {"local": {"filename": module()}},
            "environment_variables": {"host_env_keys": wasm.pointer("/env/hostKeys").unwrap_or(&json!([]))},
        },
        "fail_open": wasm["failOpen"],
        "configuration": any("google.protobuf.StringValue", json!({"value": wasm["config"].to_string()})),
    }});
    let config = any("envoy.extensions.filters.http.wasm.v3.Wasm", config);
    json!({"name": format!("envoy.filters.http.wasm/{id}"), "disabled": true, "typed_config": config})
}

/// The routes that Envoy Gateway makes of an HTTPRoute's second rule, which refuses. They come first, as they match more.
fn refusing_routes(manifests: &Manifests, route: &Value) -> Vec<Value> {
    let rule = &route["spec"]["rules"][1];
    let [filter] = rule["filters"].as_array().map(Vec::as_slice).unwrap_or_default() else { return Vec::new() };
    let filter = manifests.named("HTTPRouteFilter", filter["extensionRef"]["name"].as_str().unwrap());
    let status = &filter["spec"]["directResponse"]["statusCode"];
    let matches = rule["matches"].as_array().unwrap().iter().map(|matches| {
        let mut matching = json!({"path": matches["path"]["value"]});
        if let Some(header) = matches["headers"].get(0) {
            let name = header["name"].as_str().unwrap().to_lowercase();
            let regex = json!({"safe_regex": {"regex": header["value"]}});
            matching["headers"] = json!([{"name": name, "string_match": regex}]);
        }
        json!({"match": matching, "direct_response": {"status": status}})
    });
    matches.collect()
}

/// The route that Envoy Gateway makes of an HTTPRoute's first rule, with the filter of its policy.
fn route_of(manifests: &Manifests, route: &Value) -> Value {
    let rule = &route["spec"]["rules"][0];
    let mut action = json!({"cluster": cluster_of(route)});
    if let Some(timeout) = rule.pointer("/timeouts/request") {
        action["timeout"] = timeout.clone();
    }
    let matching = match rule["matches"][0]["path"]["value"].as_str() {
        Some(path) => {
            assert_eq!(rule["timeouts"], json!({"request": "0s"}), "the default would cut event streams");
            assert_eq!(rule["matches"][0]["path"]["type"], "Exact");
            let rewrite = &rule["filters"][1]["urlRewrite"]["path"];
            assert_eq!(rewrite["type"], "ReplaceFullPath");
            action["regex_rewrite"] =
                json!({"pattern": {"regex": "^/.*$"}, "substitution": rewrite["replaceFullPath"]});
            json!({"path": path})
        }
        None => json!({"prefix": "/"}),
    };
    let policy = manifests.named("EnvoyExtensionPolicy", route["metadata"]["name"].as_str().unwrap());
    let enabled = any("envoy.config.route.v3.FilterConfig", json!({"config": {}}));
    json!({
        "match": matching,
        "route": action,
        "request_headers_to_remove": rule["filters"][0]["requestHeaderModifier"]["remove"],
        "typed_per_filter_config": {format!("envoy.filters.http.wasm/{}", id_of(policy)): enabled},
    })
}

#[test]
fn the_policies_give_each_server_its_credential() {
    run(async {
        let manifests = Manifests::read(MANIFESTS);
        let container =
            &manifests.named("EnvoyProxy", "mcp")["spec"]["provider"]["kubernetes"]["envoyDeployment"]["container"];
        let environment = manifests.environment(&container["env"]);
        let tokens = TokenServer::start(([127, 0, 0, 1], 0).into()).await.unwrap();
        let options = Options { environment: &environment, wasm_log_level: "debug", ..Options::default() };
        let fixture = Fixture::start_with(&options, |upstream| {
            let policies = manifests.of_kind("EnvoyExtensionPolicy");
            let mut gateway = policies.map(filter_of).fold(Gateway::default(), Gateway::filter);
            for route in manifests.of_kind("HTTPRoute") {
                let name = cluster_of(route);
                let translated = route_of(&manifests, route);
                let address = if name.contains("token-server") { tokens.address() } else { upstream };
                gateway = match route["spec"]["hostnames"].as_array() {
                    Some(hosts) => {
                        gateway.virtual_host(json!({"name": name, "domains": hosts, "routes": [translated]}))
                    }
                    None => {
                        refusing_routes(&manifests, route).into_iter().fold(gateway, Gateway::route).route(translated)
                    }
                };
                gateway = gateway.cluster(cluster(&name, address, Protocol::Http1));
            }
            gateway
        })
        .await;
        for (path, server, authorization) in [
            ("/github/mcp", "mcp.example.com", "Bearer test-token"),
            ("/tools/mcp", "tools.example.com", "Bearer token-1"),
        ] {
            let theirs = [("authorization", "Bearer theirs"), ("x-api-key", "theirs"), ("x-original-url", "/admin")];
            let (reply, seen) =
                fixture.exchange(TestRequest { path, headers: &theirs, ..TestRequest::default() }).await;
            assert_eq!(reply.status, 200);
            let head = &seen[0].head;
            assert_eq!((head.authority.as_str(), head.path_and_query.as_str()), (server, "/mcp"));
            assert_eq!(head.header("authorization"), [authorization]);
            assert!(head.header("x-api-key").is_empty() && head.header("x-original-url").is_empty());
        }
        for path in ["/github/mcp", "/tools/mcp"] {
            let web_page = [("origin", "https://evil.example")];
            let (reply, seen) =
                fixture.exchange(TestRequest { path, headers: &web_page, ..TestRequest::default() }).await;
            assert_eq!((reply.status.as_u16(), seen.len()), (403, 0), "{path}");
            for place in ["/", "/mcp/", "/.well-known/oauth-protected-resource/mcp", "/.well-known;a=1/mcp"] {
                let other = path.replace("/mcp", place);
                let (reply, seen) = fixture.exchange(TestRequest { path: &other, ..TestRequest::default() }).await;
                assert_eq!((reply.status.as_u16(), seen.len()), (404, 0), "{other}");
            }
        }
        // Nobody reaches the token server by the route that only makes its cluster.
        let request = "POST /oauth/token HTTP/1.1\r\nhost: token-server.invalid\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
        let answer = send_raw(fixture.address, request.as_bytes()).await.unwrap();
        assert!(answer.contains("server_disabled"), "{answer}");
        let asked = tokens.asked();
        assert_eq!(asked.len(), 1);
        assert_eq!(asked[0].head.authority, "auth.example.com");
        assert_eq!(asked[0].parameter("scope"), ["mcp:tools"]);
    });
}
