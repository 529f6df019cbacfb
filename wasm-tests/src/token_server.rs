//! A token server that misbehaves on demand, and writes down what it is asked.

use std::collections::HashMap;
use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body_util::channel::Channel;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::header::{CONTENT_LENGTH, CONTENT_TYPE, HeaderName, HeaderValue};
use hyper::{Request, Response, StatusCode};
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::time::timeout;

use crate::arrival::{Arrival, read_body};
use crate::client::PATIENCE;
use crate::serve::{Answer, Listening, Service, serve};
use crate::signed_token::SigningKey;

/// How long a token is good for, in seconds, when the answer does not say.
const DEFAULT_LIFETIME: u64 = 3600;

/// A running token server. It ends when this is dropped.
#[derive(Debug)]
pub struct TokenServer {
    listening: Listening,
    desk: Arc<Desk>,
}

/// One request for a token.
#[derive(Clone, Debug)]
pub struct Asked {
    /// When it arrived.
    pub at: Instant,
    /// Its head.
    pub head: Arrival,
    /// Its form.
    pub form: Vec<(String, String)>,
    /// The token it was granted, if it was: `token-1`, `token-2` and so on, unless they are signed.
    pub token: Option<String>,
}

/// What the server answers.
#[derive(Clone, Debug)]
pub enum Behaviour {
    /// A new token with this `expires_in`; none if null.
    Grants(Value),
    /// This JSON object, in which a string `{token}` becomes a new token.
    Says(StatusCode, Value),
    /// These headers and bytes.
    Answers(StatusCode, Vec<(&'static str, String)>, Bytes),
    /// An error whose description has the client's assertion, in pieces.
    Repeats,
    /// Less of a body than it announced.
    Truncates,
    /// Nothing, ever.
    Hangs,
}

impl Asked {
    /// The parameter `name` of the form; every value of it, as one too many is a finding.
    pub fn parameter(&self, name: &str) -> Vec<&str> {
        self.form.iter().filter(|(own, _)| own == name).map(|(_, value)| value.as_str()).collect()
    }
}

impl TokenServer {
    /// Listens on `address` and grants tokens for an hour.
    ///
    /// # Errors
    /// If the address cannot be had.
    pub async fn start(address: SocketAddr) -> io::Result<Self> {
        let desk = Arc::new(Desk::default());
        let listening = serve(address, Arc::clone(&desk)).await?;
        Ok(Self { listening, desk })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.listening.address()
    }

    /// From now on, answers like this.
    pub fn behave(&self, behaviour: Behaviour) {
        self.desk.state().behaviour = behaviour;
    }

    /// From now on, answers like this whoever asks for this scope.
    pub fn behave_for(&self, scope: &str, behaviour: Behaviour) {
        self.desk.state().by_scope.insert(scope.to_owned(), behaviour);
    }

    /// From now on, refuses whoever does not bring this `Authorization`.
    pub fn demand(&self, authorization: String) {
        self.desk.state().demanded = Some(authorization);
    }

    /// From now on, signs its tokens, so that a server in another process can check them, also after this one
    /// was started anew.
    pub fn sign_with(&self, key: SigningKey) {
        self.desk.state().key = Some(key);
    }

    /// The tokens it issues.
    pub fn issued(&self) -> Issued {
        Issued(Arc::clone(&self.desk))
    }

    /// Tells how many requests have arrived, whenever there is another.
    pub fn subscribe(&self) -> watch::Receiver<usize> {
        self.desk.arrivals.subscribe()
    }

    /// Keeps all who ask waiting until [`TokenServer::release`].
    pub fn hold(&self) {
        self.desk.is_held.send_replace(true);
    }

    /// Answers all who wait, and whoever comes.
    pub fn release(&self) {
        self.desk.is_held.send_replace(false);
    }

    /// All requests so far.
    pub fn asked(&self) -> Vec<Asked> {
        self.desk.state().asked.clone()
    }

    /// The most requests that it had at once.
    pub fn most_at_once(&self) -> usize {
        self.desk.state().most_at_once
    }

    /// All requests, as soon as there are `count`.
    ///
    /// # Errors
    /// If they do not come for long.
    pub async fn wait_for(&self, count: usize) -> io::Result<Vec<Asked>> {
        let mut arrivals = self.desk.arrivals.subscribe();
        let enough = arrivals.wait_for(|arrived| *arrived >= count);
        timeout(PATIENCE, enough).await?.map_err(io::Error::other)?;
        Ok(self.asked())
    }
}

/// The tokens that a server has issued.
#[derive(Clone, Debug)]
pub struct Issued(Arc<Desk>);

impl Issued {
    /// Whether `token` is one of them.
    pub fn has(&self, token: &str) -> bool {
        self.age(token).is_some()
    }

    /// How long ago `token` was asked for, if it is one of them.
    pub fn age(&self, token: &str) -> Option<Duration> {
        let state = self.0.state();
        state.asked.iter().find(|asked| asked.token.as_deref() == Some(token)).map(|asked| asked.at.elapsed())
    }
}

/// What the server remembers.
#[derive(Debug)]
struct Desk {
    state: Mutex<State>,
    is_held: watch::Sender<bool>,
    arrivals: watch::Sender<usize>,
}

#[derive(Debug)]
struct State {
    behaviour: Behaviour,
    by_scope: HashMap<String, Behaviour>,
    /// The `Authorization` that whoever asks must have.
    demanded: Option<String>,
    /// What signs the tokens.
    key: Option<SigningKey>,
    asked: Vec<Asked>,
    granted: usize,
    at_once: usize,
    most_at_once: usize,
}

impl Default for Desk {
    fn default() -> Self {
        let behaviour = Behaviour::Grants(json!(DEFAULT_LIFETIME));
        let state = State {
            behaviour,
            by_scope: HashMap::new(),
            demanded: None,
            key: None,
            asked: Vec::new(),
            granted: 0,
            at_once: 0,
            most_at_once: 0,
        };
        Self { state: Mutex::new(state), is_held: watch::Sender::new(false), arrivals: watch::Sender::new(0) }
    }
}

impl Desk {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn arrived(&self, head: Arrival, body: &[u8]) -> usize {
        let mut state = self.state();
        let form = form_urlencoded::parse(body).into_owned().collect();
        state.asked.push(Asked { at: Instant::now(), head, form, token: None });
        state.at_once += 1;
        state.most_at_once = state.most_at_once.max(state.at_once);
        self.arrivals.send_replace(state.asked.len());
        state.asked.len() - 1
    }
}

impl State {
    fn new_token(&mut self, expires_in: Option<&Value>) -> String {
        self.granted += 1;
        let lifetime = expires_in.and_then(Value::as_u64).unwrap_or(DEFAULT_LIFETIME);
        match &self.key {
            Some(key) => key.sign(self.granted, lifetime),
            None => format!("token-{}", self.granted),
        }
    }

    fn repeated(&self, index: usize) -> Value {
        let assertion = self.asked.get(index).map(|asked| asked.parameter("client_assertion").concat());
        let letters: Vec<_> = assertion.unwrap_or_default().chars().collect();
        let pieces: Vec<_> = letters.chunks(20).map(|piece| piece.iter().collect::<String>()).collect();
        json!({"error": "invalid_client", "error_description": pieces.join(", ")})
    }

    fn behaviour_for(&self, index: usize) -> Behaviour {
        let Some(asked) = self.asked.get(index) else { return self.behaviour.clone() };
        let presented = asked.head.header("authorization");
        if self.demanded.as_ref().is_some_and(|demanded| presented != [demanded.as_str()]) {
            return Behaviour::Says(StatusCode::UNAUTHORIZED, json!({"error": "invalid_client"}));
        }
        self.by_scope.get(&asked.parameter("scope").concat()).unwrap_or(&self.behaviour).clone()
    }
}

impl Service for Desk {
    async fn answer(&self, request: Request<Incoming>) -> Answer {
        let head = Arrival::of(&request);
        let Ok((body, _)) = read_body(request.into_body()).await else {
            return answer(StatusCode::BAD_REQUEST, Bytes::new());
        };
        let index = self.arrived(head, &body);
        let _ = self.is_held.subscribe().wait_for(|is_held| !is_held).await;
        if matches!(self.state().behaviour_for(index), Behaviour::Hangs) {
            std::future::pending::<()>().await;
        }
        let mut state = self.state();
        state.at_once -= 1;
        let (status, body) = match state.behaviour_for(index) {
            Behaviour::Answers(status, headers, body) => return with_headers(answer(status, body), headers),
            Behaviour::Truncates | Behaviour::Hangs => return truncated(),
            Behaviour::Says(status, body) => (status, body),
            Behaviour::Repeats => (StatusCode::UNAUTHORIZED, state.repeated(index)),
            Behaviour::Grants(expires_in) => {
                let mut body = json!({"access_token": "{token}", "token_type": "Bearer", "expires_in": expires_in});
                if expires_in.is_null() {
                    body.as_object_mut().map(|body| body.remove("expires_in"));
                }
                (StatusCode::OK, body)
            }
        };
        let mut text = body.to_string();
        if text.contains("{token}") {
            let token = state.new_token(body.get("expires_in"));
            text = text.replace("{token}", &token);
            if let Some(asked) = state.asked.get_mut(index) {
                asked.token = Some(token);
            }
        }
        let mut answer = answer(status, Bytes::from(text));
        answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        answer
    }
}

fn answer(status: StatusCode, body: Bytes) -> Answer {
    let mut answer = Response::new(Full::new(body).boxed());
    *answer.status_mut() = status;
    answer
}

fn with_headers(mut answer: Answer, headers: Vec<(&'static str, String)>) -> Answer {
    for (name, value) in headers {
        if let Ok(value) = HeaderValue::try_from(value) {
            answer.headers_mut().insert(HeaderName::from_static(name), value);
        }
    }
    answer
}

fn truncated() -> Answer {
    let (mut sender, body) = Channel::<Bytes, Infallible>::new(1);
    tokio::spawn(async move {
        let _ = sender.send_data(Bytes::from_static(br#"{"access_token":"token-cut","#)).await;
    });
    let mut answer = Response::new(body.boxed());
    answer.headers_mut().insert(CONTENT_LENGTH, HeaderValue::from_static("1000"));
    answer
}
