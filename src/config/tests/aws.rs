//! Configurations with `AWS_SIGV4`.

use super::with_auth;

/// A configuration with an `AWS_SIGV4` that has what every one must, and these keys.
fn with_aws(keys: &str) -> String {
    with_auth(&format!(r#"{{"type": "AWS_SIGV4", "region": "eu-west-1", "service": "bedrock-agentcore"{keys}}}"#))
}

/// The same with keys that are written there.
fn with_keys(keys: &str) -> String {
    with_aws(&format!(r#", "accessKeyId": "AKIA", "secretAccessKey": "s3cr3t"{keys}"#))
}

/// Those that load.
pub fn accepted() -> Vec<String> {
    let with_keys = [
        "",
        r#", "credentials": "static", "sessionToken": "t""#,
        r#", "payload": "signed", "maxBodyBytes": 67108864, "signHeaders": ["X-Any", "user-agent"]"#,
        r#", "payload": "unsigned", "signHeaders": [], "passChallenge": true"#,
        r#", "payload": null, "maxBodyBytes": null, "signHeaders": null, "credentials": null, "sessionToken": null,
            "credentialsUrl": null, "credentialsCluster": null, "authorizationToken": null, "roleName": null,
            "roleArn": null, "roleSessionName": null, "webIdentityToken": null, "allowInsecure": null,
            "requestTimeoutMs": null, "maxWaitMs": null"#,
    ]
    .map(with_keys);
    let others = [
        r#", "accessKeyId": {"fromFilterState": "a"}, "secretAccessKey": {"fromFilterState": "b"},
            "sessionToken": {"fromFilterState": "c"}"#,
        r#", "accessKeyId": "AKIA", "secretAccessKey": "${TOKEN}""#,
        r#", "credentials": "container", "credentialsUrl": "http://169.254.170.2/v2/credentials/1""#,
        r#", "credentials": "container", "credentialsUrl": "http://[fd00:ec2::23]/v1/credentials",
            "authorizationToken": {"fromFilterState": "a"}, "requestTimeoutMs": 1, "maxWaitMs": 60000"#,
        r#", "credentials": "container", "credentialsUrl": "http://credentials.example/", "allowInsecure": true"#,
        r#", "credentials": "imds""#,
        r#", "credentials": "imds", "credentialsUrl": "http://[fd00:ec2::254]", "roleName": "mcp",
            "credentialsCluster": "imds""#,
        r#", "credentials": "webIdentity", "roleArn": "arn:aws:iam::123456789012:role/mcp", "webIdentityToken": "a.b.c""#,
        r#", "credentials": "webIdentity", "roleArn": "arn:aws:iam::123456789012:role/mcp", "roleSessionName": "gateway",
            "webIdentityToken": {"fromFilterState": "a"}, "credentialsUrl": "https://sts.amazonaws.com.cn/""#,
    ]
    .map(with_aws);
    with_keys.into_iter().chain(others).collect()
}

/// Those of which the schema, too, must say that they are wrong.
pub fn refused() -> Vec<(String, Vec<&'static str>)> {
    vec![
        (
            with_auth(r#"{"type": "AWS_SIGV4", "service": "s3", "accessKeyId": "a", "secretAccessKey": "s3cr3t"}"#),
            vec!["servers.s.auth.region: is required"],
        ),
        (with_keys(r#", "payload": "s3cr3t""#), vec!["servers.s.auth.payload: must be one of signed, unsigned"]),
        (with_keys(r#", "payload": true"#), vec!["servers.s.auth.payload: must be a string"]),
        (
            with_keys(r#", "credentials": "s3cr3t""#),
            vec!["servers.s.auth.credentials: must be one of static, container, imds, webIdentity"],
        ),
        (
            with_keys(r#", "maxBodyBytes": 0"#),
            vec!["servers.s.auth.maxBodyBytes: must be a whole number from 1 to 67108864"],
        ),
        (
            with_keys(r#", "maxBodyBytes": 67108865"#),
            vec!["servers.s.auth.maxBodyBytes: must be a whole number from 1 to 67108864"],
        ),
        (with_keys(r#", "signHeaders": "x-any""#), vec!["servers.s.auth.signHeaders: must be a list"]),
    ]
}

/// Those whose mistakes only the filter sees.
pub fn refused_beyond_the_schema() -> Vec<(String, Vec<&'static str>)> {
    const URL: &str = "servers.s.auth.credentialsUrl: must be https, as keys come from there; or set allowInsecure";
    const VISIBLE: &str = "must be visible ASCII characters";
    let says = |place: &str, rule: &str| -> &'static str { format!("servers.s.auth.{place}: {rule}").leak() };
    let mut table = vec![
        (with_aws(""), vec!["servers.s.auth.accessKeyId: is required", "servers.s.auth.secretAccessKey: is required"]),
        (
            with_aws(r#", "accessKeyId": "", "secretAccessKey": "s3cr3t s3cr3t", "sessionToken": "s3cr3tü""#),
            vec![
                "servers.s.auth.accessKeyId: must not be empty",
                says("secretAccessKey", VISIBLE),
                says("sessionToken", VISIBLE),
            ],
        ),
        (with_keys(r#", "sessionToken": """#), vec!["servers.s.auth.sessionToken: must not be empty"]),
        (
            with_keys(r#", "payload": "unsigned", "maxBodyBytes": 1"#),
            vec!["servers.s.auth.maxBodyBytes: has no meaning with this payload"],
        ),
        (
            with_keys(r#", "signHeaders": ["x-any", "X-Amz-Date", "Authorization", ":path", "Content-Length", "a b"]"#),
            vec![
                "servers.s.auth.signHeaders[1]: must not be a header of the signature itself",
                "servers.s.auth.signHeaders[2]: must not be a header of the signature itself",
                "servers.s.auth.signHeaders[3]: must not be a pseudo-header",
                "servers.s.auth.signHeaders[4]: must not be a header that frames or routes the message",
                "servers.s.auth.signHeaders[5]: must be a legal HTTP header name",
            ],
        ),
        (
            with_keys(
                r#", "credentialsUrl": "s3cr3t", "credentialsCluster": "a", "authorizationToken": "s3cr3t", "roleName": "a",
                    "roleArn": "a", "roleSessionName": "a", "webIdentityToken": "s3cr3t", "allowInsecure": true,
                    "requestTimeoutMs": 1, "maxWaitMs": 1"#,
            ),
            [
                "credentialsUrl",
                "credentialsCluster",
                "authorizationToken",
                "roleName",
                "roleArn",
                "roleSessionName",
                "webIdentityToken",
                "allowInsecure",
                "requestTimeoutMs",
                "maxWaitMs",
            ]
            .map(|key| says(key, "has no meaning with these credentials"))
            .to_vec(),
        ),
        (
            with_aws(
                r#", "credentials": "imds", "accessKeyId": "a", "secretAccessKey": "s3cr3t", "sessionToken": "s3cr3t""#,
            ),
            ["accessKeyId", "secretAccessKey", "sessionToken"]
                .map(|key| says(key, "has no meaning with these credentials"))
                .to_vec(),
        ),
        (with_aws(r#", "credentials": "container""#), vec!["servers.s.auth.credentialsUrl: is required"]),
        (
            with_aws(
                r#", "credentials": "container", "credentialsUrl": "http://169.254.170.2/", "authorizationToken": "s3cr3t\n",
                    "credentialsCluster": """#,
            ),
            vec![
                "servers.s.auth.credentialsCluster: must not be empty",
                "servers.s.auth.authorizationToken: must be a legal HTTP header value, without CR, LF, NUL or another \
                 control character",
            ],
        ),
        (
            with_aws(r#", "credentials": "imds", "credentialsUrl": "http://127.0.0.1/latest""#),
            vec!["servers.s.auth.credentialsUrl: must have no path: that of the metadata service is known"],
        ),
        (
            with_auth(
                r#"{"type": "AWS_SIGV4", "region": "eu west", "service": "s", "credentials": "webIdentity",
                    "roleArn": "a", "webIdentityToken": "s3cr3t"}"#,
            ),
            vec!["servers.s.auth.region: must be of lower case letters, digits and hyphens, such as us-east-1"],
        ),
        (with_aws(r#", "credentials": "imds", "roleName": """#), vec!["servers.s.auth.roleName: must not be empty"]),
        (
            with_aws(r#", "credentials": "webIdentity", "roleSessionName": "a b", "webIdentityToken": "s3 cr3t""#),
            vec![
                "servers.s.auth.roleArn: is required",
                says("roleSessionName", "must be of 2 to 64 letters, digits and characters of _+=,.@-"),
                says("webIdentityToken", VISIBLE),
            ],
        ),
    ];
    for (key, value) in
        [("region", "eu west"), ("region", ""), ("region", "EU"), ("service", "s3/"), ("service", "a\\nb")]
    {
        let aws = |name: &str| if name == key { value } else { "a" };
        let auth = format!(
            r#"{{"type": "AWS_SIGV4", "region": "{}", "service": "{}", "accessKeyId": "a", "secretAccessKey": "s3cr3t"}}"#,
            aws("region"),
            aws("service"),
        );
        let rule = "must be of lower case letters, digits and hyphens, such as us-east-1";
        table.push((with_auth(&auth), vec![says(key, rule)]));
    }
    for url in ["http://credentials.example/", "http://10.0.0.1/", "http://[fd00::1]/", "http://169.255.0.1/"] {
        let keys = format!(r#", "credentials": "container", "credentialsUrl": "{url}""#);
        table.push((with_aws(&keys), vec![URL]));
    }
    table
}
