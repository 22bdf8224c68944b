//! Which fields of the documents the stream of a runtime asks for.

use std::collections::BTreeSet;

use bson::Document;
use changestream::{ChangeRequest, FromBatch, Need, Needs, Projection, Reads, prelude::*};
use serde::Deserialize;

use crate::support::shop::Shop;

#[derive(Debug, Deserialize)]
#[allow(dead_code)]
struct Order {
    status: String,
    total: Option<f64>,
}

#[derive(Debug, Deserialize)]
#[allow(dead_code)]
struct Buyer {
    customer: Document,
}

/// The fields of the full document and of the pre-image that the stream of `handlers` leaves; `None` for all.
async fn projected(
    shop: &Shop,
    handlers: impl IntoIterator<Item = HandlerSpec<()>>,
) -> Option<[Option<BTreeSet<String>>; 2]> {
    let runtime = shop.runtime().projection(Projection::Fields);
    let runtime = runtime.handlers(handlers).build().expect("a runtime");
    let pipeline = runtime.pipeline().await.expect("a pipeline");
    let stage = pipeline
        .iter()
        .find_map(|stage| stage.get_document("$set").ok())?;
    Some(["fullDocument", "fullDocumentBeforeChange"].map(|image| {
        let condition = stage.get_document(image).ok()?.get_array("$cond").ok()?;
        let fields = condition[1].as_document().expect("fields");
        Some(fields.keys().cloned().collect())
    }))
}

fn names(names: &[&str]) -> Option<BTreeSet<String>> {
    Some(names.iter().map(|name| (*name).to_owned()).collect())
}

#[on_change(coll = "orders")]
async fn ordered(_order: Option<FullDocument<Order>>) -> Result<(), HandlerError> {
    Ok(())
}

#[on_change(coll = "orders", key = "payment.id")]
async fn bought(_buyer: Change<Buyer>) -> Result<(), HandlerError> {
    Ok(())
}

#[on_change(coll = "plain")]
async fn touched(
    _key: DocumentKey,
    _id: EventId,
    _at: Option<ClusterTime>,
) -> Result<(), HandlerError> {
    Ok(())
}

#[on_change(coll = "plain")]
async fn untyped(_order: Option<FullDocument<Document>>) -> Result<(), HandlerError> {
    Ok(())
}

#[on_change(coll = "plain", op = "delete")]
async fn raw(_change: RawChange) -> Result<(), HandlerError> {
    Ok(())
}

#[on_change(coll = "orders", op = ["update", "replace"], field = ["note", "items.0.sku"])]
async fn noted(_id: EventId) -> Result<(), HandlerError> {
    Ok(())
}

#[on_change(coll = "orders", batch(max = 10, within = "1ms"))]
async fn gathered(_orders: Vec<Change<Order>>, _attempt: Attempt) -> Result<(), HandlerError> {
    Ok(())
}

struct Size;

impl<S> FromBatch<S> for Size {
    fn from_batch(_request: &ChangeRequest, _state: &S) -> Self {
        Self
    }
}

#[on_change(coll = "orders", batch(max = 10, within = "1ms"))]
async fn measured(_orders: Vec<Change<Order>>, _size: Size) -> Result<(), HandlerError> {
    Ok(())
}

/// An extractor that says nothing of what it reads.
struct Silent;

impl<S> FromChange<S> for Silent {
    fn from_change(_request: &ChangeRequest, _state: &S) -> Result<Self, Rejection> {
        Ok(Self)
    }
}

#[on_change(coll = "plain")]
async fn silent(_silent: Option<Silent>) -> Result<(), HandlerError> {
    Ok(())
}

struct Said;

impl<S> FromChange<S> for Said {
    const NEEDS: Needs = Needs::NONE.full_document(Need::Optional);

    fn reads() -> Reads {
        Reads::NONE.full_document::<Buyer>()
    }

    fn from_change(_request: &ChangeRequest, _state: &S) -> Result<Self, Rejection> {
        Ok(Self)
    }
}

#[on_change(coll = "plain")]
async fn said(_said: Said) -> Result<(), HandlerError> {
    Ok(())
}

#[tokio::test]
async fn the_stream_asks_for_what_handlers_read_and_for_all_where_one_reads_all() {
    let shop = Shop::open().await;
    let has_images = shop.record_images().await;
    let before = |fields| has_images.then(|| names(fields)).flatten();
    let order = names(&["status", "total"]);
    assert_eq!(
        projected(&shop, handlers![ordered]).await,
        Some([order.clone(), None])
    );
    assert_eq!(
        projected(&shop, handlers![touched]).await,
        Some([names(&[]), None])
    );
    assert_eq!(
        projected(&shop, handlers![bought, touched]).await,
        Some([
            names(&["customer", "payment"]),
            before(&["customer", "payment"])
        ])
    );
    assert_eq!(
        projected(&shop, handlers![ordered, bought]).await,
        Some([
            names(&["customer", "payment", "status", "total"]),
            before(&["customer", "payment"])
        ])
    );
    assert_eq!(
        projected(&shop, handlers![bought, noted]).await,
        Some([
            names(&["customer", "payment", "note", "items"]),
            before(&["customer", "payment", "note", "items"])
        ])
    );
    assert_eq!(
        projected(&shop, handlers![gathered]).await,
        Some([order.clone(), before(&["status", "total"])])
    );
    assert_eq!(
        projected(&shop, handlers![ordered, said]).await,
        Some([names(&["customer", "status", "total"]), None])
    );

    assert_eq!(projected(&shop, handlers![ordered, untyped]).await, None);
    assert_eq!(projected(&shop, handlers![ordered, silent]).await, None);
    assert_eq!(projected(&shop, handlers![measured]).await, None);
    assert_eq!(
        projected(&shop, handlers![ordered, raw]).await,
        Some([order, None]),
        "of a delete, there is no full document"
    );
    if has_images {
        assert_eq!(
            projected(&shop, handlers![bought, raw]).await,
            Some([names(&["customer", "payment"]), None]),
            "the whole pre-image"
        );
    }
    let whole = shop.runtime().handlers(handlers![ordered]).build();
    let pipeline = whole
        .expect("a runtime")
        .pipeline()
        .await
        .expect("a pipeline");
    assert!(
        pipeline.iter().all(|stage| !stage.contains_key("$set")),
        "by default"
    );
}
