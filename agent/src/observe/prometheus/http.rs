//! One GET, bounded: no redirect is followed, no cookie kept, no body longer than it may be.

use std::net::SocketAddr;

use bytes::{Bytes, BytesMut};
use http_body_util::{BodyExt as _, Empty};
use hyper::header::{ACCEPT, CONTENT_TYPE, HOST, USER_AGENT};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use super::target::{Target, TargetError};
use super::text::Dialect;

/// What is asked for, best first; an exporter that knows neither answers in 0.0.4 anyhow.
const FORMATS: &str =
    "application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5,*/*;q=0.1";

/// Why a target gave no answer.
#[derive(Debug, thiserror::Error)]
pub enum HttpError {
    /// It may not be asked.
    #[error(transparent)]
    Target(#[from] TargetError),
    /// Its name means nothing.
    #[error("{host} cannot be resolved: {source}")]
    Name {
        /// The host.
        host: String,
        /// What the resolver said.
        source: std::io::Error,
    },
    /// Nobody listens.
    #[error("{address}: {source}")]
    Connect {
        /// Where.
        address: SocketAddr,
        /// What the system said.
        source: std::io::Error,
    },
    /// It does not speak HTTP.
    #[error("{0}")]
    Http(#[from] hyper::Error),
    /// It says no.
    #[error("it answered with HTTP {0}")]
    Status(u16),
    /// It says too much.
    #[error("its answer is longer than {0} bytes")]
    TooLarge(usize),
}

/// Asks, and gives the whole body with the format it says it is in.
///
/// # Errors
/// When it may not be asked, does not answer with 200, or answers too much.
pub async fn get(target: &Target, limit: usize) -> Result<(Bytes, Dialect), HttpError> {
    let name = |source| HttpError::Name { host: target.host.clone(), source };
    let found = tokio::net::lookup_host((target.host.as_str(), target.port)).await.map_err(name)?;
    let mut refused = None;
    let mut failed = None;
    for address in found {
        let address = match target.admit(address) {
            Ok(address) => address,
            Err(error) => {
                refused = Some(error);
                continue;
            }
        };
        match TcpStream::connect(address).await {
            Ok(stream) => return ask(target, stream, limit).await,
            Err(source) => failed = Some(HttpError::Connect { address, source }),
        }
    }
    Err(match (failed, refused) {
        (Some(failed), _) => failed,
        (None, Some(refused)) => refused.into(),
        (None, None) => name(std::io::ErrorKind::NotFound.into()),
    })
}

async fn ask(
    target: &Target,
    stream: TcpStream,
    limit: usize,
) -> Result<(Bytes, Dialect), HttpError> {
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    let request = hyper::Request::get(target.path.as_str())
        .header(HOST, target.authority())
        .header(ACCEPT, FORMATS)
        .header(USER_AGENT, crate::BUILD)
        .body(Empty::<Bytes>::new());
    // What the path was checked for is all that could be wrong here.
    let Ok(request) = request else { return Err(HttpError::Status(0)) };
    let answer = async {
        let response = sender.send_request(request).await?;
        let status = response.status().as_u16();
        if status != 200 {
            return Err(HttpError::Status(status));
        }
        let media = response.headers().get(CONTENT_TYPE).and_then(|v| v.to_str().ok());
        let dialect = Dialect::of(media.unwrap_or_default());
        let mut body = response.into_body();
        let mut bytes = BytesMut::new();
        while let Some(frame) = body.frame().await {
            if let Ok(data) = frame?.into_data() {
                if bytes.len() + data.len() > limit {
                    return Err(HttpError::TooLarge(limit));
                }
                bytes.extend_from_slice(&data);
            }
        }
        Ok((bytes.freeze(), dialect))
    };
    // The connection is driven here and ends with the answer: no task is left behind.
    tokio::pin!(connection);
    tokio::pin!(answer);
    tokio::select! {
        biased;
        answer = &mut answer => answer,
        ended = &mut connection => {
            ended?;
            answer.await
        }
    }
}
