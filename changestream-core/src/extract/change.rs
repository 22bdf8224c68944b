use std::time::SystemTime;

use serde::Deserialize;

use super::{BorrowFromChange, Need, Needs, Reads, Rejection, Scratch, full_document::decode};
use crate::{
    event::{
        ClusterTime, DocumentKey, EventId, Namespace, Operation, RawChange, UpdateDescription,
    },
    handler::{Attempt, ChangeRequest},
};

/// Everything about a change, with its documents decoded as `T`.
///
/// Asks for the full document and the pre-image and takes what there is of them, as
/// [`FullDocument`](super::FullDocument) and [`PreImage`](super::PreImage) say; one that does not decode
/// as `T` rejects the event.
#[derive(Clone, Debug)]
pub struct Change<T> {
    full_document: Option<T>,
    pre_image: Option<T>,
    document_key: Option<DocumentKey>,
    update: Option<UpdateDescription>,
    attempt: Attempt,
    raw: RawChange,
}

impl<T> Change<T> {
    /// What happened.
    pub fn operation(&self) -> &Operation {
        self.raw.operation()
    }

    /// Where it happened.
    pub fn namespace(&self) -> Namespace {
        self.raw.namespace()
    }

    /// The key of the changed document; `None` for events that are not of a document.
    pub fn document_key(&self) -> Option<&DocumentKey> {
        self.document_key.as_ref()
    }

    /// The document after the change.
    pub fn full_document(&self) -> Option<&T> {
        self.full_document.as_ref()
    }

    /// The document before the change.
    pub fn pre_image(&self) -> Option<&T> {
        self.pre_image.as_ref()
    }

    /// What an update changed; `None` for other operations.
    pub fn update(&self) -> Option<&UpdateDescription> {
        self.update.as_ref()
    }

    /// The event's identity.
    pub fn event_id(&self) -> EventId {
        self.raw.event_id()
    }

    /// When the change was written, on the server's logical clock.
    pub fn cluster_time(&self) -> Option<ClusterTime> {
        self.raw.cluster_time()
    }

    /// When the change was written, by the server's wall clock.
    pub fn wall_time(&self) -> Option<SystemTime> {
        self.raw.wall_time()
    }

    /// Which attempt at handling the event this is.
    pub fn attempt(&self) -> Attempt {
        self.attempt
    }

    /// The event as the server sent it: with [`Projection::Fields`](crate::Projection::Fields), of its documents only
    /// what the handlers read, as this one reads the fields of `T`.
    pub fn raw(&self) -> &RawChange {
        &self.raw
    }
}

impl<'r, T: Deserialize<'r> + Send> BorrowFromChange<'r> for Change<T> {
    const NEEDS: Needs = Needs::NONE
        .full_document(Need::Optional)
        .pre_image(Need::Optional);

    fn reads() -> Reads {
        Reads::NONE.full_document::<T>().pre_image::<T>()
    }

    fn borrow_from_change(
        request: &'r ChangeRequest,
        scratch: &'r Scratch,
    ) -> Result<Self, Rejection> {
        let raw = request.change();
        let full_document = raw.full_document();
        let pre_image = raw.pre_image();
        Ok(Self {
            full_document: full_document
                .map(|document| decode("the full document", document, scratch))
                .transpose()?,
            pre_image: pre_image
                .map(|document| decode("the pre-image", document, scratch))
                .transpose()?,
            document_key: raw.document_key(),
            update: raw.update_description(),
            attempt: request.attempt(),
            raw: raw.clone(),
        })
    }
}
