//! A transaction of 1,000 documents, which share one cluster time: whatever is killed in the middle of it, a resume lands
//! inside it, and nothing of it is lost.

use std::{collections::HashSet, sync::Arc};

use changestream::{ClusterTime, EventId, prelude::*};
use changestream_testkit::MongoServer;
use mongodb::{
    ClientSession,
    bson::{Document, doc},
    error::{Error as MongoError, TRANSIENT_TRANSACTION_ERROR},
};
use tokio::sync::Semaphore;

use crate::support::{Event, Scene, Seen, Started, TestResult, eventually, gated, ready, recorder};

const SIZE: i64 = 1_000;
const MIDDLE: usize = 500;

async fn begin<S>(
    scene: &Scene<S>,
    ids: std::ops::Range<i64>,
) -> Result<ClientSession, crate::support::BoxError> {
    let mut session = scene.client.start_session().await?;
    session.start_transaction().await?;
    let documents: Vec<_> = ids.map(|id| doc! { "_id": id, "n": id }).collect();
    let orders = scene.collection("orders");
    orders.insert_many(documents).session(&mut session).await?;
    Ok(session)
}

async fn commit<S>(scene: &Scene<S>) -> TestResult {
    begin(scene, 0..SIZE).await?.commit_transaction().await?;
    Ok(())
}

fn event_ids(events: &[Event]) -> Vec<(Option<i64>, EventId)> {
    events
        .iter()
        .map(|event| (event.id, event.event_id))
        .collect()
}

/// The id of the event at this token's place.
fn place(token: &ResumeToken) -> EventId {
    let token = Document::try_from(token.as_raw()).expect("a token");
    let event = doc! { "_id": token, "operationType": "insert" };
    let event = mongodb::bson::serialize_to_vec(&event).expect("a document");
    RawChange::new(event).expect("an event").event_id()
}

#[tokio::test]
async fn a_server_killed_in_the_middle_of_a_transactions_events_costs_none() -> TestResult {
    let scene = Scene::<MongoServer>::own().await;
    scene.database.create_collection("orders").await?;
    let (seen, gate) = (Seen::default(), Arc::new(Semaphore::new(MIDDLE)));
    let builder = scene.runtime(&seen).batch_size(10);
    let runtime = Started::new(builder.handlers([gated(&gate)]));
    commit(&scene).await?;
    seen.count(MIDDLE).await;
    scene.server.kill().await?;
    scene.server.restart().await?;
    gate.add_permits(Semaphore::MAX_PERMITS / 2);
    seen.all(0..SIZE).await;
    runtime.stop().await?;
    let mut ids = seen.ids();
    ids.sort_unstable();
    assert_eq!(ids, (0..SIZE).collect::<Vec<_>>(), "each once");
    Ok(())
}

#[tokio::test]
async fn a_client_killed_in_the_middle_of_a_transactions_events_goes_on_inside_it() -> TestResult {
    let scene = Scene::new().await;
    scene.database.create_collection("orders").await?;
    let (seen, gate) = (Seen::default(), Arc::new(Semaphore::new(MIDDLE)));
    let start = |seen| {
        let builder = scene.runtime(seen).batch_size(10).checkpoint_events(1);
        Started::new(builder.handlers([gated(&gate)]))
    };
    let runtime = start(&seen);
    commit(&scene).await?;
    seen.count(MIDDLE + 1).await;
    eventually("a place inside it is checkpointed", async || {
        let place = place(scene.checkpoint().await?.token()?);
        (place == seen.events()[MIDDLE - 1].event_id).then_some(())
    })
    .await;
    runtime.crash().await;

    let again = Seen::default();
    gate.add_permits(Semaphore::MAX_PERMITS / 2);
    let runtime = start(&again);
    again.all([SIZE - 1]).await;
    runtime.stop().await?;
    let (before, after) = (event_ids(&seen.events()), event_ids(&again.events()));
    assert!(
        (500..1_000).contains(&after.len()),
        "inside it: {}",
        after.len()
    );
    let repeated = before.iter().position(|event| *event == after[0]);
    let repeated = repeated.expect("it goes on at an event that was not finished");
    assert_eq!(before[repeated..], after[..before.len() - repeated]);
    let ids: HashSet<_> = before.iter().chain(&after).collect();
    assert_eq!(ids.len(), usize::try_from(SIZE)?);
    Ok(())
}

/// The server dies with the transaction open, and again right as it commits.
#[tokio::test]
async fn a_transaction_comes_whole_or_not_at_all() -> TestResult {
    let scene = Scene::own().await;
    scene.database.create_collection("orders").await?;
    let seen = Seen::default();
    let runtime = Started::new(scene.runtime(&seen).handlers([recorder(&["orders"])]));
    ready(&runtime.health).await;
    let open = begin(&scene, -SIZE..0).await?;
    scene.server.kill().await?;
    drop(open);
    scene.server.restart().await?;

    let mut session = begin(&scene, 0..SIZE).await?;
    let (committed, killed) = tokio::join!(session.commit_transaction(), scene.server.kill());
    killed?;
    scene.server.restart().await?;
    scene.insert([2 * SIZE]).await?;
    let events = seen.all([2 * SIZE]).await;
    let of_transaction = events.iter().filter(|event| event.id < Some(2 * SIZE));
    let orders = scene.collection("orders");
    let stored = orders
        .count_documents(doc! { "_id": { "$lt": 2 * SIZE } })
        .await?;
    assert_eq!(of_transaction.count() as u64, stored);
    let expected = if committed.is_ok() {
        vec![1_000]
    } else {
        vec![0, 1_000]
    };
    assert!(expected.contains(&stored), "{stored}");
    runtime.stop().await?;
    Ok(())
}

const LARGE: usize = 36;

async fn commit_large<S>(scene: &Scene<S>) -> mongodb::error::Result<()> {
    let mut session = scene.client.start_session().await?;
    session.start_transaction().await?;
    let filler = "x".repeat(1 << 19);
    for id in 0..LARGE as i64 {
        let order = doc! { "_id": id, "filler": &filler };
        let orders = scene.collection("orders");
        orders.insert_one(order).session(&mut session).await?;
    }
    session.commit_transaction().await
}

/// So large that it takes several entries of the oplog.
#[tokio::test]
async fn the_events_of_a_large_transaction_share_their_time_and_not_their_id() -> TestResult {
    let scene = Scene::new().await;
    scene.database.create_collection("orders").await?;
    let seen = Arc::new(std::sync::Mutex::new(Vec::new()));
    let keep = Arc::clone(&seen);
    let note = move |id: EventId, time: ClusterTime| {
        keep.lock().expect("no panic").push((id, time));
        std::future::ready(Ok::<_, HandlerError>(()))
    };
    let spec = HandlerSpec::new("note", note).collections(["orders"]);
    let runtime = Started::new(scene.runtime(&Seen::default()).handlers([spec]));
    eventually("a busy server commits it", async || {
        let committed = commit_large(&scene).await;
        let passes = |error: &MongoError| error.contains_label(TRANSIENT_TRANSACTION_ERROR);
        assert!(committed.as_ref().err().is_none_or(passes), "{committed:?}");
        committed.ok()
    })
    .await;
    let seen = eventually("all have come", async || {
        let seen = seen.lock().expect("no panic").clone();
        (seen.len() >= LARGE).then_some(seen)
    })
    .await;
    runtime.stop().await?;
    let ids: HashSet<_> = seen.iter().map(|(id, _)| id).collect();
    let times: HashSet<_> = seen.iter().map(|(_, time)| time).collect();
    assert_eq!((ids.len(), times.len()), (LARGE, 1));
    Ok(())
}
