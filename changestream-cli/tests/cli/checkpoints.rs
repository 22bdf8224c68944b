use bson::{Document, doc};
use changestream_core::MongoCheckpoints;
use serde_json::json;

use crate::shop::{PATIENCE, RUNTIME, Shop, TestResult, run_on_terminal};

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
        (
            Some(0),
            json!({ "reset": RUNTIME, "checkpoints": [RUNTIME] })
        )
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

#[tokio::test]
async fn a_reset_takes_the_partitions_too() -> TestResult {
    const PARTITIONS: u32 = 3;
    let shop = Shop::open().await;
    let runtime = shop.run_partitioned("fragile", PARTITIONS);
    // All of them come to it.
    let orders = shop.database.collection::<Document>("orders");
    orders.insert_one(doc! { "_id": 1 }).await?;
    let names: Vec<_> = [RUNTIME.to_owned()]
        .into_iter()
        .chain((0..PARTITIONS).map(|index| format!("{RUNTIME}/{index}")))
        .collect();
    let listed = async || -> Vec<String> {
        let listed = shop.cli(&["checkpoints", "list", "--json"]).await.json();
        let listed = listed["checkpoints"].as_array().expect("a list");
        let names = listed.iter().map(|listed| listed["runtime"].as_str());
        names.map(|name| name.expect("a name").to_owned()).collect()
    };
    let all = async {
        while listed().await != names {
            tokio::time::sleep(std::time::Duration::from_millis(100)).await;
        }
    };
    tokio::time::timeout(PATIENCE, all).await?;
    runtime.stop().await?;
    // Neither is a partition of it.
    let checkpoints = shop
        .database
        .collection::<Document>(MongoCheckpoints::COLLECTION);
    let stored = checkpoints.find_one(doc! { "_id": &names[1] }).await?;
    let stored = stored.ok_or("saved at shutdown")?;
    for other in ["shop/replica/0", "shop0"] {
        let mut other_ones = stored.clone();
        other_ones.insert("_id", other);
        checkpoints.insert_one(other_ones).await?;
    }

    let part = ["checkpoints", "reset", &names[1], "--yes"];
    let refused = shop.cli(&part).await;
    assert_eq!(refused.code, Some(1), "{refused:?}");
    assert!(
        refused.stderr.contains("checkpoints reset shop"),
        "{refused:?}"
    );
    let reset = ["checkpoints", "reset", RUNTIME];
    let declined = run_on_terminal(shop.command(&reset), "n\n").await;
    assert!(
        declined.stderr.contains("and of its 3 partitions"),
        "{declined:?}"
    );
    let ran = shop.cli(&["checkpoints", "reset", RUNTIME, "--yes"]).await;
    assert_eq!(ran.code, Some(0), "{ran:?}");
    for name in &names {
        assert!(ran.stdout.contains(&format!("`{name}`")), "{ran:?}");
    }
    assert_eq!(listed().await, ["shop/replica/0", "shop0"]);
    Ok(())
}
