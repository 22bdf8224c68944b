use bson::{Document, doc};
use changestream_core::MongoCheckpoints;
use serde_json::json;

use crate::shop::{RUNTIME, Shop, TestResult, run_on_terminal};

#[tokio::test]
async fn checkpoints_are_listed_and_shown() -> TestResult {
    let shop = Shop::with_letters([1]).await;
    let checkpoints = shop
        .database
        .collection::<Document>(MongoCheckpoints::COLLECTION);
    checkpoints
        .insert_one(doc! { "_id": "torn", "kind": 7 })
        .await?;

    let listed = shop.cli(&["checkpoints", "list", "--json"]).await;
    assert_eq!(listed.code, Some(0), "{listed:?}");
    let json = listed.json();
    let [good, torn] = [&json["checkpoints"][0], &json["checkpoints"][1]];
    assert_eq!(good["runtime"], json!(RUNTIME));
    let kind = good["kind"].as_str().ok_or("a kind")?;
    assert!(["resumeAfter", "startAfter"].contains(&kind), "{kind}");
    assert!(
        good["savedAt"].is_string() && good["streamTime"].is_string(),
        "{good}"
    );
    assert!(
        good["sequence"].is_i64() && good["fingerprint"].is_string(),
        "{good}"
    );
    assert_eq!(good["error"], json!(null));
    assert_eq!(torn["runtime"], json!("torn"));
    assert!(torn["error"].is_string(), "{torn}");
    assert!(
        !listed.says("_data"),
        "a token holds a document's key: {listed:?}"
    );

    let listed = shop.cli(&["checkpoints", "list"]).await;
    let lines: Vec<_> = listed.stdout.lines().collect();
    assert!(lines[0].starts_with("RUNTIME  KIND"), "{listed:?}");
    assert!(
        lines[1].starts_with(&format!("shop     {kind}")),
        "{listed:?}"
    );
    assert!(lines[2].starts_with("torn     unreadable"), "{listed:?}");

    let shown = shop
        .cli(&["checkpoints", "show", RUNTIME, "--json"])
        .await
        .json();
    assert!(shown["token"]["_data"].is_string(), "{shown}");
    let shown = shop.cli(&["checkpoints", "show", "another"]).await;
    assert_eq!(shown.code, Some(1));
    assert!(
        shown
            .stderr
            .contains("no checkpoint of a runtime `another`"),
        "{shown:?}"
    );
    Ok(())
}

#[tokio::test]
async fn a_reset_says_what_it_means_and_asks() -> TestResult {
    let shop = Shop::with_letters([1]).await;
    let count = async || {
        let stored = shop
            .database
            .collection::<Document>(MongoCheckpoints::COLLECTION);
        stored
            .count_documents(doc! { "kind": { "$exists": true } })
            .await
    };
    let reset = ["checkpoints", "reset", RUNTIME];
    let refused = shop.cli(&reset).await;
    assert_eq!(refused.code, Some(2), "{refused:?}");
    assert!(
        refused
            .stderr
            .contains("events between the checkpoint and then are not handled"),
        "{refused:?}"
    );
    let declined = run_on_terminal(shop.command(&reset), "n\n").await;
    assert_eq!(declined.code, Some(1), "{declined:?}");
    assert!(
        declined.stderr.contains("must not be running"),
        "{declined:?}"
    );
    assert_eq!(count().await?, 1);

    let ran = shop
        .cli(&["checkpoints", "reset", RUNTIME, "--yes", "--json"])
        .await;
    assert_eq!(
        (ran.code, ran.json()),
        (Some(0), json!({ "reset": RUNTIME }))
    );
    assert_eq!(count().await?, 0);
    let ran = shop.cli(&["checkpoints", "reset", RUNTIME, "--yes"]).await;
    assert_eq!(ran.code, Some(1));

    // The runtime starts anew: at the time that its code says.
    let runtime = shop.run("fragile");
    let again = async {
        while shop.seen() != [1, 1] {
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(60), again).await?;
    runtime.stop().await
}
