//! The server sends of documents what handlers read, and nothing depends on the rest.

use std::{
    collections::BTreeSet,
    fmt::Debug,
    future::ready,
    sync::{Arc, Mutex},
};

use bson::{Bson, Document, RawBsonRef, RawDocument, doc};
use changestream::{
    BoxHandler, ChangeRequest, Delivery, Projection, SinkSpec, StartAt, prelude::*,
};
use serde::Deserialize;
use tower::{ServiceExt, layer::layer_fn, service_fn};

use crate::support::{
    Event, Scene, Seen, Started, TestResult,
    shop::Shop,
    snapshot::{rows, snapshot_is_done},
};

#[derive(Clone, Debug, PartialEq, Deserialize)]
struct Order {
    status: String,
    total: Option<f64>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(dead_code)]
struct Strict {
    status: String,
}

fn order(id: i32) -> Document {
    doc! {
        "_id": id, "status": "new", "total": 9.5, "customer": { "id": 7, "name": "Ada" },
        "items": [{ "sku": "A", "quantity": 1 }], "payment": { "status": "open" }, "note": Bson::Null,
    }
}

fn keys(document: Option<&RawDocument>) -> Option<BTreeSet<String>> {
    let elements = document?.into_iter().map(|element| element.expect("BSON"));
    Some(elements.map(|(key, _)| key.as_str().to_owned()).collect())
}

/// The first so many events as layers see them.
async fn raw_events(
    shop: &Shop,
    projection: Projection,
    from: StartAt,
    events: usize,
) -> Vec<RawChange> {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let keep = Arc::clone(&seen);
    let layer = layer_fn(move |inner: BoxHandler| {
        let keep = Arc::clone(&keep);
        BoxHandler::new(inner.map_request(move |request: ChangeRequest| {
            if request.handler() != "sentinel" {
                keep.lock()
                    .expect("no panic")
                    .push(request.change().clone());
            }
            request
        }))
    });
    let handler = |_change: Change<Option<Customer>>| ready(Ok::<(), HandlerError>(()));
    let handler = HandlerSpec::new("seen", handler).collections(["orders"]);
    let runtime = shop
        .runtime()
        .projection(projection)
        .handler(handler.layer(layer));
    let letters = shop.run_from(from, runtime, async {}).await;
    assert!(letters.is_empty(), "{letters:?}");
    let mut seen = std::mem::take(&mut *seen.lock().expect("no panic"));
    // After them come those of the helper.
    seen.truncate(events);
    seen
}

#[tokio::test]
async fn an_event_with_images_holds_what_is_read_and_otherwise_is_what_it_was() {
    let shop = Shop::open().await;
    let has_images = shop.record_images().await;
    let projected = compared(&shop).await;
    assert!(projected[3].full_document().is_some());
    assert_eq!(projected[6].pre_image().is_some(), has_images);
}

#[tokio::test]
async fn an_event_without_images_holds_what_is_read_and_otherwise_is_what_it_was() {
    let shop = Shop::open().await;
    let projected = compared(&shop).await;
    let looked_up = projected[5].as_raw().get("fullDocument").expect("BSON");
    assert_eq!(looked_up, Some(RawBsonRef::Null), "it is gone by then");
}

/// Events of all kinds with projection, which are as those without it but for fields that nobody reads.
async fn compared(shop: &Shop) -> Vec<RawChange> {
    let from = StartAt::OperationTime(shop.now().await);
    shop.insert(order(1)).await;
    for (id, customer) in [(2, Bson::Null), (3, Bson::Undefined)] {
        shop.insert(doc! { "_id": id, "customer": customer }).await;
    }
    let parts = doc! { "$set": { "items.0.quantity": 2 }, "$unset": { "note": "" } };
    shop.update(1, parts).await;
    let new = doc! { "customer": [{ "id": 8 }], "status": "sent" };
    shop.replace(1, new).await;
    shop.update(2, doc! { "$set": { "n": 1 } }).await;
    shop.delete(2).await;

    let kinds = [
        "insert", "insert", "insert", "update", "replace", "update", "delete",
    ];
    let whole = raw_events(shop, Projection::Whole, from.clone(), kinds.len()).await;
    let projected = raw_events(shop, Projection::Fields, from, kinds.len()).await;
    let operations = projected.iter().map(|change| change.operation().as_str());
    assert_eq!(operations.collect::<Vec<_>>(), kinds);
    for (whole, projected) in whole.iter().zip(&projected) {
        assert_eq!(keys(Some(whole.as_raw())), keys(Some(projected.as_raw())));
        for element in whole.as_raw() {
            let (name, value) = element.expect("BSON");
            let left = projected.as_raw().get(name).expect("BSON");
            let left = left.expect("it is there");
            let is_projected = name.as_str().starts_with("fullDocument");
            let Some(document) = value.as_document().filter(|_| is_projected) else {
                assert_eq!(left, value, "{name:?} of {whole:?}");
                continue;
            };
            let left = left.as_document().expect("a document");
            let is_looked_up = *whole.operation() == Operation::Update;
            let customer = document.get("customer").expect("BSON");
            assert_eq!(left.get("customer").expect("BSON"), customer);
            let is_read = |name: &String| name == "customer" || is_looked_up && name == "_id";
            let names = keys(Some(left)).unwrap_or_default();
            assert!(names.iter().all(is_read), "{names:?}");
        }
    }
    projected
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
struct Customer {
    customer: Option<Bson>,
}

/// What a handler that is registered by `register` saw, and which events it rejected.
async fn seen_by<T: Debug + Send + 'static>(
    shop: &Shop,
    projection: Projection,
    from: StartAt,
    register: impl FnOnce(Arc<Mutex<Vec<T>>>) -> HandlerSpec<()>,
) -> (Vec<T>, Vec<String>) {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let handler = register(Arc::clone(&seen)).collections(["orders"]);
    let runtime = shop.runtime().projection(projection).handler(handler);
    let letters = shop.run_from(from, runtime, async {}).await;
    let seen = std::mem::take(&mut *seen.lock().expect("no panic"));
    (
        seen,
        letters
            .iter()
            .map(|letter| letter.event_id().to_owned())
            .collect(),
    )
}

#[tokio::test]
async fn a_type_that_refuses_unknown_fields_refuses_them_still() {
    let shop = Shop::open().await;
    let from = StartAt::OperationTime(shop.now().await);
    shop.insert(doc! { "_id": 1, "status": "new" }).await;
    let register = |seen: Arc<Mutex<Vec<String>>>| {
        let handler = move |FullDocument(order): FullDocument<Strict>| {
            seen.lock().expect("no panic").push(order.status);
            ready(Ok::<(), HandlerError>(()))
        };
        HandlerSpec::new("strict", handler).operations([Operation::Insert])
    };
    let (seen, rejected) = seen_by(&shop, Projection::Fields, from, register).await;
    assert!(seen.is_empty());
    assert_eq!(rejected.len(), 2, "for `_id`");
}

#[tokio::test]
async fn a_replace_is_compared_at_fields_that_no_handler_takes() {
    let shop = Shop::open().await;
    let has_images = shop.record_images().await;
    let from = StartAt::OperationTime(shop.now().await);
    shop.insert(order(1)).await;
    for payment in ["open", "paid"] {
        let mut order = order(1);
        order.insert("payment", doc! { "status": payment });
        order.insert("note", payment);
        shop.replace(1, order).await;
    }
    let register = |seen: Arc<Mutex<Vec<_>>>| {
        let handler = move |order: Option<PreImage<Order>>| {
            seen.lock().expect("no panic").push(order);
            ready(Ok::<(), HandlerError>(()))
        };
        HandlerSpec::new("paid", handler)
            .operations([Operation::Replace])
            .fields(["payment.status"])
    };
    let (seen, rejected) = seen_by(&shop, Projection::Fields, from, register).await;
    assert!(rejected.is_empty());
    assert_eq!(seen.len(), if has_images { 1 } else { 2 }, "{seen:?}");
}

#[tokio::test]
async fn a_key_is_had_of_a_field_that_no_handler_takes() {
    let shop = Shop::open().await;
    let from = StartAt::OperationTime(shop.now().await);
    shop.insert(order(1)).await;
    shop.update(1, doc! { "$set": { "status": "paid" } }).await;
    let keys = Arc::new(Mutex::new(Vec::new()));
    let keep = Arc::clone(&keys);
    let sink = SinkSpec::new(service_fn(move |delivery: Delivery| {
        let key = delivery.message().get_key().map(str::to_owned);
        keep.lock().expect("no panic").push(key);
        ready(Ok::<(), HandlerError>(()))
    }));
    let handler =
        |FullDocument(order): FullDocument<Order>| ready(Ok::<_, HandlerError>(order.status));
    let spec = HandlerSpec::new("keyed", handler)
        .collections(["orders"])
        .key("customer.name")
        .to(["out"]);
    let runtime = shop.runtime().projection(Projection::Fields);
    let letters = shop
        .run_from(from, runtime.sink("out", sink).handler(spec), async {})
        .await;
    assert!(letters.is_empty(), "{letters:?}");
    let key = |key: &str| Some(key.to_owned());
    assert_eq!(
        *keys.lock().expect("no panic"),
        [key("Ada"), key("Ada"), key("sentinel")]
    );
}

#[derive(Debug, Deserialize)]
struct Numbered {
    n: i64,
}

/// Notes events, and takes of their documents `n` alone.
fn numbered() -> HandlerSpec<Seen> {
    let handler = |State(seen): State<Seen>, change: Change<Numbered>| {
        let event = Event::of(change.raw(), 1);
        let n = change.full_document().map(|document| document.n);
        assert_eq!(event.n, n);
        seen.push(event);
        ready(Ok::<(), HandlerError>(()))
    };
    HandlerSpec::new("numbered", handler)
        .collections(["orders"])
        .operations([Operation::Insert])
}

#[tokio::test]
async fn a_start_with_another_projection_goes_on_where_the_last_one_was() -> TestResult {
    let scene = Scene::new().await;
    let seen = Seen::default();
    let projections = [Projection::Whole, Projection::Fields, Projection::Whole];
    for (round, projection) in (0..).zip(projections) {
        let from = round * 20;
        scene.insert(from..from + 10).await?;
        let runtime = scene.runtime(&seen).projection(projection);
        let started = Started::new(runtime.handler(numbered()));
        seen.all([from + 9]).await;
        scene.insert(from + 10..from + 20).await?;
        seen.all([from + 19]).await;
        started.stop().await?;
    }
    let mut ids = seen.ids();
    ids.dedup();
    assert_eq!(ids, Vec::from_iter(0..60), "in order, and nothing is lost");
    assert!(
        seen.events().len() <= 62,
        "at most the event at each new start comes again"
    );
    Ok(())
}

#[tokio::test]
async fn rows_of_snapshots_come_with_what_is_read() -> TestResult {
    let scene = Scene::new().await;
    let seen = Seen::default();
    let orders = scene.collection("orders");
    for n in 0..20_i64 {
        let note = "what nobody reads";
        orders
            .insert_one(doc! { "_id": n, "note": note, "n": n })
            .await?;
    }
    let sizes = Arc::new(Mutex::new(BTreeSet::new()));
    let keep = Arc::clone(&sizes);
    let layer = layer_fn(move |inner: BoxHandler| {
        let keep = Arc::clone(&keep);
        BoxHandler::new(inner.map_request(move |request: ChangeRequest| {
            let fields = keys(request.change().full_document()).expect("a document");
            keep.lock().expect("no panic").insert(fields);
            request
        }))
    });
    let runtime = crate::support::snapshot::runtime(&scene, &seen)
        .projection(Projection::Fields)
        .layer(layer)
        .handler(numbered());
    let started = Started::new(runtime);
    let events = seen.all(0..20).await;
    snapshot_is_done(&scene).await;
    started.stop().await?;
    assert_eq!(rows(&events).len(), 20);
    let expected = ["_id", "n"].map(str::to_owned).into();
    assert_eq!(*sizes.lock().expect("no panic"), BTreeSet::from([expected]));
    Ok(())
}
