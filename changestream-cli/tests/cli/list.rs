use serde_json::json;

use crate::shop::{RUNTIME, SECRET, Shop, TestResult};

#[tokio::test]
async fn letters_are_listed_without_what_is_in_them() -> TestResult {
    let shop = Shop::with_letters([2, 1]).await;
    let ids = shop.letters().await;

    let listed = shop.cli(&["dead-letters", "list"]).await;
    assert_eq!(listed.code, Some(0), "{listed:?}");
    let lines: Vec<_> = listed.stdout.lines().collect();
    assert!(lines[0].starts_with("FAILED AT"), "{listed:?}");
    assert!(
        lines[1].ends_with(&ids[0]) && lines[2].ends_with(&ids[1]),
        "oldest first: {listed:?}"
    );
    let column = lines[0].find("HANDLER").ok_or("a column")?;
    assert!(
        lines[1..3]
            .iter()
            .all(|line| line[column..].starts_with("fragile ")),
        "{listed:?}"
    );
    assert_eq!(lines[3], "2 dead letters");
    assert!(!listed.says(SECRET), "{listed:?}");

    let listed = shop.cli(&["dead-letters", "list", "--json"]).await;
    assert!(!listed.says(SECRET), "{listed:?}");
    let mut json = listed.json();
    assert_eq!(json["next"], json!(null));
    let letter = json["letters"][0].as_object_mut().ok_or("a letter")?;
    let [failed_at, event_id] = ["failedAt", "eventId"].map(|field| letter.remove(field));
    assert!(
        failed_at
            .and_then(|at| at.as_str().map(|at| at.ends_with('Z')))
            .unwrap_or_default()
    );
    let event_id = event_id
        .and_then(|id| id.as_str().map(str::to_owned))
        .ok_or("an event id")?;
    assert_eq!(event_id.len(), 32);
    let namespace = format!("{}.orders", shop.database.name());
    let expected = json!({
        "id": ids[0], "runtime": RUNTIME, "handler": "fragile", "sink": null, "namespace": namespace,
        "operation": "insert", "kind": "failed", "attempts": 1, "replay": null,
    });
    assert_eq!(json["letters"][0], expected);
    Ok(())
}

#[tokio::test]
async fn lists_are_narrowed_down_and_read_in_pages() -> TestResult {
    let shop = Shop::with_letters([1, 2, 3]).await;
    let ids = shop.letters().await;
    let page = shop
        .cli(&["dead-letters", "list", "--limit", "2", "--json"])
        .await
        .json();
    assert_eq!(page["letters"].as_array().map(Vec::len), Some(2));
    assert_eq!(page["next"], json!(ids[1]));
    let page = shop
        .cli(&["dead-letters", "list", "--after", &ids[1], "--json"])
        .await
        .json();
    assert_eq!(page["letters"][0]["id"], json!(ids[2]));
    assert_eq!(page["next"], json!(null));
    let gone = shop.cli(&["dead-letters", "list", "--after", "gone"]).await;
    assert_eq!(gone.code, Some(1));
    assert!(gone.stderr.contains("`gone`, which is gone"), "{gone:?}");

    let count = async |filter: &[&str]| {
        let args = [&["dead-letters", "list", "--json"], filter].concat();
        let listed = shop.cli(&args).await.json();
        listed["letters"].as_array().map(Vec::len)
    };
    assert_eq!(
        count(&[
            "--runtime",
            RUNTIME,
            "--handler",
            "fragile",
            "--kind",
            "failed"
        ])
        .await,
        Some(3)
    );
    assert_eq!(count(&["--handler", "another"]).await, Some(0));
    assert_eq!(count(&["--sink", "http"]).await, Some(0));
    assert_eq!(count(&["--collection", "elsewhere"]).await, Some(0));
    Ok(())
}

#[tokio::test]
async fn a_letter_is_shown_whole() -> TestResult {
    let shop = Shop::with_letters([1]).await;
    let id = &shop.letters().await[0];
    let shown = shop.cli(&["dead-letters", "show", id, "--json"]).await;
    assert_eq!(shown.code, Some(0), "{shown:?}");
    let json = shown.json();
    assert_eq!(json["id"], json!(id));
    assert_eq!(json["error"], json!([format!("card {SECRET} is refused")]));
    assert_eq!(json["message"], json!(null));
    let order = json!({ "_id": 1, "card": SECRET });
    assert_eq!(
        json["event"]["fullDocument"], order,
        "relaxed Extended JSON"
    );
    let shown = shop.cli(&["dead-letters", "show", id]).await;
    assert!(
        shown.stdout.contains(&format!("id         {id}\n")),
        "{shown:?}"
    );
    assert!(
        shown.stdout.contains("\"operationType\": \"insert\""),
        "{shown:?}"
    );

    let shown = shop.cli(&["dead-letters", "show", "gone"]).await;
    assert_eq!(shown.code, Some(1));
    assert_eq!(shown.stderr, "error: there is no dead letter `gone`\n");
    Ok(())
}
