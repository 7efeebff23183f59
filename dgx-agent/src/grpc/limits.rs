//! What tonic refuses before the service sees it, in the service's words.

use std::task::{Context, Poll};

use futures::{FutureExt, future::BoxFuture};
use tonic::{
    Status,
    body::Body,
    codegen::{Service, http},
    server::NamedService,
};

use super::status::too_large;

/// A service whose too large messages are refused with their limit.
#[derive(Debug, Clone)]
pub struct Limits<S>(pub S);

impl<S: NamedService> NamedService for Limits<S> {
    const NAME: &'static str = S::NAME;
}

impl<S, R> Service<http::Request<R>> for Limits<S>
where
    S: Service<http::Request<R>, Response = http::Response<Body>>,
    S::Future: Send + 'static,
{
    type Response = http::Response<Body>;
    type Error = S::Error;
    type Future = BoxFuture<'static, Result<Self::Response, Self::Error>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.0.poll_ready(context)
    }

    fn call(&mut self, request: http::Request<R>) -> Self::Future {
        self.0.call(request).map(|answer| answer.map(said)).boxed()
    }
}

/// A refusal without a body carries its status.
fn said(answer: http::Response<Body>) -> http::Response<Body> {
    match answer.extensions().get::<Status>() {
        Some(status) if status.code() == tonic::Code::OutOfRange => too_large(status.clone()).into_http(),
        _ => answer,
    }
}
