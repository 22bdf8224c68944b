//! G5 and G9: events of one key in order, keys side by side, and never more in flight than the bounds allow.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use changestream::{Operation, prelude::*};
use mongodb::bson::{Binary, doc, spec::BinarySubtype};
use tokio::{
    sync::{Semaphore, watch},
    time::sleep,
};

use crate::support::{self, Event, Scene, Seen, Started, TestResult, eventually};

const FOREVER: Duration = Duration::from_secs(3600);

/// A gate in front of the handler: who may not pass waits.
#[derive(Clone)]
struct Gate(Arc<watch::Sender<bool>>);

impl Gate {
    fn closed() -> Self {
        Self(Arc::new(watch::Sender::new(false)))
    }

    fn open(&self) {
        self.0.send_replace(true);
    }

    async fn pass(&self) {
        let mut open = self.0.subscribe();
        open.wait_for(|open| *open)
            .await
            .expect("the sender is here");
    }
}

/// A handler of `orders` that notes an event once it passed the gate, where `is_held` says that it must.
fn gated(gate: &Gate, is_held: fn(&Event) -> bool) -> HandlerSpec<Seen> {
    let gate = gate.clone();
    let handle = move |State(seen): State<Seen>, change: RawChange| {
        let gate = gate.clone();
        async move {
            let event = Event::of(&change, 1);
            if is_held(&event) {
                gate.pass().await;
            }
            seen.push(event);
            Ok::<_, HandlerError>(())
        }
    };
    HandlerSpec::new("gated", handle)
        .collections(["orders"])
        .timeout(FOREVER)
}

#[tokio::test]
async fn a_slow_event_holds_back_its_key_and_no_other() -> TestResult {
    let scene = Scene::new().await;
    let (seen, gate) = (Seen::default(), Gate::closed());
    let handler = gated(&gate, |event| event.id == Some(1));
    let runtime = Started::new(scene.runtime(&seen).concurrency(4).handlers([handler]));
    scene.insert(1..4).await?;
    for id in 1..4 {
        let update = doc! { "$set": { "n": id + 10 } };
        let orders = scene.collection("orders");
        orders.update_one(doc! { "_id": id }, update).await?;
    }
    seen.count(4).await;
    assert!(!seen.ids().contains(&1));
    gate.open();
    let events = seen.count(6).await;
    let first: Vec<_> = events.iter().filter(|event| event.id == Some(1)).collect();
    assert_eq!(first[0].operation, Operation::Insert);
    assert_eq!(first[1].operation, Operation::Update);
    runtime.stop().await?;
    Ok(())
}

#[tokio::test]
async fn retrying_events_leave_their_lanes_to_others() -> TestResult {
    let scene = Scene::new().await;
    let (seen, failing) = (Seen::default(), Arc::new(AtomicUsize::new(0)));
    let failed = Arc::clone(&failing);
    let handle = move |State(seen): State<Seen>, change: RawChange| {
        let failed = Arc::clone(&failed);
        async move {
            let event = Event::of(&change, 1);
            if event.id < Some(10) {
                failed.fetch_add(1, Ordering::SeqCst);
                return Err(HandlerError::retry_after(FOREVER, "not yet"));
            }
            seen.push(event);
            Ok(())
        }
    };
    let handler = HandlerSpec::new("handler", handle).collections(["orders"]);
    let runtime = Started::new(scene.runtime(&seen).concurrency(2).handlers([handler]));
    scene.insert(0..20).await?;
    let events = seen.count(10).await;
    assert_eq!(events.len(), 10);
    assert_eq!(failing.load(Ordering::SeqCst), 10);
    runtime.crash().await;
    Ok(())
}

#[tokio::test]
async fn a_failing_handler_does_not_hold_back_another_one() -> TestResult {
    let scene = Scene::new().await;
    let (seen, gate) = (Seen::default(), Gate::closed());
    let fails = || async { Err::<(), _>(HandlerError::retry_after(FOREVER, "not yet")) };
    let fails = HandlerSpec::new("fails", fails).collections(["orders"]);
    let handlers = [fails, gated(&gate, |_| false)];
    let runtime = Started::new(scene.runtime(&seen).concurrency(2).handlers(handlers));
    scene.insert([1]).await?;
    scene
        .collection("orders")
        .delete_one(doc! { "_id": 1 })
        .await?;
    let events = seen.count(2).await;
    assert_eq!(events[1].operation, Operation::Delete);
    runtime.crash().await;
    Ok(())
}

#[tokio::test]
async fn no_more_handlers_run_than_there_are_lanes() -> TestResult {
    let scene = Scene::new().await;
    let (seen, running) = (Seen::default(), Arc::new(AtomicUsize::new(0)));
    let gate = Arc::new(Semaphore::new(0));
    let (counted, gated) = (Arc::clone(&running), Arc::clone(&gate));
    let handle = move |State(seen): State<Seen>, change: RawChange| {
        let (running, gate) = (Arc::clone(&counted), Arc::clone(&gated));
        async move {
            let now = running.fetch_add(1, Ordering::SeqCst) + 1;
            assert!(now <= 3, "{now} at a time");
            gate.acquire().await?.forget();
            running.fetch_sub(1, Ordering::SeqCst);
            seen.push(Event::of(&change, 1));
            Ok::<_, HandlerError>(())
        }
    };
    let handler = HandlerSpec::new("handler", handle)
        .collections(["orders"])
        .timeout(FOREVER);
    let runtime = Started::new(scene.runtime(&seen).concurrency(3).handlers([handler]));
    scene.insert(0..20).await?;
    eventually("all lanes are taken", async || {
        (running.load(Ordering::SeqCst) == 3).then_some(())
    })
    .await;
    gate.add_permits(20);
    seen.all(0..20).await;
    runtime.stop().await?;
    assert!(scene.dead_letters().await.is_empty());
    Ok(())
}

#[tokio::test]
async fn no_more_events_are_in_flight_than_the_bound() -> TestResult {
    let scene = Scene::new().await;
    let (seen, gate) = (Seen::default(), Arc::new(Semaphore::new(0)));
    let builder = scene.runtime(&seen).concurrency(16).in_flight_events(8);
    let runtime = Started::new(builder.handlers([support::gated(&gate)]));
    scene.insert(0..30).await?;
    seen.count(8).await;
    sleep(Duration::from_secs(2)).await;
    assert_eq!(seen.ids().len(), 8);
    gate.add_permits(30);
    seen.all(0..30).await;
    runtime.stop().await?;
    Ok(())
}

#[tokio::test]
async fn a_slow_first_event_lets_only_so_many_followers_by() -> TestResult {
    let scene = Scene::new().await;
    let (seen, gate) = (Seen::default(), Gate::closed());
    let start = || {
        let handler = gated(&gate, |event| event.id == Some(0));
        let builder = scene.runtime(&seen).concurrency(4).in_flight_events(8);
        Started::new(builder.checkpoint_events(10).handlers([handler]))
    };
    let runtime = start();
    scene.insert(0..30).await?;
    seen.count(10 + 7).await;
    // Whatever else it might take, it would take before the next reply of the server, at most a second on.
    sleep(Duration::from_secs(2)).await;
    assert_eq!(seen.ids().len(), 10 + 7);
    runtime.crash().await;
    gate.open();
    let runtime = start();
    seen.all(0..30).await;
    runtime.stop().await?;
    assert_eq!(
        seen.ids().len(),
        10 + 7 + 30,
        "no checkpoint passed the first event"
    );
    Ok(())
}

#[tokio::test]
async fn the_bytes_in_flight_are_bounded_too() -> TestResult {
    let scene = Scene::new().await;
    let (seen, gate) = (Seen::default(), Gate::closed());
    let handler = gated(&gate, |event| event.id == Some(0));
    let builder = scene.runtime(&seen).concurrency(4).in_flight_bytes(3 << 20);
    let runtime = Started::new(builder.handlers([handler]));
    let megabyte = Binary {
        subtype: BinarySubtype::Generic,
        bytes: vec![0; 1 << 20],
    };
    for id in 0..6_i64 {
        let document = doc! { "_id": id, "data": megabyte.clone() };
        scene.collection("orders").insert_one(document).await?;
    }
    // Larger than the bound: it goes alone.
    let large = Binary {
        subtype: BinarySubtype::Generic,
        bytes: vec![0; 5 << 20],
    };
    let document = doc! { "_id": 6_i64, "data": large };
    scene.collection("orders").insert_one(document).await?;
    seen.count(1).await;
    sleep(Duration::from_secs(1)).await;
    assert_eq!(seen.ids(), [1], "two events of a megabyte and a bit fit");
    gate.open();
    seen.all(0..7).await;
    runtime.stop().await?;
    Ok(())
}

#[tokio::test]
async fn a_key_orders_events_across_documents() -> TestResult {
    let scene = Scene::new().await;
    let (seen, gate) = (Seen::default(), Gate::closed());
    let handler = gated(&gate, |event| event.id == Some(1)).key("customer.id");
    let runtime = Started::new(scene.runtime(&seen).concurrency(4).handlers([handler]));
    for (id, customer) in [(1_i64, 7), (2, 7), (3, 8)] {
        let document = doc! { "_id": id, "customer": { "id": customer } };
        scene.collection("orders").insert_one(document).await?;
    }
    seen.count(1).await;
    assert_eq!(seen.ids(), [3]);
    gate.open();
    seen.count(3).await;
    assert_eq!(seen.ids(), [3, 1, 2]);
    runtime.stop().await?;
    Ok(())
}

#[tokio::test]
async fn a_drop_comes_after_all_before_it_and_before_all_after_it() -> TestResult {
    let scene = Scene::new().await;
    let (seen, gate) = (Seen::default(), Gate::closed());
    let handler = gated(&gate, |event| event.id == Some(1))
        .collections(["orders", "products"])
        .operations([Operation::Insert, Operation::Drop]);
    let runtime = Started::new(scene.runtime(&seen).concurrency(4).handlers([handler]));
    scene.insert(1..3).await?;
    scene.collection("orders").drop().await?;
    scene.insert_into("products", 3..5).await?;
    seen.count(1).await;
    sleep(Duration::from_secs(1)).await;
    assert_eq!(seen.ids(), [2], "neither the drop nor what follows it");
    gate.open();
    let events = seen.count(5).await;
    assert_eq!(events[2].operation, Operation::Drop);
    runtime.stop().await?;
    Ok(())
}

#[tokio::test]
async fn order_per_document_survives_failures_at_random() -> TestResult {
    const DOCUMENTS: i64 = 20;
    const UPDATES: i64 = 25;
    let scene = Scene::new().await;
    let seen = Seen::default();
    let handle = |State(seen): State<Seen>, change: RawChange, Attempt(attempt): Attempt| async move {
        sleep(Duration::from_micros(fastrand::u64(..2_000))).await;
        if fastrand::u8(..4) == 0 && attempt < 10 {
            return Err(HandlerError::retry("by chance"));
        }
        seen.push(Event::of(&change, attempt));
        Ok(())
    };
    let handler = HandlerSpec::new("handler", handle)
        .collections(["orders"])
        .retries(10)
        .backoff(Duration::from_millis(2));
    let builder = scene.runtime(&seen).concurrency(8).in_flight_events(64);
    let runtime = Started::new(builder.handlers([handler]));
    scene.insert(0..DOCUMENTS).await?;
    for n in 0..UPDATES {
        let update = doc! { "$set": { "n": 100 + n } };
        scene
            .collection("orders")
            .update_many(doc! {}, update)
            .await?;
    }
    let total = (DOCUMENTS * (UPDATES + 1)) as usize;
    let events = seen.count(total).await;
    runtime.stop().await?;
    assert_eq!(seen.events().len(), total, "nothing comes twice");
    let mut last: HashMap<_, i64> = HashMap::new();
    for event in &events {
        let n = event.n.expect("a number");
        let before = last.insert(event.id, n);
        assert!(
            before.is_none_or(|before| before < n),
            "{event:?} after {before:?}"
        );
    }
    let is_sorted = events.is_sorted_by_key(|event| event.n);
    assert!(!is_sorted, "documents go side by side");
    Ok(())
}
