use std::{
    fmt,
    sync::Arc,
    task::{Context, Poll},
};

use futures::future::BoxFuture;
use tower::{Service, util::BoxCloneSyncService};

use super::{ChangeRequest, HandlerError};
use crate::message::Message;

/// A handler with its state and layers, its type erased: what a [`Runtime`](crate::Runtime)'s layers
/// wrap.
#[derive(Clone)]
pub struct BoxHandler(Inner);

#[derive(Clone)]
enum Inner {
    /// No layer is around it, so that it is cloned for nothing.
    Function(Arc<Function>),
    Service(BoxCloneSyncService<ChangeRequest, Vec<Message>, HandlerError>),
}

type Function = dyn Fn(ChangeRequest) -> HandlerFuture + Send + Sync;

type HandlerFuture = BoxFuture<'static, Result<Vec<Message>, HandlerError>>;

impl BoxHandler {
    /// Erases the type of `service`.
    pub fn new<S>(service: S) -> Self
    where
        S: Service<ChangeRequest, Response = Vec<Message>, Error = HandlerError>,
        S: Clone + Send + Sync + 'static,
        S::Future: Send + 'static,
    {
        Self(Inner::Service(BoxCloneSyncService::new(service)))
    }

    pub(super) fn function<F>(call: impl Fn(ChangeRequest) -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = Result<Vec<Message>, HandlerError>> + Send + 'static,
    {
        let function = move |request| -> HandlerFuture { Box::pin(call(request)) };
        Self(Inner::Function(Arc::new(function)))
    }

    /// Whether it is ready for any call without being asked, as a handler is that no layer is around.
    pub(crate) fn is_always_ready(&self) -> bool {
        matches!(self.0, Inner::Function(_))
    }

    /// The same handler for another lane, whose clones share no reference count with those of this one.
    pub(crate) fn of_lane(&self) -> Self {
        Self(match &self.0 {
            Inner::Function(function) => {
                let function = Arc::clone(function);
                Inner::Function(Arc::new(move |request| function(request)))
            }
            Inner::Service(service) => Inner::Service(service.clone()),
        })
    }
}

impl Service<ChangeRequest> for BoxHandler {
    type Response = Vec<Message>;
    type Error = HandlerError;
    type Future = HandlerFuture;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), HandlerError>> {
        match &mut self.0 {
            Inner::Function(_) => Poll::Ready(Ok(())),
            Inner::Service(service) => service.poll_ready(cx),
        }
    }

    fn call(&mut self, request: ChangeRequest) -> HandlerFuture {
        match &mut self.0 {
            Inner::Function(function) => function(request),
            Inner::Service(service) => service.call(request),
        }
    }
}

impl fmt::Debug for BoxHandler {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("BoxHandler")
    }
}
