//! G1 and G2 where the stream cannot go on by itself, or is made to go on too often.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use changestream::{StartAt, prelude::*};
use mongodb::{
    Client,
    bson::{Bson, Document, doc},
    event::{EventHandler, command::CommandEvent},
    options::{ClientOptions, WriteConcern},
};

use crate::support::{
    Scene, Seen, Started, TestResult, chain, eventually,
    failpoint::{Failure, aggregates, fail, heal},
    interrupted, ready, recorder,
    writer::{Writer, assert_all_in_order},
};

#[tokio::test]
async fn connections_lost_while_the_stream_opens_cost_no_event() -> TestResult {
    let scene = Scene::own().await;
    let seen = Seen::default();
    let lost = || {
        fail(
            &scene.client,
            &["aggregate"],
            doc! { "times": 5 },
            Failure::hang_up(),
        )
    };
    lost().await?;
    let runtime = Started::recording(&scene, &seen);
    scene.insert([1]).await?;
    seen.all([1]).await;
    // The driver itself tries an aggregate once more: these are for the supervisor.
    lost().await?;
    scene.server.kill().await?;
    scene.server.restart().await?;
    lost().await?;
    scene.insert([2]).await?;
    seen.all([2]).await;
    assert_eq!(seen.ids(), [1, 2]);
    runtime.stop().await?;
    Ok(())
}

/// Each aggregate brings events, and every getMore after it fails.
#[tokio::test]
async fn a_storm_under_load_is_met_with_patience_too() -> TestResult {
    const WINDOW: Duration = Duration::from_secs(5);
    let scene = Scene::own().await;
    let seen = Seen::default();
    let runtime = Started::recording(&scene, &seen);
    let mut writer = Writer::start(scene.collection("orders"));
    writer.more(50).await;
    let storm = Failure::code(43);
    fail(&scene.client, &["getMore"], "alwaysOn", storm).await?;
    let before = aggregates(&scene.client).await?;
    tokio::time::sleep(WINDOW).await;
    let opened = aggregates(&scene.client).await? - before;
    assert!(
        (2..=15).contains(&opened),
        "{opened} aggregates in {WINDOW:?}"
    );
    heal(&scene.client).await?;
    assert_all_in_order(&seen, &writer.stop().await).await;
    runtime.stop().await?;
    Ok(())
}

/// A client that notes where each of its aggregates starts.
async fn observed(
    uri: &str,
) -> Result<(Client, Arc<Mutex<Vec<Document>>>), crate::support::BoxError> {
    let starts = Arc::new(Mutex::new(Vec::new()));
    let keep = Arc::clone(&starts);
    let mut options = ClientOptions::parse(uri).await?;
    options.write_concern = Some(WriteConcern::majority());
    options.command_event_handler = Some(EventHandler::callback(move |event| {
        if let CommandEvent::Started(started) = event
            && let Ok(pipeline) = started.command.get_array("pipeline")
            && let Some(Bson::Document(stage)) = pipeline.first()
            && let Ok(stage) = stage.get_document("$changeStream")
        {
            keep.lock().expect("no panic").push(stage.clone());
        }
    }));
    Ok((Client::with_options(options)?, starts))
}

#[tokio::test]
async fn resumes_without_events_never_move_the_position_back() -> TestResult {
    let scene = Scene::own().await;
    let seen = Seen::default();
    let (client, starts) = observed(&scene.server.uri()).await?;
    let runtime = scene.runtime_through(&client, &seen);
    let runtime = Started::new(runtime.handlers([recorder(&["orders"])]));
    scene.insert([1]).await?;
    seen.all([1]).await;
    fail(&scene.client, &["getMore"], "alwaysOn", Failure::code(43)).await?;
    starts.lock().expect("no panic").clear();
    let resumes = eventually("it resumes again and again", async || {
        let starts = starts.lock().expect("no panic").clone();
        (starts.len() > 5).then_some(starts)
    })
    .await;
    let token = |stage: &Document| {
        let token = stage.get_document("startAfter");
        let token = token.or_else(|_| stage.get_document("resumeAfter"));
        let token = token.expect("a resume starts at a token");
        token.get_str("_data").expect("its text").to_owned()
    };
    assert!(resumes.iter().map(token).is_sorted(), "{resumes:?}");
    heal(&scene.client).await?;
    scene.insert([2]).await?;
    seen.all([2]).await;
    assert_eq!(seen.ids(), [1, 2]);
    runtime.stop().await?;
    Ok(())
}

#[tokio::test]
async fn a_refused_token_ends_the_runtime_whatever_the_code_and_skips_nothing() -> TestResult {
    let scene = Scene::own().await;
    let seen = Seen::default();
    let runtime = Started::recording(&scene, &seen);
    scene.insert([1]).await?;
    seen.all([1]).await;
    runtime.stop().await?;
    scene.insert([2]).await?;
    let place = async || scene.checkpoint().await.map(|stored| stored.position);
    let stored = place().await;
    for code in [260, 280, 9, 40647] {
        for command in ["aggregate", "getMore"] {
            fail(&scene.client, &[command], "alwaysOn", Failure::code(code)).await?;
            let runtime = scene.runtime(&Seen::default());
            let runtime = runtime.batch_size(1).handlers([recorder(&["others"])]);
            let error = match command {
                "aggregate" => Started::recording(&scene, &Seen::default()),
                _ => Started::new(runtime.start_at(StartAt::Now).name("another")),
            };
            let error = error.error().await;
            assert!(error.is_stream(), "{code}: {}", chain(&error));
            heal(&scene.client).await?;
            assert_eq!(place().await, stored, "{code}");
        }
    }
    let runtime = Started::recording(&scene, &seen);
    seen.all([2]).await;
    assert_eq!(seen.ids(), [1, 2]);
    runtime.stop().await?;
    Ok(())
}

#[tokio::test]
async fn a_token_of_another_stream_is_reported() -> TestResult {
    let scene = Scene::new().await;
    let (seen, tokens) = (Seen::default(), Arc::new(Mutex::new(Vec::new())));
    let keep = Arc::clone(&tokens);
    let note = move |State(seen): State<Seen>, change: RawChange| {
        keep.lock().expect("no panic").push(change.token());
        seen.push(crate::support::Event::of(&change, 1));
        std::future::ready(Ok::<_, HandlerError>(()))
    };
    let spec = HandlerSpec::new("note", note).collections(["orders"]);
    let runtime = Started::new(scene.runtime(&seen).handlers([spec]));
    scene.insert([1]).await?;
    seen.all([1]).await;
    runtime.stop().await?;
    let token = tokens.lock().expect("no panic")[0].clone();

    let builder = scene.runtime(&Seen::default()).name("another");
    let builder = builder.start_at(StartAt::ResumeAfter(token));
    let error = Started::new(builder.handlers([recorder(&["customers"])]));
    // The server looks for the token among the events, and misses it at the first one after it.
    scene.insert_into("customers", [2]).await?;
    let error = error.error().await;
    assert!(error.is_stream(), "{}", chain(&error));
    Ok(())
}

#[tokio::test]
async fn a_stream_and_its_checkpoints_share_a_pool_of_one() -> TestResult {
    let scene = Scene::own().await;
    let narrow = crate::support::client(&format!("{}&maxPoolSize=1", scene.server.uri())).await;
    let seen = Seen::default();
    let runtime = scene.runtime_through(&narrow, &seen).checkpoint_events(1);
    let runtime = Started::new(runtime.handlers([recorder(&["orders"])]));
    ready(&runtime.health).await;
    scene.insert(0..5).await?;
    seen.count(5).await;
    let first = scene.checkpoint().await.expect("the first one");
    scene.insert(5..7).await?;
    eventually("a checkpoint gets through", async || {
        let checkpoint = scene.checkpoint().await?;
        (checkpoint.sequence > first.sequence).then_some(())
    })
    .await;
    seen.count(7).await;
    runtime.stop().await?;
    Ok(())
}

#[tokio::test]
async fn a_document_that_is_gone_does_not_end_a_resume() -> TestResult {
    let scene = Scene::new().await;
    let seen = Seen::default();
    let looked_up = || {
        let handle = async |State(seen): State<Seen>,
                            order: Option<FullDocument<Document>>,
                            change: RawChange| {
            assert!(order.is_none() || seen.ids().is_empty(), "{order:?}");
            seen.push(crate::support::Event::of(&change, 1));
            Ok::<_, HandlerError>(())
        };
        let spec = HandlerSpec::new("looked up", handle).collections(["orders"]);
        Started::new(
            scene
                .runtime(&seen)
                .handlers([spec.operations([Operation::Update])]),
        )
    };
    let update = async |n: i64| {
        let update = doc! { "$set": { "n": n } };
        let orders = scene.collection("orders");
        orders.update_one(doc! { "_id": 1_i64 }, update).await
    };
    let runtime = looked_up();
    scene.insert([1]).await?;
    update(2).await?;
    seen.count(1).await;
    runtime.stop().await?;
    update(3).await?;
    scene
        .collection("orders")
        .delete_one(doc! { "_id": 1_i64 })
        .await?;
    let runtime = looked_up();
    let events = seen.count(2).await;
    assert_eq!(events[1].n, Some(3));
    runtime.stop().await?;
    assert!(scene.dead_letters().await.is_empty());
    Ok(())
}

#[tokio::test]
async fn an_interruption_names_the_error() -> TestResult {
    let scene = Scene::own().await;
    let runtime = Started::recording(&scene, &Seen::default());
    ready(&runtime.health).await;
    fail(
        &scene.client,
        &["getMore", "aggregate"],
        "alwaysOn",
        Failure::code(216),
    )
    .await?;
    let reason = interrupted(&runtime.health).await;
    assert!(reason.contains("216"), "{reason}");
    heal(&scene.client).await?;
    ready(&runtime.health).await;
    runtime.stop().await?;
    Ok(())
}
