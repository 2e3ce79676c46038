//! Why a call failed, in the words of gRPC.

use tonic::{Code, Status};

use crate::query::QueryError;

/// The status that tells it: the code says whose turn it is, the text what, why and what next.
pub(super) fn status(error: &QueryError) -> Status {
    let code = match error {
        e if e.is_usage() => Code::InvalidArgument,
        QueryError::TooSlow(_) => Code::DeadlineExceeded,
        QueryError::TooLarge | QueryError::NoRoom => Code::ResourceExhausted,
        QueryError::Database { error, sql } => {
            tracing::error!("a statement failed: {error}; {sql}");
            Code::Internal
        }
        QueryError::Shape { .. } => Code::Internal,
        _ => Code::Unavailable,
    };
    Status::new(code, error.to_string())
}

/// The colony ends.
pub(super) fn ending() -> Status {
    Status::unavailable("the colony is stopping; start it again with: coral up")
}

/// Too many ask at once.
pub(super) fn busy(what: &str, limit: usize) -> Status {
    Status::resource_exhausted(format!(
        "{limit} {what} are open already, more than this colony serves at once; close one and ask again"
    ))
}
