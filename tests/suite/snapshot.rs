//! G12: the documents that were there before come too, each of them once, and to whoever wants new documents.

use std::{
    collections::{BTreeSet, HashSet},
    sync::{Arc, Mutex},
};

use changestream::prelude::*;
use mongodb::bson::{Bson, doc, oid::ObjectId, spec::BinarySubtype};

use crate::support::{
    Event, Scene, Seen, Started, TestResult, eventually, recorder,
    snapshot::{fill, rows, runtime},
};

#[tokio::test]
async fn every_document_comes_once_and_then_the_changes() -> TestResult {
    let scene = Scene::new().await;
    let seen = Seen::default();
    fill(&scene, 0..1_000).await?;
    let start = || {
        let builder = runtime(&scene, &seen).handlers([recorder(&["orders"])]);
        Started::new(builder.snapshot_chunk(64).snapshot_readers(3))
    };
    let started = start();
    seen.all(0..1_000).await;
    scene.insert([1_000]).await?;
    let events = seen.all([1_000]).await;
    started.stop().await?;
    assert_eq!(events.len(), 1_001);
    assert_eq!(rows(&events).len(), 1_000);
    assert!(rows(&events).iter().all(|row| row.n == row.id));
    let ids: HashSet<_> = events.iter().map(|event| event.event_id).collect();
    assert_eq!(ids.len(), 1_001, "each document is another event");

    let started = start();
    scene.insert([1_001]).await?;
    let events = seen.all([1_001]).await;
    started.stop().await?;
    assert_eq!(events.len(), 1_002, "a snapshot is taken once");
    Ok(())
}

#[tokio::test]
async fn without_a_snapshot_only_changes_come() -> TestResult {
    let scene = Scene::new().await;
    let seen = Seen::default();
    fill(&scene, 0..10).await?;
    let builder = runtime(&scene, &seen).snapshot(Snapshot::Never);
    let started = Started::new(builder.handlers([recorder(&["orders"])]));
    eventually("it watches", async || scene.checkpoint().await).await;
    scene.insert([10]).await?;
    seen.all([10]).await;
    started.stop().await?;
    assert_eq!(seen.ids(), [10]);
    Ok(())
}

#[tokio::test]
async fn ids_of_every_type_come() -> TestResult {
    let scene = Scene::new().await;
    let found = Arc::new(Mutex::new(BTreeSet::new()));
    let mut ids = vec![
        Bson::MinKey,
        Bson::MaxKey,
        Bson::Null,
        Bson::Boolean(false),
        Bson::Double(f64::NAN),
        Bson::Double(f64::NEG_INFINITY),
        Bson::Double(0.5),
        Bson::Int64(i64::MAX),
        Bson::Int32(-1),
        Bson::Decimal128("1.5".parse()?),
        Bson::String(String::new()),
        Bson::String("$order.é".into()),
        Bson::Symbol("symbol".into()),
        Bson::ObjectId(ObjectId::new()),
        Bson::DateTime(mongodb::bson::DateTime::MIN),
        Bson::Timestamp(mongodb::bson::Timestamp {
            time: 1,
            increment: 2,
        }),
        Bson::Document(doc! {}),
        Bson::Document(doc! { "shop": 1, "order": { "n": null } }),
    ];
    for subtype in [BinarySubtype::Generic, BinarySubtype::Uuid] {
        let bytes = vec![7; 16];
        ids.push(Bson::Binary(mongodb::bson::Binary { subtype, bytes }));
    }
    ids.extend((0..60).map(|n| match n % 3 {
        0 => Bson::Int32(n),
        1 => Bson::String(n.to_string()),
        _ => Bson::Document(doc! { "n": n }),
    }));
    let documents = ids.iter().map(|id| doc! { "_id": id });
    let orders = scene.collection("orders");
    orders.insert_many(documents.collect::<Vec<_>>()).await?;

    let name = |id: &Bson| format!("{id:?}");
    let note = Arc::clone(&found);
    let handle = move |change: RawChange| {
        let note = Arc::clone(&note);
        async move {
            let id = change.document_key().and_then(|key| key.id());
            let id = Bson::try_from(id.expect("an id"))?;
            let inside = change.full_document().expect("the document").get("_id")?;
            assert_eq!(
                format!("{:?}", Bson::try_from(inside.expect("an id"))?),
                name(&id)
            );
            note.lock().expect("a set").insert(name(&id));
            Ok::<_, HandlerError>(())
        }
    };
    let handler = HandlerSpec::new("ids", handle).collections(["orders"]);
    let seen = Seen::default();
    // Chunks and ranges that end everywhere.
    let builder = runtime(&scene, &seen).snapshot_chunk(3).snapshot_readers(4);
    let started = Started::new(builder.handlers([handler]));
    let wanted: BTreeSet<_> = ids.iter().map(name).collect();
    eventually("all of them come", async || {
        (*found.lock().expect("a set") == wanted).then_some(())
    })
    .await;
    started.stop().await?;
    assert!(scene.dead_letters().await.is_empty());
    Ok(())
}

#[tokio::test]
async fn empty_and_missing_collections_are_done_at_once() -> TestResult {
    let scene = Scene::new().await;
    let seen = Seen::default();
    scene.database.create_collection("empty").await?;
    let start = || {
        let handler = recorder(&["empty", "missing", "orders"]);
        Started::new(runtime(&scene, &seen).handlers([handler]))
    };
    fill(&scene, 0..1).await?;
    let started = start();
    seen.count(1).await;
    eventually("all snapshots are done", async || {
        let undone = doc! { "ranges.done": false };
        let records = scene.collection("changestream.snapshots");
        let all = records.count_documents(doc! {}).await.expect("read");
        let undone = records.count_documents(undone).await.expect("read");
        (all == 3 && undone == 0).then_some(())
    })
    .await;
    scene.insert_into("missing", [1]).await?;
    scene.insert_into("empty", [2]).await?;
    let events = seen.count(3).await;
    started.stop().await?;
    let started = start();
    scene.insert([3]).await?;
    seen.all([3]).await;
    started.stop().await?;
    assert!(
        events[1..]
            .iter()
            .all(|event| event.operation == Operation::Insert)
    );
    assert_eq!(seen.ids().len(), 4);
    Ok(())
}

#[tokio::test]
async fn only_handlers_that_want_new_documents_get_those_that_were_there() -> TestResult {
    let scene = Scene::new().await;
    let seen = Seen::default();
    fill(&scene, 0..20).await?;
    scene.insert_into("products", 100..120).await?;
    let tagged = |name: &str, tag: u32, operations: &[Operation]| {
        let handle = move |State(seen): State<Seen>, change: RawChange| async move {
            seen.push(Event::of(&change, tag));
            Ok::<_, HandlerError>(())
        };
        let spec = HandlerSpec::new(name, handle).collections(["orders"]);
        spec.operations(operations.to_vec())
    };
    let handlers = [
        tagged("inserts", 1, &[Operation::Insert]),
        tagged("updates", 2, &[Operation::Update]),
        tagged("snapshots", 3, &[Operation::Snapshot]),
    ];
    let started = Started::new(runtime(&scene, &seen).handlers(handlers));
    seen.count(40).await;
    let orders = scene.collection("orders");
    orders
        .update_one(doc! { "_id": 0 }, doc! { "$set": { "n": 7 } })
        .await?;
    scene.insert([20]).await?;
    let events = seen.count(42).await;
    started.stop().await?;
    let of = |tag: u32| events.iter().filter(move |event| event.attempt == tag);
    let count = |tag, operation| of(tag).filter(|event| event.operation == operation).count();
    assert_eq!((of(1).count(), count(1, Operation::Snapshot)), (21, 20));
    assert_eq!((of(2).count(), count(2, Operation::Update)), (1, 1));
    assert_eq!((of(3).count(), count(3, Operation::Snapshot)), (20, 20));
    Ok(())
}
