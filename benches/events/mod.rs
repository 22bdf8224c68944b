//! Events as a server gives them.

use bytes::Bytes;
use changestream::testing::change::DATABASE;
use mongodb::bson::{DateTime, Document, Timestamp, doc, serialize_to_vec};
use serde::Deserialize;

/// What handlers take of the documents.
#[derive(Deserialize)]
pub(crate) struct Item {
    pub(crate) price: f64,
    pub(crate) quantity: i32,
}

/// All text of the documents.
#[allow(dead_code)]
#[derive(Deserialize)]
pub(crate) struct Text<T> {
    sku: T,
    name: T,
    category: T,
    status: T,
    description: T,
}

/// Inserts of about 220 bytes into `items`, all of different documents, so many in a reply.
pub(crate) fn replies(events: usize, batch: usize) -> Vec<Bytes> {
    let events = (0..events).map(|n| {
        let n = i64::try_from(n).expect("a number");
        doc! {
            "_id": { "_data": format!("8263{n:016X}") },
            "operationType": "insert",
            "clusterTime": Timestamp { time: 1_700_000_000, increment: 1 },
            "wallTime": DateTime::from_millis(1_700_000_000_000),
            "fullDocument": {
                "_id": n, "sku": format!("SKU-{n:08}"), "name": format!("Item number {n}"),
                "category": "household", "price": 9.99, "quantity": 7, "status": "active",
                "description": "A small thing that is good to have about the house.",
            },
            "ns": { "db": DATABASE, "coll": "items" },
            "documentKey": { "_id": n },
        }
    });
    let events: Vec<_> = events.collect();
    let reply = |events: &[Document]| {
        let end = doc! { "_data": "8264" };
        let cursor = doc! { "nextBatch": events, "postBatchResumeToken": end, "id": 1_i64 };
        let reply = serialize_to_vec(&doc! { "cursor": cursor, "ok": 1.0 });
        Bytes::from(reply.expect("BSON"))
    };
    events.chunks(batch).map(reply).collect()
}
