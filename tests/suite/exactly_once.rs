//! G7: effects in a `Transaction` happen exactly once, whatever happens to the handler, the server and the process.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use changestream::{
    BoxHandler, ChangeRequest, MemoryCheckpoints, MemoryLeases, MongoProcessed, RuntimeBuilder,
    prelude::*,
};
use changestream_testkit::{FaultProxy, MongoServer};
use futures::TryStreamExt;
use mongodb::{
    Database,
    bson::{Document, doc},
};
use tokio::sync::Semaphore;
use tower::{ServiceExt, layer::layer_fn, service_fn};

use crate::support::{
    Event, RUNTIME, Scene, Seen, Started, TestResult,
    effect::{effect, effects},
    eventually, recorder,
};

async fn processed(database: &Database) -> u64 {
    let processed = database.collection::<Document>(MongoProcessed::COLLECTION);
    processed
        .count_documents(doc! { "expiresAt": { "$exists": true } })
        .await
        .expect("a count")
}

/// A handler that makes the effect and then does what `then` says of the order and the attempt.
fn spec<F, Fut>(then: F) -> HandlerSpec<Seen>
where
    F: Fn(i64, u32, Transaction) -> Fut + Clone + Send + Sync + 'static,
    Fut: Future<Output = Result<(), HandlerError>> + Send + 'static,
{
    let handle = move |State(seen): State<Seen>,
                       change: RawChange,
                       Attempt(attempt): Attempt,
                       mut transaction: Transaction| {
        let then = then.clone();
        async move {
            let event = Event::of(&change, attempt);
            let order = event.id.expect("an id");
            let done = effect(&mut transaction, order).await;
            seen.push(event);
            done?;
            then(order, attempt, transaction).await
        }
    };
    HandlerSpec::new("count", handle).collections(["orders"])
}

fn plain() -> HandlerSpec<Seen> {
    spec(async |_, _, _| Ok(()))
}

/// Runs orders 1 and 2 through the handler; the dead letters.
async fn run<S>(
    scene: &Scene<S>,
    seen: &Seen,
    setup: impl FnOnce(RuntimeBuilder<Seen>) -> RuntimeBuilder<Seen>,
) -> Result<Vec<Document>, crate::support::BoxError> {
    let runtime = Started::new(setup(scene.runtime(seen)).handlers([recorder(&["customers"])]));
    scene.insert([1, 2]).await?;
    scene.insert_into("customers", [9]).await?;
    seen.all([9]).await;
    runtime.stop().await?;
    Ok(scene.dead_letters().await)
}

fn attempts(seen: &Seen, id: i64) -> Vec<u32> {
    let events = seen.events().into_iter();
    let of_id = events.filter(|event| event.id == Some(id));
    of_id.map(|event| event.attempt).collect()
}

fn message(letters: &[Document]) -> String {
    let [letter] = letters else {
        panic!("{letters:?}")
    };
    letter.get_array("error").expect("an error")[0].to_string()
}

#[tokio::test]
async fn the_effect_and_the_id_commit_together() -> TestResult {
    let scene = Scene::new().await;
    let (seen, gate) = (Seen::default(), Arc::new(Semaphore::new(0)));
    let held = Arc::clone(&gate);
    let gated = spec(move |_, _, _transaction| {
        let gate = Arc::clone(&held);
        async move {
            gate.acquire().await?.forget();
            Ok(())
        }
    });
    let runtime = Started::new(scene.runtime(&seen).handlers([gated]));
    scene.insert([1]).await?;
    seen.count(1).await;
    assert!(effects(&scene.database).await.is_empty());
    assert_eq!(processed(&scene.database).await, 0);
    gate.add_permits(1);
    runtime.stop().await?;
    assert_eq!(effects(&scene.database).await, [1]);
    let id = format!("{RUNTIME}/count/{}", seen.events()[0].event_id);
    let records = scene.collection(MongoProcessed::COLLECTION);
    let record = records
        .find_one(doc! { "_id": id })
        .await?
        .ok_or("no record")?;
    let kept_for = record
        .get_datetime("expiresAt")?
        .to_system_time()
        .duration_since(std::time::SystemTime::now())?;
    let day = Duration::from_secs(24 * 60 * 60);
    assert!(kept_for > 6 * day && kept_for < 8 * day, "{kept_for:?}");
    let indexes: Vec<_> = records.list_indexes().await?.try_collect().await?;
    let expiry = |index: &mongodb::IndexModel| {
        index
            .options
            .as_ref()
            .and_then(|options| options.expire_after)
            == Some(Duration::ZERO)
    };
    assert!(indexes.iter().any(expiry), "{indexes:?}");
    Ok(())
}

#[tokio::test]
async fn a_redelivered_event_does_nothing() -> TestResult {
    let scene = Scene::new().await;
    for _ in 0..2 {
        let seen = Seen::default();
        // As if no checkpoint had ever been saved.
        let forgetful = |builder: RuntimeBuilder<Seen>| {
            let builder = builder.checkpoint_store(MemoryCheckpoints::default());
            builder.handlers([plain()])
        };
        let runtime =
            Started::new(forgetful(scene.runtime(&seen)).handlers([recorder(&["customers"])]));
        let is_first = scene.collection("orders").count_documents(doc! {}).await? == 0;
        if is_first {
            scene.insert(1..4).await?;
            scene.insert_into("customers", [9]).await?;
        }
        seen.all([9]).await;
        runtime.stop().await?;
        let expected: &[i64] = if is_first { &[1, 2, 3, 9] } else { &[9] };
        assert_eq!(seen.ids(), expected);
        assert_eq!(effects(&scene.database).await, [1, 2, 3]);
    }
    assert!(scene.dead_letters().await.is_empty());
    Ok(())
}

/// Runs a handler whose first attempt at order 1 fails as `failure` does.
async fn aborts<Fut>(failure: fn() -> Fut) -> TestResult
where
    Fut: Future<Output = Result<(), HandlerError>> + Send + 'static,
{
    let scene = Scene::new().await;
    let seen = Seen::default();
    let fails = spec(move |order, attempt, _transaction| async move {
        match (order, attempt) {
            (1, 1) => failure().await,
            _ => Ok(()),
        }
    });
    let fails = fails.timeout(Duration::from_millis(500));
    let letters = run(&scene, &seen, |builder| builder.handlers([fails])).await?;
    assert!(letters.is_empty(), "{letters:?}");
    assert_eq!(effects(&scene.database).await, [1, 2]);
    assert_eq!(attempts(&seen, 1), [1, 2]);
    Ok(())
}

#[tokio::test]
async fn an_error_a_panic_and_a_timeout_abort() -> TestResult {
    aborts(|| async { Err(HandlerError::retry("no")) }).await?;
    aborts(|| async { panic!("no") }).await?;
    aborts(std::future::pending).await
}

#[tokio::test]
async fn a_dead_letter_leaves_no_effect_and_no_id() -> TestResult {
    let scene = Scene::new().await;
    let seen = Seen::default();
    let rejects = spec(async |order, _, _| match order {
        1 => Err(HandlerError::reject("no")),
        _ => Ok(()),
    });
    let letters = run(&scene, &seen, |builder| builder.handlers([rejects])).await?;
    assert!(message(&letters).contains("no"));
    assert_eq!(effects(&scene.database).await, [2]);
    assert_eq!(processed(&scene.database).await, 1);
    Ok(())
}

#[tokio::test]
async fn a_write_conflict_is_retried_within_the_attempt() -> TestResult {
    let scene = Scene::new().await;
    let seen = Seen::default();
    let mut rival = scene.client.start_session().await?;
    scene
        .collection("totals")
        .insert_one(doc! { "_id": "all", "orders": 0_i64 })
        .await?;
    rival.start_transaction().await?;
    let totals = scene.collection("totals");
    let touch = totals.update_one(doc! {}, doc! { "$set": { "touched": true } });
    touch.session(&mut rival).await?;
    let runtime = Started::new(scene.runtime(&seen).handlers([plain()]));
    scene.insert([1]).await?;
    seen.count(3).await;
    rival.commit_transaction().await?;
    let done = async || (effects(&scene.database).await == [1]).then_some(());
    eventually("the effect", done).await;
    runtime.stop().await?;
    assert!(attempts(&seen, 1).iter().all(|attempt| *attempt == 1));
    assert_eq!(effects(&scene.database).await, [1]);
    Ok(())
}

#[tokio::test]
async fn two_runtimes_racing_make_one_effect() -> TestResult {
    let scene = Scene::new().await;
    let start = |seen: &Seen| {
        let builder = scene
            .runtime(seen)
            .checkpoint_store(MemoryCheckpoints::default())
            // Neither knows of the other.
            .lease_store(MemoryLeases::default());
        Started::new(builder.handlers([plain(), recorder(&["customers"])]))
    };
    let seen = [Seen::default(), Seen::default()];
    let runtimes = seen.each_ref().map(start);
    scene.insert(0..40).await?;
    scene.insert_into("customers", [99]).await?;
    for seen in &seen {
        seen.all([99]).await;
    }
    for runtime in runtimes {
        runtime.stop().await?;
    }
    assert_eq!(effects(&scene.database).await, Vec::from_iter(0..40));
    assert!(scene.dead_letters().await.is_empty());
    Ok(())
}

#[tokio::test]
async fn an_unknown_commit_result_makes_one_effect() -> TestResult {
    let scene = Scene::own().await;
    let seen = Seen::default();
    // The server commits and says that it cannot tell, oftener than the driver asks by itself.
    let data = doc! {
        "failCommands": ["commitTransaction"],
        "writeConcernError": { "code": 91, "errmsg": "shutting down" },
    };
    let fail = doc! { "configureFailPoint": "failCommand", "mode": { "times": 5 }, "data": data };
    scene.server.admin_command(fail).await?;
    let letters = run(&scene, &seen, |builder| builder.handlers([plain()])).await?;
    assert!(letters.is_empty());
    assert_eq!(effects(&scene.database).await, [1, 2]);
    assert_eq!(seen.ids(), [1, 2, 9]);
    Ok(())
}

#[tokio::test]
async fn a_lost_reply_of_the_commit_makes_one_effect() -> TestResult {
    let scene = Scene::own().await;
    let proxy = Arc::new(FaultProxy::start(scene.server.addr()).await?);
    let through = crate::support::client(&scene.server.uri_through(proxy.addr())).await;
    let seen = Seen::default();
    let faulty = Arc::clone(&proxy);
    let handler = spec(move |_, _, _| {
        let proxy = Arc::clone(&faulty);
        async move {
            proxy.drop_replies().await?;
            Ok(())
        }
    });
    let runtime = scene.runtime_through(&through, &seen).handlers([handler]);
    let runtime = Started::new(runtime.reply_timeout(Duration::from_secs(1)));
    scene.insert([1]).await?;
    let committed = async || (effects(&scene.database).await == [1]).then_some(());
    eventually("the commit whose reply is lost", committed).await;
    proxy.heal().await?;
    runtime.stop().await?;
    assert_eq!(effects(&scene.database).await, [1]);
    assert_eq!(seen.ids(), [1]);
    assert!(scene.dead_letters().await.is_empty());
    Ok(())
}

#[tokio::test]
async fn a_transaction_that_lasts_too_long_says_so() -> TestResult {
    let server = MongoServer::builder().arg("--setParameter=transactionLifetimeLimitSeconds=1");
    let server = server.start().await?;
    let uri = server.uri();
    let scene = Scene::on(server, &uri).await;
    let seen = Seen::default();
    let slow = spec(async |order, _, mut transaction| {
        let orders = transaction.database().collection::<Document>("orders");
        // Until the server has given the transaction up.
        if order == 1 {
            loop {
                tokio::time::sleep(Duration::from_millis(100)).await;
                let found = orders.find_one(doc! { "_id": order });
                found.session(transaction.session()).await?;
            }
        }
        Ok(())
    });
    let slow = slow.retries(0);
    let slow = slow.timeout(Duration::from_secs(5));
    let letters = run(&scene, &seen, |builder| builder.handlers([slow])).await?;
    let message = message(&letters);
    assert!(
        message.contains("transactionLifetimeLimitSeconds"),
        "{message}"
    );
    assert_eq!(effects(&scene.database).await, [2]);
    Ok(())
}

#[tokio::test]
async fn a_transaction_that_is_too_large_says_so() -> TestResult {
    let server = MongoServer::builder().arg("--setParameter=transactionSizeLimitBytes=10000");
    let server = server.start().await?;
    let uri = server.uri();
    let scene = Scene::on(server, &uri).await;
    let seen = Seen::default();
    let large = spec(async |order, _, mut transaction| {
        let blobs = transaction.database().collection::<Document>("blobs");
        let blob = doc! { "blob": "x".repeat(if order == 1 { 20_000 } else { 20 }) };
        blobs
            .insert_one(blob)
            .session(transaction.session())
            .await?;
        Ok(())
    });
    let letters = run(&scene, &seen, |builder| builder.handlers([large])).await?;
    let message = message(&letters);
    assert!(message.contains("more than the server takes"), "{message}");
    assert_eq!(attempts(&seen, 1), [1]);
    assert_eq!(effects(&scene.database).await, [2]);
    Ok(())
}

#[tokio::test]
async fn an_error_that_the_handler_swallows_is_no_commit() -> TestResult {
    let scene = Scene::new().await;
    let seen = Seen::default();
    scene
        .collection("taken")
        .insert_one(doc! { "_id": 1 })
        .await?;
    let swallows = spec(async |order, _, mut transaction| {
        let taken = transaction.database().collection::<Document>("taken");
        if order == 1 {
            let again = taken
                .insert_one(doc! { "_id": 1 })
                .session(transaction.session());
            again.await.expect_err("it is there");
        }
        Ok(())
    });
    let swallows = swallows.retries(0).timeout(Duration::from_millis(500));
    let letters = run(&scene, &seen, |builder| builder.handlers([swallows])).await?;
    let message = message(&letters);
    assert!(message.contains("did not return an error"), "{message}");
    assert_eq!(effects(&scene.database).await, [2]);
    Ok(())
}

#[tokio::test]
async fn a_transaction_kept_beyond_the_handler_is_no_commit() -> TestResult {
    let scene = Scene::new().await;
    let seen = Seen::default();
    let kept = Arc::new(std::sync::Mutex::new(Vec::new()));
    let keep = Arc::clone(&kept);
    let keeps = spec(move |order, _, transaction| {
        if order == 1 {
            keep.lock().expect("no panic").push(transaction);
        }
        async { Ok(()) }
    });
    let letters = run(&scene, &seen, |builder| builder.handlers([keeps])).await?;
    assert!(message(&letters).contains("keeps its `Transaction`"));
    kept.lock().expect("no panic").clear();
    assert_eq!(effects(&scene.database).await, [2]);
    Ok(())
}

#[tokio::test]
async fn a_layer_that_calls_twice_commits_no_effect_twice() -> TestResult {
    let scene = Scene::new().await;
    let seen = Seen::default();
    let fails_once = {
        let failed = Arc::new(AtomicBool::new(false));
        spec(move |_, _, _| {
            let failed = failed.swap(true, Ordering::SeqCst);
            async move {
                match failed {
                    true => Ok(()),
                    false => Err(HandlerError::reject("the first time")),
                }
            }
        })
    };
    let twice = layer_fn(|inner: BoxHandler| {
        BoxHandler::new(service_fn(move |request: ChangeRequest| {
            let inner = inner.clone();
            async move {
                match inner.clone().oneshot(request.clone()).await {
                    Ok(messages) => Ok(messages),
                    Err(_) => inner.oneshot(request).await,
                }
            }
        }))
    });
    let letters = run(&scene, &seen, |builder| {
        builder.handlers([fails_once.layer(twice)])
    })
    .await?;
    let message = message(&letters);
    assert!(
        message.contains("leave retries to the runtime"),
        "{message}"
    );
    assert_eq!(effects(&scene.database).await, [2]);
    Ok(())
}
