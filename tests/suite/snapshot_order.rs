//! G12: documents and changes come in one order, and the handlers' view converges to the collection, whatever changes
//! meanwhile.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use changestream::prelude::*;
use futures::TryStreamExt;
use mongodb::bson::{Document, doc};

use crate::support::{
    Event, Scene, Seen, Started, TestResult, eventually,
    failpoint::{Failure, fail, heal},
    recorder,
    snapshot::{fill, rows, runtime, snapshot_is_done},
    within,
};

/// Whether the documents of snapshots are handled; until then they are put off.
#[derive(Clone, Default)]
struct Held {
    may_go: Arc<AtomicBool>,
    has_some: Arc<AtomicBool>,
}

fn holding(held: &Held) -> HandlerSpec<Seen> {
    let held = held.clone();
    let handle = move |State(seen): State<Seen>, change: RawChange| {
        let held = held.clone();
        async move {
            let event = Event::of(&change, 1);
            if event.operation == Operation::Snapshot && !held.may_go.load(Ordering::SeqCst) {
                held.has_some.store(true, Ordering::SeqCst);
                return Err(HandlerError::retry_after(
                    Duration::from_millis(20),
                    "not yet",
                ));
            }
            seen.push(event);
            Ok(())
        }
    };
    let spec = HandlerSpec::new("holding", handle).collections(["orders"]);
    spec.retries(u32::MAX)
}

#[tokio::test]
async fn events_win_over_documents_that_were_read_before_them() -> TestResult {
    let scene = Scene::new().await;
    let (seen, held) = (Seen::default(), Held::default());
    fill(&scene, 0..100).await?;
    let builder = runtime(&scene, &seen).snapshot_readers(1);
    let started = Started::new(builder.handlers([holding(&held)]));
    // Of the first chunk, 16 documents are in flight, and the others wait.
    let orders = scene.collection("orders");
    eventually("the chunk is read", async || {
        held.has_some.load(Ordering::SeqCst).then_some(())
    })
    .await;
    orders
        .update_one(doc! { "_id": 50 }, doc! { "$set": { "n": 5_000_i64 } })
        .await?;
    orders.delete_one(doc! { "_id": 51 }).await?;
    orders.delete_one(doc! { "_id": 52 }).await?;
    scene.insert([52]).await?;
    seen.until(|events| events.iter().filter(|event| event.id == Some(52)).count() == 2)
        .await;
    assert!(rows(&seen.events()).is_empty());
    held.may_go.store(true, Ordering::SeqCst);
    let others = (0..100).filter(|id| *id != 51);
    let events = seen.all(others.clone()).await;
    seen.until(|events| rows(events).len() == 99).await;
    started.stop().await?;
    assert!(events.len() >= 100);
    let of = |id: i64| -> Vec<_> {
        let events = seen.events().into_iter();
        let of = events.filter(|event| event.id == Some(id));
        of.map(|event| (event.operation, event.n)).collect()
    };
    assert_eq!(
        of(50),
        [
            (Operation::Update, Some(5_000)),
            (Operation::Snapshot, Some(5_000))
        ]
    );
    assert_eq!(of(51), [(Operation::Delete, None)], "gone before it came");
    assert_eq!(
        of(52).last(),
        Some(&(Operation::Snapshot, Some(52))),
        "deleted, then as it is now"
    );
    Ok(())
}

/// What a handler makes of rows and events, by deltas: an update without its document is of no use.
#[derive(Clone, Default)]
struct Copy(Arc<Mutex<BTreeMap<i64, Document>>>);

impl Copy {
    fn handler(&self) -> HandlerSpec<Seen> {
        let copy = self.clone();
        let handle = move |change: RawChange| {
            let copy = copy.clone();
            async move {
                copy.apply(&change)?;
                Ok::<_, HandlerError>(())
            }
        };
        HandlerSpec::new("copy", handle).collections(["orders"])
    }

    fn apply(&self, change: &RawChange) -> Result<(), HandlerError> {
        let key = change.document_key().expect("a key");
        let id: i64 = key.get("_id")?.expect("an id");
        let mut documents = self.0.lock().expect("documents");
        match change.operation() {
            Operation::Delete => drop(documents.remove(&id)),
            Operation::Update => {
                let update = change.update_description().expect("a description");
                if let Some(document) = documents.get_mut(&id) {
                    document.extend(Document::try_from(update.updated_fields())?);
                }
            }
            _ => {
                let document = change.full_document().expect("a document");
                documents.insert(id, Document::try_from(document)?);
            }
        }
        Ok(())
    }

    async fn becomes<S>(&self, scene: &Scene<S>) {
        eventually("the copy is as the collection", async || {
            let found = scene.collection("orders").find(doc! {}).await;
            let found: Vec<_> = found.expect("read").try_collect().await.expect("read");
            let id = |document: &Document| document.get_i64("_id").expect("an id");
            let found: BTreeMap<_, _> =
                found.into_iter().map(|found| (id(&found), found)).collect();
            (*self.0.lock().expect("documents") == found).then_some(())
        })
        .await;
    }
}

/// How many writes a writer makes at most: a slow machine's stream has to come to their end.
const WRITES: i64 = 5_000;

/// Inserts, updates and deletes at random until it is told to stop.
async fn write_at_random<S>(scene: &Scene<S>, until: impl Fn() -> bool) -> TestResult {
    let orders = scene.collection("orders");
    for n in 0..WRITES {
        if until() {
            break;
        }
        let id = fastrand::i64(0..700);
        match fastrand::u8(..8) {
            0 => {
                orders.delete_one(doc! { "_id": id }).await?;
            }
            1 => {
                let document = doc! { "n": n, "replaced": true };
                let replacing = orders.replace_one(doc! { "_id": id }, document);
                replacing.upsert(true).await?;
            }
            _ => {
                let field = format!("f{}", fastrand::u8(..3));
                let update = doc! { "$set": { "n": n, field: n } };
                orders.update_one(doc! { "_id": id }, update).await?;
            }
        }
    }
    Ok(())
}

#[tokio::test]
async fn the_view_converges_while_everything_changes() -> TestResult {
    let scene = Scene::new().await;
    let (seen, copy) = (Seen::default(), Copy::default());
    fill(&scene, 0..500).await?;
    let builder = runtime(&scene, &seen).snapshot_chunk(25);
    let done = AtomicBool::new(false);
    let running = async {
        let handlers = [copy.handler(), recorder(&["orders"])];
        let started = Started::new(builder.handlers(handlers));
        snapshot_is_done(&scene).await;
        done.store(true, Ordering::SeqCst);
        started
    };
    let (started, written) = tokio::join!(
        running,
        write_at_random(&scene, || done.load(Ordering::SeqCst))
    );
    written?;
    copy.becomes(&scene).await;
    started.stop().await?;
    assert!(rows(&seen.events()).len() > 400);
    assert!(scene.dead_letters().await.is_empty());
    Ok(())
}

#[tokio::test]
async fn rows_and_events_of_a_document_come_in_order() -> TestResult {
    let scene = Scene::new().await;
    let seen = Seen::default();
    fill(&scene, 0..400).await?;
    // Each gives its own documents one version after the other: fewer than there are reads that wait for the stream.
    let writer = async |part: i64| {
        let orders = scene.collection("orders");
        for version in 0..6 {
            for place in 0..100 {
                let update = doc! { "$set": { "n": 1_000_i64 + version } };
                let id = place * 4 + part;
                orders.update_one(doc! { "_id": id }, update).await?;
            }
        }
        TestResult::Ok(())
    };
    let running = async {
        let handle = |State(seen): State<Seen>, change: RawChange| async move {
            tokio::time::sleep(Duration::from_millis(2)).await;
            seen.push(Event::of(&change, 1));
            Ok::<_, HandlerError>(())
        };
        let handler = HandlerSpec::new("slow", handle).collections(["orders"]);
        let started = Started::new(runtime(&scene, &seen).handlers([handler]));
        snapshot_is_done(&scene).await;
        started
    };
    let writing = futures::future::try_join_all((0..4).map(writer));
    let (started, written) = tokio::join!(running, writing);
    written?;
    let events = seen.until(|events| rows(events).len() >= 400).await;
    started.stop().await?;
    let mut newest = HashMap::new();
    for event in &events {
        let before = newest.insert(event.id, event.n);
        assert!(
            before.is_none_or(|before| before <= event.n),
            "{event:?} after {before:?}"
        );
    }
    Ok(())
}

#[tokio::test]
async fn documents_are_not_ahead_of_the_stream() -> TestResult {
    let scene = Scene::own().await;
    let seen = Seen::default();
    let builder = runtime(&scene, &seen).snapshot(Snapshot::Never);
    let runtime = builder.handlers([recorder(&["orders"])]).build()?;
    let snapshots = runtime.snapshots();
    let (shutdown, asked) = tokio::sync::oneshot::channel::<()>();
    let running = tokio::spawn(runtime.run_until(async { drop(asked.await) }));
    eventually("it watches", async || scene.checkpoint().await).await;
    scene.insert([1]).await?;
    seen.count(1).await;

    let stream = ["aggregate", "getMore"];
    let failure = Failure::resumable(11600);
    fail(&scene.client, &stream, "alwaysOn", failure).await?;
    // One that was under way is over in a second.
    tokio::time::sleep(Duration::from_millis(1_200)).await;
    let orders = scene.collection("orders");
    for n in [100_i64, 200] {
        let update = doc! { "$set": { "n": n } };
        orders.update_one(doc! { "_id": 1 }, update).await?;
    }
    let asking = tokio::spawn(async move { snapshots.request("orders", doc! {}).await });
    // As long as the first reads would take many times over.
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(seen.ids().len(), 1);
    heal(&scene.client).await?;
    assert_eq!(within("it is taken", asking).await??, 1);
    let n: Vec<_> = seen.events().iter().filter_map(|event| event.n).collect();
    assert_eq!(n, [1, 100, 200, 200]);
    shutdown.send(()).ok();
    within("it stops", running).await??;
    Ok(())
}
