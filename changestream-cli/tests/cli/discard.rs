use std::process::Stdio;

use bson::{Document, doc};
use changestream_core::MongoDeadLetters;
use serde_json::json;

use crate::shop::{Shop, TestResult, run, run_on_terminal};

#[tokio::test]
async fn without_a_terminal_nothing_is_discarded_unless_it_is_confirmed() -> TestResult {
    let shop = Shop::with_letters([1, 2]).await;
    let ids = shop.letters().await;
    let refused = shop.cli(&["dead-letters", "discard", "--all"]).await;
    assert_eq!(refused.code, Some(2), "{refused:?}");
    assert!(
        refused
            .stderr
            .contains("there is no terminal to ask on; --yes"),
        "{refused:?}"
    );
    // An answer that is piped in is none.
    let mut piped = shop.command(&["dead-letters", "discard", "--all"]);
    piped.stdin(Stdio::piped());
    assert_eq!(run(piped).await.code, Some(2));
    assert_eq!(shop.letters().await, ids);

    let ran = shop
        .cli(&[
            "dead-letters",
            "discard",
            &ids[0],
            "gone",
            "--yes",
            "--json",
        ])
        .await;
    assert_eq!(ran.code, Some(1), "one is not there: {ran:?}");
    assert_eq!(
        ran.json(),
        json!({ "discarded": [ids[0]], "kept": [], "missing": ["gone"] })
    );
    assert_eq!(shop.letters().await, [ids[1].clone()]);
    let ran = shop
        .cli(&["dead-letters", "discard", "--handler", "fragile", "-y"])
        .await;
    assert_eq!(ran.code, Some(0), "{ran:?}");
    assert_eq!(
        ran.stdout,
        format!("discarded  {}\n1 dead letter discarded\n", ids[1])
    );
    assert!(shop.letters().await.is_empty());
    Ok(())
}

#[tokio::test]
async fn on_a_terminal_it_asks_and_takes_no_for_an_answer() -> TestResult {
    let shop = Shop::with_letters([1, 2]).await;
    let ids = shop.letters().await;
    let discard = || shop.command(&["dead-letters", "discard", "--all"]);
    for answer in ["n\n", "\n", "nay\n"] {
        let ran = run_on_terminal(discard(), answer).await;
        assert_eq!(ran.code, Some(1), "{ran:?}");
        assert!(ran.stderr.starts_with("Discard 2 dead letters?"), "{ran:?}");
        assert!(
            ran.stderr.ends_with("error: nothing was discarded\n"),
            "{ran:?}"
        );
        assert_eq!(shop.letters().await, ids);
    }
    let ran = run_on_terminal(discard(), "y\n").await;
    assert_eq!(ran.code, Some(0), "{ran:?}");
    assert!(shop.letters().await.is_empty());
    Ok(())
}

#[tokio::test]
async fn a_letter_that_waits_for_its_replay_is_kept() -> TestResult {
    let shop = Shop::with_letters([1]).await;
    let ids = shop.letters().await;
    let letters = shop
        .database
        .collection::<Document>(MongoDeadLetters::COLLECTION);
    let requested = doc! { "$currentDate": { "replay.requestedAt": true } };
    letters.update_one(doc! {}, requested).await?;
    let ran = shop
        .cli(&["dead-letters", "discard", "--all", "--yes"])
        .await;
    assert_eq!(ran.code, Some(1), "{ran:?}");
    assert!(
        ran.stdout
            .contains(&format!("kept       {}: it waits for a replay", ids[0])),
        "{ran:?}"
    );
    assert_eq!(shop.letters().await, ids);
    Ok(())
}
