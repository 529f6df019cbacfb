//! Serving HTTP/1.1 and HTTP/2 (with prior knowledge).

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use http_body_util::combinators::BoxBody;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;
use tokio::task::{AbortHandle, JoinSet};

/// An answer of any shape.
pub type Answer = Response<BoxBody<Bytes, Infallible>>;

/// Something that answers requests.
pub trait Service: Send + Sync + 'static {
    /// Answers one request.
    fn answer(&self, request: Request<Incoming>) -> impl Future<Output = Answer> + Send;
}

/// A listening server. It ends, with its connections, when this is dropped.
#[derive(Debug)]
pub struct Listening {
    address: SocketAddr,
    accepting: AbortHandle,
}

impl Listening {
    /// Where it listens; the port is a free one if 0 was asked for.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Listening {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

/// Listens on `address` and lets `service` answer.
///
/// # Errors
/// If the address cannot be had.
pub async fn serve(address: SocketAddr, service: Arc<impl Service>) -> io::Result<Listening> {
    let listener = TcpListener::bind(address).await?;
    let address = listener.local_addr()?;
    let accepting = tokio::spawn(accept(listener, service)).abort_handle();
    Ok(Listening { address, accepting })
}

async fn accept(listener: TcpListener, service: Arc<impl Service>) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => {
                    // Else what follows the first piece of an answer waits for an acknowledgement, which takes 40 ms.
                    let _ = stream.set_nodelay(true);
                    connections.spawn(connection(stream, Arc::clone(&service)));
                }
                // A caller that hung up before it was accepted; others still come.
                Err(_) => tokio::task::yield_now().await,
            },
            Some(_) = connections.join_next() => {}
        }
    }
}

/// Ends the connection that a request came by, whatever is under way on it. Every request has one among
/// its extensions.
#[derive(Clone, Debug, Default)]
pub struct HangUp(Arc<Notify>);

impl HangUp {
    /// Does it, once what was written until now is on its way.
    pub fn now(&self) {
        self.0.notify_one();
    }
}

async fn connection(stream: TcpStream, service: Arc<impl Service>) {
    let hang_up = HangUp::default();
    let extension = hang_up.clone();
    let service = service_fn(move |mut request: Request<Incoming>| {
        let service = Arc::clone(&service);
        request.extensions_mut().insert(extension.clone());
        async move { Ok::<_, Infallible>(service.answer(request).await) }
    });
    let server = auto::Builder::new(TokioExecutor::new());
    let serving = server.serve_connection_with_upgrades(TokioIo::new(stream), service);
    tokio::select! {
        // Asked first, it writes all there is before anybody hangs up. An error is the peer breaking off,
        // which the tests see from their own side.
        biased;
        _ = serving => {}
        () = hang_up.0.notified() => {}
    }
}
