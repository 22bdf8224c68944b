//! What a stream watches: collections, databases and the events of those themselves.

use bson::doc;
use changestream::{MongoCheckpoints, MongoDeadLetters, OnOversizeEvent, prelude::*};
use futures::TryStreamExt;
use serde::{Deserialize, Serialize};

use crate::support::shop::{Seen, Shop};

async fn insert(database: &mongodb::Database, collection: &str, id: &str) {
    let collection = database.collection(collection);
    collection
        .insert_one(doc! { "_id": id })
        .await
        .expect("an insert");
}

#[tokio::test]
async fn handlers_of_one_collection_watch_it_alone() {
    let shop = Shop::open().await;
    let handler = HandlerSpec::new("seen", Seen::default().handler()).collections(["orders"]);
    let runtime = shop.runtime().handler(handler);
    // Else it ends, where the server can, with the stage that splits events.
    let runtime = runtime.on_oversize_event(OnOversizeEvent::Fail);
    let runtime = runtime.build().expect("a runtime");
    let pipeline = runtime.pipeline().await.expect("a pipeline");
    let operations = ["insert", "update", "replace", "delete", "invalidate"];
    assert_eq!(
        pipeline,
        [
            doc! { "$changeStream": {} },
            doc! { "$match": { "operationType": { "$in": operations } } },
        ]
    );
    let during = async {
        insert(&shop.database, "orders", "1").await;
        insert(&shop.database, "orders.eu", "2").await;
        insert(&shop.another_database(), "orders", "3").await;
    };
    let seen = shop.seen_by(|spec| spec.collections(["orders"]), during);
    assert_eq!(seen.await, ["insert 1"]);
}

#[tokio::test]
async fn a_handler_of_several_collections_sees_those() {
    let shop = Shop::open().await;
    let during = async {
        insert(&shop.database, "orders", "1").await;
        insert(&shop.database, "orders.eu", "2").await;
        insert(&shop.database, "customers", "3").await;
        insert(&shop.another_database(), "orders", "4").await;
    };
    let seen = shop.seen_by(|spec| spec.collections(["orders", "customers"]), during);
    assert_eq!(seen.await, ["insert 1", "insert 3"]);
}

#[tokio::test]
async fn a_handler_of_the_whole_database_sees_all_but_the_runtimes_own_collections() {
    let shop = Shop::open().await;
    let during = async {
        insert(&shop.database, "orders", "1").await;
        insert(&shop.database, MongoCheckpoints::COLLECTION, "2").await;
        insert(&shop.database, MongoDeadLetters::COLLECTION, "3").await;
        insert(&shop.database, MongoCheckpoints::GAPS, "3").await;
        insert(&shop.database, "changestream.mine", "4").await;
        insert(&shop.another_database(), "orders", "5").await;
    };
    assert_eq!(
        shop.seen_by(|spec| spec, during).await,
        ["insert 1", "insert 4"]
    );
}

#[tokio::test]
async fn handlers_of_two_databases_each_see_their_own() {
    let shop = Shop::open().await;
    let (crm, unwatched) = (shop.another_database(), shop.another_database());
    let (ours, theirs) = (Seen::default(), Seen::default());
    let of_shop = HandlerSpec::new("ours", ours.handler()).collections(["orders"]);
    let of_crm = HandlerSpec::new("theirs", theirs.handler())
        .database(crm.name())
        .collections(["customers"]);
    let during = async {
        insert(&shop.database, "orders", "1").await;
        insert(&shop.database, "customers", "2").await;
        insert(&crm, "orders", "3").await;
        insert(&crm, "customers", "4").await;
        insert(&unwatched, "orders", "5").await;
    };
    shop.run(shop.runtime().handlers([of_shop, of_crm]), during)
        .await;
    assert_eq!(ours.take(), ["insert 1"]);
    assert_eq!(theirs.take(), ["insert 4"]);
}

#[tokio::test]
async fn a_handler_may_watch_another_database_alone() {
    let shop = Shop::open().await;
    let crm = shop.another_database();
    let during = async {
        insert(&shop.database, "orders", "1").await;
        insert(&crm, "orders", "2").await;
    };
    let seen = shop.seen_by(|spec| spec.database(crm.name()), during);
    assert_eq!(seen.await, ["insert 2"]);
}

#[tokio::test]
async fn a_dropped_collection_is_told_and_the_stream_goes_on() {
    let shop = Shop::open().await;
    let during = async {
        insert(&shop.database, "orders", "1").await;
        shop.orders().drop().await.expect("a drop");
        insert(&shop.database, "orders", "2").await;
    };
    use Operation::{Drop, Insert, Invalidate};
    let operations = [Insert, Drop, Invalidate];
    let seen = shop.seen_by(
        |spec| spec.collections(["orders"]).operations(operations),
        during,
    );
    assert_eq!(seen.await, ["insert 1", "drop", "invalidate", "insert 2"]);
}

#[tokio::test]
async fn an_invalidate_that_nobody_asked_for_does_not_end_the_stream() {
    let shop = Shop::open().await;
    let during = async {
        insert(&shop.database, "orders", "1").await;
        shop.database.drop().await.expect("a drop");
        insert(&shop.database, "orders", "2").await;
    };
    let seen = shop.seen_by(|spec| spec.collections(["orders", "customers"]), during);
    assert_eq!(seen.await, ["insert 1", "insert 2"]);
}

#[tokio::test]
async fn a_rename_is_told_with_its_collection() {
    let shop = Shop::open().await;
    let name = shop.database.name();
    let rename = |from: &str, to: &str| {
        doc! { "renameCollection": format!("{name}.{from}"), "to": format!("{name}.{to}") }
    };
    let during = async {
        insert(&shop.database, "orders", "1").await;
        insert(&shop.database, "customers", "2").await;
        let admin = shop.client.database("admin");
        for rename in [rename("customers", "people"), rename("orders", "archive")] {
            admin.run_command(rename).await.expect("a rename");
        }
    };
    let annotate = |spec: HandlerSpec<()>| {
        let spec = spec.collections(["customers", "archive"]);
        spec.operations([Operation::Rename])
    };
    assert_eq!(
        shop.seen_by(annotate, during).await,
        ["rename"],
        "by the old name"
    );
}

#[tokio::test]
async fn a_dropped_database_is_told_to_whoever_asks_for_it() {
    let shop = Shop::open().await;
    let during = async {
        insert(&shop.database, "customers", "1").await;
        shop.database.drop().await.expect("a drop");
    };
    use Operation::{Drop, DropDatabase, Invalidate};
    let of_database = |spec: HandlerSpec<()>| spec.operations([Drop, DropDatabase, Invalidate]);
    let seen = shop.seen_by(of_database, during).await;
    assert_eq!(seen, ["drop", "dropDatabase", "invalidate"]);
}

#[derive(Debug, Deserialize)]
struct Order {
    status: String,
}

#[derive(Debug, Serialize)]
struct StatusChanged {
    from: Option<String>,
    to: String,
}

/// The handler of the quick start.
#[on_change(coll = "orders", op = "update", field = "status")]
async fn order_status_changed(
    FullDocument(order): FullDocument<Order>,
    before: Option<PreImage<Order>>,
) -> Result<StatusChanged, HandlerError> {
    Ok(StatusChanged {
        from: before.map(|PreImage(order)| order.status),
        to: order.status,
    })
}

#[test]
fn the_pipeline_of_the_quick_start_is_this() {
    let [handler]: [HandlerSpec<()>; 1] = handlers![order_status_changed].try_into().expect("one");
    let changed_paths = doc! { "$concatArrays": [
        { "$map": {
            "input": { "$objectToArray": { "$ifNull": ["$updateDescription.updatedFields", {}] } },
            "as": "field",
            "in": "$$field.k",
        } },
        { "$ifNull": ["$updateDescription.removedFields", []] },
        { "$ifNull": ["$updateDescription.truncatedArrays.field", []] },
    ] };
    let status = doc! { "$or": [
        { "$in": ["$$path", { "$literal": ["status"] }] },
        { "$eq": [{ "$indexOfBytes": ["$$path", { "$literal": "status." }] }, 0] },
    ] };
    let updated = doc! { "$anyElementTrue": [
        { "$map": { "input": changed_paths, "as": "path", "in": status } },
    ] };
    let images =
        doc! { "fullDocument": "updateLookup", "fullDocumentBeforeChange": "whenAvailable" };
    assert_eq!(
        handler.pipeline().expect("a pipeline"),
        [
            doc! { "$changeStream": images },
            doc! { "$match": { "$and": [
                { "operationType": { "$in": ["update"] } },
                { "ns.coll": { "$in": ["orders"] } },
            ] } },
            doc! { "$match": { "$expr": updated } },
        ]
    );
}

/// As a user would try it in the shell; before 6.0, without the pre-image.
#[tokio::test]
async fn the_pipeline_of_the_quick_start_gives_its_events_by_hand() {
    let shop = Shop::open().await;
    let has_images = shop.record_images().await;
    shop.insert(doc! { "_id": 1, "status": "new" }).await;
    let from = shop.now().await;
    shop.update(1, doc! { "$set": { "status": "paid" } }).await;
    shop.update(1, doc! { "$set": { "total": 7 } }).await;
    shop.replace(1, doc! { "status": "sent" }).await;
    shop.update(1, doc! { "$unset": { "status": "" } }).await;
    insert(&shop.database, "customers", "1").await;
    shop.insert(doc! { "_id": "last", "status": "new" }).await;
    shop.update("last", doc! { "$set": { "status": "paid" } })
        .await;

    let [handler]: [HandlerSpec<()>; 1] = handlers![order_status_changed].try_into().expect("one");
    let mut pipeline = handler.pipeline().expect("a pipeline");
    let options = pipeline[0]
        .get_document_mut("$changeStream")
        .expect("options");
    options.insert("startAtOperationTime", from.0);
    if !has_images {
        options.remove("fullDocumentBeforeChange");
    }
    let mut events = shop.database.aggregate(pipeline).await.expect("a stream");
    let mut seen = Vec::new();
    loop {
        let event = events
            .try_next()
            .await
            .expect("a stream")
            .expect("an event");
        let before = event.get_document("fullDocumentBeforeChange").ok();
        let before = before.map(|order| order.get_str("status").expect("a status").to_owned());
        let key = event.get_document("documentKey").expect("a key").clone();
        seen.push((key, before));
        if seen
            .last()
            .is_some_and(|(key, _)| *key == doc! { "_id": "last" })
        {
            break;
        }
    }
    let before = |status: &str| has_images.then(|| status.to_owned());
    let key = |id: i32| doc! { "_id": id };
    assert_eq!(
        seen,
        [
            (key(1), before("new")),
            (key(1), before("sent")),
            (doc! { "_id": "last" }, before("new")),
        ]
    );
}
