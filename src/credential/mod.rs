//! The kinds of credential, one file each, and how one is put into a request.
//!
//! A kind is a struct of the keys that its `auth` object has, and a [`Kind::compile`] that checks them
//! and makes the [`Credential`]. To add one, write its file and name it in `kinds!`.

mod api_key;
mod aws_sigv4;
mod basic;
pub mod bearer;
mod client_template;
mod echoed_key;
mod fetched_token;
mod headers;
mod key_issuer_template;
mod none;
mod oauth2;
mod one_or_many;
mod query;
mod secret_headers;
mod secret_source;
mod signed_requests;

use std::borrow::Cow;
use std::rc::Rc;
use std::time::Duration;

use serde::Deserialize;

pub use self::echoed_key::EchoedKey;

use crate::http::body::BodyLimits;
use crate::http::header_name::HeaderName;
use crate::http::request::{Attributes, Request};
use crate::http::response::ResponseHead;
use crate::json::Json;
use crate::json::error::{Checks, ConfigError};
use crate::refusal::Reason;
use crate::token::SentToken;
use crate::token::{TokenId, Tokens};

/// The key of an `auth` object that names its kind.
const TYPE: &str = "type";

/// The key of an `auth` object that lets the caller see the server's word against the credential.
pub const PASS_CHALLENGE: &str = "passChallenge";

/// A credential, ready to be put into requests: whatever can be computed once has been.
pub trait Credential {
    /// Puts the credential into `request`, in place of whatever the caller sent where it goes.
    ///
    /// # Errors
    /// The reason to refuse the request, which then goes no further.
    fn apply(&self, request: &mut Request<'_>) -> Result<Applied, Reason>;

    /// The limits of the request's body, if that must be read first.
    fn body_limits(&self) -> Option<BodyLimits> {
        None
    }

    /// The headers that applying it sets, which then need not be removed first.
    fn header_names(&self) -> &[HeaderName] {
        &[]
    }

    /// The key that a response may repeat in its URLs, if this credential is in those of requests.
    fn echoed_key(&self, _attributes: Attributes<'_>) -> Option<Cow<'_, EchoedKey>> {
        None
    }

    /// Whether a response is the upstream's word against the credential.
    fn refused_by(&self, response: &ResponseHead) -> Option<Refused> {
        challenge(response)
    }

    /// Whether Envoy repeats a request whose credential was refused, so that it may get another one.
    fn is_retried(&self) -> bool {
        false
    }
}

/// An upstream's word against a credential.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refused {
    /// It is not accepted: another one may be.
    Unauthorized,
    /// The request is not accepted with it; another one would not be, either.
    Unaccepted,
    /// It does not suffice.
    Forbidden,
}

/// Whether a request was given a credential.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Applied {
    /// It carries one now; this token, if it was fetched.
    Injected(Option<SentToken>),
    /// Its server wants none.
    NotWanted,
    /// The credential must be fetched first. The request is unchanged.
    Awaits(Awaited),
}

/// A token that a request needs and that is not in hand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Awaited {
    /// Which one.
    pub id: TokenId,
    /// How long the request may wait.
    pub max_wait: Duration,
}

/// Where the credential of a server finds the tokens that it needs.
pub struct ServerTokens<'a> {
    /// Those of all servers.
    pub tokens: &'a Rc<Tokens>,
    /// The server's name.
    pub server: &'a Rc<str>,
    /// The server's host.
    pub host: &'a str,
    /// Whether it is the only server, as it is for a filter in its cluster.
    pub is_only: bool,
}

/// An `auth` object whose keys are read.
pub struct ReadAuth {
    /// The kind and its keys.
    pub auth: Auth,
    /// Whether the caller may see the server's word against the credential.
    pub passes_challenge: bool,
}

/// What a response says of a credential in HTTP's own terms (RFC 9110 §11, §15.5.2, §15.5.4, §15.5.8).
fn challenge(response: &ResponseHead) -> Option<Refused> {
    match response.status() {
        b"401" | b"407" => Some(Refused::Unauthorized),
        // Without a challenge it is about something else: an Origin, say, or a matter of the server's own.
        b"403" if response.has_challenge() => Some(Refused::Forbidden),
        _ => None,
    }
}

/// A kind of credential as a configuration writes it.
trait Kind {
    /// Checks the keys and makes the credential; `None` if a check failed.
    fn compile(self, checks: &mut Checks<'_>, tokens: ServerTokens<'_>) -> Option<Box<dyn Credential>>;
}

/// Makes [`Auth`] from lines of `type => the struct of its keys`.
macro_rules! kinds {
    ($($(#[$docs:meta])* $name:ident => $keys:ty,)*) => {
        /// How the filter authenticates to a server.
        #[allow(
            non_camel_case_types,
            clippy::upper_case_acronyms,
            reason = "a variant is called as its `type` is written"
        )]
        #[allow(clippy::large_enum_variant, reason = "it lives until it is compiled, and there is one at a time")]
        #[cfg_attr(test, derive(schemars::JsonSchema), schemars(tag = "type"))]
        pub enum Auth {
            $($(#[$docs])* $name($keys),)*
        }

        impl Auth {
            const TYPES: &[&str] = &[$(stringify!($name)),*];

            fn of_type(name: &str, keys: Json) -> Option<Result<Self, ConfigError>> {
                $(if name.eq_ignore_ascii_case(stringify!($name)) {
                    return Some(Deserialize::deserialize(keys).map(Self::$name));
                })*
                None
            }

            /// Checks the keys of this kind and makes the credential; `None` if a check failed.
            pub fn compile(self, checks: &mut Checks<'_>, tokens: ServerTokens<'_>) -> Option<Box<dyn Credential>> {
                match self {
                    $(Self::$name(keys) => keys.compile(checks, tokens),)*
                }
            }
        }
    };
}

kinds! {
    /// No credential.
    NONE => none::NoCredential,
    /// `Authorization: Bearer <token>`
    BEARER => bearer::Bearer,
    /// `Authorization: Basic …`
    BASIC => basic::Basic,
    /// One key, in a header or in the query.
    API_KEY => api_key::ApiKey,
    /// Any headers.
    HEADERS => headers::CustomHeaders,
    /// `Authorization: Bearer <token>`, with a token that is fetched (client credentials grant).
    OAUTH2 => oauth2::OAuth2,
    /// A signature over each request (AWS Signature Version 4).
    AWS_SIGV4 => aws_sigv4::AwsSigV4,
}

impl Auth {
    /// Reads an `auth` object. Its `type` names the kind, without regard to case. Without anything in it,
    /// or if it is null, as an empty key in YAML is, it is [`Auth::NONE`].
    ///
    /// # Errors
    /// For an unknown type, and for keys that are missing, unknown or of a wrong type.
    pub fn read(mut auth: Json) -> Result<ReadAuth, ConfigError> {
        const NONE: ReadAuth = ReadAuth { auth: Auth::NONE(none::NoCredential {}), passes_challenge: false };
        match &auth {
            Json::Null => return Ok(NONE),
            Json::Object(keys) if keys.is_empty() => return Ok(NONE),
            Json::Object(_) => {}
            _ => return Err(ConfigError::here("must be an object")),
        }
        let name = match auth.take(TYPE) {
            Some(Json::String(name)) => name,
            Some(_) => return Err(ConfigError::here("must be a string").within(TYPE)),
            None => return Err(ConfigError::here("is required").within(TYPE)),
        };
        // Without a credential of ours, every word of the server's is for the caller.
        let is_none = name.eq_ignore_ascii_case("NONE");
        let passes_challenge = match (!is_none).then(|| auth.take(PASS_CHALLENGE)).flatten() {
            None | Some(Json::Null) => false,
            Some(Json::Bool(passes)) => passes,
            Some(_) => return Err(ConfigError::here("must be true or false").within(PASS_CHALLENGE)),
        };
        let unknown = || ConfigError::here(format!("must be one of {}", Self::TYPES.join(", "))).within(TYPE);
        let auth = Self::of_type(&name, auth).unwrap_or_else(|| Err(unknown()))?;
        Ok(ReadAuth { auth, passes_challenge })
    }
}
