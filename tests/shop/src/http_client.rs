//! A small keep-alive HTTP/1.1 client over hyper. It knows addresses only: names are the callers' business.

use std::net::SocketAddr;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use axum::http::{Request, StatusCode};
use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

const CONNECT_WITHIN: Duration = Duration::from_secs(2);
const IDLE_CAP: usize = 64;

/// Why there was no answer.
#[derive(Debug, thiserror::Error)]
pub enum HttpError {
    #[error("connect to {0}: {1}")]
    Connect(SocketAddr, std::io::Error),
    #[error("connect to {0}: no answer")]
    ConnectTimeout(SocketAddr),
    #[error("{0}")]
    Exchange(#[from] hyper::Error),
}

impl HttpError {
    /// The low-cardinality word for `error.type`.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Connect(_, error) if error.kind() == std::io::ErrorKind::ConnectionRefused => {
                "connection_refused"
            }
            Self::Connect(..) => "connect_error",
            Self::ConnectTimeout(_) => "connect_timeout",
            Self::Exchange(_) => "connection_closed",
        }
    }
}

/// The client with its idle connections.
#[derive(Default)]
pub struct HttpClient {
    idle: Mutex<Vec<(SocketAddr, SendRequest<Full<Bytes>>)>>,
}

impl HttpClient {
    /// One request, one whole answer. Dropping the future closes the connection, as a client that gives up does.
    ///
    /// # Errors
    /// When no connection can be had or it breaks.
    pub async fn send(
        &self,
        to: SocketAddr,
        request: Request<Full<Bytes>>,
    ) -> Result<(StatusCode, Bytes), HttpError> {
        let mut sender = loop {
            match self.take(to) {
                // An idle connection may have been closed meanwhile: then try the next one.
                Some(mut idle) => {
                    if idle.ready().await.is_ok() {
                        break idle;
                    }
                }
                None => break connect(to).await?,
            }
        };
        let response = sender.send_request(request).await?;
        let status = response.status();
        let body = response.into_body().collect().await?.to_bytes();
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        if idle.len() < IDLE_CAP {
            idle.push((to, sender));
        }
        Ok((status, body))
    }

    fn take(&self, to: SocketAddr) -> Option<SendRequest<Full<Bytes>>> {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        let at = idle.iter().rposition(|(address, _)| *address == to)?;
        Some(idle.swap_remove(at).1)
    }
}

async fn connect(to: SocketAddr) -> Result<SendRequest<Full<Bytes>>, HttpError> {
    let stream = tokio::time::timeout(CONNECT_WITHIN, TcpStream::connect(to))
        .await
        .map_err(|_| HttpError::ConnectTimeout(to))?
        .map_err(|error| HttpError::Connect(to, error))?;
    let _ = stream.set_nodelay(true);
    let (sender, connection) = handshake(TokioIo::new(stream)).await?;
    // The driver ends by itself when the sender is dropped or the peer closes.
    tokio::spawn(async move {
        let _ = connection.await;
    });
    Ok(sender)
}
