//! One kind of failure for all five services: what the caller gets, and what the span and the log say.

use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};

/// A request that could not be served.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{message}")]
pub struct Failure {
    pub status: StatusCode,
    /// The low-cardinality word for `error.type`.
    pub kind: &'static str,
    pub message: String,
}

/// Travels in the response's extensions, so that the middleware can name the error.
#[derive(Clone)]
pub struct ErrorType(pub Failure);

impl Failure {
    pub fn internal(kind: &'static str, message: impl Into<String>) -> Self {
        Self { status: StatusCode::INTERNAL_SERVER_ERROR, kind, message: message.into() }
    }

    pub fn unavailable(kind: &'static str, message: impl Into<String>) -> Self {
        Self { status: StatusCode::SERVICE_UNAVAILABLE, kind, message: message.into() }
    }

    /// What a service behind did wrong, passed on.
    pub fn upstream(kind: &'static str, message: impl Into<String>) -> Self {
        Self { status: StatusCode::BAD_GATEWAY, kind, message: message.into() }
    }

    pub fn not_found(message: impl Into<String>) -> Self {
        Self { status: StatusCode::NOT_FOUND, kind: "404", message: message.into() }
    }

    pub fn bad_request(message: impl Into<String>) -> Self {
        Self { status: StatusCode::BAD_REQUEST, kind: "400", message: message.into() }
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        let body = axum::Json(serde_json::json!({ "error": self.message }));
        let mut response = (self.status, body).into_response();
        response.extensions_mut().insert(ErrorType(self));
        response
    }
}

impl From<Failure> for tonic::Status {
    fn from(failure: Failure) -> Self {
        let code = match failure.status {
            StatusCode::NOT_FOUND => tonic::Code::NotFound,
            StatusCode::BAD_REQUEST => tonic::Code::InvalidArgument,
            StatusCode::BAD_GATEWAY | StatusCode::SERVICE_UNAVAILABLE => tonic::Code::Unavailable,
            _ => tonic::Code::Internal,
        };
        Self::new(code, failure.message)
    }
}
