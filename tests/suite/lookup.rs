//! The documents of updates: looked up for those who take them, many at a time.

use std::sync::{Arc, Mutex};

use changestream::{StartAt, prelude::*};
use changestream_testkit::MongoServer;
use mongodb::{
    Client,
    bson::{Bson, Document, doc},
    event::{EventHandler, command::CommandEvent},
    options::{ClientOptions, UpdateModifications},
};

use crate::support::{
    Event, Scene, Seen, Started, TestResult, after,
    failpoint::{Failure, fail},
    recorder,
};

/// What a handler saw: `_id`, what the update set `n` to, and `n` and the size of the document.
type Found = (Bson, Option<i64>, Option<(i64, usize)>);

/// Of updates of `orders` that change `n`, notes the document.
fn finder(found: &Arc<Mutex<Vec<Found>>>) -> HandlerSpec<Seen> {
    let found = Arc::clone(found);
    let find = move |change: RawChange,
                     document: Option<FullDocument<Document>>,
                     State(seen): State<Seen>| {
        let update = change.update_description().expect("an update");
        let key = change.document_key().expect("a document's change");
        let id = key.get("_id").expect("readable").expect("there");
        let document = document.map(|FullDocument(document)| {
            let n = document.get_i64("n").expect("a number");
            let size = document.get_str("text").map_or(0, str::len);
            (n, size)
        });
        let n = update.get("n").expect("a number");
        found.lock().expect("no panic").push((id, n, document));
        seen.push(Event::of(&change, 1));
        async { Ok::<_, HandlerError>(()) }
    };
    HandlerSpec::new("find", find)
        .collections(["orders"])
        .operations([Operation::Update])
        .fields(["n"])
}

/// A client, and the `find` commands that it sends to collections of handlers.
async fn watched_client(uri: &str) -> (Client, Arc<Mutex<Vec<Document>>>) {
    let finds = Arc::<Mutex<Vec<Document>>>::default();
    let mut options = ClientOptions::parse(uri)
        .await
        .expect("a connection string");
    let noted = Arc::clone(&finds);
    options.command_event_handler = Some(EventHandler::callback(move |event| {
        if let CommandEvent::Started(event) = event
            && event
                .command
                .get_str("find")
                .is_ok_and(|name| name == "orders")
        {
            noted.lock().expect("no panic").push(event.command);
        }
    }));
    (Client::with_options(options).expect("a client"), finds)
}

fn ids(find: &Document) -> Vec<i64> {
    let filter = find.get_document("filter").expect("a filter");
    let ids = filter
        .get_document("_id")
        .and_then(|id| id.get_array("$in"));
    let ids = ids.expect("ids").iter();
    ids.map(|id| id.as_i64().expect("a number")).collect()
}

#[tokio::test]
async fn only_what_a_handler_takes_is_looked_up_and_all_of_a_batch_at_once() -> TestResult {
    let scene = Scene::new().await;
    scene.insert(0..20).await?;
    let orders = scene.collection("orders");
    let start = StartAt::OperationTime(after(&scene.client).await);
    for id in 0..20_i64 {
        let field = if id % 5 == 0 { "n" } else { "other" };
        let update = doc! { "$set": { field: id + 100 } };
        orders.update_one(doc! { "_id": id }, update).await?;
    }
    let (client, finds) = watched_client(scene.server.uri()).await;
    let (seen, found) = (Seen::default(), Arc::default());
    let runtime = scene.runtime_through(&client, &seen);
    let handlers = [finder(&found), recorder(&["orders"])];
    let started = Started::new(runtime.start_at(start.clone()).handlers(handlers));
    seen.count(24).await;
    started.stop().await?;
    let expected = [0, 5, 10, 15].map(|id| (Bson::Int64(id), Some(id + 100), Some((id + 100, 0))));
    assert_eq!(*found.lock().expect("no panic"), expected);
    let finds = finds.lock().expect("no panic").clone();
    assert_eq!(
        finds.iter().flat_map(ids).collect::<Vec<_>>(),
        [0, 5, 10, 15]
    );
    assert!(finds.len() < 4, "{finds:#?}");
    Ok(())
}

#[tokio::test]
async fn a_lookup_reads_what_is_committed_and_no_older_than_the_update() -> TestResult {
    let scene = Scene::new().await;
    scene.insert([1]).await?;
    let start = StartAt::OperationTime(after(&scene.client).await);
    let update = doc! { "$set": { "n": 2_i64 } };
    scene
        .collection("orders")
        .update_one(doc! { "_id": 1_i64 }, update)
        .await?;
    let (client, finds) = watched_client(scene.server.uri()).await;
    let (seen, found) = (Seen::default(), Arc::default());
    let runtime = scene.runtime_through(&client, &seen);
    let started = Started::new(runtime.start_at(start.clone()).handlers([finder(&found)]));
    let events = seen.count(1).await;
    started.stop().await?;
    let finds = finds.lock().expect("no panic").clone();
    let [find] = &finds[..] else {
        panic!("{finds:#?}")
    };
    let concern = find.get_document("readConcern")?;
    assert_eq!(concern.get_str("level")?, "majority");
    let time = events[0].time.expect("a time");
    assert!(
        concern.get_timestamp("afterClusterTime")? >= time.0,
        "{concern}"
    );
    Ok(())
}

#[tokio::test]
async fn the_document_is_the_newest_or_none_when_it_is_gone() -> TestResult {
    let scene = Scene::new().await;
    scene.insert([1, 2]).await?;
    let orders = scene.collection("orders");
    // Equal to 3, and stored as another number.
    orders.insert_one(doc! { "_id": 3_i32, "n": 3_i64 }).await?;
    let start = StartAt::OperationTime(after(&scene.client).await);
    for n in [10_i64, 11] {
        orders
            .update_many(doc! {}, doc! { "$set": { "n": n } })
            .await?;
    }
    orders.delete_one(doc! { "_id": 2_i64 }).await?;
    orders.delete_one(doc! { "_id": 3_i32 }).await?;
    orders.insert_one(doc! { "_id": 3.0, "n": 12_i64 }).await?;
    let (seen, found) = (Seen::default(), Arc::default());
    let runtime = scene.runtime(&seen).start_at(start.clone());
    let started = Started::new(runtime.handlers([finder(&found)]));
    seen.count(6).await;
    started.stop().await?;
    let expected = [10, 11].map(|n| {
        [
            (Bson::Int64(1), Some(n), Some((11, 0))),
            (Bson::Int64(2), Some(n), None),
            (Bson::Int32(3), Some(n), Some((12, 0))),
        ]
    });
    assert_eq!(*found.lock().expect("no panic"), expected.concat());
    Ok(())
}

#[tokio::test]
async fn many_updates_and_large_documents_come_in_order_with_their_documents() -> TestResult {
    let scene = Scene::<MongoServer>::own().await;
    let orders = scene.collection("orders");
    let documents = (0..2_300_i64).map(|id| doc! { "_id": id, "n": id });
    orders.insert_many(documents).await?;
    let large = "x".repeat(6 << 20);
    for id in [700_i64, 701, 702, 703] {
        let text = doc! { "$set": { "text": &large } };
        orders.update_one(doc! { "_id": id }, text).await?;
    }
    let start = StartAt::OperationTime(after(&scene.client).await);
    let next: UpdateModifications = doc! { "$inc": { "n": 10_000_i64 } }.into();
    orders.update_many(doc! {}, next).await?;
    let (seen, found) = (Seen::default(), Arc::default());
    let runtime = scene.runtime(&seen).start_at(start.clone());
    let started = Started::new(runtime.handlers([finder(&found)]));
    seen.count(2_300).await;
    started.stop().await?;
    let found = found.lock().expect("no panic").clone();
    for (id, found) in (0..).zip(found) {
        let n = id + 10_000;
        let size = if (700..704).contains(&id) {
            large.len()
        } else {
            0
        };
        assert_eq!(found, (Bson::Int64(id), Some(n), Some((n, size))));
    }
    Ok(())
}

#[tokio::test]
async fn of_a_large_document_that_is_updated_often_few_copies_are_held() -> TestResult {
    const UPDATES: i64 = 24;
    let scene = Scene::new().await;
    let orders = scene.collection("orders");
    let document = doc! { "_id": 1_i64, "n": 0_i64, "text": "x".repeat(3 << 20) };
    orders.insert_one(document).await?;
    let start = StartAt::OperationTime(after(&scene.client).await);
    for _ in 0..UPDATES {
        let next = doc! { "$inc": { "n": 1_i64 } };
        orders.update_one(doc! { "_id": 1_i64 }, next).await?;
    }
    let (client, finds) = watched_client(scene.server.uri()).await;
    let (seen, found) = (Seen::default(), Arc::default());
    let runtime = scene.runtime_through(&client, &seen);
    let started = Started::new(runtime.start_at(start).handlers([finder(&found)]));
    let events = seen.count(UPDATES as usize).await;
    started.stop().await?;
    let numbers: Vec<_> = events.iter().filter_map(|event| event.n).collect();
    assert_eq!(numbers, Vec::from_iter(1..=UPDATES));
    let copies = UPDATES as usize / finds.lock().expect("no panic").len();
    assert!(copies <= 16 / 3, "{copies} at a time");
    Ok(())
}

#[tokio::test]
async fn a_lookup_that_fails_is_made_again_and_nothing_comes_twice() -> TestResult {
    let scene = Scene::<MongoServer>::own().await;
    scene.insert(0..10).await?;
    let start = StartAt::OperationTime(after(&scene.client).await);
    let orders = scene.collection("orders");
    orders
        .update_many(doc! {}, doc! { "$inc": { "n": 1_i64 } })
        .await?;
    let (client, finds) = watched_client(&scene.server.uri()).await;
    let (seen, found) = (Seen::default(), Arc::default());
    for (run, failure) in (1..).zip([Failure::hang_up(), Failure::code(11_602)]) {
        let failure = failure.on(&orders);
        // The driver tries once more by itself.
        fail(&scene.client, &["find"], doc! { "times": 2 }, failure).await?;
        let runtime = scene.runtime_through(&client, &seen);
        let runtime = runtime.name(format!("run {run}")).start_at(start.clone());
        let started = Started::new(runtime.handlers([finder(&found)]));
        seen.count(run * 10).await;
        started.stop().await?;
        assert_eq!(seen.ids()[(run - 1) * 10..], Vec::from_iter(0..10));
        assert_eq!(finds.lock().expect("no panic").len(), run * 3);
    }
    let found = found.lock().expect("no panic").clone();
    assert!(found.iter().all(|(.., document)| document.is_some()));
    Ok(())
}
