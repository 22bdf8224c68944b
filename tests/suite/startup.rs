//! Every mistake that can be known at start-up ends it with an error of its own, which names the thing and the mend.

use std::time::Duration;

use changestream::{Delivery, Error, HandlerError, RuntimeBuilder, prelude::*};
use changestream_testkit::MongoServer;
use mongodb::{
    Client,
    bson::{Document, doc},
    options::ClientOptions,
};
use tower::service_fn;

use crate::support::{
    Scene, Seen, TestResult, chain,
    failpoint::{Failure, fail, heal},
    recorder, within,
};

async fn nothing() -> Result<(), HandlerError> {
    Ok(())
}

fn handler(name: &str) -> HandlerSpec<()> {
    HandlerSpec::new(name, nothing).collections(["orders"])
}

/// A builder that lacks nothing, of a server that is never asked.
async fn builder() -> RuntimeBuilder<()> {
    let client = Client::with_uri_str("mongodb://localhost:1").await;
    let database = client.expect("a client").database("shop");
    Runtime::builder(database)
        .name("test")
        .handlers([handler("one")])
}

#[track_caller]
fn assert_says(error: &Error, parts: &[&str]) {
    let said = error.to_string();
    assert!(parts.iter().all(|part| said.contains(part)), "{said}");
}

#[track_caller]
fn assert_misconfigured(builder: RuntimeBuilder<()>, parts: &[&str]) {
    let error = builder.build().expect_err("a mistake");
    assert!(error.is_configuration(), "{error}");
    assert_says(&error, parts);
}

#[tokio::test]
async fn a_runtime_that_lacks_nothing_is_built() {
    builder().await.build().expect("a runtime");
}

#[tokio::test]
async fn a_runtime_needs_a_name() {
    assert_misconfigured(builder().await.name(""), &["no name", ".name("]);
    let database = Client::with_uri_str("mongodb://localhost:1")
        .await
        .expect("a client");
    let nameless = Runtime::builder(database.database("shop")).handlers([handler("one")]);
    assert_misconfigured(nameless, &["no name", ".name("]);
}

#[tokio::test]
async fn a_runtime_needs_a_handler() {
    let client = Client::with_uri_str("mongodb://localhost:1")
        .await
        .expect("a client");
    let idle = Runtime::builder(client.database("shop")).name("test");
    assert_misconfigured(idle, &["no handlers", ".handlers("]);
}

#[tokio::test]
async fn handlers_have_names_of_their_own() {
    let twins = builder().await.handlers([handler("one")]);
    assert_misconfigured(twins, &["two handlers", "`one`", "name = "]);
    let nameless = builder().await.handlers([handler("")]);
    assert_misconfigured(nameless, &["handler", "empty name"]);
}

#[tokio::test]
async fn sinks_have_names_of_their_own() {
    let sink = || service_fn(|_: Delivery| async { Ok::<_, HandlerError>(()) });
    let twins = builder().await.sink("out", sink()).sink("out", sink());
    assert_misconfigured(twins, &["two sinks", "`out`", "its own name"]);
}

#[tokio::test]
async fn a_handler_sends_to_a_sink_that_is_there() {
    let sink = service_fn(|_: Delivery| async { Ok::<_, HandlerError>(()) });
    let lost = builder()
        .await
        .handlers([handler("two").to(["fulfilment"])]);
    assert_misconfigured(
        lost.sink("fulfillment", sink),
        &["`two`", "`fulfilment`", "`fulfillment`", ".sink("],
    );
}

#[tokio::test]
async fn a_handler_receives_something() {
    let deaf = builder().await.handlers([handler("two").operations([])]);
    assert_misconfigured(deaf, &["`two`", "no operation", "at least one"]);
}

#[tokio::test]
async fn a_path_is_one() {
    for path in ["", "a..b", "$where", "a\0b"] {
        let spec = handler("two").fields([path]);
        assert_misconfigured(builder().await.handlers([spec]), &["`two`"]);
        let spec = handler("two").key(path);
        assert_misconfigured(builder().await.handlers([spec]), &["`two`"]);
    }
}

#[tokio::test]
async fn no_duration_is_zero() {
    let zero = Duration::ZERO;
    assert_misconfigured(builder().await.timeout(zero), &["timeout", "zero"]);
    assert_misconfigured(
        builder().await.checkpoint_interval(zero),
        &["checkpoint interval", "zero"],
    );
    assert_misconfigured(
        builder().await.reply_timeout(zero),
        &["reply timeout", "zero"],
    );
    let spec = handler("two").timeout(zero);
    assert_misconfigured(
        builder().await.handlers([spec]),
        &["timeout", "zero", "`two`"],
    );
    let sink = service_fn(|_: Delivery| async { Ok::<_, HandlerError>(()) });
    let sink = changestream::SinkSpec::new(sink).timeout(zero);
    assert_misconfigured(
        builder().await.sink("out", sink),
        &["timeout", "zero", "`out`"],
    );
}

#[tokio::test]
async fn a_lease_is_of_a_sensible_length() {
    let lengths = [Duration::ZERO, Duration::from_millis(999), Duration::MAX];
    for lease in lengths {
        assert_misconfigured(builder().await.lease(lease), &["lease", "second", "day"]);
    }
}

/// What starting ends with on the server of this connection string.
async fn error_of(uri: &str) -> Error {
    let mut options = ClientOptions::parse(uri)
        .await
        .expect("a connection string");
    options.server_selection_timeout = Some(Duration::from_millis(500));
    let client = Client::with_options(options).expect("a client");
    let runtime = Runtime::builder(client.database("shop")).name("test");
    let runtime = runtime
        .handlers([handler("one")])
        .build()
        .expect("a runtime");
    let running = runtime.run_until(std::future::pending());
    within("start-up fails", running)
        .await
        .expect_err("a mistake")
}

#[tokio::test]
async fn a_server_that_is_not_there_is_reported() {
    let error = error_of("mongodb://localhost:1/?directConnection=true").await;
    assert!(error.is_unreachable(), "{}", chain(&error));
    assert_says(&error, &["no MongoDB server answers", "connection string"]);
}

#[tokio::test]
async fn wrong_credentials_are_reported_and_not_repeated() -> TestResult {
    let server = MongoServer::start().await?;
    let uri = server
        .uri()
        .replace("mongodb://", "mongodb://nobody:hunter2@");
    let error = error_of(&uri).await;
    assert!(error.is_unreachable(), "{}", chain(&error));
    assert_says(&error, &["credentials"]);
    assert!(!chain(&error).contains("hunter2"), "{}", chain(&error));
    Ok(())
}

#[tokio::test]
async fn a_server_of_no_replica_set_is_reported() -> TestResult {
    let server = MongoServer::builder().standalone().start().await?;
    let error = error_of(&server.uri()).await;
    assert!(error.is_unsupported_server(), "{}", chain(&error));
    assert_says(
        &error,
        &["not of a replica set", "--replSet", "rs.initiate()"],
    );
    Ok(())
}

async fn needs_pre_images(_: PreImage<mongodb::bson::Document>) -> Result<(), HandlerError> {
    Ok(())
}

#[tokio::test]
async fn pre_images_that_nobody_records_are_reported() -> TestResult {
    let scene = Scene::new().await;
    scene.insert([1]).await?;
    let spec = HandlerSpec::new("audit", needs_pre_images).collections(["orders"]);
    let runtime = Runtime::builder(scene.database.clone())
        .name("test")
        .handlers([spec]);
    let running = runtime.build()?.run_until(std::future::pending());
    let error = within("start-up fails", running)
        .await
        .expect_err("a mistake");
    assert!(error.is_unsupported_server(), "{}", chain(&error));
    assert_says(&error, &["`audit`", "pre-images", "Option<PreImage<_>>"]);
    match scene.version().await < [6, 0] {
        true => assert_says(&error, &["6.0", "upgrade"]),
        false => assert_says(
            &error,
            &[".orders`", "collMod", "changeStreamPreAndPostImages"],
        ),
    }
    Ok(())
}

#[tokio::test]
async fn an_answer_that_is_lost_is_not_taken_for_a_refusal() -> TestResult {
    let scene = Scene::new().await;
    if scene.version().await < [6, 0] {
        eprintln!("the server is asked for nothing that it may refuse");
        return Ok(());
    }
    let images = doc! { "create": "orders", "changeStreamPreAndPostImages": { "enabled": true } };
    scene.database.run_command(images).await?;
    let pipeline = async || {
        let takes_document = async |_: FullDocument<Document>| Ok::<(), HandlerError>(());
        let spec = HandlerSpec::new("documents", takes_document).collections(["orders"]);
        let runtime = Runtime::builder(scene.database.clone()).name("test");
        runtime.handlers([spec]).build()?.pipeline().await
    };
    let known = pipeline().await?;
    let question = ["listCollections"];
    // The driver asks it twice.
    let twice = doc! { "times": 2 };
    fail(&scene.client, &question, twice, Failure::hang_up()).await?;
    let error = pipeline().await.expect_err("no answer");
    assert!(error.is_unreachable(), "{}", chain(&error));
    heal(&scene.client).await?;
    assert_eq!(pipeline().await?, known);
    fail(&scene.client, &question, "alwaysOn", Failure::code(13)).await?;
    assert_ne!(pipeline().await?, known, "it asks for less");
    heal(&scene.client).await?;
    Ok(())
}

#[tokio::test]
async fn pre_images_that_are_recorded_arrive() -> TestResult {
    let scene = Scene::new().await;
    if scene.version().await < [6, 0] {
        return Ok(());
    }
    let images = doc! { "create": "orders", "changeStreamPreAndPostImages": { "enabled": true } };
    scene.database.run_command(images).await?;
    let seen = Seen::default();
    let spec = HandlerSpec::new(
        "audit",
        async |State(seen): State<Seen>,
               PreImage(before): PreImage<mongodb::bson::Document>,
               change: RawChange| {
            assert_eq!(before.get_i64("n").expect("a number"), 1);
            seen.push(crate::support::Event::of(&change, 1));
            Ok::<_, HandlerError>(())
        },
    );
    let spec = spec
        .collections(["orders"])
        .operations([changestream::Operation::Update]);
    let runtime = crate::support::Started::new(
        scene
            .runtime(&seen)
            .handlers([spec, recorder(&["customers"])]),
    );
    scene.insert([1]).await?;
    let update = doc! { "$set": { "n": 2_i64 } };
    scene
        .collection("orders")
        .update_one(doc! { "_id": 1_i64 }, update)
        .await?;
    assert_eq!(seen.count(1).await[0].n, Some(2));
    runtime.stop().await?;
    assert!(scene.dead_letters().await.is_empty());
    Ok(())
}
