//! A token that is fetched and kept, as a credential.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use super::secret_source::FilterState;
use super::{Applied, Awaited, Credential, Refused, ServerTokens, challenge};
use crate::http::body::BodyLimits;
use crate::http::header_name::HeaderName;
use crate::http::request::{Attributes, Request};
use crate::http::response::ResponseHead;
use crate::http::validation::{Url, text};
use crate::json::error::Checks;
use crate::refusal::Reason;
use crate::secret::Secret;
use crate::token::SentToken;
use crate::token::{Endpoint, Issuer, Lease, Token, Tokens};

/// How long a fetch may take, and a request may wait for it, if the configuration does not say.
pub const PATIENCE: Duration = Duration::from_secs(5);

/// An issuer but for the secrets that its client shows it, which may be in the filter state of requests.
pub trait IssuerTemplate {
    /// Where the secrets are that are not written in the configuration.
    fn filter_states(&self) -> Vec<FilterState>;

    /// The issuer, with the secrets that `attributes` have.
    ///
    /// # Errors
    /// If one is missing, or cannot be one.
    fn issuer(&self, attributes: Attributes<'_>) -> Result<Box<dyn Issuer>, Reason>;
}

/// What is done with a token in hand. The methods are those of [`Credential`].
pub trait TokenUse {
    /// Puts `token` into `request`.
    ///
    /// # Errors
    /// The reason to refuse the request.
    fn apply(&self, token: &Secret, request: &mut Request<'_>) -> Result<(), Reason>;

    /// See [`Credential::header_names`].
    fn header_names(&self) -> &[HeaderName];

    /// See [`Credential::body_limits`].
    fn body_limits(&self) -> Option<BodyLimits> {
        None
    }

    /// See [`Credential::refused_by`].
    fn refused_by(&self, response: &ResponseHead) -> Option<Refused> {
        challenge(response)
    }
}

/// How a server gets its token.
pub struct Fetching {
    /// Who issues it.
    pub issuer: Box<dyn IssuerTemplate>,
    /// What is done with it.
    pub usage: Box<dyn TokenUse>,
    /// How long a request may wait for it.
    pub max_wait: Duration,
    /// See [`Credential::is_retried`].
    pub is_retried: bool,
}

/// The endpoint at `url`, by way of this cluster, whose key is at `checks`, or else of the one called as the host.
///
/// A filter in a cluster cannot fetch through that cluster: it would have to wait for itself. Where the endpoint has the
/// host of the only server, both may be behind the cluster of that name, so the configuration must say which one it is.
pub fn endpoint(
    url: Option<Url>,
    cluster: Option<&str>,
    mut checks: Checks<'_>,
    tokens: &ServerTokens<'_>,
) -> Option<Endpoint> {
    let cluster = match (cluster, &url) {
        (Some(cluster), _) => checks.accept(text(cluster)).map(str::to_owned),
        (None, Some(url)) if tokens.is_only && is_host_of(&url.host, tokens.host) => {
            checks.fail(
                "is required where the URL has the server's own host: name a cluster that leads there and does not have \
                 this filter",
            );
            None
        }
        (None, Some(url)) => Some(url.host.clone()),
        (None, None) => None,
    };
    let Url { scheme, authority, path, .. } = url?;
    Some(Endpoint { cluster: cluster?, scheme, authority, path })
}

/// Whether `host` is that of `authority`, which may have a port.
fn is_host_of(host: &str, authority: &str) -> bool {
    let name = authority.rsplit_once(':').map_or(authority, |(name, _)| name);
    host.eq_ignore_ascii_case(authority) || host.eq_ignore_ascii_case(name)
}

/// The credential of a server whose `auth` is at `path` in the configuration.
pub fn credential(fetching: Fetching, tokens: ServerTokens<'_>, path: &str) -> Box<dyn Credential> {
    let states = fetching.issuer.filter_states();
    // Without a secret in the filter state, no attribute is asked for.
    let issuer = fetching.issuer.issuer(&|_| None).ok().filter(|_| states.is_empty());
    let mut server = Server {
        fetching,
        tokens: Rc::clone(tokens.tokens),
        name: Rc::clone(tokens.server),
        host: tokens.host.to_owned(),
        path: path.to_owned(),
        states,
        latest: RefCell::default(),
    };
    let lease = issuer.map(|issuer| server.lease(issuer));
    server.latest = RefCell::new(lease.map(|lease| (Vec::new(), lease)));
    Box::new(server)
}

/// The tokens of one server: one at a time. If the client's secrets come with each request they change rarely:
/// only then there is another issuer, and another token.
struct Server {
    fetching: Fetching,
    tokens: Rc<Tokens>,
    name: Rc<str>,
    host: String,
    path: String,
    states: Vec<FilterState>,
    /// The token for these secrets.
    latest: RefCell<Option<(Vec<Secret>, Lease)>>,
}

impl Server {
    fn lease(&self, issuer: Box<dyn Issuer>) -> Lease {
        self.tokens.share(Token::new(issuer, Rc::clone(&self.name), &self.host, &self.path))
    }

    /// Makes the token the one for the secrets that `attributes` have.
    fn renew(&self, attributes: Attributes<'_>) -> Result<(), Reason> {
        let secrets: Vec<Secret> =
            self.states.iter().map(|state| state.read(attributes, &|_| Ok(()))).collect::<Result<_, _>>()?;
        let mut latest = self.latest.borrow_mut();
        let is_the_same =
            |(known, _): &(Vec<Secret>, Lease)| known.iter().map(Secret::expose).eq(secrets.iter().map(Secret::expose));
        if !latest.as_ref().is_some_and(is_the_same) {
            let lease = self.lease(self.fetching.issuer.issuer(attributes)?);
            *latest = Some((secrets, lease));
        }
        Ok(())
    }
}

impl Credential for Server {
    fn apply(&self, request: &mut Request<'_>) -> Result<Applied, Reason> {
        if !self.states.is_empty() {
            self.renew(request.attributes)?;
        }
        let latest = self.latest.borrow();
        let (_, Lease { id, token }) = latest.as_ref().ok_or(Reason::Internal)?;
        let Some(held) = token.held() else {
            return Ok(Applied::Awaits(Awaited { id: *id, max_wait: self.fetching.max_wait }));
        };
        self.fetching.usage.apply(&held.as_sent, request)?;
        Ok(Applied::Injected(Some(SentToken { id: *id, generation: held.generation })))
    }

    fn body_limits(&self) -> Option<BodyLimits> {
        self.fetching.usage.body_limits()
    }

    fn header_names(&self) -> &[HeaderName] {
        self.fetching.usage.header_names()
    }

    fn refused_by(&self, response: &ResponseHead) -> Option<Refused> {
        self.fetching.usage.refused_by(response)
    }

    fn is_retried(&self) -> bool {
        self.fetching.is_retried
    }
}
