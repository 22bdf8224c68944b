//! `deduplicate`: an event that comes again is skipped when it is done, and only then.

use std::sync::{Arc, Mutex};

use changestream::{
    Delivery, MemoryCheckpoints, MemoryProcessed, MongoProcessed, ProcessedStore, RuntimeBuilder,
    StoreError, prelude::*, testing::TestRuntime,
};
use mongodb::bson::doc;
use tokio::sync::Semaphore;
use tower::service_fn;

use crate::support::{
    Event, Scene, Seen, Started, TestResult, eventually, recorder, store::Faults,
};

/// A runtime that starts where the scene does, as if no checkpoint had ever been saved.
fn anew(scene: &Scene<impl Sized>, seen: &Seen) -> RuntimeBuilder<Seen> {
    let builder = scene.runtime(seen);
    builder.checkpoint_store(MemoryCheckpoints::default())
}

/// What a second runtime handles of orders 1 to 3 that the first one has handled.
async fn handled_again(
    setup: impl Fn(
        &Scene<changestream_testkit::TestServer>,
        RuntimeBuilder<Seen>,
    ) -> RuntimeBuilder<Seen>,
) -> Result<Vec<i64>, crate::support::BoxError> {
    let scene = Scene::new().await;
    scene.insert(1..4).await?;
    scene.insert_into("customers", [9]).await?;
    let mut seen = Seen::default();
    for _ in 0..2 {
        seen = Seen::default();
        // The customers tell that the orders before them are through, and are handled each time.
        let last = async |State(seen): State<Seen>, change: RawChange| {
            seen.push(Event::of(&change, 1));
            Err::<(), _>(HandlerError::reject("handled each time"))
        };
        let last = HandlerSpec::new("last", last).collections(["customers"]);
        let runtime = Started::new(setup(&scene, anew(&scene, &seen)).handlers([last]));
        seen.all([9]).await;
        runtime.stop().await?;
    }
    Ok(seen.ids())
}

#[tokio::test]
async fn a_processed_event_is_skipped_and_a_dead_letter_is_not() -> TestResult {
    let memory = MemoryProcessed::default();
    let plain = handled_again(|_, builder| builder.handlers([recorder(&["orders"])]));
    assert_eq!(plain.await?, [1, 2, 3, 9]);
    let of_runtime = handled_again(|_, builder| {
        let builder = builder.deduplicate(memory.clone());
        builder.handlers([recorder(&["orders"])])
    });
    assert_eq!(of_runtime.await?, [9]);
    let of_handler = handled_again(|scene, builder| {
        let store = MongoProcessed::new(&scene.database);
        builder.handlers([recorder(&["orders"]).deduplicate(store)])
    });
    assert_eq!(of_handler.await?, [9]);
    Ok(())
}

#[tokio::test]
async fn an_event_whose_messages_did_not_arrive_is_handled_again() -> TestResult {
    let scene = Scene::new().await;
    let (seen, gate) = (Seen::default(), Arc::new(Semaphore::new(0)));
    let (begun, arrived) = (Arc::new(Mutex::new(0)), Arc::new(Mutex::new(0)));
    let start = || {
        let gate = Arc::clone(&gate);
        let (begun, arrived) = (Arc::clone(&begun), Arc::clone(&arrived));
        let sink = service_fn(move |_: Delivery| {
            let (gate, arrived) = (Arc::clone(&gate), Arc::clone(&arrived));
            *begun.lock().expect("no panic") += 1;
            async move {
                gate.acquire().await?.forget();
                *arrived.lock().expect("no panic") += 1;
                Ok::<_, HandlerError>(())
            }
        });
        let send = async |State(seen): State<Seen>, change: RawChange| {
            seen.push(Event::of(&change, 1));
            Ok::<_, HandlerError>("a message")
        };
        let spec = HandlerSpec::new("send", send).collections(["orders"]);
        let builder = anew(&scene, &seen).deduplicate(MongoProcessed::new(&scene.database));
        Started::new(builder.sink("sink", sink).handlers([spec.to(["sink"])]))
    };
    let runtime = start();
    scene.insert([1]).await?;
    let sending = async || (*begun.lock().expect("no panic") == 1).then_some(());
    eventually("the message is under way", sending).await;
    runtime.crash().await;

    gate.add_permits(1);
    let runtime = start();
    let sent = async || (*arrived.lock().expect("no panic") == 1).then_some(());
    eventually("the message arrives", sent).await;
    runtime.stop().await?;
    assert_eq!(seen.ids(), [1, 1]);
    Ok(())
}

/// A store that fails as long as its faults say.
#[derive(Clone, Debug)]
struct Faulty(MemoryProcessed, Faults);

#[async_trait::async_trait]
impl ProcessedStore for Faulty {
    async fn contains(&self, id: &str) -> Result<bool, StoreError> {
        self.0.contains(id).await
    }

    async fn record(&self, id: &str) -> Result<(), StoreError> {
        self.1.check()?;
        self.0.record(id).await
    }
}

#[tokio::test]
async fn an_event_waits_for_its_record() -> TestResult {
    let scene = Scene::new().await;
    let seen = Seen::default();
    let faults = Faults::down();
    let store = Faulty(MemoryProcessed::default(), faults.clone());
    let builder = anew(&scene, &seen).deduplicate(store);
    let runtime = Started::new(builder.handlers([recorder(&["orders"])]));
    scene.insert([1, 2]).await?;
    let failed = async || (faults.failures() > 1).then_some(());
    eventually("the record fails", failed).await;
    assert_eq!(seen.ids(), [1]);
    faults.heal();
    seen.all([2]).await;
    runtime.stop().await?;
    assert_eq!(seen.ids(), [1, 2]);
    Ok(())
}

async fn in_transaction(_transaction: Transaction) -> Result<(), HandlerError> {
    Ok(())
}

#[tokio::test]
async fn what_cannot_be_is_refused_when_it_is_built() -> TestResult {
    let spec = || HandlerSpec::<()>::new("count", in_transaction).collections(["orders"]);
    let client = mongodb::Client::with_uri_str("mongodb://localhost:1").await?;
    let database = client.database("shop");
    let twice = Runtime::builder(database.clone()).name("test");
    let twice = twice.handler(spec().deduplicate(MongoProcessed::new(&database)));
    let error = twice.build().expect_err("one of them is enough");
    assert!(error.is_configuration());
    assert!(
        error.to_string().contains("remove `.deduplicate(..)`"),
        "{error}"
    );

    let both = Runtime::builder(database.clone())
        .name("test")
        .handler(spec());
    both.deduplicate(MongoProcessed::new(&database)).build()?;

    let no_server = TestRuntime::builder().handler(spec()).build();
    let error = no_server.expect_err("there is no server");
    assert!(
        error
            .to_string()
            .contains("`count` takes a `Transaction`, which needs a server"),
        "{error}"
    );
    Ok(())
}

#[tokio::test]
async fn the_runtime_does_not_start_where_ids_cannot_be_kept() -> TestResult {
    let scene = Scene::new().await;
    // A view takes no index.
    let view = doc! { "create": MongoProcessed::COLLECTION, "viewOn": "orders" };
    scene.database.run_command(view).await?;
    let handle = async |_seen: State<Seen>, _transaction: Transaction| Ok::<_, HandlerError>(());
    let spec = HandlerSpec::new("count", handle).collections(["orders"]);
    let runtime = Started::new(scene.runtime(&Seen::default()).handlers([spec]));
    let error = runtime.error().await;
    assert!(error.is_store());
    let chain = crate::support::chain(&error);
    assert!(chain.contains("cannot create the TTL index of"), "{chain}");
    Ok(())
}
