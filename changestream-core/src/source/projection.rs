//! Which fields of their documents the events are sent with.

use bson::{Document, doc};

use super::DocumentModes;
use crate::{
    event::Operation,
    extract::{Fields, Reads},
    handler::BoundHandler,
};

/// How much of its documents the server sends with each event.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Projection {
    /// All that they hold.
    #[default]
    Whole,
    /// Of the full document and the pre-image, those top-level fields that a handler of the runtime reads, as its
    /// extractors tell ([`FromChange::reads`](crate::FromChange::reads)): what a handler takes decodes to the same
    /// values. Where one reads whole documents, as with `FullDocument<bson::Document>`, all are sent whole.
    ///
    /// Only top-level fields are told apart, and each is sent whole: a part of a nested one could decode to something else.
    /// What a handler names in [`key`](crate::HandlerSpec::key) or [`fields`](crate::HandlerSpec::fields) is sent too.
    /// Documents that are looked up and rows of snapshots come with these fields and `_id`.
    ///
    /// The raw event has no other fields, wherever it goes: to layers, sinks, [`Change::raw`](crate::Change::raw) and
    /// dead letters. A dead letter that is replayed when the handler's type has a further field lacks that field. The
    /// events of a `TestRuntime` are as the test made them.
    ///
    /// A `Deserialize` written by hand that calls `deserialize_struct` must name every field that it looks at. For the sake
    /// of a field that is not sent, as a text that is no UTF-8, no document is rejected.
    Fields,
}

/// What is read of the events' documents on behalf of `handlers`: by their extractors, keys and filters.
pub(crate) fn reads(handlers: &[BoundHandler]) -> Reads {
    handlers.iter().map(reads_of).fold(Reads::NONE, Reads::and)
}

fn reads_of(handler: &BoundHandler) -> Reads {
    let mut reads = (handler.reads)();
    let operations = || handler.selection.operations.iter();
    // Of other operations, the filter looks at no document.
    let is_compared = handler.selection.selects(&Operation::Replace);
    let compared = handler.selection.fields.iter().filter(|_| is_compared);
    let paths = handler.key.iter().chain(&handler.sink_paths);
    for path in paths.chain(compared) {
        reads = reads.and_path(path);
    }
    if !operations().any(may_have_full_document) {
        reads.full_document = Fields::NONE;
    }
    if !operations().any(may_have_pre_image) {
        reads.pre_image = Fields::NONE;
    }
    reads
}

fn may_have_full_document(operation: &Operation) -> bool {
    *operation != Operation::Delete && may_have_document(operation)
}

fn may_have_pre_image(operation: &Operation) -> bool {
    ![Operation::Insert, Operation::Snapshot].contains(operation) && may_have_document(operation)
}

fn may_have_document(operation: &Operation) -> bool {
    use Operation::{Drop, DropDatabase, Invalidate, Rename};
    ![Drop, DropDatabase, Invalidate, Rename].contains(operation)
}

/// The stage that leaves of the documents what is read; `None` where all is. What is no document stays as it is.
pub(super) fn stage(reads: &Reads, modes: DocumentModes) -> Option<Document> {
    let mut fields = Document::new();
    let mut leave = |image: &str, read: &Fields| {
        if let Fields::Named(names) = read {
            let image_path = format!("${image}");
            let value = |name: &String| (name.clone(), format!("{image_path}.{name}").into());
            let read: Document = names.iter().map(value).collect();
            let is_document = doc! { "$eq": [{ "$type": &image_path }, "object"] };
            fields.insert(image, doc! { "$cond": [is_document, read, image_path] });
        }
    };
    leave("fullDocument", &reads.full_document);
    if modes.pre_image {
        leave("fullDocumentBeforeChange", &reads.pre_image);
    }
    (!fields.is_empty()).then(|| doc! { "$set": fields })
}

/// The projection of a `find` that leaves of the documents what is read, and `_id`; `None` where all is.
pub(crate) fn of_find(reads: &Reads) -> Option<Document> {
    let Fields::Named(names) = &reads.full_document else {
        return None;
    };
    let mut projection = Document::new();
    projection.insert("_id", 1);
    projection.extend(names.iter().map(|name| (name.clone(), 1.into())));
    Some(projection)
}
