//! A token that is fetched and kept, as a credential.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use super::client_template::ClientTemplate;
use super::secret_source::FilterState;
use super::{Applied, Attributes, Awaited, Credential, ServerTokens};
use crate::filter::SentToken;
use crate::header_name::{AUTHORIZATION, HeaderName};
use crate::oauth2::Client;
use crate::refusal::Reason;
use crate::request::Headers;
use crate::secret::Secret;
use crate::token::{Lease, Token, Tokens};

/// The credential of a server whose `auth` is at `path` in the configuration.
pub fn credential(
    client: ClientTemplate,
    tokens: ServerTokens<'_>,
    path: &str,
    max_wait: Duration,
    is_retried: bool,
) -> Box<dyn Credential> {
    let server = Server {
        tokens: Rc::clone(tokens.tokens),
        name: Rc::clone(tokens.server),
        host: tokens.host.to_owned(),
        path: path.to_owned(),
        max_wait,
        is_retried,
    };
    let states = client.filter_states();
    // Without a secret in the filter state, no attribute is asked for.
    match client.client(&|_| None) {
        Ok(client) if states.is_empty() => Box::new(server.token(client)),
        _ => Box::new(OfRequests { server, client, states, latest: RefCell::default() }),
    }
}

/// What the tokens of one server have in common.
struct Server {
    tokens: Rc<Tokens>,
    name: Rc<str>,
    host: String,
    path: String,
    max_wait: Duration,
    is_retried: bool,
}

impl Server {
    fn token(&self, client: Client) -> FetchedToken {
        let token = Token::new(client, Rc::clone(&self.name), &self.host, &self.path);
        FetchedToken { lease: self.tokens.share(token), max_wait: self.max_wait, is_retried: self.is_retried }
    }
}

/// The token of a client whose secrets are known.
struct FetchedToken {
    lease: Lease,
    max_wait: Duration,
    is_retried: bool,
}

impl Credential for FetchedToken {
    fn apply(&self, request: &mut dyn Headers, _: Attributes<'_>) -> Result<Applied, Reason> {
        let Lease { id, token } = &self.lease;
        let held = token.held();
        let Some(held) = held.as_ref() else {
            return Ok(Applied::Awaits(Awaited { id: *id, max_wait: self.max_wait }));
        };
        request.set(AUTHORIZATION.as_str(), held.authorization.expose().as_bytes());
        Ok(Applied::Injected(Some(SentToken { id: *id, generation: held.generation })))
    }

    fn header_names(&self) -> &[HeaderName] {
        const NAMES: &[HeaderName] = &[AUTHORIZATION];
        NAMES
    }

    fn is_retried(&self) -> bool {
        self.is_retried
    }
}

/// The token of a client whose secrets come with each request. They change rarely: only then there is
/// another client, and another token.
struct OfRequests {
    server: Server,
    client: ClientTemplate,
    states: Vec<FilterState>,
    latest: RefCell<Option<(Vec<Secret>, FetchedToken)>>,
}

impl Credential for OfRequests {
    fn apply(&self, request: &mut dyn Headers, attributes: Attributes<'_>) -> Result<Applied, Reason> {
        let secrets: Vec<Secret> =
            self.states.iter().map(|state| state.read(attributes, |_| Ok(()))).collect::<Result<_, _>>()?;
        let mut latest = self.latest.borrow_mut();
        let is_the_same = |(known, _): &(Vec<Secret>, FetchedToken)| {
            known.iter().map(Secret::expose).eq(secrets.iter().map(Secret::expose))
        };
        if !latest.as_ref().is_some_and(is_the_same) {
            let token = self.server.token(self.client.client(attributes)?);
            *latest = Some((secrets, token));
        }
        match &*latest {
            Some((_, token)) => token.apply(request, attributes),
            None => Err(Reason::Internal),
        }
    }

    fn header_names(&self) -> &[HeaderName] {
        const NAMES: &[HeaderName] = &[AUTHORIZATION];
        NAMES
    }

    fn is_retried(&self) -> bool {
        self.server.is_retried
    }
}
