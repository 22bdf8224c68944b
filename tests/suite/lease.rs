//! G11: of several replicas one is active at a time, another one takes over, and whoever was replaced cannot
//! commit any more.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use changestream::{
    Lease, LeaseStore, MemoryLeases, MongoCheckpoints, MongoLeases, RuntimeBuilder, RuntimeState,
    StartAt, prelude::*,
};
use mongodb::bson::{doc, rawdoc};
use tokio::sync::Semaphore;

use crate::support::{
    RUNTIME, Scene, Seen, Started, TestResult, eventually, gated, recorder,
    store::{Faults, FaultyLeases},
    within,
};

/// Long enough that nothing here waits for its end.
const LONG: Duration = Duration::from_secs(3600);

/// A replica that has its lease from `store`.
fn replica<S>(scene: &Scene<S>, seen: &Seen, store: impl LeaseStore) -> RuntimeBuilder<Seen> {
    let builder = scene.runtime(seen).lease_store(store);
    builder.handlers([recorder(&["orders"])])
}

async fn lease(leases: &impl LeaseStore) -> Lease {
    let lease = leases.load(RUNTIME).await.expect("read");
    lease.expect("it was held")
}

#[tokio::test]
async fn of_three_replicas_one_is_active_and_another_one_takes_over_at_once() -> TestResult {
    let scene = Scene::new().await;
    let leases = MongoLeases::new(&scene.database);
    let mut replicas: Vec<_> = (0..3)
        .map(|_| {
            let seen = Seen::default();
            let builder = replica(&scene, &seen, leases.clone()).lease(LONG);
            (Started::new(builder), seen)
        })
        .collect();
    let mut expected = 0;
    for left in (1..=3).rev() {
        let ids = expected..expected + 10;
        scene.insert(ids.clone()).await?;
        let active = eventually("one of them handles all", async || {
            let all = |(_, seen): &(_, Seen)| seen.ids() == ids.clone().collect::<Vec<_>>();
            replicas.iter().position(all)
        })
        .await;
        expected += 10;
        let handled: usize = replicas.iter().map(|(_, seen)| seen.ids().len()).sum();
        assert_eq!(handled, 10, "the other ones handle nothing");
        assert_eq!(lease(&leases).await.epoch, 4 - left);
        let (runtime, _) = replicas.swap_remove(active);
        runtime.stop().await?;
    }
    assert!(lease(&leases).await.is_free());
    Ok(())
}

#[tokio::test]
async fn a_replica_that_stands_by_stops_at_once() -> TestResult {
    let scene = Scene::new().await;
    let leases = MongoLeases::new(&scene.database);
    leases.acquire(RUNTIME, "another", LONG, 0).await?;
    let idle = Started::new(replica(&scene, &Seen::default(), leases.clone()));
    tokio::time::sleep(Duration::from_millis(500)).await;
    let stopping = tokio::time::timeout(Duration::from_secs(20), idle.stop());
    stopping.await.expect("at once")?;
    assert!(lease(&leases).await.is_held_by("another"));
    Ok(())
}

#[tokio::test]
async fn a_drain_longer_than_the_lease_keeps_it() -> TestResult {
    const LEASE: Duration = Duration::from_secs(3);
    let scene = Scene::new().await;
    let leases = MongoLeases::new(&scene.database);
    let gate = Arc::new(Semaphore::new(0));
    let [seen, other] = [Seen::default(), Seen::default()];
    let builder = scene
        .runtime(&seen)
        .lease_store(leases.clone())
        .lease(LEASE);
    let draining = Started::new(builder.handlers([gated(&gate)]));
    scene.insert([1]).await?;
    seen.all([1]).await;
    let standby = Started::new(replica(&scene, &other, leases.clone()).lease(LEASE));
    let stopping = tokio::spawn(draining.stop());
    tokio::time::sleep(LEASE * 2).await;
    assert_eq!(lease(&leases).await.epoch, 1);
    gate.add_permits(1);
    within("it is drained", stopping).await??;
    scene.insert([2]).await?;
    other.all([2]).await;
    standby.stop().await?;
    assert_eq!((seen.ids(), other.ids()), (vec![1], vec![2]));
    Ok(())
}

#[tokio::test]
async fn a_handler_of_the_whole_database_does_not_see_the_lease() -> TestResult {
    let scene = Scene::new().await;
    let leases = MongoLeases::new(&scene.database);
    let seen = Seen::default();
    let builder = scene.runtime(&seen).lease_store(leases.clone());
    let builder = builder.lease(Duration::from_secs(10));
    let runtime = Started::new(builder.handlers([recorder(&[])]));
    scene.insert([1]).await?;
    seen.all([1]).await;
    let mut remaining = lease(&leases).await.remaining;
    eventually("the lease is renewed", async || {
        let before = std::mem::replace(&mut remaining, lease(&leases).await.remaining);
        (remaining > before).then_some(())
    })
    .await;
    scene.insert([2]).await?;
    seen.all([2]).await;
    runtime.stop().await?;
    assert_eq!(seen.events().len(), 2, "{:?}", seen.events());
    Ok(())
}

#[tokio::test]
async fn a_runtime_that_fails_frees_its_lease() -> TestResult {
    let scene = Scene::new().await;
    let leases = MongoLeases::new(&scene.database);
    let rubbish = ResumeToken::new(rawdoc! { "_data": "8263" });
    let failing = replica(&scene, &Seen::default(), leases.clone()).lease(LONG);
    let failing = failing.start_at(StartAt::ResumeAfter(rubbish));
    assert!(Started::new(failing).error().await.is_stream());
    assert!(lease(&leases).await.is_free());
    Ok(())
}

/// A holder that cannot know that it was replaced: its lease was taken away, and it does not look for a long time.
#[tokio::test]
async fn a_holder_that_was_replaced_unawares_stops_at_its_next_commit() -> TestResult {
    let scene = Scene::new().await;
    let leases = MongoLeases::new(&scene.database);
    let [seen, other] = [Seen::default(), Seen::default()];
    let start = |seen| Started::new(replica(&scene, seen, leases.clone()).lease(LONG));
    let replaced = start(&seen);
    scene.insert([0]).await?;
    seen.all([0]).await;
    let holder = lease(&leases).await.holder.expect("a holder");
    leases.release(RUNTIME, &holder).await?;
    let active = start(&other);
    eventually("the other one takes over", async || {
        let stored = scene.checkpoint().await?;
        (stored.epoch == 2).then_some(())
    })
    .await;

    let mut ids = 1..;
    eventually("the replaced one stands by", async || {
        let id = ids.next()?;
        scene.insert([id]).await.expect("written");
        other.all([id]).await;
        (replaced.health.state() == RuntimeState::StandingBy).then_some(())
    })
    .await;
    let next = ids.next().expect("an id");
    scene.insert([next]).await?;
    other.all([next]).await;
    assert!(!seen.ids().contains(&next), "only the other one goes on");
    assert!(!replaced.has_ended(), "it stands by");
    active.stop().await?;
    let last = ids.next().expect("an id");
    scene.insert([last]).await?;
    seen.all([last]).await;
    replaced.stop().await?;
    assert!(!other.ids().contains(&last));
    Ok(())
}

#[tokio::test]
async fn a_holder_that_cannot_renew_stops_before_its_lease_runs_out_and_recovers() -> TestResult {
    const LEASE: Duration = Duration::from_secs(3);
    let scene = Scene::new().await;
    let leases = MongoLeases::new(&scene.database);
    let faults = Faults::default();
    let store = FaultyLeases {
        inner: leases.clone(),
        faults: faults.clone(),
    };
    let seen = Seen::default();
    let cut_off = Started::new(replica(&scene, &seen, store).lease(LEASE));
    scene.insert([1]).await?;
    seen.all([1]).await;

    faults.begin();
    let begun = Instant::now();
    eventually("its lease runs out", async || {
        lease(&leases).await.is_free().then_some(())
    })
    .await;
    assert!(faults.failures() > 1, "it tries again before that");
    scene.insert([2]).await?;
    // Who takes over finds the event untouched.
    let other = Seen::default();
    let successor = Started::new(replica(&scene, &other, leases.clone()).lease(LONG));
    other.all([2]).await;
    assert_eq!(
        seen.ids(),
        [1],
        "{:?} after the store went down",
        begun.elapsed()
    );
    assert!(!cut_off.has_ended());

    faults.heal();
    successor.stop().await?;
    scene.insert([3]).await?;
    seen.all([3]).await;
    cut_off.stop().await?;
    assert_eq!((seen.ids(), other.ids()), (vec![1, 3], vec![2]));
    Ok(())
}

#[tokio::test]
async fn lost_replies_of_the_lease_store_change_nothing() -> TestResult {
    let scene = Scene::new().await;
    let leases = MongoLeases::new(&scene.database);
    let faults = Faults::losing_replies();
    let store = FaultyLeases {
        inner: leases.clone(),
        faults: faults.clone(),
    };
    let seen = Seen::default();
    let runtime = Started::new(replica(&scene, &seen, store).lease(Duration::from_secs(10)));
    eventually("a reply to an acquire is lost", async || {
        (faults.failures() > 0).then_some(())
    })
    .await;
    faults.heal();
    scene.insert([1]).await?;
    seen.all([1]).await;

    let lost = faults.failures();
    faults.begin();
    eventually("a reply to a renewal is lost", async || {
        (faults.failures() > lost).then_some(())
    })
    .await;
    faults.heal();
    scene.insert([2]).await?;
    seen.all([2]).await;
    assert_eq!(lease(&leases).await.epoch, 1, "one tenure");
    runtime.stop().await?;
    assert_eq!(seen.ids(), [1, 2]);
    Ok(())
}

#[tokio::test]
async fn a_lease_store_that_fails_at_the_start_is_reported() -> TestResult {
    let scene = Scene::new().await;
    let store = FaultyLeases {
        inner: MemoryLeases::default(),
        faults: Faults::down(),
    };
    let error = Started::new(replica(&scene, &Seen::default(), store))
        .error()
        .await;
    assert!(error.is_store());
    let said = crate::support::chain(&error);
    assert!(said.contains("lease cannot be acquired"), "{said}");
    assert!(said.contains("the store is down"), "{said}");
    Ok(())
}

#[tokio::test]
async fn a_dropped_database_takes_the_lease_from_nobody() -> TestResult {
    let scene = Scene::new().await;
    let leases = MongoLeases::new(&scene.database);
    let [seen, other] = [Seen::default(), Seen::default()];
    let lease_time = Duration::from_secs(6);
    let start = |seen| Started::new(replica(&scene, seen, leases.clone()).lease(lease_time));
    let active = start(&seen);
    scene.insert([1]).await?;
    seen.all([1]).await;
    let standby = start(&other);
    tokio::time::sleep(Duration::from_secs(1)).await;
    scene.database.drop().await?;
    scene.insert([2]).await?;
    seen.all([1, 2]).await;
    eventually("the holder writes its lease again", async || {
        leases.load(RUNTIME).await.expect("read")
    })
    .await;
    assert_eq!(lease(&leases).await.epoch, 1);
    active.stop().await?;
    scene.insert([3]).await?;
    other.all([3]).await;
    standby.stop().await?;
    assert_eq!(other.ids(), [3]);
    Ok(())
}

#[tokio::test]
async fn a_lease_that_its_store_forgot_begins_above_the_checkpoints_epoch() -> TestResult {
    let scene = Scene::new().await;
    let seen = Seen::default();
    for id in 1..4 {
        // Its own store each time, as after the old one was lost.
        let runtime = Started::new(replica(&scene, &seen, MemoryLeases::default()));
        scene.insert([id]).await?;
        seen.all([id]).await;
        runtime.stop().await?;
        assert_eq!(scene.checkpoint().await.expect("saved").epoch, id);
    }
    assert_eq!(seen.ids(), [1, 2, 3]);
    Ok(())
}

#[tokio::test]
async fn a_checkpoint_of_before_there_were_epochs_is_taken_over() -> TestResult {
    let scene = Scene::new().await;
    let seen = Seen::default();
    let start = || {
        let leases = MongoLeases::new(&scene.database);
        Started::new(replica(&scene, &seen, leases))
    };
    let runtime = start();
    scene.insert([1]).await?;
    seen.all([1]).await;
    runtime.stop().await?;
    let checkpoints = scene.collection(MongoCheckpoints::COLLECTION);
    let old = doc! { "$unset": { "epoch": "" } };
    checkpoints.update_one(doc! {}, old).await?;
    scene.insert([2]).await?;
    let runtime = start();
    seen.all([1, 2]).await;
    runtime.stop().await?;
    assert_eq!(seen.ids(), [1, 2]);
    assert_eq!(scene.checkpoint().await.expect("saved").epoch, 2);
    Ok(())
}
