//! G4 and G11: what the stores of leases and checkpoints promise each other, kept by all of them.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use changestream::{
    Checkpoint, CheckpointStore, Claimed, Lease, LeaseStore, MemoryCheckpoints, MemoryLeases,
    MongoCheckpoints, MongoLeases, ResumePoint, Saved, prelude::*,
};
use changestream_testkit::MongoServer;
use mongodb::{
    Client,
    bson::{Bson, Timestamp, rawdoc},
    event::{EventHandler, command::CommandEvent},
    options::ClientOptions,
};
use proptest::{prelude::*, strategy::ValueTree, test_runner::TestRunner};

use crate::support::{RUNTIME, Scene, TestResult};

/// Long enough that nothing here waits for its end.
const LONG: Duration = Duration::from_secs(3600);

/// Whether a command brings a time of the client's; `$clusterTime` is the server's own, handed on.
fn holds_a_time(value: &Bson) -> bool {
    match value {
        Bson::DateTime(_) | Bson::Timestamp(_) => true,
        Bson::Array(values) => values.iter().any(holds_a_time),
        Bson::Document(document) => document
            .iter()
            .any(|(key, value)| key != "$clusterTime" && holds_a_time(value)),
        _ => false,
    }
}

#[tokio::test]
async fn the_clock_of_the_host_does_not_matter() -> TestResult {
    let server = MongoServer::start().await?;
    let sent = Arc::new(Mutex::new(Vec::new()));
    let mut options = ClientOptions::parse(server.uri()).await?;
    let sending = Arc::clone(&sent);
    options.command_event_handler = Some(EventHandler::callback(move |event| {
        if let CommandEvent::Started(started) = event {
            let mut sent = sending.lock().unwrap_or_else(PoisonError::into_inner);
            sent.push(started.command);
        }
    }));
    let client = Client::with_options(options)?;
    let leases = MongoLeases::new(&client.database("shop"));
    let mine = leases.acquire(RUNTIME, "one", LONG, 0).await?;
    leases.acquire(RUNTIME, "two", LONG, 0).await?;
    let renewed = leases.renew(RUNTIME, &mine, LONG).await?;
    assert!(
        renewed.remaining > LONG - Duration::from_secs(60),
        "{renewed:?}"
    );
    leases.release(RUNTIME, "one").await?;
    leases.load(RUNTIME).await?;
    let sent = sent.lock().unwrap_or_else(PoisonError::into_inner);
    let commands: Vec<_> = sent
        .iter()
        .filter(|command| {
            let target = command.iter().next().map(|(_, target)| target);
            target == Some(&Bson::from(MongoLeases::COLLECTION))
        })
        .collect();
    assert_eq!(commands.len(), 5);
    for command in &commands[..4] {
        let concern = command.get_document("writeConcern")?;
        assert_eq!(concern.get_str("w")?, "majority");
        assert!(command.to_string().contains("$$NOW"), "{command}");
    }
    for command in commands {
        assert!(!holds_a_time(&Bson::from(command.clone())), "{command}");
    }
    Ok(())
}

/// One call of a store. A lease that lasts no time has run out by the next call.
#[derive(Clone, Copy, Debug)]
enum Call {
    Acquire(usize, Duration, i64),
    Renew(usize, Duration),
    Release(usize),
}

fn calls() -> impl Strategy<Value = Vec<Call>> {
    let holder = || 0_usize..3;
    let time = || prop_oneof![Just(Duration::ZERO), Just(LONG)];
    let call = prop_oneof![
        4 => (holder(), time(), prop_oneof![4 => Just(0_i64), 1 => 0_i64..40])
            .prop_map(|(holder, time, above)| Call::Acquire(holder, time, above)),
        3 => (holder(), time()).prop_map(|(holder, time)| Call::Renew(holder, time)),
        1 => holder().prop_map(Call::Release),
    ];
    proptest::collection::vec(call, 1..30)
}

/// What a lease is, but for the exact time that remains.
type State = Option<(Option<String>, i64, bool)>;

/// Makes the calls and checks the contract; the states after each.
async fn obey(store: &impl LeaseStore, name: &str, calls: &[Call]) -> Vec<State> {
    let mut states: Vec<State> = vec![None];
    let mut tenures: [Option<Lease>; 3] = [None, None, None];
    for call in calls {
        let before = states.last().cloned().flatten();
        match *call {
            Call::Acquire(holder, time, above) => {
                let id = format!("$holder {holder}");
                let lease = store
                    .acquire(name, &id, time, above)
                    .await
                    .expect("acquired");
                let (was, epoch, was_live) = before.unwrap_or_default();
                let is_new = was.as_deref() != Some(&id);
                assert_eq!(lease.is_held_by(&id), !was_live || !is_new, "{lease:?}");
                match lease.is_held_by(&id) && is_new {
                    true => assert_eq!(lease.epoch, epoch.max(above) + 1),
                    false => assert_eq!(lease.epoch, epoch),
                }
                if lease.is_held_by(&id) {
                    tenures[holder] = Some(lease);
                }
            }
            Call::Renew(holder, time) => {
                let Some(tenure) = &tenures[holder] else {
                    continue;
                };
                let lease = store.renew(name, tenure, time).await.expect("renewed");
                let (was, epoch, _) = before.unwrap_or_default();
                assert_eq!(
                    lease.is_held_by(&format!("$holder {holder}")),
                    was == tenure.holder
                );
                assert_eq!(lease.epoch, epoch);
            }
            Call::Release(holder) => {
                let id = format!("$holder {holder}");
                store.release(name, &id).await.expect("released");
            }
        }
        let lease = store.load(name).await.expect("read");
        states.push(lease.map(|lease| {
            let is_live = !lease.is_free();
            (lease.holder, lease.epoch, is_live)
        }));
    }
    states
}

#[tokio::test]
async fn both_lease_stores_obey_the_contract() -> TestResult {
    let scene = Scene::new().await;
    let mongodb = MongoLeases::new(&scene.database);
    let mut runner = TestRunner::deterministic();
    for case in 0..40 {
        let calls = calls().new_tree(&mut runner).expect("calls").current();
        let name = case.to_string();
        let memory = obey(&MemoryLeases::default(), &name, &calls).await;
        let mongodb = obey(&mongodb, &name, &calls).await;
        assert_eq!(memory, mongodb, "{calls:?}");
    }
    Ok(())
}

#[tokio::test]
async fn a_lease_that_is_contended_has_one_holder() -> TestResult {
    let scene = Scene::new().await;
    let leases = MongoLeases::new(&scene.database);
    for round in 0..10 {
        let name = round.to_string();
        let bids = (0..8).map(|n| {
            let (leases, name, holder) = (leases.clone(), name.clone(), n.to_string());
            async move {
                let lease = leases
                    .acquire(&name, &holder, LONG, 0)
                    .await
                    .expect("an answer");
                (lease.is_held_by(&holder), lease)
            }
        });
        let answers = futures::future::join_all(bids).await;
        let winners = answers.iter().filter(|(won, _)| *won).count();
        assert_eq!(winners, 1, "{answers:?}");
        assert!(answers.iter().all(|(_, lease)| lease.epoch == 1));
    }
    Ok(())
}

async fn claimed(store: &impl CheckpointStore, epoch: i64) -> Checkpoint {
    match store.claim("fenced", epoch).await.expect("an answer") {
        Claimed::Yes(checkpoint) => checkpoint,
        other => panic!("{other:?}"),
    }
}

fn at(checkpoint: &Checkpoint, sequence: i64, place: &str) -> Checkpoint {
    let mut next = checkpoint.clone();
    let token = ResumeToken::new(rawdoc! { "_data": place });
    next.position = Some(ResumePoint::ResumeAfter(token));
    next.sequence = sequence;
    next
}

async fn fences(store: &impl CheckpointStore) -> TestResult {
    assert_eq!(store.load("fenced").await?, None);
    let first = claimed(store, 2).await;
    assert_eq!((first.epoch, &first.position), (2, &None));
    assert_eq!(store.load("fenced").await?, Some(first.clone()));

    let two = at(&first, 2, "two");
    assert_eq!(store.save("fenced", &two).await?, Saved::Yes);
    assert_eq!(
        store.save("fenced", &two).await?,
        Saved::Yes,
        "a lost reply"
    );
    let one = at(&first, 1, "one");
    assert_eq!(store.save("fenced", &one).await?, Saved::Stale);
    for epoch in [1, 2] {
        assert_eq!(store.claim("fenced", epoch).await?, Claimed::Stale);
    }
    assert_eq!(store.load("fenced").await?, Some(two.clone()));

    let second = claimed(store, 3).await;
    assert_eq!((second.epoch, &second.position), (3, &two.position));
    let three = at(&first, 3, "three");
    assert_eq!(store.save("fenced", &three).await?, Saved::Stale);
    let mut time = at(&second, 3, "");
    let now = Timestamp {
        time: 7,
        increment: 1,
    };
    time.position = Some(ResumePoint::OperationTime(ClusterTime(now)));
    for checkpoint in [time, at(&second, 4, "four")] {
        assert_eq!(store.save("fenced", &checkpoint).await?, Saved::Yes);
        assert_eq!(store.load("fenced").await?, Some(checkpoint));
    }
    Ok(())
}

#[tokio::test]
async fn both_checkpoint_stores_fence_off_whoever_was_replaced() -> TestResult {
    fences(&MemoryCheckpoints::default()).await?;
    let scene = Scene::new().await;
    fences(&MongoCheckpoints::new(&scene.database)).await
}

async fn resets(store: &impl CheckpointStore) -> TestResult {
    let partitions = ["shop/0", "shop/1", "shop/10"];
    let others = [
        "shop/",
        "shop/x",
        "shop/00",
        "shop/replica/0",
        "shop0",
        "sho",
    ];
    for name in partitions.into_iter().chain(others).chain(["shop"]) {
        let Claimed::Yes(claimed) = store.claim(name, 7).await? else {
            panic!("it is new");
        };
        // One of the partitions has not come to any place.
        if name != "shop/1" {
            assert_eq!(store.save(name, &at(&claimed, 3, name)).await?, Saved::Yes);
        }
    }
    assert_eq!(store.reset("shop").await?, ["shop", "shop/0", "shop/10"]);
    for name in partitions.into_iter().chain(["shop"]) {
        let stored = store.load(name).await?.expect("its epoch is kept");
        let (epoch, sequence) = (stored.epoch, stored.sequence);
        assert_eq!((stored.position, epoch, sequence), (None, 7, 0), "{name}");
    }
    for name in others {
        let stored = store.load(name).await?.expect("untouched");
        assert!(stored.position.is_some(), "{name}");
    }
    assert!(store.reset("shop").await?.is_empty(), "nothing is left");
    Ok(())
}

#[tokio::test]
async fn both_checkpoint_stores_reset_a_runtime_with_its_partitions() -> TestResult {
    resets(&MemoryCheckpoints::default()).await?;
    let scene = Scene::new().await;
    resets(&MongoCheckpoints::new(&scene.database)).await
}
