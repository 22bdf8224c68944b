use std::{
    convert::Infallible,
    future::pending,
    task::{Context, Poll},
};

use futures::future::{BoxFuture, Either};
use tokio::sync::mpsc;
use tower::Service;

use super::{HandlerStack, HandlerStacks, Outcome};
use crate::{
    error::{Error, Kind},
    event::{Operation, RawChange},
    extract::{Need, Needs},
    handler::ChangeRequest,
    source::{DocumentModes, FullDocumentMode},
};

/// Ends the runtime at an event that lacks an image which its handler requires: the policy
/// [`OnMissingImage::Fail`](crate::OnMissingImage::Fail).
#[derive(Clone, Debug)]
pub(crate) struct ImageGuard {
    pub(crate) modes: DocumentModes,
    /// Where the error goes that ends the runtime.
    pub(crate) failure: mpsc::Sender<Error>,
}

impl ImageGuard {
    /// `stacks` behind the guard, where their handler, which has these `needs`, requires an image.
    pub(crate) fn around(&self, needs: Needs, stacks: HandlerStacks) -> HandlerStacks {
        let required = RequiredImages {
            pre_image: needs.pre_image == Need::Required,
            post_image: needs.full_document == Need::Required
                && self.modes.full_document == FullDocumentMode::PostImage,
        };
        match required.pre_image || required.post_image {
            false => stacks,
            true => {
                let failure = self.failure.clone();
                HandlerStacks::new(move || {
                    HandlerStack::new(RequireImages {
                        inner: stacks.stack(),
                        required,
                        failure: failure.clone(),
                    })
                })
            }
        }
    }
}

#[derive(Clone, Copy, Debug)]
struct RequiredImages {
    pre_image: bool,
    post_image: bool,
}

impl RequiredImages {
    /// The image that `change` lacks. Inserts have no pre-image, and only of an update is the document after it
    /// an image.
    fn missing(self, change: &RawChange) -> Option<&'static str> {
        if change.is_header_only() {
            return None;
        }
        let has_pre_image = [Operation::Update, Operation::Replace, Operation::Delete];
        let operation = change.operation();
        if self.pre_image && has_pre_image.contains(operation) && change.pre_image().is_none() {
            return Some("pre-image");
        }
        let has_post_image = *operation == Operation::Update;
        if self.post_image && has_post_image && change.full_document().is_none() {
            return Some("post-image");
        }
        None
    }
}

#[derive(Clone, Debug)]
struct RequireImages {
    inner: HandlerStack,
    required: RequiredImages,
    failure: mpsc::Sender<Error>,
}

impl Service<ChangeRequest> for RequireImages {
    type Response = Outcome;
    type Error = Infallible;
    type Future = Either<
        <HandlerStack as Service<ChangeRequest>>::Future,
        BoxFuture<'static, Result<Outcome, Infallible>>,
    >;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: ChangeRequest) -> Self::Future {
        let lacking = |change| Some((self.required.missing(change)?, change));
        let lacking = request.changes().find_map(lacking);
        let error = lacking.map(|(image, change)| error(image, request.handler(), change));
        match error {
            None => Either::Left(self.inner.call(request)),
            Some(error) => Either::Right(Box::pin(fail(self.failure.clone(), error))),
        }
    }
}

/// Leaves the event unfinished, so that no checkpoint passes it.
async fn fail(failure: mpsc::Sender<Error>, error: Error) -> Result<Outcome, Infallible> {
    failure.send(error).await.ok();
    pending().await
}

fn error(image: &str, handler: &str, change: &RawChange) -> Error {
    Error::new(
        Kind::MissingImage,
        format!(
            "handler `{}` requires the {image} of the {} {} of `{}`, which the server does not have: it was not \
             recorded, or has expired. The event comes again at the next start; to pass it, choose \
             `OnMissingImage::DeadLetter`, or take the image as `Option`",
            handler,
            change.operation(),
            change.event_id(),
            change.namespace(),
        ),
    )
}
