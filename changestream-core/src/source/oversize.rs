//! How an event that is too large is passed: read up to it one by one, then in parts, or its header alone.

use bson::{Document, bson, doc};

/// The stages that leave of an event what is small: all but its documents, and of an update the names of the
/// fields that it changed.
pub(super) fn header_stages() -> [Document; 2] {
    let names = doc! {
        "$map": {
            "input": { "$objectToArray": "$updateDescription.updatedFields" },
            "in": { "k": "$$this.k", "v": null },
        },
    };
    let names = doc! { "updatedFields": { "$arrayToObject": names } };
    let update = doc! { "$mergeObjects": ["$updateDescription", names] };
    let is_update = doc! { "$eq": ["$operationType", "update"] };
    let omitted = bson!([
        "fullDocument",
        "fullDocumentBeforeChange",
        "updateDescription.updatedFields.*"
    ]);
    [
        doc! { "$set": {
            "updateDescription": { "$cond": [is_update, update, "$$REMOVE"] },
            "omittedFields": { "$literal": omitted },
        } },
        doc! { "$unset": ["fullDocument", "fullDocumentBeforeChange"] },
    ]
}

/// How the stream is read.
#[derive(Clone, Copy, Debug, Default)]
pub(super) enum Reading {
    /// In batches.
    #[default]
    InBatches,
    /// So many more events one by one: one among them is too large, and what comes before it is to be had
    /// first.
    Singly { left: u32 },
    /// Of the next event, which is too large, the header.
    Header,
}
