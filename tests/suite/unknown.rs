//! Operations and fields that this version has no name for are no errors, and reach whoever listens to everything.

use std::{
    future::ready,
    sync::{Arc, Mutex},
};

use changestream::{
    prelude::*,
    testing::{TestRuntime, change::DATABASE},
};
use futures::StreamExt;
use mongodb::bson::{Bson, Document, RawDocumentBuf, doc, serialize_to_vec};

use crate::support::{Scene, TestResult, within};

type Operations = Arc<Mutex<Vec<String>>>;

/// A runtime with a handler of everything, which asks for whatever there is.
fn listening() -> (TestRuntime, Operations) {
    let operations = Operations::default();
    let keep = Arc::clone(&operations);
    let handle = move |change: Change<Document>,
                       _: Option<DocumentKey>,
                       _: Option<UpdateDescription>,
                       _: Option<ClusterTime>| {
        let operation = change.operation().as_str().to_owned();
        keep.lock().expect("no panic").push(operation);
        ready(Ok::<_, HandlerError>(()))
    };
    let spec = HandlerSpec::new("everything", handle).operations(OPERATIONS.map(Operation::from));
    let runtime = TestRuntime::builder().handlers([spec]).build();
    (runtime.expect("a runtime"), operations)
}

const OPERATIONS: [&str; 7] = [
    "insert",
    "create",
    "createIndexes",
    "dropIndexes",
    "modify",
    "drop",
    "refineCollectionShardKey",
];

fn change(event: Document) -> RawChange {
    let bytes = serialize_to_vec(&event).expect("a document");
    RawChange::new(bytes).expect("an event")
}

#[tokio::test]
async fn unknown_operations_and_fields_are_no_error() -> TestResult {
    let (mut runtime, operations) = listening();
    let namespace = doc! { "db": DATABASE, "coll": "orders" };
    let strange = [
        doc! { "operationType": "refineCollectionShardKey", "ns": namespace.clone() },
        doc! {
            "operationType": "insert", "ns": namespace.clone(), "documentKey": { "_id": 1 },
            "fullDocument": { "_id": 1 }, "aFieldOfTomorrow": { "deep": [1, 2] }, "lsid": 5,
        },
        doc! {
            "operationType": "insert", "ns": namespace, "documentKey": Bson::Null, "fullDocument": Bson::Null,
            "wallTime": "noon", "clusterTime": "noon", "updateDescription": "none",
        },
    ];
    for (number, mut event) in (0..).zip(strange) {
        event.insert("_id", doc! { "_data": format!("82{number:08}") });
        let report = runtime.send(change(event.clone())).await;
        assert_eq!(report.handled(), ["everything"], "{event}");
    }
    let operations = operations.lock().expect("no panic").clone();
    assert_eq!(operations, ["refineCollectionShardKey", "insert", "insert"]);
    assert!(runtime.dead_letters().is_empty());
    Ok(())
}

/// What a real server reports when asked for everything (`showExpandedEvents`, from 6.0 on).
#[tokio::test]
async fn expanded_events_of_a_real_server_are_no_error() -> TestResult {
    let scene = Scene::new().await;
    if scene.version().await < [6, 0] {
        return Ok(());
    }
    let changes = scene.database.watch().show_expanded_events(true).await?;
    let mut changes = changes.with_type::<RawDocumentBuf>();
    let database = &scene.database;
    database.create_collection("orders").await?;
    scene.insert([1]).await?;
    let index = doc! { "key": { "n": 1 }, "name": "n" };
    let commands = [
        doc! { "createIndexes": "orders", "indexes": [index] },
        doc! { "collMod": "orders", "index": { "name": "n", "hidden": true } },
        doc! { "dropIndexes": "orders", "index": "n" },
        doc! { "drop": "orders" },
    ];
    for command in commands {
        database.run_command(command).await?;
    }
    let (mut runtime, operations) = listening();
    loop {
        let event = within("the next event", changes.next()).await;
        let mut event = Document::try_from(&*event.expect("more")?)?;
        event.get_document_mut("ns")?.insert("db", DATABASE);
        let is_last = event.get_str("operationType")? == "drop";
        let report = runtime.send(change(event)).await;
        assert_eq!(report.handled(), ["everything"]);
        if is_last {
            break;
        }
    }
    let operations = operations.lock().expect("no panic").clone();
    let expected = [
        "create",
        "insert",
        "createIndexes",
        "modify",
        "dropIndexes",
        "drop",
    ];
    assert_eq!(operations, expected);
    Ok(())
}
