//! An upstream that writes down what arrives and sends the body back.

use std::collections::HashMap;
use std::convert::Infallible;
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::BodyExt;
use http_body_util::channel::{Channel, Sender};
use hyper::body::Incoming;
use hyper::header::{CONNECTION, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, LOCATION, WWW_AUTHENTICATE};
use hyper::upgrade::OnUpgrade;
use hyper::{Request, Response, StatusCode, Uri};
use hyper_util::rt::TokioIo;
use tokio::io::AsyncWriteExt;
use tokio::sync::{Notify, watch};
use tokio::time::timeout;

use crate::arrival::{Arrival, read_body};
use crate::client::PATIENCE;
use crate::serve::{Answer, Listening, Service, serve};
use crate::token_server::Issued;

/// The header by which a test finds its own requests again.
pub const ID: &str = "x-test-id";

/// The last part of a path that is answered by an event stream: one event at once, and another one, and
/// the end, after [`Upstream::release`].
pub const EVENTS: &str = "/events";

/// The last part of a path that is answered by a redirect to the path in the parameter `to`, with the
/// query of the request behind it.
pub const REDIRECT: &str = "/redirect";

/// The last part of a path that is answered only after [`Upstream::release`].
pub const HELD: &str = "/held";

/// The part of a path before the status of the answer; behind that may be [`CHALLENGE`].
pub const STATUS: &str = "/status/";

/// The last part of a path whose answer, of the status before it, has a `WWW-Authenticate`.
pub const CHALLENGE: &str = "/challenge";

/// The last part of a path where a connection is upgraded, told `upgraded`, and closed.
pub const UPGRADE: &str = "/upgrade";

/// The last part of a path that is answered as [`Upstream::answer`] says.
pub const ANSWER: &str = "/answer";

/// The trailer of every answer that sends a body back.
pub const TRAILER: &str = "x-echo-trailer";

/// One whole request, as it arrived.
#[derive(Clone, Debug)]
pub struct Seen {
    /// Its head.
    pub head: Arrival,
    /// Its body.
    pub body: Bytes,
    /// Its trailers.
    pub trailers: Vec<(String, Vec<u8>)>,
}

/// A running upstream.
#[derive(Debug)]
pub struct Upstream {
    listening: Listening,
    recorder: Arc<Recorder>,
}

impl Upstream {
    /// Listens on a free loopback port.
    ///
    /// # Errors
    /// If there is none.
    pub async fn start() -> io::Result<Self> {
        let recorder = Arc::new(Recorder::default());
        let listening = serve(SocketAddr::from(([127, 0, 0, 1], 0)), Arc::clone(&recorder)).await?;
        Ok(Self { listening, recorder })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.listening.address()
    }

    /// What arrived with this [`ID`].
    pub fn seen(&self, id: &str) -> Vec<Seen> {
        self.recorder.seen().get(id).cloned().unwrap_or_default()
    }

    /// What arrived with this [`ID`], as soon as it is `count` requests.
    ///
    /// # Errors
    /// If they do not come for long.
    pub async fn wait_for(&self, id: &str, count: usize) -> io::Result<Vec<Seen>> {
        let enough = async {
            loop {
                let arrival = self.recorder.arrived.notified();
                let seen = self.seen(id);
                if seen.len() >= count {
                    return seen;
                }
                arrival.await;
            }
        };
        Ok(timeout(PATIENCE, enough).await?)
    }

    /// All that arrived.
    pub fn all(&self) -> Vec<Seen> {
        self.recorder.seen().values().flatten().cloned().collect()
    }

    /// From now on, answers 401 to whoever brings this `Authorization`, or to everybody.
    pub fn refuse(&self, refused: Refused) {
        *self.recorder.refused.lock().unwrap_or_else(PoisonError::into_inner) = refused;
    }

    /// From now on, answers 403 to whoever `judge` does not let in.
    pub fn judge(&self, judge: impl Fn(&Seen) -> Result<(), Denied> + Send + Sync + 'static) {
        *self.recorder.judge.lock().unwrap_or_else(PoisonError::into_inner) = Some(Arc::new(judge));
    }

    /// From now on, answers to [`ANSWER`] with this status and these headers.
    pub fn answer(&self, status: StatusCode, headers: &[(&str, &str)]) {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            if let (Ok(name), Ok(value)) = (HeaderName::try_from(*name), HeaderValue::try_from(*value)) {
                map.append(name, value);
            }
        }
        *self.recorder.answer.lock().unwrap_or_else(PoisonError::into_inner) = (status, map);
    }

    /// How many requests have begun, whether or not the rest of them arrives.
    pub fn begun(&self) -> usize {
        *self.recorder.begun.borrow()
    }

    /// Waits until `count` requests have begun.
    ///
    /// # Errors
    /// If they do not for long.
    pub async fn wait_for_begun(&self, count: usize) -> io::Result<()> {
        let mut begun = self.recorder.begun.subscribe();
        let enough = begun.wait_for(|begun| *begun >= count);
        timeout(PATIENCE, enough).await?.map(|_| ()).map_err(io::Error::other)
    }

    /// Lets the event stream, or the held answer, that was asked for with this [`ID`] go on.
    pub fn release(&self, id: &str) {
        self.recorder.gate(id).notify_one();
    }
}

/// Whom an upstream refuses.
#[derive(Clone, Debug, Default)]
pub enum Refused {
    /// Nobody.
    #[default]
    Nobody,
    /// Whoever brings one of these `Authorization`s.
    These(Vec<String>),
    /// A bearer of one of these tokens that was asked for less than this ago: the clock is behind.
    Younger(Issued, Duration),
    /// Everybody.
    All,
}

/// Why a judge does not let a request in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Denied {
    /// The `x-amzn-errortype` of the answer.
    pub error_type: String,
    /// Its body.
    pub why: String,
}

/// Judges whole requests.
type Judge = dyn Fn(&Seen) -> Result<(), Denied> + Send + Sync;

#[derive(Default)]
struct Recorder {
    refused: Mutex<Refused>,
    judge: Mutex<Option<Arc<Judge>>>,
    answer: Mutex<(StatusCode, HeaderMap)>,
    begun: watch::Sender<usize>,
    seen: Mutex<HashMap<String, Vec<Seen>>>,
    gates: Mutex<HashMap<String, Arc<Notify>>>,
    arrived: Notify,
}

impl fmt::Debug for Recorder {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Recorder").field("seen", &self.seen).finish_non_exhaustive()
    }
}

impl Recorder {
    fn judge(&self, seen: &Seen) -> Result<(), Denied> {
        let judge = self.judge.lock().unwrap_or_else(PoisonError::into_inner).clone();
        judge.map_or(Ok(()), |judge| judge(seen))
    }

    fn seen(&self) -> MutexGuard<'_, HashMap<String, Vec<Seen>>> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn refuses(&self, head: &Arrival) -> bool {
        match &*self.refused.lock().unwrap_or_else(PoisonError::into_inner) {
            Refused::Nobody => false,
            Refused::These(values) => head.header("authorization").iter().any(|value| values.contains(value)),
            Refused::Younger(issued, age) => {
                let bearer = |value: &String| issued.age(value.strip_prefix("Bearer ")?);
                head.header("authorization").iter().filter_map(bearer).any(|own| own < *age)
            }
            Refused::All => true,
        }
    }

    fn gate(&self, id: &str) -> Arc<Notify> {
        let mut gates = self.gates.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(gates.entry(id.to_owned()).or_default())
    }
}

impl Service for Recorder {
    async fn answer(&self, mut request: Request<Incoming>) -> Answer {
        self.begun.send_modify(|begun| *begun += 1);
        let head = Arrival::of(&request);
        let id = head.header(ID).concat();
        let (authority, uri) = (head.authority.clone(), request.uri().clone());
        let upgrade = hyper::upgrade::on(&mut request);
        let Ok((body, trailers)) = read_body(request.into_body()).await else {
            return answer(StatusCode::BAD_REQUEST, |_| async {});
        };
        let is_refused = self.refuses(&head);
        let seen = Seen { head, body: body.clone(), trailers };
        let judged = self.judge(&seen);
        self.seen().entry(id.clone()).or_default().push(seen);
        self.arrived.notify_waiters();
        if uri.path().ends_with(HELD) {
            self.gate(&id).notified().await;
        }
        if is_refused {
            return challenge(StatusCode::UNAUTHORIZED);
        }
        if let Err(why) = judged {
            return denied(why);
        }
        match uri.path() {
            path if path.contains(STATUS) => status(path),
            path if path.ends_with(ANSWER) => {
                let (status, headers) = self.answer.lock().unwrap_or_else(PoisonError::into_inner).clone();
                let mut response = answer(status, |_| async {});
                *response.headers_mut() = headers;
                response
            }
            path if path.ends_with(EVENTS) => events(self.gate(&id)),
            path if path.ends_with(UPGRADE) => upgraded(upgrade),
            path if path.ends_with(REDIRECT) => redirect(&authority, &uri),
            _ => echo(body),
        }
    }
}

fn echo(body: Bytes) -> Answer {
    let trailers = HeaderMap::from_iter([(HeaderName::from_static(TRAILER), HeaderValue::from_static("end"))]);
    let mut response = answer(StatusCode::OK, |mut sender| async move {
        let _ = sender.send_data(body).await;
        let _ = sender.send_trailers(trailers).await;
    });
    response.headers_mut().insert(hyper::header::TRAILER, HeaderValue::from_static(TRAILER));
    response
}

fn events(gate: Arc<Notify>) -> Answer {
    let mut response = answer(StatusCode::OK, |mut sender| async move {
        let _ = sender.send_data(Bytes::from_static(b"data: first\n\n")).await;
        gate.notified().await;
        let _ = sender.send_data(Bytes::from_static(b"data: second\n\n")).await;
    });
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    response
}

fn upgraded(upgrade: OnUpgrade) -> Answer {
    tokio::spawn(async move {
        if let Ok(connection) = upgrade.await {
            let mut connection = TokioIo::new(connection);
            let _ = connection.write_all(b"upgraded").await;
            let _ = connection.shutdown().await;
        }
    });
    let mut response = answer(StatusCode::SWITCHING_PROTOCOLS, |_| async {});
    response.headers_mut().insert(CONNECTION, HeaderValue::from_static("upgrade"));
    response.headers_mut().insert(hyper::header::UPGRADE, HeaderValue::from_static("websocket"));
    response
}

/// An answer like that of an MCP server whose authorization server the caller should go to.
fn challenge(status: StatusCode) -> Answer {
    const VALUE: &str = r#"Bearer resource_metadata="https://elsewhere.example/.well-known/oauth-protected-resource""#;
    let mut response = answer(status, |mut sender| async move {
        let _ = sender.send_data(Bytes::from_static(b"no")).await;
    });
    response.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static(VALUE));
    response
}

/// An answer like that of a service behind AWS IAM.
fn denied(Denied { error_type, why }: Denied) -> Answer {
    let mut response = answer(StatusCode::FORBIDDEN, |mut sender| async move {
        let _ = sender.send_data(Bytes::from(why)).await;
    });
    if let Ok(error_type) = HeaderValue::try_from(error_type) {
        response.headers_mut().insert(HeaderName::from_static("x-amzn-errortype"), error_type);
    }
    response
}

fn status(path: &str) -> Answer {
    let (path, is_challenge) = path.strip_suffix(CHALLENGE).map_or((path, false), |path| (path, true));
    let status = path.rsplit('/').next().and_then(|status| status.parse().ok()).unwrap_or(StatusCode::BAD_REQUEST);
    if is_challenge { challenge(status) } else { answer(status, |_| async {}) }
}

fn redirect(authority: &str, uri: &Uri) -> Answer {
    let query = uri.query().unwrap_or_default();
    let to = query.split('&').find_map(|pair| pair.strip_prefix("to=")).unwrap_or_default();
    let mut response = answer(StatusCode::FOUND, |_| async {});
    if let Ok(location) = HeaderValue::try_from(format!("http://{authority}{to}?{query}")) {
        response.headers_mut().insert(LOCATION, location);
    }
    response
}

/// An answer of unknown length, whose body `write` sends; a caller that hung up is no concern of its.
fn answer<F: Future<Output = ()> + Send + 'static>(
    status: StatusCode,
    write: impl FnOnce(Sender<Bytes, Infallible>) -> F,
) -> Answer {
    let (sender, body) = Channel::new(1);
    tokio::spawn(write(sender));
    let mut response = Response::new(body.boxed());
    *response.status_mut() = status;
    response
}
