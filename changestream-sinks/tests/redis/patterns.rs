//! Keys that match a pattern.

use bson::doc;
use changestream_core::{
    Delivery, Disposition, Message,
    testing::{change, delivery_of},
};

use crate::{Redis, assert_error, of, send, service};

async fn fill(redis: &Redis, prefix: &str, count: usize) {
    let pairs = (0..count).map(|n| format!("{prefix}{n} 1"));
    let _: () = redis
        .ask(&format!("MSET {}", pairs.collect::<Vec<_>>().join(" ")))
        .await;
}

fn in_category(category: &str) -> Delivery {
    let document = doc! { "_id": 1, "category": category };
    delivery_of(
        change::insert("products").id(1).full_document(&document),
        Message::new("m", "text/plain"),
    )
}

#[tokio::test]
async fn all_that_match_are_removed_and_nothing_else() {
    let redis = Redis::start().await;
    fill(&redis, "products:search:", 3000).await;
    fill(&redis, "products:", 2000).await;
    let sink = redis.sink().unlink_matching("products:search:*").unwrap();
    send(&service(sink), of(1, "m")).await.unwrap();
    assert_eq!(redis.ask::<usize>("DBSIZE").await, 2000);
}

#[tokio::test]
async fn values_stand_for_themselves() {
    let redis = Redis::start().await;
    let _: () = redis
        .ask(r"MSET c:*:1 1 c:toys:1 2 c:[a-z]:1 3 c:a:1 4 c:?:1 5 c:\*:1 6 c:^:1 7")
        .await;
    let sink = redis
        .sink()
        .unlink_matching("c:{full_document.category}:?")
        .unwrap();
    let sink = service(sink);
    for (category, key) in [
        ("*", "c:*:1"),
        ("[a-z]", "c:[a-z]:1"),
        ("?", "c:?:1"),
        (r"\*", r"c:\*:1"),
        ("^", "c:^:1"),
    ] {
        let before = redis.keys().await;
        send(&sink, in_category(category)).await.unwrap();
        let left: Vec<_> = before.into_iter().filter(|other| other != key).collect();
        assert_eq!(redis.keys().await, left, "{category}");
    }
    assert_eq!(redis.keys().await, ["c:a:1", "c:toys:1"]);
}

#[tokio::test]
async fn more_than_a_message_may_remove_is_a_rejection_and_not_the_end_of_the_rest() {
    let redis = Redis::start().await;
    fill(&redis, "a:", 700).await;
    fill(&redis, "b:", 600).await;
    let sink = redis.sink().max_matches(1000);
    let sink = sink
        .unlink_matching("a:*")
        .unwrap()
        .unlink_matching("b:*")
        .unwrap();
    let sink = service(sink.set("done").unwrap());
    let result = send(&sink, of(1, "m")).await;
    let message = format!(
        "more than 1000 keys of `{}` match; so many were removed, and the others are still there",
        redis.server.addr()
    );
    assert_error(result, Disposition::Reject, &message);
    assert_eq!(redis.ask::<usize>("DBSIZE").await, 301);
    assert_eq!(redis.ask::<String>("GET done").await, "m");
    // As its dead letter, replayed.
    send(&sink, of(1, "m")).await.unwrap();
    assert_eq!(redis.keys().await, ["done"]);

    fill(&redis, "a:", 1000).await;
    send(&sink, of(1, "m")).await.unwrap();
    assert_eq!(redis.keys().await, ["done"]);
}
