use serde_json::json;

use crate::shop::{RUNTIME, Shop, TestResult};

#[tokio::test]
async fn a_running_runtime_replays_what_it_is_asked_for_and_reports_back() -> TestResult {
    let shop = Shop::with_letters([3, 13, 2, 1]).await;
    let ids = shop.letters().await;
    shop.mend();
    let runtime = shop.run("fragile");
    let ran = shop
        .cli(&["dead-letters", "replay", "--runtime", RUNTIME, "--all"])
        .await;
    runtime.stop().await?;
    assert_eq!(ran.code, Some(1), "one of them failed again: {ran:?}");
    let expected = [
        format!("replayed      {}", ids[0]),
        format!(
            "failed again  {}: failed, attempts: 1: still broken, 1",
            ids[1]
        ),
        format!("replayed      {}", ids[2]),
        format!("replayed      {}", ids[3]),
        "3 replayed, 1 failed again".to_owned(),
    ];
    assert_eq!(ran.stdout.lines().collect::<Vec<_>>(), expected);
    assert_eq!(
        shop.seen(),
        [3, 13, 2, 1, 3, 13, 2, 1],
        "in the order of the stream"
    );
    assert_eq!(shop.letters().await, [ids[1].clone()]);
    Ok(())
}

#[tokio::test]
async fn letters_named_by_id_are_replayed_oldest_first_and_reported_as_json() -> TestResult {
    let shop = Shop::with_letters([1, 2, 3]).await;
    let ids = shop.letters().await;
    shop.mend();
    let runtime = shop.run("fragile");
    let ran = shop
        .cli(&["dead-letters", "replay", &ids[2], &ids[0], "--json"])
        .await;
    runtime.stop().await?;
    assert_eq!(ran.code, Some(0), "{ran:?}");
    let of = |id: &str| json!({ "id": id, "outcome": "replayed", "kind": null, "attempts": null, "error": [] });
    let expected = json!({
        "replayed": 2, "failed": 0, "refused": 0, "missing": 0,
        "letters": [of(&ids[0]), of(&ids[2])], "error": null,
    });
    assert_eq!(ran.json(), expected);
    assert_eq!(shop.letters().await, [ids[1].clone()]);
    Ok(())
}

#[tokio::test]
async fn a_handler_that_is_gone_and_a_letter_that_is_gone_are_reported() -> TestResult {
    let shop = Shop::with_letters([1]).await;
    let ids = shop.letters().await;
    let runtime = shop.run("renamed");
    let ran = shop.cli(&["dead-letters", "replay", &ids[0], "gone"]).await;
    runtime.stop().await?;
    assert_eq!(ran.code, Some(1), "{ran:?}");
    assert!(ran.stdout.contains("not there     gone\n"), "{ran:?}");
    let refused = format!(
        "refused       {}: runtime `shop` has no handler named `fragile`\n",
        ids[0]
    );
    assert!(ran.stdout.contains(&refused), "{ran:?}");
    assert_eq!(shop.letters().await, ids);
    Ok(())
}

#[tokio::test]
async fn nobody_to_replay_is_said_and_nothing_is_left_asked_for() -> TestResult {
    let shop = Shop::with_letters([1, 2]).await;
    let ids = shop.letters().await;
    let ran = shop
        .cli(&["dead-letters", "replay", "--all", "--timeout", "1"])
        .await;
    assert_eq!(ran.code, Some(1), "{ran:?}");
    assert!(
        ran.stderr
            .starts_with("error: no runtime named `shop` is running"),
        "{ran:?}"
    );
    assert!(ran.stderr.contains("within 1s. It is withdrawn"), "{ran:?}");
    assert_eq!(ran.stdout, "0 replayed\n");
    let listed = shop.cli(&["dead-letters", "list", "--json"]).await.json();
    assert_eq!(listed["letters"][0]["replay"], json!(null));
    assert_eq!(listed["letters"][1]["replay"], json!(null));

    let ran = shop
        .cli(&[
            "dead-letters",
            "replay",
            &ids[0],
            "--timeout",
            "1",
            "--json",
        ])
        .await;
    let error = ran.json()["error"]
        .as_str()
        .map(str::to_owned)
        .ok_or("an error")?;
    assert!(error.starts_with("no runtime named"), "{error}");
    Ok(())
}
