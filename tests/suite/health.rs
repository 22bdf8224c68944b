//! What `Runtime::health` says of a runtime, through whatever happens to it: unhealthy while it lasts, and well again
//! without a restart.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use changestream::{
    Checkpoint, CheckpointStore, Claimed, Gap, MemoryCheckpoints, MongoCheckpoints, RuntimeState,
    Saved, StoreError, StoredCheckpoint, prelude::*,
};
use metrics_util::debugging::{DebugValue, DebuggingRecorder};
use tokio::sync::Semaphore;

use crate::support::{
    RUNTIME, Scene, Seen, Started, TestResult, eventually,
    failpoint::{Failure, fail, heal},
    interrupted, ready, recorder,
    store::{Faults, FaultyCheckpoints},
    within,
};

#[tokio::test]
async fn a_runtime_is_ready_from_open_stream_to_shutdown() -> TestResult {
    let scene = Scene::new().await;
    let runtime = scene.runtime(&Seen::default());
    let runtime = runtime.handlers([recorder(&["orders"])]).build()?;
    let health = runtime.health();
    assert_eq!(health.state(), RuntimeState::Starting);
    assert!(health.is_live() && !health.is_ready());
    assert_eq!(health.last_checkpoint(), None);

    let (shutdown, asked) = tokio::sync::oneshot::channel::<()>();
    let running = tokio::spawn(runtime.run_until(async {
        asked.await.ok();
    }));
    ready(&health).await;
    assert_eq!(health.state(), RuntimeState::Running);
    shutdown.send(()).expect("it runs");
    within("it ends", running).await??;
    assert_eq!(health.state(), RuntimeState::Stopped);
    assert!(!health.is_live() && !health.is_ready());
    assert_eq!(health.last_error(), None);
    Ok(())
}

#[tokio::test]
async fn a_runtime_that_cannot_start_is_not_waited_for_in_vain() -> TestResult {
    let scene = Scene::new().await;
    let checkpoints = scene.collection(MongoCheckpoints::COLLECTION);
    let rubbish = mongodb::bson::doc! { "_id": RUNTIME, "token": 5 };
    checkpoints.insert_one(rubbish).await?;
    let runtime = Started::recording(&scene, &Seen::default());
    let health = runtime.health.clone();
    assert!(!within("it is decided", health.ready()).await);
    let error = runtime.error().await;
    assert_eq!(health.last_error(), Some(error.to_string()));
    Ok(())
}

#[tokio::test]
async fn a_runtime_that_is_dropped_has_stopped() -> TestResult {
    let scene = Scene::new().await;
    let runtime = Started::recording(&scene, &Seen::default());
    let mut health = runtime.health.clone();
    ready(&health).await;
    runtime.crash().await;
    let stopped = async { while health.changed().await.is_some() {} };
    within("it is told", stopped).await;
    assert_eq!(health.state(), RuntimeState::Stopped);
    Ok(())
}

#[tokio::test]
async fn a_lost_server_interrupts_a_runtime_until_it_is_back() -> TestResult {
    let scene = Scene::own().await;
    let seen = Seen::default();
    let runtime = Started::recording(&scene, &seen);
    let health = runtime.health.clone();
    ready(&health).await;
    scene.server.kill().await?;
    interrupted(&health).await;
    assert!(health.is_live(), "a restart would not mend it");
    scene.server.restart().await?;
    ready(&health).await;
    assert!(health.last_error().is_some());
    scene.insert([1]).await?;
    seen.all([1]).await;
    runtime.stop().await?;
    Ok(())
}

#[tokio::test]
async fn a_storm_of_errors_is_one_interruption() -> TestResult {
    let scene = Scene::own().await;
    let runtime = Started::recording(&scene, &Seen::default());
    let mut health = runtime.health.clone();
    ready(&health).await;
    fail(
        &scene.client,
        &["getMore"],
        "alwaysOn",
        Failure::resumable(11600),
    )
    .await?;
    let reason = interrupted(&health).await;
    assert!(reason.contains("11600"), "{reason}");
    let RuntimeState::Interrupted { since: first, .. } = health.state() else {
        panic!("{health:?}")
    };
    // The stream is opened again each time, and brings nothing.
    scene.insert(0..3).await?;
    fail(
        &scene.client,
        &["getMore"],
        "alwaysOn",
        Failure::resumable(10107),
    )
    .await?;
    let other = within("another error", async {
        loop {
            match health.state() {
                RuntimeState::Interrupted { since, reason, .. } if reason.contains("10107") => {
                    return since;
                }
                _ => health.changed().await,
            };
        }
    });
    assert_eq!(other.await, first, "in between it never was well");
    heal(&scene.client).await?;
    ready(&health).await;
    runtime.stop().await?;
    Ok(())
}

#[tokio::test]
async fn checkpoints_that_cannot_be_saved_interrupt_a_runtime() -> TestResult {
    let scene = Scene::new().await;
    let seen = Seen::default();
    let faults = Faults::down();
    let store = FaultyCheckpoints {
        inner: MemoryCheckpoints::default(),
        faults: faults.clone(),
    };
    let builder = scene.runtime(&seen).checkpoint_store(store);
    let runtime = Started::new(builder.handlers([recorder(&["orders"])]));
    let health = runtime.health.clone();
    scene.insert([1]).await?;
    let reason = interrupted(&health).await;
    assert!(reason.contains("the store is down"), "{reason}");
    assert_eq!(health.last_checkpoint(), None);
    faults.heal();
    ready(&health).await;
    assert!(health.last_checkpoint().is_some());
    runtime.stop().await?;
    Ok(())
}

/// A store that never answers its second write.
#[derive(Debug, Default)]
struct HangsOnce {
    inner: MemoryCheckpoints,
    saves: AtomicU32,
}

#[async_trait]
impl CheckpointStore for HangsOnce {
    async fn load(&self, runtime: &str) -> Result<Option<Checkpoint>, StoreError> {
        self.inner.load(runtime).await
    }

    async fn save(&self, runtime: &str, checkpoint: &Checkpoint) -> Result<Saved, StoreError> {
        if self.saves.fetch_add(1, Ordering::SeqCst) == 1 {
            std::future::pending().await
        }
        self.inner.save(runtime, checkpoint).await
    }

    async fn claim(&self, runtime: &str, epoch: i64) -> Result<Claimed, StoreError> {
        self.inner.claim(runtime, epoch).await
    }

    async fn record_gap(&self, gap: &Gap) -> Result<(), StoreError> {
        self.inner.record_gap(gap).await
    }

    async fn list(&self) -> Result<Vec<StoredCheckpoint>, StoreError> {
        self.inner.list().await
    }

    async fn reset(&self, runtime: &str) -> Result<Vec<String>, StoreError> {
        self.inner.reset(runtime).await
    }
}

#[tokio::test]
async fn a_checkpoint_store_that_never_answers_is_asked_again() -> TestResult {
    let scene = Scene::new().await;
    let builder = scene.runtime(&Seen::default());
    let builder = builder.checkpoint_store(HangsOnce::default());
    let builder = builder.reply_timeout(Duration::from_secs(1));
    let runtime = Started::new(builder.handlers([recorder(&["orders"])]));
    let health = runtime.health.clone();
    let busy = async {
        for id in 0.. {
            scene.insert([id]).await.expect("written");
        }
    };
    let reason = tokio::select! {
        reason = interrupted(&health) => reason,
        () = busy => unreachable!("it writes on and on"),
    };
    assert!(reason.contains("did not answer for 1s"), "{reason}");
    ready(&health).await;
    runtime.stop().await?;
    Ok(())
}

#[tokio::test]
async fn work_that_stands_still_shows_as_lag_and_in_flight() -> TestResult {
    const LAG: Duration = Duration::from_millis(500);
    let scene = Scene::new().await;
    let gate = Arc::new(Semaphore::new(0));
    let permits = Arc::clone(&gate);
    let hang = move |_: RawChange| {
        let gate = Arc::clone(&permits);
        async move {
            gate.acquire().await?.forget();
            Ok::<_, HandlerError>(())
        }
    };
    let spec = HandlerSpec::new("hang", hang).collections(["orders"]);
    let spec = spec.timeout(Duration::from_secs(3600));
    let runtime = Started::new(scene.runtime(&Seen::default()).handlers([spec]));
    let health = runtime.health.clone();
    ready(&health).await;
    scene.insert([1]).await?;
    eventually("the lag grows", async || (health.lag() > LAG).then_some(())).await;
    assert_eq!(health.in_flight(), 1);
    assert!(health.is_ready());
    gate.add_permits(1);
    let idle = async || (health.in_flight() == 0 && health.lag().is_zero()).then_some(());
    eventually("it has caught up", idle).await;
    runtime.stop().await?;
    Ok(())
}

#[tokio::test]
async fn interruptions_are_counted_and_readiness_is_a_gauge() -> TestResult {
    let metrics = DebuggingRecorder::new();
    let snapshotter = metrics.snapshotter();
    let _guard = metrics::set_default_local_recorder(&metrics);
    let scene = Scene::own().await;
    let runtime = Started::recording(&scene, &Seen::default());
    ready(&runtime.health).await;
    // A snapshot counts from the one before.
    let readiness_and_interruptions = || {
        let (mut ready, mut interruptions) = (None, 0);
        for (key, _, _, value) in snapshotter.snapshot().into_vec() {
            match (key.key().name(), value) {
                ("changestream_ready", DebugValue::Gauge(value)) => ready = Some(value.0),
                ("changestream_interruptions_total", DebugValue::Counter(count)) => {
                    interruptions += count;
                }
                _ => {}
            }
        }
        (ready, interruptions)
    };
    assert_eq!(readiness_and_interruptions(), (Some(1.0), 0));
    fail(&scene.client, &["getMore"], "alwaysOn", Failure::code(43)).await?;
    interrupted(&runtime.health).await;
    assert_eq!(readiness_and_interruptions(), (Some(0.0), 1));
    scene.insert(0..3).await?;
    heal(&scene.client).await?;
    ready(&runtime.health).await;
    assert_eq!(readiness_and_interruptions(), (Some(1.0), 0));
    runtime.stop().await?;
    Ok(())
}
