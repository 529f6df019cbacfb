//! A guard in front of a server that demands no credential of its own: it lets nobody in without the right
//! one, and passes on all else as it comes. It can also drop a stream of the server's on the way, as a
//! network does.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use hyper::{Method, Request, StatusCode};
use tokio::sync::watch;

use crate::arrival::Arrival;
use crate::client::{Protocol, open};
use crate::mcp_server::{Arrivals, Demand, refusal, unauthorized};
use crate::serve::{Answer, HangUp, Listening, Service, serve};

/// A running guard. It ends, with its connections, when this is dropped.
#[derive(Debug)]
pub struct Guard {
    listening: Listening,
    arrivals: Arc<Arrivals>,
    drops: Arc<Drops>,
}

/// What becomes of a server's stream that is dropped on the way to the caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dropped {
    /// The server learns of it.
    OnBothSides,
    /// The server does not, and goes on to the stream's end; only then the caller may resume. For a
    /// server that has nothing for who resumes but what it had written by then.
    TowardsTheCaller,
}

impl Guard {
    /// Listens on a free port of loopback, for the server at `server` and whoever meets the demand.
    ///
    /// # Errors
    /// If there is no port to be had.
    pub async fn start(server: SocketAddr, demand: Demand) -> io::Result<Self> {
        Self::start_with(server, demand, None).await
    }

    /// The same, and drops each stream that answers a POST after the first progress in it.
    ///
    /// # Errors
    /// As [`Guard::start`].
    pub async fn start_dropping(server: SocketAddr, demand: Demand, dropped: Dropped) -> io::Result<Self> {
        Self::start_with(server, demand, Some(dropped)).await
    }

    async fn start_with(server: SocketAddr, demand: Demand, dropped: Option<Dropped>) -> io::Result<Self> {
        let arrivals = Arc::new(Arrivals::default());
        let drops = Arc::new(Drops { dropped, count: AtomicUsize::new(0), unfinished: watch::Sender::new(0) });
        let service = Forward { server, demand, arrivals: Arc::clone(&arrivals), drops: Arc::clone(&drops) };
        let listening = serve(SocketAddr::from(([127, 0, 0, 1], 0)), Arc::new(service)).await?;
        Ok(Self { listening, arrivals, drops })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.listening.address()
    }

    /// Every request so far, in order of arrival, those included that it refused.
    pub fn arrivals(&self) -> Vec<Arrival> {
        self.arrivals.list().clone()
    }

    /// How many streams it dropped.
    pub fn dropped(&self) -> usize {
        self.drops.count.load(Ordering::Relaxed)
    }
}

#[derive(Debug)]
struct Drops {
    dropped: Option<Dropped>,
    count: AtomicUsize,
    /// Streams that were dropped, and that the server has not come to the end of.
    unfinished: watch::Sender<usize>,
}

impl Drops {
    /// What of the stream `body` is left is read in vain.
    async fn finish(&self, mut body: Incoming) {
        while let Some(Ok(_)) = body.frame().await {}
        self.unfinished.send_modify(|count| *count -= 1);
    }
}

struct Forward {
    server: SocketAddr,
    demand: Demand,
    arrivals: Arc<Arrivals>,
    drops: Arc<Drops>,
}

impl Service for Forward {
    async fn answer(&self, mut request: Request<Incoming>) -> Answer {
        let arrival = Arrival::of(&request);
        let resumes = !arrival.header("last-event-id").is_empty();
        self.arrivals.record(arrival);
        if !self.demand.is_met_by(&request) {
            return unauthorized();
        }
        if resumes {
            let _ = self.drops.unfinished.subscribe().wait_for(|count| *count == 0).await;
        }
        let hang_up = request.extensions_mut().remove::<HangUp>().unwrap_or_default();
        let dropped = self.drops.dropped.filter(|_| request.method() == Method::POST);
        match open(self.server, Protocol::Http1, request).await {
            Ok(answer) => answer.map(|body| {
                let drops = dropped.map(|_| Arc::clone(&self.drops));
                Relay { body: Some(body), hang_up, drops, is_last_event: false }.boxed()
            }),
            Err(error) => refusal(StatusCode::BAD_GATEWAY, format!("the server behind the guard: {error}\n")),
        }
    }
}

/// A server's answer on its way to the caller. If it breaks, the caller's connection breaks.
struct Relay {
    /// None once the stream is dropped.
    body: Option<Incoming>,
    hang_up: HangUp,
    /// Where it is noted if the stream is dropped; None if it is not to be.
    drops: Option<Arc<Drops>>,
    /// What came last is the beginning of the event that the caller is still to get.
    is_last_event: bool,
}

impl Relay {
    /// Shortens `data` to where the stream is to be dropped. Says whether that is in it.
    fn cut(&mut self, data: &mut Bytes) -> bool {
        let start = if self.is_last_event { Some(0) } else { find(data, PROGRESS) };
        let Some(start) = start else { return false };
        self.is_last_event = true;
        let Some(end) = data.get(start..).and_then(|rest| find(rest, END_OF_EVENT)) else { return false };
        data.truncate(start + end + END_OF_EVENT.len());
        true
    }

    fn drop_stream(&mut self, drops: &Arc<Drops>) {
        drops.count.fetch_add(1, Ordering::Relaxed);
        if let (Some(Dropped::TowardsTheCaller), Some(body)) = (drops.dropped, self.body.take()) {
            drops.unfinished.send_modify(|count| *count += 1);
            let drops = Arc::clone(drops);
            tokio::spawn(async move { drops.finish(body).await });
        }
        self.body = None;
    }
}

impl Body for Relay {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let Some(body) = &mut self.body else {
            // Asked for more, so that all before it is on its way.
            self.hang_up.now();
            return Poll::Pending;
        };
        let frame = match ready!(Pin::new(body).poll_frame(context)) {
            None => return Poll::Ready(None),
            Some(Ok(frame)) => frame,
            Some(Err(_)) => {
                self.body = None;
                self.hang_up.now();
                return Poll::Pending;
            }
        };
        let drops = self.drops.clone();
        Poll::Ready(Some(Ok(match (drops, frame.into_data()) {
            (Some(drops), Ok(mut data)) => {
                if self.cut(&mut data) {
                    self.drop_stream(&drops);
                }
                Frame::data(data)
            }
            (None, Ok(data)) => Frame::data(data),
            (_, Err(frame)) => frame,
        })))
    }

    fn is_end_stream(&self) -> bool {
        self.body.as_ref().is_some_and(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.body.as_ref().map(Body::size_hint).unwrap_or_default()
    }
}

const PROGRESS: &[u8] = b"\"notifications/progress\"";

const END_OF_EVENT: &[u8] = b"\n\n";

fn find(text: &[u8], part: &[u8]) -> Option<usize> {
    text.windows(part.len()).position(|window| window == part)
}
