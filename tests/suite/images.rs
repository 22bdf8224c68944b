//! Which documents the server is asked for, and which versions of them come.

use std::{
    future::{pending, ready},
    sync::{Arc, Mutex},
};

use bson::{Document, doc};
use changestream::{StartAt, prelude::*};
use serde::Deserialize;
use tokio::time::timeout;

use crate::support::shop::{DEADLINE, Shop};

#[derive(Clone, Debug, PartialEq, Deserialize)]
struct Order {
    status: String,
}

/// What the stream of `handlers` is opened with.
async fn options(shop: &Shop, handlers: impl IntoIterator<Item = HandlerSpec<()>>) -> Document {
    let runtime = shop
        .runtime()
        .handlers(handlers)
        .build()
        .expect("a runtime");
    let pipeline = runtime.pipeline().await.expect("a pipeline");
    pipeline[0]
        .get_document("$changeStream")
        .expect("options")
        .clone()
}

#[on_change(coll = "orders", op = ["insert", "replace"])]
async fn stored(_order: FullDocument<Order>) -> Result<(), HandlerError> {
    Ok(())
}

#[on_change(coll = "orders", op = "update")]
async fn updated(_order: FullDocument<Order>) -> Result<(), HandlerError> {
    Ok(())
}

#[on_change(coll = "orders", op = "update")]
async fn touched(_key: DocumentKey) -> Result<(), HandlerError> {
    Ok(())
}

#[on_change(coll = "orders")]
async fn compared(_before: Option<PreImage<Order>>) -> Result<(), HandlerError> {
    Ok(())
}

#[on_change(coll = "orders", op = "insert")]
async fn inserted(_change: Change<Order>) -> Result<(), HandlerError> {
    Ok(())
}

#[on_change(coll = "plain", op = "update")]
async fn updated_without_images(_order: FullDocument<Order>) -> Result<(), HandlerError> {
    Ok(())
}

#[on_change(op = "update")]
async fn updated_anywhere(_order: FullDocument<Order>) -> Result<(), HandlerError> {
    Ok(())
}

#[on_change(coll = "orders", op = ["update", "delete"])]
async fn requires(_before: PreImage<Order>) -> Result<(), HandlerError> {
    Ok(())
}

#[tokio::test]
async fn documents_are_asked_for_as_signature_and_operations_say() {
    let shop = Shop::open().await;
    assert_eq!(
        options(&shop, handlers![stored]).await,
        doc! {},
        "inserts carry it"
    );
    assert_eq!(options(&shop, handlers![touched]).await, doc! {});
    assert_eq!(options(&shop, handlers![inserted]).await, doc! {});
    assert_eq!(
        options(&shop, handlers![updated]).await,
        doc! {},
        "it is looked up here"
    );
}

#[tokio::test]
async fn pre_images_are_asked_for_where_the_server_has_them() {
    let shop = Shop::open().await;
    let has_images = shop.record_images().await;
    let asked = match has_images {
        true => doc! { "fullDocumentBeforeChange": "whenAvailable" },
        false => doc! {},
    };
    assert_eq!(options(&shop, handlers![compared]).await, asked);
    assert_eq!(options(&shop, handlers![compared, touched]).await, asked);
}

#[tokio::test]
async fn the_post_image_is_asked_for_where_every_collection_that_wants_it_records_it() {
    let shop = Shop::open().await;
    let has_images = shop.record_images().await;
    let asked = async |handlers| {
        let options = options(&shop, handlers).await;
        options.get_str("fullDocument").ok().map(str::to_owned)
    };
    let recorded = has_images.then(|| "whenAvailable".to_owned());
    assert_eq!(asked(handlers![updated]).await, recorded);
    assert_eq!(asked(handlers![updated, touched, stored]).await, recorded);
    assert_eq!(
        asked(handlers![updated, updated_without_images]).await,
        None
    );
    assert_eq!(asked(handlers![updated, updated_anywhere]).await, None);
}

#[tokio::test]
async fn a_required_pre_image_that_cannot_be_had_is_an_error_at_start() {
    let shop = Shop::open().await;
    let runtime = || {
        let runtime = shop.runtime().handlers(handlers![requires]);
        runtime.build().expect("a runtime")
    };
    shop.insert(doc! { "_id": 1, "status": "new" }).await;
    let refused = timeout(DEADLINE, runtime().run_until(pending())).await;
    let error = refused.expect("at start").expect_err("none is recorded");
    assert!(error.is_unsupported_server());
    let error = error.to_string();
    assert!(
        error.contains("handler `requires` requires pre-images"),
        "{error}"
    );

    shop.orders().drop().await.expect("a drop");
    if shop.record_images().await {
        assert!(
            error.contains("changeStreamPreAndPostImages: {enabled: true}"),
            "{error}"
        );
        runtime().pipeline().await.expect("they are recorded");
    } else {
        assert!(error.contains("from 6.0 on"), "{error}");
    }
}

type Versions = Vec<(Option<String>, Option<String>)>;

/// The status before and after each change of two quick updates and a delete, as a handler sees it once all
/// of them have happened.
async fn versions(shop: &Shop) -> Versions {
    let versions = Arc::new(Mutex::new(Versions::new()));
    let keep = Arc::clone(&versions);
    let handler = move |before: Option<PreImage<Order>>, after: Option<FullDocument<Order>>| {
        let before = before.map(|PreImage(order)| order.status);
        let after = after.map(|FullDocument(order)| order.status);
        keep.lock().expect("no panic").push((before, after));
        ready(Ok::<(), HandlerError>(()))
    };
    let spec = HandlerSpec::new("versions", handler)
        .collections(["orders"])
        .operations([Operation::Update, Operation::Delete]);
    let from = StartAt::OperationTime(shop.now().await);
    shop.insert(doc! { "_id": 1, "status": "new" }).await;
    shop.update(1, doc! { "$set": { "status": "paid" } }).await;
    shop.update(1, doc! { "$set": { "status": "sent" } }).await;
    let gone = shop.delete(1);
    let letters = shop
        .run_from(from, shop.runtime().handler(spec), gone)
        .await;
    assert!(letters.is_empty(), "{letters:?}");
    std::mem::take(&mut versions.lock().expect("no panic"))
}

fn version(before: Option<&str>, after: Option<&str>) -> (Option<String>, Option<String>) {
    (before.map(str::to_owned), after.map(str::to_owned))
}

#[tokio::test]
async fn recorded_images_are_the_versions_before_and_after_each_change() {
    let shop = Shop::open().await;
    let expected = match shop.record_images().await {
        true => [
            version(Some("new"), Some("paid")),
            version(Some("paid"), Some("sent")),
            version(Some("sent"), None),
        ],
        false => [
            version(None, None),
            version(None, None),
            version(None, None),
        ],
    };
    assert_eq!(versions(&shop).await, expected);
}

#[tokio::test]
async fn without_recorded_images_the_document_is_as_it_is_at_lookup() {
    let shop = Shop::open().await;
    assert_eq!(
        versions(&shop).await,
        [
            version(None, None),
            version(None, None),
            version(None, None)
        ]
    );

    let seen = Arc::new(Mutex::new(Vec::new()));
    let keep = Arc::clone(&seen);
    let handler = move |FullDocument(order): FullDocument<Order>| {
        keep.lock().expect("no panic").push(order.status);
        ready(Ok::<(), HandlerError>(()))
    };
    let spec = HandlerSpec::new("looked up", handler)
        .collections(["orders"])
        .operations([Operation::Update]);
    shop.insert(doc! { "_id": 2, "status": "new" }).await;
    let updates = async {
        shop.update(2, doc! { "$set": { "status": "paid" } }).await;
        shop.update(2, doc! { "$set": { "status": "sent" } }).await;
    };
    shop.run(shop.runtime().handler(spec), updates).await;
    assert_eq!(
        *seen.lock().expect("no panic"),
        ["sent", "sent"],
        "the newest, twice"
    );
}

#[tokio::test]
async fn a_required_pre_image_is_given() {
    let shop = Shop::open().await;
    if !shop.record_images().await {
        let runtime = shop.runtime().handlers(handlers![requires]).build();
        let refused = runtime.expect("a runtime").pipeline().await;
        assert!(refused.is_err_and(|error| error.is_unsupported_server()));
        return;
    }
    shop.insert(doc! { "_id": 1, "status": "new" }).await;
    let seen = Arc::new(Mutex::new(Vec::new()));
    let keep = Arc::clone(&seen);
    let handler = move |PreImage(order): PreImage<Order>, change: Change<Order>| {
        assert_eq!(change.pre_image(), Some(&order));
        keep.lock().expect("no panic").push(order.status);
        ready(Ok::<(), HandlerError>(()))
    };
    let spec = HandlerSpec::new("given", handler)
        .collections(["orders"])
        .operations([Operation::Update, Operation::Replace, Operation::Delete]);
    let during = async {
        shop.update(1, doc! { "$set": { "status": "paid" } }).await;
        shop.replace(1, doc! { "status": "sent" }).await;
        shop.delete(1).await;
    };
    let letters = shop.run(shop.runtime().handler(spec), during).await;
    assert!(letters.is_empty(), "{letters:?}");
    assert_eq!(*seen.lock().expect("no panic"), ["new", "paid", "sent"]);
}
