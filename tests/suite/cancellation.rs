//! G1: a runtime may be dropped at any moment, as when its task is aborted, and loses nothing.

use std::{collections::HashMap, time::Duration};

use crate::support::{
    Scene, Seen, Started, TestResult, recorder,
    writer::{Writer, all},
};

#[tokio::test]
async fn runtimes_dropped_at_random_moments_lose_nothing() -> TestResult {
    let scene = Scene::new().await;
    let seen = Seen::default();
    let start = || {
        let builder = scene.runtime(&seen).batch_size(3);
        Started::new(builder.handlers([recorder(&["orders"])]))
    };
    let mut writer = Writer::start(scene.collection("orders"));
    for _ in 0..25 {
        let runtime = start();
        tokio::time::sleep(Duration::from_millis(fastrand::u64(0..150))).await;
        runtime.crash().await;
    }
    let runtime = start();
    writer.more(20).await;
    let versions = writer.stop().await;
    let events = all(&seen, &versions).await;
    runtime.stop().await?;

    let mut ids = HashMap::new();
    for event in events {
        let id = ids.entry((event.id, event.n)).or_insert(event.event_id);
        assert_eq!(*id, event.event_id, "the same event has the same id");
    }
    Ok(())
}
