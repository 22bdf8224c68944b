//! Elections and failover on three nodes.

use std::time::Instant;

use changestream_testkit::ReplicaSet;
use mongodb::{
    bson::{Document, doc},
    options::WriteConcern,
};

#[tokio::test]
async fn elects_a_new_primary_after_the_old_one_is_killed() {
    let begin = Instant::now();
    let set = ReplicaSet::start(3).await.unwrap();
    eprintln!("started in {:?}", begin.elapsed());
    let client = set.client().await.unwrap();
    let things = client.database("shop").collection::<Document>("things");
    things
        .insert_one(doc! { "_id": 1 })
        .write_concern(WriteConcern::majority())
        .await
        .unwrap();

    let begin = Instant::now();
    let killed = set.kill_primary().await.unwrap();
    let elected = set.wait_for_primary().await.unwrap();
    eprintln!("failed over in {:?}", begin.elapsed());
    assert_ne!(elected, killed);
    assert_eq!(set.primary().await.unwrap(), Some(elected));
    let found = things.find_one(doc! {}).await.unwrap();
    assert_eq!(found, Some(doc! { "_id": 1 }));

    let begin = Instant::now();
    set.restart(killed).await.unwrap();
    eprintln!("rejoined in {:?}", begin.elapsed());
    set.kill(elected).await.unwrap();
    assert_ne!(set.wait_for_primary().await.unwrap(), elected);
}

#[tokio::test]
async fn another_node_takes_over_after_a_step_down() {
    let set = ReplicaSet::start(3).await.unwrap();
    let begin = Instant::now();
    let old = set.step_down().await.unwrap();
    let new = set.wait_for_primary().await.unwrap();
    eprintln!("stepped down in {:?}", begin.elapsed());
    assert_ne!(new, old);
}

#[tokio::test]
async fn has_no_primary_without_a_majority() {
    let set = ReplicaSet::start(3).await.unwrap();
    let first = set.kill_primary().await.unwrap();
    let second = set.kill_primary().await.unwrap();
    assert_ne!(first, second);
    assert_eq!(set.primary().await.unwrap(), None);

    set.restart(first).await.unwrap();
    set.wait_for_primary().await.unwrap();
}
