//! The session with the colony: records out, acknowledgements in.
//!
//! The agent dials, says who it is, learns what the colony has already committed, and ships
//! everything else: the newest segment first, because people look at what happens now, and every
//! other chunk from the oldest, so that a backlog shrinks under any load. Unacknowledged bytes are
//! bounded; a slow colony slows the shipping, never the accepting. What is acknowledged *and* counted
//! is deleted, and the colony is told so that it may forget its mark.
//!
//! [`clock`] estimates how far the two clocks lie apart, [`report`] is the agent's word about itself.

pub mod clock;
pub mod report;
mod session;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use coral_model::{AgentId, Time};
use coral_proto::MAX_MESSAGE;
use coral_proto::v1::uplink_client::UplinkClient;
use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;
use tokio_util::sync::CancellationToken;
use tonic::transport::Endpoint;

use crate::observe::kernel::lids::Lids;
use crate::pipeline::Pipeline;
use crate::senses::Senses;

/// Who the agent says it is.
#[derive(Debug, Clone)]
pub struct Identity {
    /// Its id.
    pub agent: AgentId,
    /// Host it runs on.
    pub host: String,
    /// What part of the host it watches.
    pub scope: String,
}

/// Where the colony is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Colony {
    /// On this machine.
    Unix(PathBuf),
}

/// Why a colony's address is not one.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("`{0}` is not a colony's address: write unix:/path/to/uplink.sock")]
pub struct NotAColony(String);

impl std::str::FromStr for Colony {
    type Err = NotAColony;

    fn from_str(text: &str) -> Result<Self, NotAColony> {
        let path = text.strip_prefix("unix:").ok_or_else(|| NotAColony(text.to_owned()))?;
        let path = path.strip_prefix("//").filter(|p| p.starts_with('/')).unwrap_or(path);
        if path.is_empty() {
            return Err(NotAColony(text.to_owned()));
        }
        Ok(Self::Unix(PathBuf::from(path)))
    }
}

/// Why a session ended.
#[derive(Debug, thiserror::Error)]
pub enum SessionError {
    /// Nobody answers.
    #[error("the colony is not reachable: {0}")]
    Connect(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The colony ended the session.
    #[error("the colony ended the session: {0}")]
    Ended(String),
    /// The colony does not want this agent.
    #[error("the colony refused: {reason}; {remedy}")]
    Refused {
        /// Why.
        reason: String,
        /// What to do.
        remedy: String,
    },
    /// The spool cannot be read.
    #[error("cannot read the spool: {0}")]
    Spool(#[from] std::io::Error),
}

/// When the agent last had a session, for whoever decides whether to stay.
#[derive(Debug, Default)]
pub struct LastSeen(AtomicU64);

impl LastSeen {
    /// Unix ns of the last word from the colony; 0 before the first.
    #[must_use]
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    pub(crate) fn now(&self) {
        self.0.store(Time::now().0, Ordering::Relaxed);
    }
}

/// The uplink's task.
pub struct Uplink {
    /// Where to.
    pub colony: Colony,
    /// Who calls.
    pub identity: Identity,
    /// What is shipped.
    pub pipeline: Arc<Pipeline>,
    /// What is reported.
    pub senses: Senses,
    /// Told what is wanted of the eyes; how they are is reported.
    pub lids: Lids,
    /// Tells others when the colony was last there.
    pub last_seen: Arc<LastSeen>,
}

/// Longest pause between two attempts to connect.
const SLOWEST: Duration = Duration::from_secs(5);
/// Pause after a refusal: nothing changes until somebody restarts a program.
const REFUSED: Duration = Duration::from_secs(15);

impl Uplink {
    /// Keeps a session until cancelled; then ships what is left, within reason.
    pub async fn run(self, cancel: CancellationToken) {
        let mut pause = Duration::from_millis(50);
        self.senses.off("uplink", "no session with the colony yet", None);
        loop {
            let started = tokio::time::Instant::now();
            let error = match self.session(&cancel).await {
                Ok(()) => return,
                Err(error) => error,
            };
            if started.elapsed() > SLOWEST {
                pause = Duration::from_millis(50);
            }
            let refused = matches!(error, SessionError::Refused { .. });
            if refused {
                tracing::error!(%error, "uplink");
                self.senses.off("uplink", error.to_string(), None);
            } else {
                tracing::debug!(%error, "uplink");
                self.senses.off("uplink", error.to_string(), None);
            }
            let wait = jitter(if refused { REFUSED } else { pause });
            tokio::select! {
                () = cancel.cancelled() => return,
                () = tokio::time::sleep(wait) => {}
            }
            pause = (pause * 2).min(SLOWEST);
        }
    }

    async fn session(&self, cancel: &CancellationToken) -> Result<(), SessionError> {
        let Colony::Unix(path) = &self.colony;
        let connect = |e: tonic::transport::Error| SessionError::Connect(e.into());
        // The name is never looked up: a path need not be a valid URI, so it is not made one.
        let endpoint = Endpoint::from_static("http://colony")
            .connect_timeout(Duration::from_secs(5))
            .http2_keep_alive_interval(Duration::from_secs(10))
            .keep_alive_timeout(Duration::from_secs(20))
            .initial_stream_window_size(1 << 20)
            .initial_connection_window_size(1 << 20);
        let path = path.clone();
        let connector = tower::service_fn(move |_| {
            let path = path.clone();
            async move { UnixStream::connect(path).await.map(TokioIo::new) }
        });
        let channel = tokio::select! {
            () = cancel.cancelled() => return Ok(()),
            channel = endpoint.connect_with_connector(connector) => channel.map_err(connect)?,
        };
        let client = UplinkClient::new(channel)
            .max_decoding_message_size(MAX_MESSAGE)
            .max_encoding_message_size(MAX_MESSAGE);
        session::run(self, client, cancel).await
    }
}

/// Between half and one and a half times as long, so that agents do not come back all at once.
fn jitter(pause: Duration) -> Duration {
    let [byte] = crate::random_bytes::<1>();
    pause / 2 + pause * u32::from(byte) / 255
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_parse_or_say_how() {
        assert_eq!("unix:/run/c.sock".parse(), Ok(Colony::Unix("/run/c.sock".into())));
        assert_eq!("unix:///run/c.sock".parse(), Ok(Colony::Unix("/run/c.sock".into())));
        assert!("tcp:1.2.3.4".parse::<Colony>().unwrap_err().to_string().contains("unix:/"));
        assert!("unix:".parse::<Colony>().is_err());
    }
}
