//! The one shape of answer that the filter itself gives: a JSON-RPC error with a stable reason.

use std::borrow::Cow;
use std::time::Duration;

/// The headers of a refusal. `retry_after` is rounded up to whole seconds (RFC 9110 §10.2.3), so that whoever
/// goes by it does not come too early.
pub fn headers(retry_after: Option<Duration>) -> Vec<(&'static str, Cow<'static, str>)> {
    let seconds = retry_after.map(|delay| (delay.as_secs() + u64::from(delay.subsec_nanos() > 0)).max(1).to_string());
    let content_type = ("content-type", Cow::Borrowed("application/json"));
    [content_type].into_iter().chain(seconds.map(|seconds| ("retry-after", Cow::Owned(seconds)))).collect()
}

/// JSON-RPC 2.0 "Internal error". Codes of its own would be taken for those that MCP clients act on.
const CODE: i32 = -32603;

/// Makes [`Reason`] from lines of `variant: status, "name", "message"`.
macro_rules! reasons {
    ($($(#[$docs:meta])* $reason:ident: $status:literal, $name:literal, $message:literal;)*) => {
        /// Why a request is refused. The names are documented and stay.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum Reason {
            $($(#[$docs])* $reason,)*
        }

        impl Reason {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$reason),*];

            /// The reason's name, in answers and in metrics.
            pub fn name(self) -> &'static str {
                match self {
                    $(Self::$reason => $name,)*
                }
            }

            /// Never 401 or 403: an MCP client reads these as its own credential failing.
            pub fn status(self) -> u16 {
                match self {
                    $(Self::$reason => $status,)*
                }
            }

            fn message(self) -> &'static str {
                match self {
                    $(Self::$reason => $message,)*
                }
            }
        }
    };
}

reasons! {
    /// No server is configured for the route or cluster of this request.
    UnknownServer: 503, "unknown_server", "The gateway has no MCP server configured for this request";
    /// The server is switched off: `"enabled": false`.
    ServerDisabled: 503, "server_disabled", "The MCP server is switched off at the gateway";
    /// The filter state of the request has no secret under the key that the configuration names.
    SecretMissing: 503, "secret_missing", "The gateway has no credential for this MCP server at the moment";
    /// The secret in the filter state cannot be part of a credential.
    SecretInvalid: 503, "secret_invalid", "The gateway's credential for this MCP server is not usable";
    /// The token server cannot be reached, says that it cannot answer now, or answers what is no token.
    TokenUnavailable: 503, "token_unavailable", "The gateway cannot get its token for this MCP server at the moment";
    /// No token came while the request could wait.
    TokenTimeout: 503, "token_timeout", "The gateway's token for this MCP server did not come in time";
    /// The token server refuses the client or what it asks for.
    TokenRefused: 503, "token_refused", "The gateway is refused a token for this MCP server";
    /// Envoy has no cluster for the token server.
    TokenClusterUnknown: 503, "token_cluster_unknown", "The gateway does not know where to get its token for this MCP server";
    /// The cluster of the token server has this filter in it.
    TokenClusterFiltered: 503, "token_cluster_filtered", "The gateway asks for its token for this MCP server through a cluster that itself needs one";
    /// The MCP server answered 401 to the gateway's credential.
    UpstreamUnauthorized: 502, "upstream_unauthorized", "The MCP server does not accept the gateway's credential";
    /// The MCP server answered 403 and a challenge to the gateway's credential.
    UpstreamForbidden: 502, "upstream_forbidden", "The gateway's credential does not suffice for the MCP server";
    /// A body that is to be signed is larger than `maxBodyBytes`.
    BodyTooLarge: 413, "body_too_large", "The gateway signs requests to this MCP server, and this one is too large for that";
    /// A body that is to be signed did not begin to arrive.
    BodyTimeout: 408, "body_timeout", "The gateway signs requests to this MCP server, and saw nothing of the body of this one";
    /// A held body took too long: longer than `bodyTimeoutMs` to be signed, or it stopped while the request waited for a token.
    BodyTooSlow: 408, "body_too_slow", "The gateway waited for the body of this request, and it did not arrive in time";
    /// The credential goes into the query, and the request has no path.
    NoPath: 501, "no_path", "The gateway cannot authenticate a request without a path to this MCP server";
    /// The filter has no configuration, or Envoy did not let it change the request.
    Internal: 500, "internal", "The gateway failed to prepare this request for the MCP server";
}

impl Reason {
    /// The answer's body. Its id is null, as the request's is in a body that was not read.
    pub fn body(self) -> String {
        format!(
            r#"{{"jsonrpc":"2.0","id":null,"error":{{"code":{CODE},"message":"{}","data":{{"reason":"{}"}}}}}}"#,
            self.message(),
            self.name()
        )
    }
}

#[cfg(test)]
mod tests {
    use super::Reason;

    #[test]
    fn every_refusal_is_a_json_rpc_error_and_no_word_about_the_callers_credential() {
        for reason in Reason::ALL {
            assert!((400..600).contains(&reason.status()) && ![401, 403].contains(&reason.status()), "{reason:?}");
            let body: serde_json::Value = serde_json::from_str(&reason.body()).unwrap();
            assert_eq!(body["jsonrpc"], "2.0");
            assert!(body.get("id").is_some_and(serde_json::Value::is_null));
            assert_eq!(body["error"]["code"], -32603);
            assert_eq!(body["error"]["data"]["reason"], reason.name());
            assert!(!body["error"]["message"].as_str().unwrap().is_empty());
        }
    }

    #[test]
    fn the_readme_has_every_reason_with_its_status_and_the_shape() {
        let readme = include_str!("../README.md");
        for reason in Reason::ALL {
            let row = format!("| {} | `{}` |", reason.status(), reason.name());
            assert!(readme.contains(&row), "{row}");
        }
        assert!(readme.contains(&Reason::ServerDisabled.body()));
    }
}
