//! A real authorization server for the OAuth client credentials grant: `oidc-provider` on Node.js, as
//! `oidc-provider/server.mjs` sets it up.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http_body_util::Full;
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, HOST};
use hyper::{Request, StatusCode, Uri};
use serde_json::Value;

use crate::client::{Protocol, send};
use crate::node::NodeServer;

/// How long a token lives unless a test says otherwise.
const LIFETIME: Duration = Duration::from_secs(3600);

/// A client with a secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SecretClient {
    /// Its id.
    pub id: &'static str,
    /// Its secret.
    pub secret: &'static str,
}

/// A client with a key pair; [`OidcProvider::private_key`] has the private one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeyClient {
    /// Its id.
    pub id: &'static str,
    /// The `kid` of its key.
    pub key_id: &'static str,
}

/// Authenticates with `client_secret_basic`. Neither its id nor its secret gets through unless each is
/// form-encoded first (RFC 6749 §2.3.1).
pub const BASIC: SecretClient = SecretClient { id: "id:1 x", secret: "s:e c+r/e%t" };

/// Authenticates with `client_secret_post`.
pub const POST: SecretClient = SecretClient { id: "post", secret: "p&o=s+t %secret" };

/// Authenticates with `client_secret_jwt`, signed with HS256.
pub const SECRET_JWT: SecretClient = SecretClient { id: "secret-jwt", secret: "a test secret of at least 32 bytes" };

/// Authenticates with `private_key_jwt`, signed with RS256.
pub const RS256: KeyClient = KeyClient { id: "rs256", key_id: "rs256-key" };

/// Authenticates with `private_key_jwt`, signed with ES256.
pub const ES256: KeyClient = KeyClient { id: "es256", key_id: "es256-key" };

/// The id of the client that authenticates with `tls_client_auth`: with a certificate for [`MTLS_NAME`],
/// which the proxy that ends TLS puts into [`MTLS_HEADER`] as percent-encoded PEM.
pub const MTLS: &str = "mtls";

/// The DNS name among the certificate's subject alternative names.
pub const MTLS_NAME: &str = "client.example";

/// The header that is taken for the verified certificate of the caller.
pub const MTLS_HEADER: &str = "x-client-certificate";

/// The client that may introspect every token, and get none.
pub const RESOURCE_SERVER: SecretClient = SecretClient { id: "resource-server", secret: "resource-server-secret" };

/// A running authorization server. It ends when this is dropped.
#[derive(Debug)]
pub struct OidcProvider {
    node: NodeServer,
    address: SocketAddr,
    token_url: String,
    introspection_path: String,
    keys: Value,
}

impl OidcProvider {
    /// Starts it on a free port of loopback. It knows the clients of this module, the scopes `mcp:tools` and
    /// `mcp:read`, and every resource on the host `tools.example`.
    ///
    /// # Errors
    /// If Node.js or the packages are missing, or it does not get ready.
    pub async fn start() -> io::Result<Self> {
        Self::start_with_lifetime(LIFETIME).await
    }

    /// The same, with tokens that live for `lifetime`, in whole seconds.
    ///
    /// # Errors
    /// As [`OidcProvider::start`].
    pub async fn start_with_lifetime(lifetime: Duration) -> io::Result<Self> {
        let arguments = [lifetime.as_secs().to_string()];
        let node = NodeServer::start("oidc-provider", "oidc-provider", "oidc", &arguments).await?;
        let ready = node.ready();
        let text = |name: &str| ready.get(name).and_then(Value::as_str).map(str::to_owned);
        let address = text("issuer").and_then(|issuer| issuer.strip_prefix("http://")?.parse().ok());
        let introspection_path = text("introspection").and_then(|url| Some(url.parse::<Uri>().ok()?.path().to_owned()));
        let (Some(address), Some(token_url), Some(introspection_path), Some(keys)) =
            (address, text("token"), introspection_path, ready.get("keys").cloned())
        else {
            return Err(node.not_ready());
        };
        Ok(Self { node, address, token_url, introspection_path, keys })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Where a client gets its token; also the audience of its assertion.
    pub fn token_url(&self) -> &str {
        &self.token_url
    }

    /// The private key of the [`KeyClient`] with this id, as PKCS#8 PEM: another one in each run, and empty
    /// if there is no such client.
    pub fn private_key(&self, id: &str) -> &str {
        self.keys.get(id).and_then(Value::as_str).unwrap_or_default()
    }

    /// What the server knows about `token` (RFC 7662), with a member `auth_method` that tells how its client
    /// authenticated: a secret may come in the header or in the body, whichever the client is registered for.
    ///
    /// # Errors
    /// If it does not answer, or refuses.
    pub async fn introspect(&self, token: &str) -> io::Result<Value> {
        let SecretClient { id, secret } = RESOURCE_SERVER;
        let body = form_urlencoded::Serializer::new(String::new()).append_pair("token", token).finish();
        let request = Request::post(&self.introspection_path)
            .header(HOST, self.address.to_string())
            .header(AUTHORIZATION, format!("Basic {}", STANDARD.encode(format!("{id}:{secret}"))))
            .header(CONTENT_TYPE, "application/x-www-form-urlencoded")
            .body(Full::new(Bytes::from(body)))
            .map_err(io::Error::other)?;
        let reply = send(self.address, Protocol::Http1, request).await?;
        if reply.status != StatusCode::OK {
            return Err(io::Error::other(format!("introspection: {} {}", reply.status, reply.json())));
        }
        Ok(reply.json())
    }

    /// What it printed until now; among it, why it refused a request.
    ///
    /// # Errors
    /// If the file cannot be read.
    pub fn log(&self) -> io::Result<String> {
        self.node.log()
    }
}
