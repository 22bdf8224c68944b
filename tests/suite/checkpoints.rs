//! G3, G4 and G6: what a restart goes on from.

use std::{sync::Arc, time::Duration};

use changestream::{
    CheckpointStore, MemoryCheckpoints, MongoCheckpoints, ResumePoint, RuntimeBuilder, StartAt,
    prelude::*,
};
use mongodb::bson::doc;
use tokio::sync::Semaphore;

use crate::support::{
    Event, RUNTIME, Scene, Seen, Started, TestResult, chain, eventually, gated, recorder,
    store::{Faults, FaultyCheckpoints, OutdatedCheckpoints},
    token_time,
};

fn builder<S>(scene: &Scene<S>, seen: &Seen) -> RuntimeBuilder<Seen> {
    scene.runtime(seen).handlers([recorder(&["orders"])])
}

#[tokio::test]
async fn a_restart_handles_exactly_what_was_missed() -> TestResult {
    let scene = Scene::new().await;
    let seen = Seen::default();
    for round in 0..3 {
        let runtime = Started::new(builder(&scene, &seen));
        scene.insert(10 * round..10 * round + 5).await?;
        seen.count(usize::try_from(10 * round + 5)?).await;
        runtime.stop().await?;
        scene.insert(10 * round + 5..10 * round + 10).await?;
    }
    let runtime = Started::new(builder(&scene, &seen));
    seen.count(30).await;
    runtime.stop().await?;
    assert_eq!(seen.ids(), (0..30).collect::<Vec<_>>());
    Ok(())
}

#[tokio::test]
async fn what_another_replica_saved_between_the_first_look_and_the_claim_is_where_it_starts()
-> TestResult {
    let scene = Scene::new().await;
    let store = MongoCheckpoints::new(&scene.database);
    let seen = Seen::default();
    let other = Started::new(builder(&scene, &seen).checkpoint_store(store.clone()));
    scene.insert(0..5).await?;
    seen.count(5).await;
    other.stop().await?;
    scene.insert(5..10).await?;

    let outdated = OutdatedCheckpoints(store);
    let runtime = Started::new(builder(&scene, &seen).checkpoint_store(outdated));
    seen.count(10).await;
    runtime.stop().await?;
    assert_eq!(seen.ids(), (0..10).collect::<Vec<_>>());
    Ok(())
}

#[tokio::test]
async fn a_crash_repeats_at_most_what_came_since_the_last_checkpoint() -> TestResult {
    let scene = Scene::new().await;
    let sparing = |seen| {
        let builder = builder(&scene, seen).checkpoint_events(10);
        builder.checkpoint_interval(Duration::from_secs(3600))
    };
    let seen = Seen::default();
    let runtime = Started::new(sparing(&seen));
    scene.insert(0..25).await?;
    let before = seen.count(25).await;
    let done = eventually("less than ten events are left", async || {
        let done = checkpointed(&scene, &before).await?;
        (done > 15).then_some(done)
    })
    .await;
    runtime.crash().await;

    let again = Seen::default();
    let runtime = Started::new(sparing(&again));
    scene.insert([25]).await?;
    let again = again.all([25]).await;
    runtime.stop().await?;
    let ids = |events: &[Event]| {
        events
            .iter()
            .map(|event| event.event_id)
            .collect::<Vec<_>>()
    };
    let (last, repeated) = again.split_last().expect("the event that was missed");
    assert_eq!(ids(repeated), ids(&before[done..]));
    assert_eq!(last.id, Some(25));
    Ok(())
}

/// How many of `events` lie up to the checkpoint, which may be at an event or at the end of a batch.
async fn checkpointed(scene: &Scene<impl Sized>, events: &[Event]) -> Option<usize> {
    let checkpoint = scene.checkpoint().await?;
    let reached = token_time(checkpoint.token()?);
    let is_before = |event: &&Event| event.time.expect("a time").0 <= reached.0;
    Some(events.iter().filter(is_before).count())
}

#[tokio::test]
async fn a_checkpoint_never_passes_an_unfinished_event() -> TestResult {
    let scene = Scene::new().await;
    let (seen, gate) = (Seen::default(), Arc::new(Semaphore::new(2)));
    let gated = |seen| {
        let builder = scene.runtime(seen).handlers([gated(&gate)]);
        builder.checkpoint_events(1)
    };
    let runtime = Started::new(gated(&seen));
    scene.insert(0..10).await?;
    let events = seen.count(3).await;
    eventually("the second event is checkpointed", async || {
        (checkpointed(&scene, &events).await? == 2).then_some(())
    })
    .await;
    runtime.crash().await;

    let again = Seen::default();
    gate.add_permits(100);
    let runtime = Started::new(gated(&again));
    again.count(8).await;
    runtime.stop().await?;
    assert_eq!(again.ids(), (2..10).collect::<Vec<_>>());
    assert_eq!(again.events()[0].event_id, events[2].event_id);
    Ok(())
}

#[tokio::test]
async fn a_crash_at_the_very_first_event_does_not_lose_it() -> TestResult {
    let scene = Scene::new().await;
    let (seen, gate) = (Seen::default(), Arc::new(Semaphore::new(0)));
    let from_now = || {
        let builder = scene.runtime(&seen).start_at(StartAt::Now);
        let builder = builder.checkpoint_interval(Duration::from_secs(3600));
        Started::new(builder.handlers([gated(&gate)]))
    };
    let runtime = from_now();
    let mut ids = 0..;
    eventually("the first event is at hand", async || {
        scene.insert(ids.next()).await.expect("written");
        seen.events().pop()
    })
    .await;
    eventually("where it began is saved", async || scene.checkpoint().await).await;
    runtime.crash().await;

    gate.add_permits(1000);
    let runtime = from_now();
    seen.until(|events| events.len() > 1 && events[1].event_id == events[0].event_id)
        .await;
    runtime.stop().await?;
    Ok(())
}

#[tokio::test]
async fn a_start_at_a_time_is_kept_from_the_beginning() -> TestResult {
    let scene = Scene::new().await;
    let (seen, gate) = (Seen::default(), Arc::new(Semaphore::new(0)));
    let start = |at| {
        let builder = scene.runtime(&seen).start_at(at);
        let builder = builder.checkpoint_interval(Duration::from_secs(3600));
        Started::new(builder.handlers([gated(&gate)]))
    };
    scene.insert([1]).await?;
    let runtime = start(scene.start.clone());
    let before = seen.count(1).await;
    let stored = scene.checkpoint().await.expect("saved at the start");
    assert!(matches!(
        stored.position,
        Some(ResumePoint::OperationTime(_))
    ));
    runtime.crash().await;

    gate.add_permits(100);
    let runtime = start(StartAt::Now);
    let events = seen.count(2).await;
    runtime.stop().await?;
    assert_eq!(events[1], before[0]);
    Ok(())
}

#[tokio::test]
async fn an_idle_stream_moves_forward() -> TestResult {
    let scene = Scene::new().await;
    let seen = Seen::default();
    let runtime = Started::new(builder(&scene, &seen));
    let first = eventually("a checkpoint is there", async || scene.checkpoint().await).await;
    scene.insert_into("elsewhere", 0..5).await?;
    eventually("the checkpoint moves without an event", async || {
        let checkpoint = scene.checkpoint().await?;
        (checkpoint.sequence > first.sequence && checkpoint.position != first.position)
            .then_some(())
    })
    .await;
    assert!(seen.events().is_empty());
    runtime.stop().await?;
    Ok(())
}

#[tokio::test]
async fn changed_handlers_go_on_from_the_checkpoints_time() -> TestResult {
    let scene = Scene::new().await;
    let seen = Seen::default();
    let runtime = Started::new(builder(&scene, &seen));
    scene.insert(0..3).await?;
    seen.count(3).await;
    runtime.stop().await?;
    let old = scene.checkpoint().await.expect("saved at shutdown");
    scene.insert(3..6).await?;
    scene.insert_into("customers", 10..13).await?;

    let changed = |seen| {
        let handlers = [recorder(&["orders", "customers"]).operations([Operation::Insert])];
        Started::new(scene.runtime(seen).handlers(handlers))
    };
    let again = Seen::default();
    let runtime = changed(&again);
    again.all((3..6).chain(10..13)).await;
    runtime.stop().await?;
    let new = scene.checkpoint().await.expect("saved at shutdown");
    assert_ne!(old.fingerprint, new.fingerprint);

    let last = Seen::default();
    let runtime = changed(&last);
    scene.insert([6]).await?;
    last.all([6]).await;
    runtime.stop().await?;
    assert_eq!(last.ids(), [6]);
    Ok(())
}

#[tokio::test]
async fn a_checkpoint_that_is_none_is_reported() -> TestResult {
    let scene = Scene::new().await;
    let checkpoints = scene.collection(MongoCheckpoints::COLLECTION);
    checkpoints
        .insert_one(doc! { "_id": RUNTIME, "token": 5, "sequence": 1_i64 })
        .await?;
    let error = Started::new(builder(&scene, &Seen::default()))
        .error()
        .await;
    assert!(error.is_store());
    let said = chain(&error);
    for part in [
        "checkpoint",
        "`test`",
        MongoCheckpoints::COLLECTION,
        "nothing was skipped",
        "delete",
    ] {
        assert!(said.contains(part), "{said}");
    }
    Ok(())
}

#[tokio::test]
async fn a_checkpoint_store_that_is_down_stalls_the_stream_until_it_is_back() -> TestResult {
    let scene = Scene::new().await;
    let seen = Seen::default();
    let faults = Faults::down();
    let checkpoints = MemoryCheckpoints::default();
    let store = FaultyCheckpoints {
        inner: checkpoints.clone(),
        faults: faults.clone(),
    };
    let runtime = builder(&scene, &seen)
        .checkpoint_store(store)
        .checkpoint_events(1);
    let runtime = Started::new(runtime);
    scene.insert(0..20).await?;
    eventually("saving failed again and again", async || {
        (faults.failures() > 3).then_some(())
    })
    .await;
    assert!(seen.events().len() < 6, "{:?}", seen.ids());
    let claimed = checkpoints.load(RUNTIME).await?.expect("claimed");
    assert_eq!(claimed.position, None);
    faults.heal();
    seen.count(20).await;
    runtime.stop().await?;
    assert_eq!(seen.ids(), (0..20).collect::<Vec<_>>());
    let saved = checkpoints.load(RUNTIME).await?.expect("saved");
    assert!(saved.position.is_some());
    Ok(())
}

#[tokio::test]
async fn a_lost_reply_to_a_checkpoint_is_no_second_runtime() -> TestResult {
    let scene = Scene::new().await;
    let seen = Seen::default();
    let faults = Faults::losing_replies();
    let store = FaultyCheckpoints {
        inner: MongoCheckpoints::new(&scene.database),
        faults: faults.clone(),
    };
    let runtime = Started::new(builder(&scene, &seen).checkpoint_store(store));
    scene.insert([1]).await?;
    eventually("replies are lost", async || {
        (faults.failures() > 2).then_some(())
    })
    .await;
    faults.heal();
    scene.insert([2]).await?;
    seen.count(2).await;
    runtime.stop().await?;
    assert_eq!(seen.ids(), [1, 2]);
    Ok(())
}
