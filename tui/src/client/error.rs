//! Why a colony did not answer, and what to do about it.

use std::io;
use std::path::{Path, PathBuf};

use coral_model::paths::PathsError;

/// Why a colony did not answer.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// Nobody listens on its socket.
    #[error("no colony runs at {}", socket.display())]
    NotRunning {
        /// Where it was looked for.
        socket: PathBuf,
    },
    /// The socket is somebody else's.
    #[error("not permitted to use {}: it belongs to another user", socket.display())]
    NotPermitted {
        /// The socket.
        socket: PathBuf,
    },
    /// The colony speaks a protocol this program no longer does.
    #[error("the colony ({build}) is older than this program")]
    ColonyTooOld {
        /// What it calls itself.
        build: String,
    },
    /// The daemon could not be started, or did not come up.
    #[error("the colony did not start: {why}")]
    Start {
        /// What happened.
        why: String,
        /// Its log.
        log: PathBuf,
    },
    /// A path cannot be used.
    #[error(transparent)]
    Paths(#[from] PathsError),
    /// The connection broke, or never was one.
    #[error("lost the colony: {0}")]
    Lost(String),
    /// It understood, and refused.
    #[error("{message}")]
    Refused {
        /// gRPC's word for why.
        code: tonic::Code,
        /// Its own words.
        message: String,
    },
    /// What came is not what was agreed.
    #[error("the colony's answer cannot be read: {0}")]
    Garbled(String),
}

impl ClientError {
    pub(super) fn from_io(socket: &Path, e: &io::Error) -> Self {
        let socket = socket.to_path_buf();
        match e.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => {
                Self::NotRunning { socket }
            }
            io::ErrorKind::PermissionDenied => Self::NotPermitted { socket },
            _ => Self::Lost(e.to_string()),
        }
    }

    /// The next command to try.
    #[must_use]
    pub fn remedy(&self) -> Option<String> {
        match self {
            Self::NotRunning { .. } => Some("coral up".to_owned()),
            Self::NotPermitted { .. } => {
                Some("coral --colony NAME, or run as the user who owns it".to_owned())
            }
            Self::ColonyTooOld { .. } => {
                Some("restart the colony with this build: coral down && coral up".to_owned())
            }
            Self::Start { log, .. } => Some(format!("tail {}", log.display())),
            Self::Lost(_) => Some("coral status; coral doctor names the logs".to_owned()),
            Self::Garbled(_) => Some("the builds may differ: coral down && coral up".to_owned()),
            Self::Paths(_) | Self::Refused { .. } => None,
        }
    }
}

impl From<tonic::Status> for ClientError {
    fn from(status: tonic::Status) -> Self {
        match status.code() {
            tonic::Code::Unavailable | tonic::Code::Cancelled | tonic::Code::Unknown => {
                Self::Lost(status.message().to_owned())
            }
            code => Self::Refused { code, message: status.message().to_owned() },
        }
    }
}
