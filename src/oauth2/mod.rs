//! The client credentials grant (RFC 6749 §4.4): what is asked of a token server, and what its answer
//! means. When to ask, and who does, is for [`crate::token`].

mod assertion;
mod client_auth;
mod private_key;
mod response;

use std::time::Duration;

use form_urlencoded::Serializer;
use sha2::{Digest, Sha256};

pub use self::assertion::{Assertion, SigningKey};
pub use self::client_auth::ClientAuth;
pub use self::private_key::PrivateKey;
pub use self::response::{LARGEST_BODY, Reply};

use crate::secret::Secret;
use crate::time::Time;
use crate::token::{Failure, FailureKind, Grant};

/// Signs with a private key in PEM: RSASSA-PKCS1-v1_5 with SHA-256 for an RSA key, and for one on P-256
/// ECDSA with SHA-256, in DER. An error is a few words without anything secret.
pub type Sign<'a> = &'a dyn Fn(&Secret, &[u8]) -> Result<Vec<u8>, String>;

/// Where tokens are issued.
#[derive(Debug, Clone)]
pub struct Endpoint {
    /// The Envoy cluster that leads there.
    pub cluster: String,
    /// `https` or `http`.
    pub scheme: &'static str,
    /// As in the URL: `host[:port]`.
    pub authority: String,
    /// Path and query.
    pub path: String,
}

/// A client of a token server, and the token that it wants.
#[derive(Debug)]
pub struct Client {
    /// Where it asks.
    pub endpoint: Endpoint,
    /// Its name there.
    pub id: String,
    /// How it proves that it is that client.
    pub auth: ClientAuth,
    /// What it asks for, beside the grant: scope, audience, resource, and whatever the server wants.
    pub parameters: Vec<Parameter>,
    /// How long an answer may take.
    pub timeout: Duration,
}

/// A parameter of the token request.
#[derive(Debug)]
pub struct Parameter {
    /// What it is called.
    pub name: String,
    /// What it is.
    pub value: Secret,
    /// The key in the filter state that it comes from, if it is not written in the configuration and may change while that
    /// stays.
    pub watched: Option<String>,
}

/// A request to a token server, as it goes on the wire.
#[derive(Debug)]
pub struct TokenRequest<'a> {
    /// The Envoy cluster to send it to.
    pub cluster: &'a str,
    /// Its headers, the pseudo-headers first.
    pub headers: Vec<(&'static str, Secret)>,
    /// Its body, a form.
    pub body: Secret,
    /// How long an answer may take.
    pub timeout: Duration,
}

/// Which token a client wants, as a name that says nothing else: a digest.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct TokenKey(String);

impl Client {
    /// The request for a token. `random` makes its assertion, if it has one, unlike all others.
    ///
    /// # Errors
    /// If the private key cannot sign.
    pub fn request(&self, now: Time, random: [u64; 2], sign: Sign<'_>) -> Result<TokenRequest<'_>, Failure> {
        let mut form = Serializer::new(String::new());
        form.append_pair("grant_type", "client_credentials");
        // A private key that does not sign: only a new configuration helps.
        let cannot_sign = |why| Failure::new(FailureKind::Refused, format!("the private key cannot sign: {why}"));
        self.auth.add_to(&mut form, &self.id, now, random, sign).map_err(cannot_sign)?;
        for Parameter { name, value, .. } in &self.parameters {
            form.append_pair(name, value.expose());
        }
        let mut headers = vec![
            (":method", Secret::new("POST".to_owned())),
            (":path", Secret::new(self.endpoint.path.clone())),
            (":scheme", Secret::new(self.endpoint.scheme.to_owned())),
            (":authority", Secret::new(self.endpoint.authority.clone())),
            ("content-type", Secret::new("application/x-www-form-urlencoded".to_owned())),
            ("accept", Secret::new("application/json".to_owned())),
            ("user-agent", Secret::new("mcp-upstream-auth".to_owned())),
        ];
        headers.extend(self.auth.authorization(&self.id).map(|value| ("authorization", value)));
        Ok(TokenRequest {
            cluster: &self.endpoint.cluster,
            headers,
            body: Secret::new(form.finish()),
            timeout: self.timeout,
        })
    }

    /// What the answer to [`Client::request`] means.
    ///
    /// # Errors
    /// If it is no token to be used.
    pub fn read(&self, reply: &Reply<'_>, now: Time) -> Result<Grant, Failure> {
        let mut secrets = self.auth.secrets(&self.id);
        for Parameter { name, value, .. } in &self.parameters {
            let is_known = ["scope", "audience", "resource"].contains(&name.as_str());
            if !is_known && value.expose().len() >= 8 {
                secrets.push(Secret::new(value.expose().to_owned()));
                secrets.push(Secret::new(form_urlencoded::byte_serialize(value.expose().as_bytes()).collect()));
            }
        }
        response::read(reply, now, &secrets)
    }

    /// The key under which all who want this very token find it. A new secret is a new key.
    pub fn key(&self) -> TokenKey {
        let secrets = self.auth.secrets(&self.id);
        let mut fields = self.auth.identity().to_vec();
        fields.extend(secrets.iter().map(Secret::expose));
        fields.extend(self.fields(|parameter| parameter.value.expose()));
        TokenKey::of(&fields)
    }

    /// The same for one `server`, whatever the secrets: what a client has in common with itself before its
    /// secret was replaced. It goes to nobody else, who might not know the secret.
    pub fn lineage(&self, server: [&str; 2]) -> TokenKey {
        let mut fields = server.to_vec();
        fields.extend(self.fields(|parameter| parameter.watched.as_deref().unwrap_or(parameter.value.expose())));
        TokenKey::of(&fields)
    }

    /// Whether its private key, if it has one, can sign.
    ///
    /// # Errors
    /// What stands against it.
    pub fn check_key(&self, sign: Sign<'_>) -> Result<(), String> {
        self.auth.check_key(sign)
    }

    /// What tells the token from others, with `value` for what a parameter is.
    fn fields<'a>(&'a self, value: impl Fn(&'a Parameter) -> &'a str) -> Vec<&'a str> {
        let Endpoint { cluster, scheme, authority, path } = &self.endpoint;
        let mut fields = vec![scheme, cluster.as_str(), authority, path, &self.id];
        let kind = |parameter: &Parameter| if parameter.watched.is_some() { "watched" } else { "written" };
        fields
            .extend(self.parameters.iter().flat_map(|parameter| [&parameter.name, kind(parameter), value(parameter)]));
        fields
    }
}

impl TokenKey {
    /// SHA-256 over the fields, each behind its length: no two lists of fields look alike.
    fn of(fields: &[&str]) -> Self {
        let mut digest = Sha256::new();
        digest.update((fields.len() as u64).to_be_bytes());
        for field in fields {
            digest.update((field.len() as u64).to_be_bytes());
            digest.update(field.as_bytes());
        }
        Self(digest.finalize().iter().map(|byte| format!("{byte:02x}")).collect())
    }

    /// The digest in hexadecimal.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

#[cfg(test)]
mod tests;
