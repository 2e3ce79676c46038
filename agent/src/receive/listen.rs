//! Listening: binds, accepts, bounds connections, ends them in order.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use coral_model::num::u32_sat;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::http::Server;
use super::{Limits, Workers};
use crate::counters::Counters;
use crate::observe::Peer;

/// First bytes of an HTTP/2 connection (RFC 9113 §3.4).
const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// The protocol's own first window for a connection, below which none can start, and twice over so
/// that a stream has one (RFC 9113 §6.9.2).
const WINDOW_LEAST: u64 = 2 * 65_535;
/// Enough for one export to arrive without waiting.
const WINDOW_MOST: u64 = 1 << 20;

/// Accepts OTLP on any number of listeners.
#[derive(Clone)]
pub struct Receiver {
    server: Arc<Server>,
    places: Arc<Semaphore>,
    connections: TaskTracker,
    cancel: CancellationToken,
}

impl Receiver {
    /// A receiver that hands bodies to these workers until cancelled.
    #[must_use]
    pub fn new(
        limits: Limits,
        workers: Arc<Workers>,
        counters: Arc<Counters>,
        cancel: CancellationToken,
    ) -> Self {
        let places = Arc::new(Semaphore::new(limits.connections));
        let server = Arc::new(Server { limits, workers, counters });
        Self { server, places, connections: TaskTracker::new(), cancel }
    }

    /// Accepts from one listener until cancelled.
    pub async fn accept(self, listener: TcpListener) {
        let counters = self.server.counters.clone();
        loop {
            let accepted = tokio::select! {
                () = self.cancel.cancelled() => return,
                accepted = listener.accept() => accepted,
            };
            let (stream, client) = match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    // Out of descriptors, most likely: wait for some to come back.
                    tracing::warn!(%error, "cannot accept a connection");
                    tokio::time::sleep(Duration::from_millis(50)).await;
                    continue;
                }
            };
            counters.connections_accepted.add(1);
            let Ok(place) = self.places.clone().try_acquire_owned() else {
                counters.connections_refused.add(1);
                continue;
            };
            let this = self.clone();
            self.connections.spawn(async move {
                this.connection(stream, client).await;
                drop(place);
            });
        }
    }

    /// Waits until every connection has ended; only returns after cancellation.
    pub async fn drained(&self) {
        self.connections.close();
        self.connections.wait().await;
    }

    /// Connections open now.
    #[must_use]
    pub fn open(&self) -> u64 {
        self.connections.len() as u64
    }

    async fn connection(&self, stream: TcpStream, client: SocketAddr) {
        // Answers are small and waited for.
        _ = stream.set_nodelay(true);
        let hello = tokio::time::timeout(self.server.limits.hello, speaks_http2(&stream));
        let http2 = tokio::select! {
            () = self.cancel.cancelled() => return,
            hello = hello => match hello {
                Ok(Ok(http2)) => http2,
                // It went away without a word, as port scanners and health checks do.
                Ok(Err(_)) => return,
                Err(_) => {
                    self.server.counters.connections_timed_out.add(1);
                    return;
                }
            },
        };
        let peer = stream.local_addr().ok().map(|server| Peer::new(client, server));
        let server = self.server.clone();
        let service = service_fn(move |request| {
            let server = server.clone();
            async move { Ok::<_, std::convert::Infallible>(server.serve(request, peer).await) }
        });
        let io = TokioIo::new(stream);
        // Errors of a connection were answered or are the sender's doing: nothing to add here.
        if http2 {
            let mut builder = http2::Builder::new(TokioExecutor::new());
            let window = window(self.server.limits.budget.capacity(), self.open());
            builder
                .timer(TokioTimer::new())
                .keep_alive_interval(Duration::from_secs(30))
                .keep_alive_timeout(Duration::from_secs(20))
                .max_concurrent_streams(64)
                .max_header_list_size(16 << 10)
                .max_frame_size(64 << 10)
                .initial_stream_window_size(window / 2)
                .initial_connection_window_size(window);
            let connection = builder.serve_connection(io, service);
            tokio::pin!(connection);
            tokio::select! {
                _ = connection.as_mut() => return,
                () = self.cancel.cancelled() => connection.as_mut().graceful_shutdown(),
            }
            _ = connection.await;
        } else {
            let mut builder = http1::Builder::new();
            builder
                .timer(TokioTimer::new())
                // Also how long a kept connection may idle between two exports.
                .header_read_timeout(Duration::from_secs(65))
                .max_headers(64)
                .max_buf_size(128 << 10);
            let connection = builder.serve_connection(io, service);
            tokio::pin!(connection);
            tokio::select! {
                _ = connection.as_mut() => return,
                () = self.cancel.cancelled() => connection.as_mut().graceful_shutdown(),
            }
            _ = connection.await;
        }
    }
}

/// Bytes an HTTP/2 sender may have under way before they are read and drawn on the budget: the more
/// connections, the fewer, so that all of them together stay near a share of it.
fn window(budget: u64, open: u64) -> u32 {
    let share = budget / 4 / open.max(1);
    u32_sat(share.clamp(WINDOW_LEAST, WINDOW_MOST))
}

/// Looks at the first bytes of a connection without taking them.
async fn speaks_http2(stream: &TcpStream) -> Result<bool, std::io::Error> {
    let mut bytes = [0u8; PREFACE.len()];
    let mut seen = 0;
    loop {
        let got = stream.peek(&mut bytes).await?;
        let start = bytes.get(..got).unwrap_or_default();
        if got == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        if !PREFACE.starts_with(start) {
            return Ok(false);
        }
        if got == PREFACE.len() {
            return Ok(true);
        }
        if got == seen {
            // peek() returns at once while bytes wait unread: give the rest a moment to come.
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        seen = got;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_of_many_connections_shrink_to_the_least_the_protocol_allows() {
        let budget = 64 << 20;
        assert_eq!(u64::from(window(budget, 0)), WINDOW_MOST);
        assert_eq!(u64::from(window(budget, 16)), WINDOW_MOST);
        assert_eq!(u64::from(window(budget, 64)), budget / 4 / 64);
        assert_eq!(u64::from(window(budget, 4_096)), WINDOW_LEAST);
    }
}
