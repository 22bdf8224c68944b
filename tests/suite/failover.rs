//! G1 over elections: a set of three nodes changes its primary under a running stream.

use changestream_testkit::ReplicaSet;

use crate::support::{
    Scene, Seen, Started, TestResult, interrupted, ready, recorder,
    writer::{Writer, assert_all_in_order},
};

async fn outlived(change_primary: impl AsyncFn(&ReplicaSet) -> TestResult) -> TestResult {
    let set = ReplicaSet::start(3).await?;
    let uri = set.uri();
    let scene = Scene::on(set, &uri).await;
    let seen = Seen::default();
    let runtime = Started::new(scene.runtime(&seen).handlers([recorder(&["orders"])]));
    let mut writer = Writer::start(scene.collection("orders"));
    writer.more(100).await;
    seen.count(50).await;
    change_primary(&scene.server).await?;
    writer.more(100).await;
    assert_all_in_order(&seen, &writer.stop().await).await;
    runtime.stop().await?;
    Ok(())
}

#[tokio::test]
async fn a_killed_primary_costs_no_event() -> TestResult {
    outlived(async |set| {
        let killed = set.kill_primary().await?;
        set.wait_for_primary().await?;
        Ok(set.restart(killed).await?)
    })
    .await
}

#[tokio::test]
async fn a_primary_that_steps_down_costs_no_event() -> TestResult {
    outlived(async |set| Ok(set.step_down().await.map(drop)?)).await
}

#[tokio::test]
async fn a_lost_majority_interrupts_the_stream_until_it_is_back() -> TestResult {
    let set = ReplicaSet::start(3).await?;
    let uri = set.uri();
    let scene = Scene::on(set, &uri).await;
    let seen = Seen::default();
    let runtime = Started::new(scene.runtime(&seen).handlers([recorder(&["orders"])]));
    let mut writer = Writer::start(scene.collection("orders"));
    writer.more(100).await;
    let set = &scene.server;
    let primary = set.wait_for_primary().await?;
    let others: Vec<_> = (0..set.size()).filter(|node| *node != primary).collect();
    for node in &others {
        set.kill(*node).await?;
    }
    interrupted(&runtime.health).await;
    assert!(runtime.health.is_live());
    for node in others {
        set.restart(node).await?;
    }
    ready(&runtime.health).await;
    writer.more(100).await;
    assert_all_in_order(&seen, &writer.stop().await).await;
    runtime.stop().await?;
    Ok(())
}
