//! Whoever issues tokens: what is asked of it, and what its answers mean.

use std::time::Duration;

use zeroize::Zeroizing;

use super::outcome::{Failure, Grant};
use super::reply::Reply;
use crate::digest::{hex, sha256};
use crate::secret::Secret;
use crate::time::Time;

/// Signs with a private key in PEM: RSASSA-PKCS1-v1_5 with SHA-256 for an RSA key, and for one on P-256
/// ECDSA with SHA-256, in DER. An error is a few words without anything secret.
pub type Sign<'a> = &'a dyn Fn(&Secret, &[u8]) -> Result<Vec<u8>, String>;

/// An issuer as one client sees it, and the token that this client wants there.
pub trait Issuer {
    /// Where it is.
    fn endpoint(&self) -> &Endpoint;

    /// How long a fetch may take, with all the requests that it needs.
    fn timeout(&self) -> Duration;

    /// The key under which all who want this very token find it. A new secret is a new key.
    fn key(&self) -> TokenKey;

    /// The same for one `server`, by its name and host, whatever the secrets: what a client has in common with
    /// itself before its secret was replaced. It goes to nobody else, who might not know the secret.
    fn lineage(&self, server: [&str; 2]) -> TokenKey;

    /// Whether the client's private key, if it has one, can sign.
    ///
    /// # Errors
    /// What stands against it.
    fn check_key(&self, _sign: Sign<'_>) -> Result<(), String> {
        Ok(())
    }

    /// The next request of a fetch whose requests so far brought `answers`. `random` makes it unlike all others
    /// where that is wanted.
    ///
    /// # Errors
    /// If it cannot be made.
    fn request(
        &self,
        answers: &[Secret],
        now: Time,
        random: [u64; 2],
        sign: Sign<'_>,
    ) -> Result<TokenRequest<'_>, Failure>;

    /// What the answer to that request means.
    ///
    /// # Errors
    /// If it is of no use.
    fn read(&self, answers: &[Secret], reply: &Reply<'_>, now: Time) -> Result<Answer, Failure>;

    /// A token as those keep it who send it.
    fn as_sent(&self, token: &str) -> Secret;
}

/// What an answer brings.
#[derive(Debug)]
pub enum Answer {
    /// The token.
    Granted(Grant),
    /// What the next request needs.
    Interim(Secret),
}

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

/// A request to an issuer, as it goes on the wire.
#[derive(Debug)]
pub struct TokenRequest<'a> {
    /// The Envoy cluster to send it to.
    pub cluster: &'a str,
    /// Its headers, the pseudo-headers first.
    pub headers: Vec<(&'static str, Secret)>,
    /// Its body.
    pub body: Secret,
    /// How long an answer may take.
    pub timeout: Duration,
}

/// Which token a client wants, as a name that says nothing else: a digest.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct TokenKey(String);

impl Endpoint {
    /// A request to `path` there, with the headers that every one has.
    pub fn request(&self, method: &str, path: &str, body: Secret, timeout: Duration) -> TokenRequest<'_> {
        let header = |value: &str| Secret::new(value.to_owned());
        let headers = vec![
            (":method", header(method)),
            (":path", header(path)),
            (":scheme", header(self.scheme)),
            (":authority", header(&self.authority)),
            ("user-agent", header("mcp-upstream-auth")),
            // Nobody decodes an answer here, and Envoy does not for callouts.
            ("accept-encoding", header("identity")),
        ];
        TokenRequest { cluster: &self.cluster, headers, body, timeout }
    }

    /// A request to the endpoint itself with this form.
    pub fn form(&self, form: String, timeout: Duration) -> TokenRequest<'_> {
        self.request("POST", &self.path, Secret::new(form), timeout)
            .with("content-type", Secret::new("application/x-www-form-urlencoded".to_owned()))
    }

    /// What tells it from others.
    pub fn identity(&self) -> [&str; 4] {
        [self.scheme, &self.cluster, &self.authority, &self.path]
    }
}

impl TokenRequest<'_> {
    /// The same with a header more.
    #[must_use]
    pub fn with(mut self, name: &'static str, value: Secret) -> Self {
        self.headers.push((name, value));
        self
    }
}

impl TokenKey {
    /// SHA-256 over the fields, each behind its length: no two lists of fields look alike.
    pub fn of(fields: &[&str]) -> Self {
        let mut text = Zeroizing::new((fields.len() as u64).to_be_bytes().to_vec());
        for field in fields {
            text.extend((field.len() as u64).to_be_bytes());
            text.extend(field.as_bytes());
        }
        Self(hex(&sha256(&text)))
    }

    /// The digest in hexadecimal.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}
