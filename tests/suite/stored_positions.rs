//! G2 and G4: a checkpoint that is damaged is reported and stays; one of other document modes loses nothing.

use changestream::{MongoCheckpoints, prelude::*};
use mongodb::bson::{Document, Timestamp, doc};

use crate::support::{Event, RUNTIME, Scene, Seen, Started, TestResult, chain};

/// A token's text of this time.
fn text(seconds: u32) -> String {
    let time = Timestamp {
        time: seconds,
        increment: 1,
    };
    format!("82{:08X}{:08X}", time.time, time.increment)
}

#[tokio::test]
async fn rubbish_in_a_checkpoint_is_reported_and_nothing_is_skipped() -> TestResult {
    let rubbish = [
        doc! { "$unset": { "token": "" } },
        doc! { "$set": { "token": {} } },
        doc! { "$set": { "token": { "_data": 5 } } },
        doc! { "$set": { "token": { "_data": "no hexadecimal" } } },
        doc! { "$set": { "token": { "_data": text(1) } } },
        doc! { "$set": { "token": ["rubbish"] } },
        doc! { "$set": { "kind": "rubbish" } },
        doc! { "$set": { "sequence": "rubbish" } },
        doc! { "$set": { "fingerprint": 5 } },
        // Of another pipeline besides, so that the token's time is what counts.
        doc! { "$set": { "fingerprint": "rubbish", "token": { "_data": "82rubbish" } } },
        doc! { "$set": { "fingerprint": "rubbish", "token": { "_data": "" } } },
        doc! { "$set": { "fingerprint": "rubbish", "token": { "_data": "8263" } } },
    ];
    let scene = Scene::new().await;
    let seen = Seen::default();
    let runtime = Started::recording(&scene, &seen);
    scene.insert([1]).await?;
    seen.all([1]).await;
    runtime.stop().await?;
    scene.insert([2]).await?;

    let checkpoints = scene.collection(MongoCheckpoints::COLLECTION);
    let of_runtime = doc! { "_id": RUNTIME };
    let good = checkpoints.find_one(of_runtime.clone()).await?;
    let good = good.expect("saved at shutdown");
    // Each start claims it in an epoch of its own.
    let stored = async || {
        let mut stored = checkpoints.find_one(of_runtime.clone()).await?;
        stored.as_mut().and_then(|stored| stored.remove("epoch"));
        Ok::<_, crate::support::BoxError>(stored)
    };
    for update in rubbish {
        checkpoints
            .update_one(of_runtime.clone(), update.clone())
            .await?;
        let damaged = stored().await?;
        let error = Started::recording(&scene, &seen).error().await;
        assert!(
            error.is_store() || error.is_stream() || error.is_history_lost(),
            "{update}: {}",
            chain(&error)
        );
        assert_eq!(stored().await?, damaged, "{update}");
        checkpoints.replace_one(of_runtime.clone(), &good).await?;
    }
    let runtime = Started::recording(&scene, &seen);
    seen.all([2]).await;
    assert_eq!(seen.ids(), [1, 2]);
    runtime.stop().await?;
    Ok(())
}

#[tokio::test]
async fn a_checkpoint_of_before_there_were_sequences_is_gone_on_from() -> TestResult {
    let scene = Scene::new().await;
    let seen = Seen::default();
    let runtime = Started::recording(&scene, &seen);
    scene.insert([1]).await?;
    seen.all([1]).await;
    runtime.stop().await?;
    scene.insert([2]).await?;
    let checkpoints = scene.collection(MongoCheckpoints::COLLECTION);
    let unsequenced = doc! { "$unset": { "sequence": "" } };
    checkpoints.update_one(doc! {}, unsequenced).await?;
    let stored = scene.checkpoint().await.expect("it is one");
    assert_eq!(stored.sequence, 0);
    let runtime = Started::recording(&scene, &seen);
    seen.all([2]).await;
    runtime.stop().await?;
    assert_eq!(seen.ids(), [1, 2]);
    let stored = scene.checkpoint().await.expect("saved at shutdown");
    assert!(stored.sequence > 0, "{}", stored.sequence);
    Ok(())
}

#[tokio::test]
async fn a_checkpoint_ahead_of_the_deployment_is_reported() -> TestResult {
    let scene = Scene::new().await;
    let seen = Seen::default();
    let runtime = Started::recording(&scene, &seen);
    scene.insert([1]).await?;
    seen.all([1]).await;
    runtime.stop().await?;
    let checkpoints = scene.collection(MongoCheckpoints::COLLECTION);
    let stored = checkpoints.find_one(doc! { "_id": RUNTIME }).await?;
    let stored = stored.expect("saved at shutdown");
    let token = stored.get_document("token")?.get_str("_data")?.to_owned();
    // The same place, far in the future: of a deployment that was restored since from a backup, say.
    let future = format!("82F0000000{}", &token[10..]);
    for fingerprint in [stored.get_str("fingerprint")?, "another"] {
        let update = doc! { "$set": { "token._data": &future, "fingerprint": fingerprint } };
        checkpoints.update_one(doc! {}, update).await?;
        let error = Started::recording(&scene, &Seen::default()).error().await;
        assert!(error.is_stream(), "{}", chain(&error));
    }
    Ok(())
}

#[tokio::test]
async fn changed_document_modes_lose_nothing() -> TestResult {
    let scene = Scene::new().await;
    let seen = Seen::default();
    let looking_up = || {
        let handle = async |State(seen): State<Seen>,
                            _: Option<FullDocument<Document>>,
                            change: RawChange| {
            seen.push(Event::of(&change, 1));
            Ok::<_, HandlerError>(())
        };
        let spec = HandlerSpec::new("record", handle).collections(["orders"]);
        Started::new(scene.runtime(&seen).handlers([spec]))
    };
    let mut ids = 0..;
    let mut written = Vec::new();
    for round in 0..4 {
        let runtime = match round % 2 {
            0 => Started::recording(&scene, &seen),
            _ => looking_up(),
        };
        let while_running: Vec<_> = ids.by_ref().take(3).collect();
        let while_stopped: Vec<_> = ids.by_ref().take(3).collect();
        scene.insert(while_running.clone()).await?;
        written.extend(while_running);
        seen.all(written.clone()).await;
        runtime.stop().await?;
        scene.insert(while_stopped.clone()).await?;
        written.extend(while_stopped);
    }
    let runtime = Started::recording(&scene, &seen);
    seen.all(written).await;
    runtime.stop().await?;
    Ok(())
}
