//! Configurations that load, and what is said of those that do not.

mod aws;

use crate::filter::Filter;

/// The literal that stands for a secret in these configurations. No message may have it.
const SECRET: &str = "s3cr3t";

/// The beginning of a P-256 key in PKCS#8, as one line: enough to be known, and no key.
const PRIVATE_KEY: &str = "-----BEGIN PRIVATE KEY-----\\\\nMBMGByqGSM49AgEGCCqGSM49AwEH\\\\n-----END PRIVATE KEY-----";

fn environment(name: &str) -> Option<String> {
    match name {
        "TOKEN" => Some(SECRET.to_owned()),
        "LINE" => Some(format!("{SECRET}\nx")),
        "FILE" => Some(format!("{SECRET}\r\n\n")),
        "EMPTY" => Some(String::new()),
        _ => None,
    }
}

fn messages(config: &str) -> Vec<String> {
    match Filter::from_config(config.as_bytes(), &environment) {
        Ok(_) => Vec::new(),
        Err(errors) => errors.to_string().lines().map(str::to_owned).collect(),
    }
}

/// A configuration with one server `s` that has this `auth`.
pub fn with_auth(auth: &str) -> String {
    format!(r#"{{"servers": {{"s": {{"host": "h", "auth": {auth}}}}}}}"#)
}

/// The same with an `OAUTH2` that has what it must, and these keys.
fn with_oauth2(keys: &str) -> String {
    with_auth(&format!(
        r#"{{"type": "OAUTH2", "tokenUrl": "https://auth.example.com/oauth/token", "clientId": "c"{keys}}}"#
    ))
}

/// What the README shows, and each liberty that the format allows.
pub fn accepted() -> Vec<String> {
    let mut configs: Vec<String> = [
        r#"{"host": "h"}"#,
        r#" {"host": "h:8080", "auth": {"type": "BEARER", "token": "${TOKEN}"}, "enabled": true, "stripHeaders": []} "#,
        r#"{"servers": {"a": {"host": "h"}}}"#,
        r#"{"servers": {"outbound|443||a.b": {"host": "h"}, "ü": {"host": "h"}}, "selectBy": "route", "unmatched": "pass"}"#,
        r#"{"servers": {"a": {"host": "h", "enabled": false, "auth": {"type": "BEARER", "token": "${UNSET}"}}}}"#,
        r#"{"host": "h", "enabled": false, "auth": {"type": "BASIC", "username": "a:b", "password": ""}}"#,
        r#"{"host": "h", "auth": null, "enabled": null, "stripHeaders": null}"#,
        r#"{"host": "h", "stripHeaders": ["X-Any", "Authorization", "x-any-*"]}"#,
        r#"{"host": "a.example", "auth": {"type": "OAUTH2", "tokenUrl": "https://a.example/token", "tokenCluster": "auth", "clientId": "c", "clientAuth": "none"}}"#,
        r#"{"servers": {"a": {"host": "a.example", "auth": {"type": "OAUTH2", "tokenUrl": "https://a.example/token", "clientId": "c", "clientAuth": "none"}}}}"#,
        r#"{"host": "h", "stripPresets": ["credentials", "forwarded"], "stripQuery": ["access_token", "a b"], "stripResponseHeaders": ["Set-Cookie", "x-a"]}"#,
        r#"{"servers": {"a": {"host": "h"}}, "stripPresets": [], "stripQuery": [], "stripResponseHeaders": []}"#,
        r#"{"host": "h", "stripPresets": null, "stripQuery": null, "stripResponseHeaders": null}"#,
    ]
    .map(str::to_owned)
    .to_vec();
    configs.extend(
        [
            r#"{}"#,
            r#"{"type": "NONE"}"#,
            r#"{"type": "bearer", "token": "1|a:b"}"#,
            r#"{"token": "x", "type": "Bearer"}"#,
            r#"{"type": "BASIC", "username": "", "password": "p:w ü"}"#,
            r#"{"type": "API_KEY", "header": "Authorization", "value": "Token ${TOKEN}"}"#,
            r#"{"type": "API_KEY", "query": "api key", "value": "${LINE}"}"#,
            r#"{"type": "API_KEY", "header": null, "query": "q", "value": "v"}"#,
            r#"{"type": "HEADERS", "headers": {"X-A": "ü", "x-b": "$${"}}"#,
            r#"{"type": "BEARER", "token": {"fromFilterState": "mcp.secret"}}"#,
            r#"{"type": "HEADERS", "headers": {"x-a": {"fromFilterState": "${TOKEN}"}, "x-b": "b"}}"#,
            r#"{"type": "OAUTH2", "tokenUrl": "https://a", "clientId": "c", "clientSecret": {"fromFilterState": "k"}}"#,
        ]
        .map(with_auth),
    );
    let key = PRIVATE_KEY;
    configs.extend(
        [
            r#", "clientSecret": "${TOKEN}""#,
            r#", "clientSecret": "a b:ü", "clientAuth": "client_secret_basic", "scope": "mcp:tools", "passChallenge": true"#,
            r#", "clientSecret": "s", "clientAuth": "client_secret_post", "scope": "a b", "audience": "https://tools.example.com""#,
            r#", "clientSecret": "s", "clientAuth": "client_secret_jwt", "scope": ["a", "b"], "assertionAudience": "https://auth.example.com""#,
            r#", "clientAuth": "none", "resource": "https://tools.example.com/mcp?x=1""#,
            r#", "clientAuth": "none", "resource": ["https://a.example", "urn:b:c"], "tokenCluster": "outbound|443||auth.example.com""#,
            r#", "clientAuth": "none", "extraParams": {"tenant": "a", "empty": "", "${x}": "${TOKEN}"}, "retryOn401": true"#,
            r#", "clientAuth": "none", "requestTimeoutMs": 1, "maxWaitMs": 60000, "allowInsecure": false"#,
            r#", "clientAuth": "none", "requestTimeoutMs": 5000.0, "extraParams": {}"#,
            r#", "clientSecret": "s", "clientAuth": null, "privateKey": null, "keyId": null, "assertionAudience": null,
                "scope": null, "audience": null, "resource": null, "tokenCluster": null, "extraParams": null,
                "allowInsecure": null, "requestTimeoutMs": null, "maxWaitMs": null, "retryOn401": null"#,
            &format!(r#", "clientAuth": "private_key_jwt", "privateKey": "{key}""#),
            &format!(r#", "clientAuth": "private_key_jwt", "privateKey": "{key}", "keyId": "1", "assertionAudience": "a""#),
        ]
        .map(with_oauth2),
    );
    for url in [
        "https://auth.example.com",
        "HTTPS://auth.example.com:8443/token?tenant=a",
        "https://10.0.0.1/token",
        "http://localhost/token",
        "http://LOCALHOST:8080",
        "http://127.0.0.1:8080/token",
        "http://127.1.2.3/token",
        "http://[::1]:8080/token",
    ] {
        configs.push(with_auth(&format!(
            r#"{{"type": "oauth2", "tokenUrl": "{url}", "clientId": "c", "clientAuth": "none"}}"#
        )));
    }
    configs.push(with_auth(
        r#"{"type": "OAuth2", "tokenUrl": "http://auth.example.com", "clientId": "c", "clientAuth": "none", "allowInsecure": true}"#,
    ));
    configs.extend(aws::accepted());
    configs
}

/// Configurations of which the schema, too, must say that they are wrong, with all that is said of them.
pub fn refused() -> Vec<(String, Vec<&'static str>)> {
    let server = |keys: &str| format!(r#"{{"servers": {{"s": {keys}}}}}"#);
    let mut table = vec![
        // Where a secret comes from
        (
            with_auth(r#"{"type": "BEARER", "token": {"fromFile": "s3cr3t"}}"#),
            vec!["servers.s.auth.token.fromFile: unknown key; known here: fromFilterState"],
        ),
        (with_auth(r#"{"type": "BEARER", "token": {}}"#), vec!["servers.s.auth.token.fromFilterState: is required"]),
        (
            with_auth(r#"{"type": "BEARER", "token": ["s3cr3t"]}"#),
            vec![r#"servers.s.auth.token: must be a string or {"fromFilterState": "<key>"}"#],
        ),
        // The whole
        (
            r#"[]"#.into(),
            vec!["configuration: must be an object", "servers: is required, or else host for a single server"],
        ),
        (r#"{}"#.into(), vec!["servers: is required, or else host for a single server"]),
        (
            r#"{"server": {}}"#.into(),
            vec![
                "server: unknown key; known here: selectBy, servers, unmatched, stripHeaders, stripPresets, stripQuery, stripResponseHeaders",
                "servers: is required, or else host for a single server",
            ],
        ),
        (r#"{"servers": {}}"#.into(), vec!["servers: must not be empty"]),
        (r#"{"servers": []}"#.into(), vec!["servers: must be an object"]),
        (
            r#"{"servers": {"s": {"host": "h"}}, "auth": {"type": "NONE"}}"#.into(),
            vec!["auth: must not stand beside servers, but in one of them"],
        ),
        (
            r#"{"servers": {"s": {"host": "h"}}, "host": "h", "enabled": true}"#.into(),
            vec![
                "host: must not stand beside servers, but in one of them",
                "enabled: must not stand beside servers, but in one of them",
            ],
        ),
        (
            r#"{"host": "h", "selectBy": "route", "unmatched": "strip"}"#.into(),
            vec!["selectBy: has no meaning without servers", "unmatched: has no meaning without servers"],
        ),
        (r#"{"auth": {"type": "NONE"}}"#.into(), vec!["host: is required"]),
        (
            r#"{"servers": {"s": {"host": "h"}}, "selectBy": "s3cr3t"}"#.into(),
            vec!["selectBy: must be one of cluster, route, metadata"],
        ),
        (r#"{"servers": {"s": {"host": "h"}}, "selectBy": 1}"#.into(), vec!["selectBy: must be a string"]),
        (
            r#"{"servers": {"s": {"host": "h"}}, "unmatched": "Reject"}"#.into(),
            vec!["unmatched: must be one of reject, strip, pass"],
        ),
        (r#"{"host": "h", "stripHeaders": "cookie"}"#.into(), vec!["stripHeaders: must be a list"]),
        (r#"{"host": "h", "stripHeaders": ["a", 1]}"#.into(), vec!["stripHeaders[1]: must be a string"]),
        // A server
        (server("1"), vec!["servers.s: must be an object"]),
        (server(r#"{"auth": {}}"#), vec!["servers.s.host: is required"]),
        (server(r#"{"host": 1}"#), vec!["servers.s.host: must be a string"]),
        (server(r#"{"host": "h", "enabled": "no"}"#), vec!["servers.s.enabled: must be a boolean"]),
        (
            server(r#"{"host": "h", "hots": "s3cr3t"}"#),
            vec!["servers.s.hots: unknown key; known here: host, auth, enabled"],
        ),
        // Credentials
        (with_auth(r#""BEARER""#), vec!["servers.s.auth: must be an object"]),
        (with_auth("[]"), vec!["servers.s.auth: must be an object"]),
        (with_auth("1"), vec!["servers.s.auth: must be an object"]),
        (server(r#"{"host": "h", "enabled": {}}"#), vec!["servers.s.enabled: must be a boolean"]),
        (with_auth(r#"{"token": "s3cr3t"}"#), vec!["servers.s.auth.type: is required"]),
        (
            with_auth(r#"{"type": "s3cr3t"}"#),
            vec!["servers.s.auth.type: must be one of NONE, BEARER, BASIC, API_KEY, HEADERS, OAUTH2, AWS_SIGV4"],
        ),
        (with_auth(r#"{"type": 1}"#), vec!["servers.s.auth.type: must be a string"]),
        (
            with_auth(r#"{"type": "NONE", "token": "s3cr3t"}"#),
            vec!["servers.s.auth.token: unknown key; none is allowed here"],
        ),
        (with_auth(r#"{"type": "BEARER"}"#), vec!["servers.s.auth.token: is required"]),
        (
            with_auth(r#"{"type": "BEARER", "token": 12345}"#),
            vec![r#"servers.s.auth.token: must be a string or {"fromFilterState": "<key>"}"#],
        ),
        (
            with_auth(r#"{"type": "BEARER", "token": null}"#),
            vec![r#"servers.s.auth.token: must be a string or {"fromFilterState": "<key>"}"#],
        ),
        (
            with_auth(r#"{"type": "BEARER", "token": ["s3cr3t"]}"#),
            vec![r#"servers.s.auth.token: must be a string or {"fromFilterState": "<key>"}"#],
        ),
        (
            with_auth(r#"{"type": "BEARER", "token": "a", "tokn": "s3cr3t"}"#),
            vec!["servers.s.auth.tokn: unknown key; known here: token"],
        ),
        (with_auth(r#"{"type": "BASIC", "username": "u"}"#), vec!["servers.s.auth.password: is required"]),
        (with_auth(r#"{"type": "BASIC", "password": "s3cr3t"}"#), vec!["servers.s.auth.username: is required"]),
        (with_auth(r#"{"type": "API_KEY", "value": "s3cr3t"}"#), vec!["servers.s.auth: must have header or query"]),
        (
            with_auth(r#"{"type": "API_KEY", "header": null, "value": "v"}"#),
            vec!["servers.s.auth: must have header or query"],
        ),
        (
            with_auth(r#"{"type": "API_KEY", "header": "a", "query": "b", "value": "s3cr3t"}"#),
            vec!["servers.s.auth: must have one of header and query, not both"],
        ),
        (with_auth(r#"{"type": "API_KEY", "header": "x"}"#), vec!["servers.s.auth.value: is required"]),
        (with_auth(r#"{"type": "HEADERS"}"#), vec!["servers.s.auth.headers: is required"]),
        (with_auth(r#"{"type": "HEADERS", "headers": {}}"#), vec!["servers.s.auth.headers: must not be empty"]),
        (
            with_auth(r#"{"type": "HEADERS", "headers": {"x": 1}}"#),
            vec![r#"servers.s.auth.headers.x: must be a string or {"fromFilterState": "<key>"}"#],
        ),
        // OAUTH2
        (
            with_auth(r#"{"type": "OAUTH2", "clientId": "c", "clientSecret": "s3cr3t"}"#),
            vec!["servers.s.auth.tokenUrl: is required"],
        ),
        (
            with_auth(r#"{"type": "OAUTH2", "tokenUrl": "https://a", "clientSecret": "s3cr3t"}"#),
            vec!["servers.s.auth.clientId: is required"],
        ),
        (
            with_oauth2(r#", "clientSecret": "s", "clientSecert": "s3cr3t""#),
            vec![
                "servers.s.auth.clientSecert: unknown key; known here: tokenUrl, clientId, clientSecret, clientAuth, \
                 privateKey, keyId, assertionAudience, scope, audience, resource, tokenCluster, extraParams, \
                 allowInsecure, requestTimeoutMs, maxWaitMs, retryOn401",
            ],
        ),
        (
            with_oauth2(r#", "clientAuth": "s3cr3t""#),
            vec![
                "servers.s.auth.clientAuth: must be one of client_secret_basic, client_secret_post, \
                 client_secret_jwt, private_key_jwt, none",
            ],
        ),
        (
            with_oauth2(r#", "clientAuth": "CLIENT_SECRET_POST", "clientSecret": "s""#),
            vec![
                "servers.s.auth.clientAuth: must be one of client_secret_basic, client_secret_post, \
                 client_secret_jwt, private_key_jwt, none",
            ],
        ),
        (with_oauth2(r#", "clientAuth": 1"#), vec!["servers.s.auth.clientAuth: must be a string"]),
        (
            with_oauth2(r#", "clientSecret": 12345"#),
            vec![r#"servers.s.auth.clientSecret: must be a string or {"fromFilterState": "<key>"}"#],
        ),
        (
            with_oauth2(r#", "clientAuth": "none", "scope": 1"#),
            vec!["servers.s.auth.scope: must be a string or a list of strings"],
        ),
        (
            with_oauth2(r#", "clientAuth": "none", "scope": {"a": "b"}"#),
            vec!["servers.s.auth.scope: must be a string or a list of strings"],
        ),
        (
            with_oauth2(r#", "clientAuth": "none", "resource": ["https://a", 1]"#),
            vec!["servers.s.auth.resource[1]: must be a string"],
        ),
        (
            with_oauth2(r#", "clientAuth": "none", "audience": ["a"]"#),
            vec!["servers.s.auth.audience: must be a string"],
        ),
        (
            with_oauth2(r#", "clientAuth": "none", "extraParams": ["a"]"#),
            vec!["servers.s.auth.extraParams: must be an object"],
        ),
        (
            with_oauth2(r#", "clientAuth": "none", "extraParams": {"a": 1}"#),
            vec![r#"servers.s.auth.extraParams.a: must be a string or {"fromFilterState": "<key>"}"#],
        ),
        (
            with_oauth2(r#", "clientAuth": "none", "allowInsecure": "yes""#),
            vec!["servers.s.auth.allowInsecure: must be a boolean"],
        ),
        (
            with_oauth2(r#", "clientAuth": "none", "retryOn401": 401"#),
            vec!["servers.s.auth.retryOn401: must be a boolean"],
        ),
        (with_oauth2(r#", "clientAuth": "none", "requestTimeoutMs": 0"#), vec![MILLIS_OF_REQUEST]),
        (with_oauth2(r#", "clientAuth": "none", "requestTimeoutMs": 60001"#), vec![MILLIS_OF_REQUEST]),
        (with_oauth2(r#", "clientAuth": "none", "requestTimeoutMs": -1"#), vec![MILLIS_OF_REQUEST]),
        (with_oauth2(r#", "clientAuth": "none", "requestTimeoutMs": 0.5"#), vec![MILLIS_OF_REQUEST]),
        (with_oauth2(r#", "clientAuth": "none", "requestTimeoutMs": 1e300"#), vec![MILLIS_OF_REQUEST]),
        (with_oauth2(r#", "clientAuth": "none", "requestTimeoutMs": "5000""#), vec![MILLIS_OF_REQUEST]),
        (
            with_oauth2(r#", "clientAuth": "none", "maxWaitMs": 60001"#),
            vec!["servers.s.auth.maxWaitMs: must be a whole number from 1 to 60000"],
        ),
        (
            with_oauth2(r#", "clientAuth": "none", "passChallenge": 1"#),
            vec!["servers.s.auth.passChallenge: must be true or false"],
        ),
        (
            with_auth(r#"{"type": "NONE", "passChallenge": true}"#),
            vec!["servers.s.auth.passChallenge: unknown key; none is allowed here"],
        ),
    ];
    table.extend(aws::refused());
    table
}

const MILLIS_OF_REQUEST: &str = "servers.s.auth.requestTimeoutMs: must be a whole number from 1 to 60000";

/// Configurations that break a rule which a schema does not express.
fn refused_beyond_the_schema() -> Vec<(String, Vec<&'static str>)> {
    const HOST: &str =
        "servers.s.host: must be a host name or address with an optional port, such as api.example.com or [::1]:8080";
    const VALUE: &str = "must be a legal HTTP header value, without CR, LF, NUL or another control character";
    let host = |host: &str| format!(r#"{{"servers": {{"s": {{"host": "{host}"}}}}}}"#);
    let mut table: Vec<(String, Vec<&str>)> = vec![
        ("".into(), vec!["configuration: must not be empty"]),
        (" \n".into(), vec!["configuration: must not be empty"]),
        ("{".into(), vec!["configuration: is not valid JSON at line 1, column 1"]),
        ("{\"host\": \"h\",\n \"auth\": s3cr3t}".into(), vec!["configuration: is not valid JSON at line 2, column 10"]),
        (r#"{"host": "h"} s3cr3t"#.into(), vec!["configuration: is not valid JSON at line 1, column 15"]),
        (r#"{"host": "h", "host": "s3cr3t"}"#.into(), vec!["host: is given twice"]),
        (
            r#"{"servers": {"s": {"host": "h"}, "s": {"host": "h"}, "a.b": {"host": "h", "auth": {"type": "NONE", "type": "NONE"}}}}"#.into(),
            vec!["servers.s: is given twice", r#"servers["a.b"].auth.type: is given twice"#],
        ),
        (r#"{"servers": {"": {"host": "h"}}}"#.into(), vec![r#"servers[""]: must have a name, without control characters"#]),
        (r#"{"host": "h", "stripHeaders": ["a", "b c", ":path", "Host"]}"#.into(), vec![
            "stripHeaders[1]: must be a legal HTTP header name",
            "stripHeaders[2]: must not be a pseudo-header",
            "stripHeaders[3]: must not be host: it is always replaced",
        ]),
        (
            r#"{"host": "h", "stripHeaders": ["*", "a b*", "x*y", ":p*"], "stripQuery": [""], "stripResponseHeaders": ["x*", ":status", "Content-Length"]}"#.into(),
            vec![
                "stripHeaders[0]: must have a name before the *",
                "stripHeaders[1]: must be a legal HTTP header name",
                "stripHeaders[3]: must not be a pseudo-header",
                "stripQuery[0]: must not be empty",
                "stripResponseHeaders[1]: must not be a pseudo-header",
                "stripResponseHeaders[2]: must not be a header that frames or routes the message",
            ],
        ),
        (host(""), vec![HOST]),
        (host("https://h"), vec![HOST]),
        (host("h\\r\\nx: s3cr3t"), vec![HOST]),
        (r#"{"host": "h/path"}"#.into(), vec!["host: must be a host name or address with an optional port, such as api.example.com or [::1]:8080"]),
        (with_auth(r#"{"type": "BEARER", "token": ""}"#), vec!["servers.s.auth.token: must not be empty"]),
        (
            with_auth(r#"{"type": "BEARER", "token": "${LINE}"}"#),
            vec!["servers.s.auth.token: must be visible ASCII characters without a space or line break"],
        ),
        (
            with_auth(r#"{"type": "BEARER", "token": "${UNSET}"}"#),
            vec!["servers.s.auth.token: environment variable UNSET is not set in the VM, empty, or not UTF-8"],
        ),
        (
            with_auth(r#"{"type": "BEARER", "token": "${EMPTY}"}"#),
            vec!["servers.s.auth.token: environment variable EMPTY is not set in the VM, empty, or not UTF-8"],
        ),
        (
            with_auth(r#"{"type": "BEARER", "token": "s3cr3t${"}"#),
            vec!["servers.s.auth.token: has `${` without a variable's name and `}` behind it; a literal `${` is written `$${`"],
        ),
        (with_auth(r#"{"type": "BEARER", "token": {"fromFilterState": ""}}"#), vec![
            "servers.s.auth.token.fromFilterState: must not be empty",
        ]),
        (with_auth(r#"{"type": "BASIC", "username": "a:b", "password": ""}"#), vec![
            "servers.s.auth.username: must not contain a colon",
            "servers.s.auth.password: must not be empty",
        ]),
        (with_auth(r#"{"type": "BASIC", "username": "a\u0000", "password": "${LINE}"}"#), vec![
            "servers.s.auth.username: must not contain a control character",
            "servers.s.auth.password: must not contain a control character",
        ]),
        (with_auth(r#"{"type": "API_KEY", "header": ":path", "value": ""}"#), vec![
            "servers.s.auth.header: must not be a pseudo-header",
            "servers.s.auth.value: must not be empty",
        ]),
        (with_auth(r#"{"type": "API_KEY", "query": "", "value": ""}"#), vec![
            "servers.s.auth.query: must not be empty",
            "servers.s.auth.value: must not be empty",
        ]),
        (with_auth(r#"{"type": "HEADERS", "headers": {"X-A": "a", "x-a": "b"}}"#), vec![
            "servers.s.auth.headers.x-a: is given twice: case does not tell headers apart",
        ]),
        (with_auth(r#"{"type": "HEADERS", "headers": {"a b": "a", "Content-Length": "1", "x": "", "y": " s3cr3t"}}"#), vec![
            "servers.s.auth.headers.Content-Length: must not be a header that frames or routes the message",
            r#"servers.s.auth.headers["a b"]: must be a legal HTTP header name"#,
            "servers.s.auth.headers.x: must not be empty",
            "servers.s.auth.headers.y: must not begin or end with white space",
        ]),
    ];
    // A filter in a cluster is its only server's.
    for (host, url) in [
        ("a.example", "https://a.example/token"),
        ("A.example:8443", "https://a.example:443"),
        ("127.0.0.1:80", "http://127.0.0.1:81/token"),
    ] {
        table.push((
            format!(r#"{{"host": "{host}", "auth": {{"type": "OAUTH2", "tokenUrl": "{url}", "clientId": "c", "clientAuth": "none"}}}}"#),
            vec!["auth.tokenCluster: is required where the URL has the server's own host: name a cluster that leads there and does not have this filter"],
        ));
    }
    table.push((
        r#"{"host": "127.0.0.1", "auth": {"type": "AWS_SIGV4", "region": "r", "service": "s", "credentials": "imds", "credentialsUrl": "http://127.0.0.1:81"}}"#.into(),
        vec!["auth.credentialsCluster: is required where the URL has the server's own host: name a cluster that leads there and does not have this filter"],
    ));
    table.extend(oauth2_refused_beyond_the_schema());
    table.extend(aws::refused_beyond_the_schema());
    for control in ["\\r", "\\n", "\\u0000", "\\u007f"] {
        let rule: &'static str =
            "servers.s.auth.value: must be a legal HTTP header value, without CR, LF, NUL or another control character";
        assert!(rule.ends_with(VALUE));
        table.push((
            with_auth(&format!(r#"{{"type": "API_KEY", "header": "x", "value": "s3cr3t{control}a"}}"#)),
            vec![rule],
        ));
    }
    table
}

fn oauth2_refused_beyond_the_schema() -> Vec<(String, Vec<&'static str>)> {
    const URL: &str = "servers.s.auth.tokenUrl: must be an https URL, such as https://auth.example.com/oauth/token, \
                       without user or fragment";
    const SECURE: &str =
        "servers.s.auth.tokenUrl: must be https, as the client's secret goes there; or set allowInsecure";
    const SCOPE: &str =
        "must be scopes of visible ASCII characters without quotes and backslashes, with one space between";
    const KEY: &str = "servers.s.auth.privateKey: must be an RSA or P-256 private key in PEM, without a passphrase";
    let url = |url: &str| {
        with_auth(&format!(r#"{{"type": "OAUTH2", "tokenUrl": "{url}", "clientId": "c", "clientAuth": "none"}}"#))
    };
    let none = |keys: &str| with_oauth2(&format!(r#", "clientAuth": "none"{keys}"#));
    let scope = |place: &str| -> &'static str { format!("servers.s.auth.scope{place}: {SCOPE}").leak() };
    let mut table = vec![
        (url("http://auth.example.com/token"), vec![SECURE]),
        (url("http://localhost.example.com/token"), vec![SECURE]),
        (url("http://10.0.0.1/token"), vec![SECURE]),
        (
            with_auth(r#"{"type": "OAUTH2", "tokenUrl": "http://a", "clientId": "", "allowInsecure": false}"#),
            vec![SECURE, "servers.s.auth.clientId: must not be empty", "servers.s.auth.clientSecret: is required"],
        ),
        // What each method must have, and what it has no use for.
        (with_oauth2(""), vec!["servers.s.auth.clientSecret: is required"]),
        (with_oauth2(r#", "clientSecret": null"#), vec!["servers.s.auth.clientSecret: is required"]),
        (with_oauth2(r#", "clientAuth": "client_secret_jwt""#), vec!["servers.s.auth.clientSecret: is required"]),
        (with_oauth2(r#", "clientAuth": "private_key_jwt""#), vec!["servers.s.auth.privateKey: is required"]),
        (with_oauth2(r#", "clientSecret": """#), vec!["servers.s.auth.clientSecret: must not be empty"]),
        (
            with_oauth2(r#", "clientSecret": "${LINE}""#),
            vec!["servers.s.auth.clientSecret: must not contain a control character"],
        ),
        (
            with_oauth2(r#", "clientSecret": "${UNSET}""#),
            vec!["servers.s.auth.clientSecret: environment variable UNSET is not set in the VM, empty, or not UTF-8"],
        ),
        (
            none(
                r#", "clientSecret": "s3cr3t", "privateKey": "s3cr3t", "keyId": "s3cr3t", "assertionAudience": "s3cr3t""#,
            ),
            vec![
                "servers.s.auth.clientSecret: has no meaning with this clientAuth",
                "servers.s.auth.privateKey: has no meaning with this clientAuth",
                "servers.s.auth.keyId: has no meaning with this clientAuth",
                "servers.s.auth.assertionAudience: has no meaning with this clientAuth",
            ],
        ),
        (
            with_oauth2(r#", "clientAuth": "client_secret_post", "clientSecret": "s", "assertionAudience": "a""#),
            vec!["servers.s.auth.assertionAudience: has no meaning with this clientAuth"],
        ),
        (
            with_oauth2(r#", "clientAuth": "client_secret_jwt", "clientSecret": "s", "keyId": "a""#),
            vec!["servers.s.auth.keyId: has no meaning with this clientAuth"],
        ),
        (with_oauth2(r#", "clientAuth": "private_key_jwt", "privateKey": "s3cr3t""#), vec![KEY]),
        (
            with_oauth2(&format!(
                r#", "clientAuth": "private_key_jwt", "privateKey": "{PRIVATE_KEY}", "clientSecret": "s3cr3t""#
            )),
            vec!["servers.s.auth.clientSecret: has no meaning with this clientAuth"],
        ),
        // What is asked for
        (none(r#", "scope": """#), vec![scope("")]),
        (none(r#", "scope": "a  b""#), vec![scope("")]),
        (none(r#", "scope": "é""#), vec![scope("")]),
        (none(r#", "scope": ["a", "b  c", "\"", "\\"]"#), vec![scope("[1]"), scope("[2]"), scope("[3]")]),
        (none(r#", "scope": []"#), vec!["servers.s.auth.scope: must not be empty"]),
        (none(r#", "resource": []"#), vec!["servers.s.auth.resource: must not be empty"]),
        (none(r#", "audience": """#), vec!["servers.s.auth.audience: must not be empty"]),
        (none(r#", "audience": "a\n""#), vec!["servers.s.auth.audience: must not contain a control character"]),
        (none(r#", "tokenCluster": """#), vec!["servers.s.auth.tokenCluster: must not be empty"]),
        (
            none(
                r#", "extraParams": {"grant_type": "password", "scope": "s3cr3t", "client_secret": "s3cr3t", "": "a", "ok": "a"}"#,
            ),
            vec![
                "servers.s.auth.extraParams: must not have an empty name",
                "servers.s.auth.extraParams.client_secret: has a key of its own",
                "servers.s.auth.extraParams.grant_type: has a key of its own",
                "servers.s.auth.extraParams.scope: has a key of its own",
            ],
        ),
        (none(r#", "extraParams": {"a": "1", "a": "2"}"#), vec!["servers.s.auth.extraParams.a: is given twice"]),
    ];
    for uri in ["a", "", "/mcp", "a.example/mcp", "https://a#fragment", "https://a#", "https://é", "1a:b", "https:"] {
        let rule = "servers.s.auth.resource: must be an absolute URI without a fragment";
        table.push((none(&format!(r#", "resource": "{uri}""#)), vec![rule]));
    }
    for illegal in [
        "",
        "a",
        "/token",
        "a.example/token",
        "ftp://a.example/token",
        "https://",
        "https:///token",
        "https://user@a.example/token",
        "https://user:s3cr3t@a.example/token",
        "https://a.example/token#s3cr3t",
        "https://a.example:99999/token",
        "https://a.example:/token",
        "https://a b/token",
        "https://a.example/to ken",
        "https://a.example/token\\r\\nx: y",
        "https://a.example/token\\u0000",
    ] {
        table.push((url(illegal), vec![URL]));
    }
    table
}

#[test]
fn good_configurations_load() {
    for config in accepted() {
        assert_eq!(messages(&config), [""; 0], "{config}");
    }
}

#[test]
fn the_configuration_in_the_readme_loads() {
    let readme = include_str!("../../README.md");
    let example = readme.split("\n```json\n").nth(1).and_then(|rest| rest.split("\n```").next()).unwrap();
    for key in ["selectBy", "unmatched", "stripHeaders", "BEARER", "BASIC", "NONE", "API_KEY", "HEADERS"] {
        assert!(example.contains(key), "{key} is not in\n{example}");
    }
    let loaded = Filter::from_config(example.as_bytes(), &|_| Some(SECRET.to_owned()));
    assert_eq!(loaded.map_err(|errors| errors.to_string()).unwrap().servers().list().len(), 6);
}

#[test]
fn bad_configurations_say_where_and_which_rule() {
    for (config, expected) in refused().into_iter().chain(refused_beyond_the_schema()) {
        assert_eq!(messages(&config), expected, "{config}");
    }
}

#[test]
fn no_message_has_a_value() {
    for (config, _) in refused().into_iter().chain(refused_beyond_the_schema()) {
        for message in messages(&config) {
            assert!(!message.contains(SECRET), "{config}: {message}");
        }
    }
}

#[test]
fn the_mistakes_of_all_servers_are_reported_at_once() {
    let config = r#"{
        "selectBy": "host", "extra": 1,
        "servers": {
            "a": {"host": "", "auth": {"type": "BEARER", "token": ""}},
            "b": {"auth": {"type": "NOPE"}},
            "c": {"host": "h", "auth": {"type": "BASIC", "username": "u", "password": "${UNSET}"}}
        }
    }"#;
    assert_eq!(
        messages(config),
        [
            "selectBy: must be one of cluster, route, metadata",
            "servers.a.host: must be a host name or address with an optional port, such as api.example.com or [::1]:8080",
            "servers.a.auth.token: must not be empty",
            "servers.b.host: is required",
            "servers.b.auth.type: must be one of NONE, BEARER, BASIC, API_KEY, HEADERS, OAUTH2, AWS_SIGV4",
            "servers.c.auth.password: environment variable UNSET is not set in the VM, empty, or not UTF-8",
        ]
    );
}

#[test]
fn deep_nesting_is_an_error_and_not_a_trap() {
    let config = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
    assert_eq!(messages(&config), ["configuration: is not valid JSON at line 1, column 128"]);
}

/// `{"host": "h", "enabled": false, "stripHeaders": ["a"], "auth": null}` as Envoy 1.40 hands it over.
#[test]
fn a_struct_message_is_read_like_json() {
    fn field(number: u8, content: &[u8]) -> Vec<u8> {
        [&[number << 3 | 2, u8::try_from(content.len()).unwrap()], content].concat()
    }
    fn entry(name: &str, value: &[u8]) -> Vec<u8> {
        field(1, &[field(1, name.as_bytes()), field(2, value)].concat())
    }
    let host = entry("host", &field(3, b"h"));
    let strip = entry("stripHeaders", &field(6, &field(1, &field(3, b"a"))));
    let auth = entry("auth", &[1 << 3, 0]);
    let enabled = entry("enabled", &[4 << 3, 0]);
    let number = entry("enabled", &[&[2 << 3 | 1], &1.5_f64.to_le_bytes()[..]].concat());
    let load = |parts: &[&Vec<u8>]| {
        let bytes: Vec<u8> = parts.iter().flat_map(|part| part.iter().copied()).collect();
        Filter::from_config(&bytes, &environment).map(|_| ()).map_err(|errors| errors.to_string())
    };
    assert_eq!(load(&[&host, &strip, &auth, &enabled]), Ok(()));
    assert_eq!(load(&[&host, &number]), Err("enabled: must be a boolean".to_owned()));
    assert_eq!(load(&[&strip]), Err("servers: is required, or else host for a single server".to_owned()));
    assert!(load(&[&host[..4].to_vec()]).unwrap_err().contains("is not valid JSON"));
}
