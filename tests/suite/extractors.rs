//! What each extractor gives, on a real server.

use std::{
    fmt::Debug,
    future::ready,
    sync::{Arc, Mutex},
    time::{Duration, SystemTime},
};

use bson::{Bson, Document, RawBson, RawDocumentBuf, doc};
use changestream::{ChangeRequest, prelude::*};
use serde::Deserialize;

use crate::support::shop::Shop;

#[derive(Clone, Debug, PartialEq, Deserialize)]
struct Order {
    status: String,
    total: Option<f64>,
}

fn order(status: &str) -> Order {
    Order {
        status: status.to_owned(),
        total: None,
    }
}

/// What a handler of `T` alone was given, for the events of `operations` that `during` makes of `orders`.
async fn extracted<T>(
    shop: &Shop,
    operations: impl IntoIterator<Item = Operation>,
    during: impl Future<Output = ()>,
) -> Vec<T>
where
    T: FromChange<()> + Send + 'static,
{
    let given = Arc::new(Mutex::new(Vec::new()));
    let keep = Arc::clone(&given);
    let handler = move |part: T, key: Option<DocumentKey>| {
        let id = key.and_then(|key| key.get::<Bson>("_id").ok()?);
        if id != Some("sentinel".into()) {
            keep.lock().expect("no panic").push(part);
        }
        ready(Ok::<(), HandlerError>(()))
    };
    let spec = HandlerSpec::new("extracts", handler)
        .collections(["orders"])
        .operations(operations);
    let dead_letters = shop.run(shop.runtime().handler(spec), during).await;
    assert!(dead_letters.is_empty(), "{:?}", dead_letters[0].error());
    std::mem::take(&mut given.lock().expect("no panic"))
}

const ALL: [Operation; 4] = [
    Operation::Insert,
    Operation::Update,
    Operation::Replace,
    Operation::Delete,
];

/// An insert, an update, a replace and a delete of the order 1, and then one of the order 2 that stays.
async fn one_of_each(shop: &Shop) {
    shop.insert(doc! { "_id": 1, "status": "new" }).await;
    shop.update(1, doc! { "$set": { "status": "paid" } }).await;
    shop.replace(1, doc! { "status": "sent" }).await;
    shop.delete(1).await;
    shop.insert(doc! { "_id": 2, "status": "new" }).await;
    shop.update(2, doc! { "$set": { "status": "paid" } }).await;
}

#[tokio::test]
async fn the_full_document_is_there_but_for_deletes_and_what_is_gone_at_lookup() {
    let shop = Shop::open().await;
    let all = extracted::<Option<FullDocument<Order>>>(&shop, ALL, one_of_each(&shop)).await;
    let some = |status| Some(FullDocument(order(status)));
    assert_eq!(
        all,
        [
            some("new"),
            None,
            some("sent"),
            None,
            some("new"),
            some("paid")
        ]
    );
}

#[tokio::test]
async fn a_full_document_that_is_required_and_gone_is_a_dead_letter() {
    let shop = Shop::open().await;
    let handler = |_: FullDocument<Order>| ready(Ok::<(), HandlerError>(()));
    let spec = HandlerSpec::new("requires", handler)
        .collections(["orders"])
        .operations([Operation::Update, Operation::Delete]);
    let letters = shop
        .run(shop.runtime().handler(spec), one_of_each(&shop))
        .await;
    let errors = letters.iter().map(|letter| letter.error().to_vec());
    let absent = vec!["the event has no full document".to_owned()];
    assert_eq!(errors.collect::<Vec<_>>(), [absent.clone(), absent]);
}

#[tokio::test]
async fn a_document_can_be_had_typed_dynamic_and_raw() {
    let shop = Shop::open().await;
    let insert = async || {
        shop.orders().delete_many(doc! {}).await.expect("a delete");
        shop.insert(doc! { "_id": 1, "status": "new", "total": 7.5 })
            .await;
    };
    let typed = extracted::<FullDocument<Order>>(&shop, [Operation::Insert], insert()).await;
    let expected = Order {
        total: Some(7.5),
        ..order("new")
    };
    assert_eq!(typed, [FullDocument(expected)]);
    let dynamic = extracted::<FullDocument<Document>>(&shop, [Operation::Insert], insert()).await;
    let expected = doc! { "_id": 1, "status": "new", "total": 7.5 };
    assert_eq!(dynamic, [FullDocument(expected.clone())]);
    let raw = extracted::<FullDocument<RawDocumentBuf>>(&shop, [Operation::Insert], insert()).await;
    let expected = RawDocumentBuf::try_from(&expected).expect("a document");
    assert_eq!(raw, [FullDocument(expected)]);
}

#[tokio::test]
async fn a_change_has_everything() {
    let shop = Shop::open().await;
    let before = SystemTime::now() - Duration::from_secs(2);
    let changes = extracted::<Change<Order>>(&shop, ALL, one_of_each(&shop)).await;
    let operations: Vec<_> = changes
        .iter()
        .map(|change| change.operation().clone())
        .collect();
    assert_eq!(operations[..4], ALL);
    let namespace = Namespace::new(shop.database.name(), Some("orders".into()));
    for change in &changes {
        assert_eq!(change.namespace(), namespace);
        assert_eq!(change.attempt(), Attempt(1));
        assert!(change.wall_time().is_some_and(|time| time >= before));
        assert!(change.pre_image().is_none());
        assert_eq!(change.event_id(), change.raw().event_id());
    }
    assert!(changes.is_sorted_by(|a, b| a.cluster_time() < b.cluster_time()));
    let id = |change: &Change<Order>| change.document_key()?.get::<i32>("_id").ok()?;
    assert_eq!(
        changes.iter().map(id).collect::<Vec<_>>(),
        [1, 1, 1, 1, 2, 2].map(Some)
    );
    let updates = changes.iter().filter(|change| change.update().is_some());
    assert!(
        updates
            .clone()
            .all(|change| *change.operation() == Operation::Update)
    );
    assert_eq!(updates.count(), 2);
    assert_eq!(changes[5].full_document(), Some(&order("paid")));
}

#[tokio::test]
async fn an_update_description_gives_what_was_set_and_removed() {
    let shop = Shop::open().await;
    shop.insert(doc! { "_id": 1, "status": "new", "note": "x", "payment": { "open": 2 } })
        .await;
    let update = doc! {
        "$set": { "payment.by": "card", "address": { "city": "Bonn", "zip": 53111 } },
        "$unset": { "note": "" },
    };
    let update = shop.update(1, update);
    let updates = extracted::<UpdateDescription>(&shop, [Operation::Update], update).await;
    let [update] = updates.as_slice() else {
        panic!("{updates:?}")
    };
    let get = |path| update.get::<String>(path).expect("text");
    assert_eq!(get("payment.by").as_deref(), Some("card"));
    assert_eq!(
        get("address.city").as_deref(),
        Some("Bonn"),
        "by its parent"
    );
    assert_eq!(get("payment"), None, "only a part was set");
    assert_eq!(get("note"), None, "it was removed");
    assert!(
        update.get::<String>("address.zip").is_err(),
        "it is no text"
    );
    assert_eq!(update.get::<i32>("address.zip").ok(), Some(Some(53111)));
    let changed = ["payment", "payment.by", "address", "address.city.x", "note"];
    assert!(changed.iter().all(|path| update.changed(path)));
    assert!(
        ["payment.open", "status", "notes"]
            .iter()
            .all(|path| !update.changed(path))
    );
    assert_eq!(update.removed_fields().collect::<Vec<_>>(), ["note"]);
    assert_eq!(update.truncated_arrays().count(), 0);
    assert_eq!(update.updated_fields().iter().count(), 2);
    assert!(
        update
            .raw()
            .get("updatedFields")
            .is_ok_and(|fields| fields.is_some())
    );
}

#[tokio::test]
async fn parts_that_an_event_lacks_are_none() {
    let shop = Shop::open().await;
    type Parts = (
        Option<UpdateDescription>,
        Option<FullDocument<Document>>,
        Option<PreImage<Document>>,
    );
    let insert = shop.insert(doc! { "_id": 1 });
    let inserted = extracted::<Both<Parts>>(&shop, [Operation::Insert], insert).await;
    assert!(matches!(&inserted[..], [Both((None, Some(_), None))]));
    let deleted = extracted::<Both<Parts>>(&shop, [Operation::Delete], shop.delete(1)).await;
    assert!(matches!(&deleted[..], [Both((None, None, None))]));
    let drop = async { shop.orders().drop().await.expect("a drop") };
    let dropped = extracted::<Option<DocumentKey>>(&shop, [Operation::Drop], drop).await;
    assert_eq!(dropped, [None]);
}

/// Several extractors as one: an extractor of the user's own.
struct Both<T>(T);

impl<S, A: FromChange<S>, B: FromChange<S>, C: FromChange<S>> FromChange<S> for Both<(A, B, C)> {
    const NEEDS: changestream::Needs = A::NEEDS.and(B::NEEDS).and(C::NEEDS);

    fn from_change(request: &ChangeRequest, state: &S) -> Result<Self, Rejection> {
        Ok(Self((
            A::from_change(request, state)?,
            B::from_change(request, state)?,
            C::from_change(request, state)?,
        )))
    }
}

#[tokio::test]
async fn an_event_is_named_placed_and_keyed_the_same_each_time_it_comes() {
    let shop = Shop::open().await;
    shop.orders().delete_many(doc! {}).await.expect("a delete");
    let writes = async {
        let id = doc! { "customer": "c1", "number": 7 };
        shop.insert(doc! { "_id": id }).await;
        shop.insert(doc! { "_id": 2 }).await;
    };
    type Parts = (
        EventId,
        ResumeToken,
        Both<(ClusterTime, DocumentKey, RawChange)>,
    );
    let first = extracted::<Both<Parts>>(&shop, [Operation::Insert], writes).await;
    let Both((id, token, Both((time, key, raw)))) = &first[0];
    assert_eq!(
        key.get::<String>("_id.customer").ok(),
        Some(Some("c1".to_owned()))
    );
    assert_eq!(key.get::<i32>("_id.number").ok(), Some(Some(7)));
    assert_eq!(key.get::<i32>("_id.other").ok(), Some(None));
    assert!(key.get::<i32>("_id.customer").is_err());
    assert!(matches!(key.id(), Some(RawBson::Document(_))));
    assert_eq!(raw.raw_token(), token.as_raw());
    assert_eq!(raw.cluster_time(), Some(*time));
    assert!(
        raw.as_raw()
            .get("documentKey")
            .is_ok_and(|key| key.is_some())
    );

    let again = Arc::new(Mutex::new(Vec::new()));
    let keep = Arc::clone(&again);
    let redelivered = HandlerSpec::new("again", move |id: EventId, token: ResumeToken| {
        keep.lock().expect("no panic").push((id, token));
        ready(Ok::<(), HandlerError>(()))
    });
    let from = changestream::StartAt::OperationTime(*time);
    shop.run_from(
        from,
        shop.runtime().handler(redelivered.collections(["orders"])),
        ready(()),
    )
    .await;
    let again = again.lock().expect("no panic");
    assert_eq!(again[0], (*id, token.clone()));
    let Both((other, ..)) = &first[1];
    assert_eq!(again[1].0, *other);
    assert_ne!(id, other);
}

#[tokio::test]
async fn attempts_count_from_one() {
    let shop = Shop::open().await;
    let attempts = Arc::new(Mutex::new(Vec::new()));
    let keep = Arc::clone(&attempts);
    let third_time = HandlerSpec::new("third time", move |attempt: Attempt| {
        keep.lock().expect("no panic").push(attempt.0);
        ready(match attempt {
            Attempt(3) => Ok(()),
            _ => Err(HandlerError::retry("not yet")),
        })
    });
    let runtime = shop
        .runtime()
        .handler(third_time.operations([Operation::Delete]));
    shop.insert(doc! { "_id": 1 }).await;
    let letters = shop.run(runtime, shop.delete(1)).await;
    assert!(letters.is_empty());
    assert_eq!(*attempts.lock().expect("no panic"), [1, 2, 3]);
}
