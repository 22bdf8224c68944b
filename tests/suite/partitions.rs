//! G11, shared work: replicas split the keys of one stream among them, and share them out anew when one comes or
//! goes.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    time::{Duration, Instant},
};

use changestream::{CheckpointStore, MongoCheckpoints, Operation, StartAt, prelude::*};
use mongodb::bson::doc;

use crate::support::{
    Event, RUNTIME, Scene, Seen, TestResult, after,
    commit::Commits,
    eventually,
    partition::{Replica, each_seen_once, shared_out},
    recorder, token_time,
    writer::{self, Writer},
};

/// Long enough that nothing here waits for its end.
const LONG: Duration = Duration::from_secs(3600);

#[tokio::test]
async fn replicas_share_the_partitions_and_share_them_anew_when_one_comes_or_goes() -> TestResult {
    let scene = Scene::new().await;
    let start = || Replica::start(&scene, 4, LONG);
    let [a, b] = [start(), start()];
    shared_out(&[&a, &b], &[2, 2]).await;
    scene.insert(0..40).await?;
    each_seen_once(&[&a, &b], 0..40).await;
    for replica in [&a, &b] {
        assert!(replica.seen.ids().len() > 5, "{:?}", replica.seen.ids());
    }

    let c = start();
    shared_out(&[&a, &b, &c], &[2, 1, 1]).await;
    scene.insert(40..80).await?;
    each_seen_once(&[&a, &b, &c], 0..80).await;
    assert!(!c.seen.ids().is_empty());

    // No lease has to run out.
    a.runtime.stop().await?;
    shared_out(&[&b, &c], &[2, 2]).await;
    b.runtime.stop().await?;
    shared_out(&[&c], &[4]).await;
    scene.insert(80..120).await?;
    let seen = c.seen.all(80..120).await;
    assert_eq!(seen.iter().filter(|event| event.id >= Some(80)).count(), 40);
    c.runtime.stop().await?;

    let checkpoints = MongoCheckpoints::new(&scene.database);
    for index in 0..4 {
        let stored = checkpoints.load(&format!("{RUNTIME}/{index}")).await?;
        let stored = stored.expect("a checkpoint of its own");
        assert_eq!(stored.partitioning.expect("split").partitions, 4);
    }
    Ok(())
}

#[tokio::test]
async fn a_replica_without_a_partition_waits_for_one() -> TestResult {
    let scene = Scene::new().await;
    let start = || Replica::start(&scene, 2, LONG);
    let mut replicas = vec![start(), start(), start()];
    let all: Vec<_> = replicas.iter().collect();
    shared_out(&all, &[1, 1, 0]).await;
    scene.insert(0..20).await?;
    each_seen_once(&all, 0..20).await;
    let busy = replicas
        .iter()
        .position(|replica| !replica.seen.ids().is_empty());
    let busy = replicas.swap_remove(busy.expect("one that works"));
    busy.runtime.stop().await?;
    shared_out(&replicas.iter().collect::<Vec<_>>(), &[1, 1]).await;
    for replica in replicas {
        replica.runtime.stop().await?;
    }
    Ok(())
}

#[tokio::test]
async fn the_partitions_of_a_crashed_replica_are_taken_over_within_the_lease_time() -> TestResult {
    const LEASE: Duration = Duration::from_secs(4);
    let scene = Scene::new().await;
    let start = || Replica::start(&scene, 4, LEASE);
    let [crashing, other] = [start(), start()];
    shared_out(&[&crashing, &other], &[2, 2]).await;
    scene.insert(0..20).await?;
    each_seen_once(&[&crashing, &other], 0..20).await;
    crashing.runtime.crash().await;
    let crashed = Instant::now();
    scene.insert(20..40).await?;
    other.seen.all(20..40).await;
    // Starting to watch takes its time too on a slow machine.
    let taken = crashed.elapsed();
    assert!(taken < LEASE + Duration::from_secs(20), "{taken:?}");
    shared_out(&[&other], &[4]).await;
    other.runtime.stop().await?;
    Ok(())
}

/// A handler that takes its time, another one for each event.
fn slow() -> HandlerSpec<Seen> {
    async fn handle(State(seen): State<Seen>, change: RawChange) -> Result<(), HandlerError> {
        tokio::time::sleep(Duration::from_micros(fastrand::u64(0..5_000))).await;
        seen.push(Event::of(&change, 1));
        Ok(())
    }
    HandlerSpec::new("slow", handle).collections(["orders"])
}

#[tokio::test]
async fn under_load_replicas_come_and_go_and_each_key_stays_in_order() -> TestResult {
    let scene = Scene::new().await;
    let commits = Commits::watch(&scene.database).await?;
    let seen = Seen::default();
    let start = || {
        Replica::noting(&scene, 4, seen.clone(), |builder| {
            builder.lease(LONG).concurrency(4).handlers([slow()])
        })
    };
    let mut replicas = vec![start()];
    let mut writer = Writer::start(scene.collection("orders"));
    for _ in 0..6 {
        writer.more(50).await;
        match replicas.len() {
            1 => replicas.push(start()),
            3 => {
                replicas
                    .swap_remove(fastrand::usize(0..3))
                    .runtime
                    .stop()
                    .await?
            }
            _ if fastrand::bool() => replicas.push(start()),
            _ => replicas.swap_remove(0).runtime.stop().await?,
        }
        let shares = [&[4][..], &[2, 2], &[2, 1, 1]][replicas.len() - 1];
        shared_out(&replicas.iter().collect::<Vec<_>>(), shares).await;
    }
    writer.more(50).await;
    let written = writer.stop().await;
    // Without a crash, nothing comes twice.
    writer::assert_all_in_order(&seen, &written).await;
    for replica in replicas {
        replica.runtime.stop().await?;
    }
    commits.assert_in_order();
    Ok(())
}

#[tokio::test]
async fn under_load_replicas_crash_and_what_comes_again_comes_in_order() -> TestResult {
    let scene = Scene::new().await;
    let commits = Commits::watch(&scene.database).await?;
    let seen = Seen::default();
    let start = || {
        Replica::noting(&scene, 4, seen.clone(), |builder| {
            let builder = builder.lease(Duration::from_secs(3));
            builder.concurrency(4).handlers([slow()])
        })
    };
    let mut replicas = vec![start(), start()];
    let mut writer = Writer::start(scene.collection("orders"));
    for _ in 0..3 {
        shared_out(&replicas.iter().collect::<Vec<_>>(), &[2, 2]).await;
        writer.more(100).await;
        replicas.remove(0).runtime.crash().await;
        replicas.push(start());
    }
    writer.more(100).await;
    let written = writer.stop().await;
    let events = writer::all(&seen, &written).await;
    let mut newest = HashMap::new();
    let mut known = BTreeSet::new();
    for event in &events {
        let (id, n) = (event.id.expect("an id"), event.n.expect("a version"));
        if known.insert((id, n)) {
            let before = newest.insert(id, n);
            assert!(
                before.is_none_or(|before| before < n),
                "{n} after {before:?}"
            );
        }
    }
    // Events in flight, and those done since the last checkpoint, of 20 ms before.
    assert!(events.len() - known.len() < 3 * 200, "{}", events.len());
    for replica in replicas {
        replica.runtime.stop().await?;
    }
    commits.assert_in_order();
    Ok(())
}

#[tokio::test]
async fn another_number_of_partitions_waits_for_the_old_one_and_loses_nothing() -> TestResult {
    let scene = Scene::new().await;
    let held_back = |State(seen): State<Seen>, change: RawChange| async move {
        let event = Event::of(&change, 1);
        if event.id == Some(0) {
            std::future::pending::<()>().await;
        }
        seen.push(event);
        Ok::<_, HandlerError>(())
    };
    let two = Replica::start_with(&scene, 2, |builder| {
        let handler = HandlerSpec::new("record", held_back).collections(["orders"]);
        builder
            .lease(Duration::from_secs(3))
            .concurrency(4)
            .handlers([handler.timeout(LONG)])
    });
    scene.insert(0..20).await?;
    two.seen.all(1..20).await;
    let three = Replica::start(&scene, 3, LONG);
    scene.insert(20..30).await?;
    two.seen.all(20..30).await;
    eventually("the other one is refused again and again", async || {
        (three.holdings.attempts() > 5).then_some(())
    })
    .await;
    let stored = scene.checkpoint().await.expect("how they are split");
    assert_eq!(stored.partitioning.expect("split").partitions, 2);
    assert!(three.seen.ids().is_empty());

    // One partition of two is at its end, the other one behind its first event.
    two.runtime.crash().await;
    scene.insert(30..40).await?;
    three.seen.all([0]).await;
    three.seen.all(30..40).await;
    shared_out(&[&three], &[3]).await;
    let stored = scene.checkpoint().await.expect("how they are split");
    assert_eq!(stored.partitioning.expect("split").partitions, 3);
    three.runtime.stop().await?;

    // And back to one, while nobody runs.
    scene.insert(40..50).await?;
    let one = Replica::start(&scene, 1, LONG);
    scene.insert(50..60).await?;
    one.seen.all(40..60).await;
    one.runtime.stop().await?;
    let stored = scene.checkpoint().await.expect("saved");
    assert_eq!(stored.partitioning, None);
    Ok(())
}

#[tokio::test]
async fn one_replica_that_does_all_the_work_is_joined_by_none_that_would_share_it() -> TestResult {
    let scene = Scene::new().await;
    let one = Replica::start(&scene, 1, LONG);
    scene.insert(0..10).await?;
    one.seen.all(0..10).await;
    let two = Replica::start(&scene, 2, LONG);
    scene.insert(10..20).await?;
    one.seen.all(10..20).await;
    one.runtime.stop().await?;
    scene.insert(20..30).await?;
    each_seen_once(&[&two], 20..30).await;
    assert_eq!(
        two.seen.ids().len(),
        10,
        "it goes on where the other one was"
    );
    two.runtime.stop().await?;
    Ok(())
}

/// As after its database was dropped under running replicas.
#[tokio::test]
async fn partitions_that_nothing_tells_how_they_were_split_go_on_where_they_were() -> TestResult {
    let scene = Scene::new().await;
    let start = || Replica::start(&scene, 3, LONG);
    let replica = start();
    scene.insert(0..20).await?;
    each_seen_once(&[&replica], 0..20).await;
    replica.runtime.stop().await?;
    let checkpoints = scene.collection(MongoCheckpoints::COLLECTION);
    checkpoints.delete_one(doc! { "_id": RUNTIME }).await?;
    scene.insert(20..40).await?;
    let replica = start();
    each_seen_once(&[&replica], 20..40).await;
    assert_eq!(replica.seen.ids().len(), 20, "nothing comes again");
    replica.runtime.stop().await?;
    Ok(())
}

/// Each partition starts later than the one before it, but all of them from one place.
#[tokio::test]
async fn all_partitions_start_where_the_runtime_did() -> TestResult {
    let scene = Scene::new().await;
    let replica = Replica::start_with(&scene, 8, |builder| {
        let builder = builder.start_at(StartAt::Now).lease(LONG);
        builder.handlers([recorder(&["orders"])])
    });
    eventually("it has started", async || scene.checkpoint().await).await;
    scene.insert(0..40).await?;
    each_seen_once(&[&replica], 0..40).await;
    replica.runtime.stop().await?;
    Ok(())
}

#[tokio::test]
async fn a_drop_comes_to_one_replica() -> TestResult {
    let scene = Scene::new().await;
    let start = || {
        Replica::start_with(&scene, 4, |builder| {
            let handler = recorder(&["orders"]).operations([Operation::Insert, Operation::Drop]);
            builder.lease(LONG).handlers([handler, recorder_of_all()])
        })
    };
    let replicas = [start(), start()];
    let [a, b] = &replicas;
    shared_out(&[a, b], &[2, 2]).await;
    scene.insert([1]).await?;
    scene.collection("orders").drop().await?;
    let dropped = after(&scene.client).await;
    let checkpoints = MongoCheckpoints::new(&scene.database);
    let mut ids = 0..;
    for index in 0..4 {
        eventually("every partition is past the drop", async || {
            scene
                .insert_into("products", ids.next())
                .await
                .expect("written");
            let stored = checkpoints.load(&format!("{RUNTIME}/{index}")).await;
            let token = stored.expect("read")?.token().map(token_time)?;
            (token > dropped).then_some(())
        })
        .await;
    }
    let events = replicas.iter().flat_map(|replica| replica.seen.events());
    let drops = events.filter(|event| event.operation == Operation::Drop);
    assert_eq!(drops.count(), 1);
    for replica in replicas {
        replica.runtime.stop().await?;
    }
    Ok(())
}

/// So that the stream goes on after the drop.
fn recorder_of_all() -> HandlerSpec<Seen> {
    HandlerSpec::new("all", || async { Ok::<_, HandlerError>(()) }).collections(["products"])
}

#[tokio::test]
async fn the_events_of_one_key_come_to_one_replica() -> TestResult {
    let scene = Scene::new().await;
    let start = || {
        Replica::start_with(&scene, 4, |builder| {
            let handler = recorder(&["orders"]).operations([Operation::Insert]);
            builder
                .lease(LONG)
                .concurrency(4)
                .handlers([handler.key("customer")])
        })
    };
    let [a, b] = [start(), start()];
    shared_out(&[&a, &b], &[2, 2]).await;
    const CUSTOMERS: i64 = 16;
    for id in 0..80 {
        // Equal numbers are one key, whatever their type.
        let customer = id % CUSTOMERS;
        let document = match id % 3 {
            0 => doc! { "_id": id, "customer": customer },
            1 => doc! { "_id": id, "customer": customer as i32 },
            _ => doc! { "_id": id, "customer": customer as f64 },
        };
        scene.collection("orders").insert_one(document).await?;
    }
    each_seen_once(&[&a, &b], 0..80).await;
    let mut customers = BTreeMap::new();
    for (replica, seen) in [a.seen.ids(), b.seen.ids()].into_iter().enumerate() {
        assert!(!seen.is_empty());
        let mut newest = BTreeMap::new();
        for id in seen {
            let customer = id % CUSTOMERS;
            let before = newest.insert(customer, id);
            assert!(
                before.is_none_or(|before| before < id),
                "{id} after {before:?}"
            );
            let one = *customers.entry(customer).or_insert(replica);
            assert_eq!(one, replica, "customer {customer}");
        }
    }
    a.runtime.stop().await?;
    b.runtime.stop().await?;
    Ok(())
}

#[tokio::test]
async fn what_cannot_be_split_is_refused() -> TestResult {
    let scene = Scene::new().await;
    let refused = |partitions, handler| {
        let builder = scene.runtime(&Seen::default()).partitions(partitions);
        let built = builder.handlers([handler]).build();
        let error = built
            .map(drop)
            .err()
            .filter(|error| error.is_configuration());
        error.map(|error| error.to_string())
    };
    let keyed = |key: &str| recorder(&["orders"]).key(key);
    let said = refused(2, keyed("customer")).expect("refused");
    assert!(said.contains("`record` has the key `customer`"), "{said}");
    assert_eq!(refused(2, keyed("_id.customer")), None);
    assert_eq!(refused(1, keyed("customer")), None);
    let inserts = keyed("customer").operations([Operation::Insert, Operation::Replace]);
    assert_eq!(refused(2, inserts), None);
    assert!(
        refused(0, recorder(&[]))
            .expect("refused")
            .contains("is zero")
    );
    assert!(
        refused(65, recorder(&[]))
            .expect("refused")
            .contains("64 at most")
    );
    let error = scene
        .runtime(&Seen::default())
        .name("shop/7")
        .build()
        .expect_err("refused");
    assert!(error.to_string().contains("names partition 7"), "{error}");
    Ok(())
}
