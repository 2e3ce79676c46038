//! Admission: no call reaches a service before its caller is known and allowed.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use tonic::body::Body;
use tonic::codegen::http::{Request, Response};
use tower::{Layer, Service};

use super::permit::Policy;
use crate::registry::Peer;

/// Layer and service: asks the [`Policy`] about every call.
#[derive(Clone, Debug)]
pub struct Gate<S = ()> {
    policy: Policy,
    inner: S,
}

impl Gate {
    /// The layer.
    #[must_use]
    pub fn new(policy: Policy) -> Self {
        Self { policy, inner: () }
    }
}

impl<S> Layer<S> for Gate {
    type Service = Gate<S>;
    fn layer(&self, inner: S) -> Gate<S> {
        Gate { policy: self.policy, inner }
    }
}

impl<S, B> Service<Request<B>> for Gate<S>
where
    S: Service<Request<B>, Response = Response<Body>>,
    S::Future: Send + 'static,
    S::Error: Send + 'static,
{
    type Response = Response<Body>;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, S::Error>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let peer = Peer::of(request.extensions());
        match self.policy.admit(request.uri().path(), peer) {
            Ok(()) => Box::pin(self.inner.call(request)),
            Err(status) => Box::pin(std::future::ready(Ok(status.into_http()))),
        }
    }
}
