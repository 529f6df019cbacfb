//! HTTP from the caller's side: ordinary requests, and bytes that no ordinary client would send.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::{Body, Incoming};
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::arrival::{list, read_body};

/// No request on loopback takes longer, unless something hangs.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// A version of HTTP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// HTTP/1.1
    Http1,
    /// HTTP/2 with prior knowledge.
    Http2,
}

/// A whole answer.
#[derive(Debug)]
pub struct Reply {
    /// Its status.
    pub status: StatusCode,
    /// Its headers.
    pub headers: Vec<(String, Vec<u8>)>,
    /// Its body.
    pub body: Bytes,
    /// Its trailers.
    pub trailers: Vec<(String, Vec<u8>)>,
}

impl Reply {
    /// The value of the header `name`.
    pub fn header(&self, name: &str) -> Option<String> {
        let (_, value) = self.headers.iter().find(|(own, _)| own == name)?;
        Some(String::from_utf8_lossy(value).into_owned())
    }

    /// The body as JSON, or null.
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }
}

/// Sends `request` to `address` over a connection of its own and reads the whole answer.
///
/// # Errors
/// If the connection breaks, or nothing comes for long.
pub async fn send<B>(address: SocketAddr, protocol: Protocol, request: Request<B>) -> io::Result<Reply>
where
    B: Body<Data = Bytes> + Send + Unpin + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let exchange = async {
        let response = open(address, protocol, request).await?;
        let (status, headers) = (response.status(), list(response.headers()));
        let (body, trailers) = read_body(response.into_body()).await.map_err(io::Error::other)?;
        Ok(Reply { status, headers, body, trailers })
    };
    timeout(PATIENCE, exchange).await?
}

/// Sends `request` to `address` over a connection of its own and gives its answer as soon as that begins.
///
/// # Errors
/// If the connection breaks.
pub async fn open<B>(address: SocketAddr, protocol: Protocol, request: Request<B>) -> io::Result<Response<Incoming>>
where
    B: Body<Data = Bytes> + Send + Unpin + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let stream = TokioIo::new(TcpStream::connect(address).await?);
    match protocol {
        Protocol::Http1 => {
            let (mut sender, connection) =
                hyper::client::conn::http1::handshake(stream).await.map_err(io::Error::other)?;
            tokio::spawn(connection);
            sender.send_request(request).await.map_err(io::Error::other)
        }
        Protocol::Http2 => {
            let (mut sender, connection) =
                hyper::client::conn::http2::handshake(TokioExecutor::new(), stream).await.map_err(io::Error::other)?;
            tokio::spawn(connection);
            sender.send_request(request).await.map_err(io::Error::other)
        }
    }
}

/// The next piece of a body, as text; empty at its end.
///
/// # Errors
/// If the connection breaks, or nothing comes for long.
pub async fn next_piece(body: &mut Incoming) -> io::Result<String> {
    let frame = timeout(PATIENCE, body.frame()).await?;
    let data = frame.transpose().map_err(io::Error::other)?.and_then(|frame| frame.into_data().ok());
    Ok(data.map(|data| String::from_utf8_lossy(&data).into_owned()).unwrap_or_default())
}

/// Sends `bytes` as they are and reads until the other side closes.
///
/// # Errors
/// If the connection breaks, or is not closed for long.
pub async fn send_raw(address: SocketAddr, bytes: &[u8]) -> io::Result<String> {
    let exchange = async {
        let mut stream = TcpStream::connect(address).await?;
        stream.write_all(bytes).await?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await?;
        Ok(String::from_utf8_lossy(&answer).into_owned())
    };
    timeout(PATIENCE, exchange).await?
}

/// Begins an HTTP/2 request of these header fields, as they are and without a body, and gives the
/// connection, on which the answer will come: no client library sends a path that is not UTF-8.
///
/// # Errors
/// If there is no connection.
pub async fn open_raw_http2(address: SocketAddr, fields: &[(&str, &[u8])]) -> io::Result<TcpStream> {
    const END_STREAM_AND_HEADERS: u8 = 0x5;
    let frame = |kind: u8, flags: u8, stream: u8, payload: &[u8]| {
        let length = u8::try_from(payload.len()).map_err(io::Error::other)?;
        Ok::<_, io::Error>([&[0, 0, length, kind, flags, 0, 0, 0, stream], payload].concat())
    };
    let mut block = Vec::new();
    for (name, value) in fields {
        // RFC 7541 §6.2.2: a literal field without indexing, neither part Huffman-coded.
        block.push(0);
        for part in [name.as_bytes(), value] {
            block
                .push(u8::try_from(part.len()).ok().filter(|length| *length < 127).ok_or(io::ErrorKind::InvalidInput)?);
            block.extend_from_slice(part);
        }
    }
    let mut stream = TcpStream::connect(address).await?;
    stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await?;
    stream.write_all(&frame(0x4, 0, 0, &[])?).await?;
    stream.write_all(&frame(0x1, END_STREAM_AND_HEADERS, 1, &block)?).await?;
    Ok(stream)
}

/// The body of the answer to a GET.
///
/// # Errors
/// If the connection breaks.
pub async fn get(address: SocketAddr, path: &str) -> io::Result<String> {
    let request = Request::builder().uri(path).header("host", address.to_string());
    let request = request.body(Full::new(Bytes::new())).map_err(io::Error::other)?;
    let reply = send(address, Protocol::Http1, request).await?;
    Ok(String::from_utf8_lossy(&reply.body).into_owned())
}
