//! What a sink refuses to be, and what it shows of itself.

use bson::Document;
use changestream_sinks::MongoSink;
use mongodb::{Client, Collection, options::ClientOptions};

async fn collection() -> Collection<Document> {
    let uri = "mongodb://user:secret@localhost:1/";
    let options = ClientOptions::parse(uri).await.expect("options");
    let client = Client::with_options(options).expect("a client");
    client.database("shop").collection("view")
}

#[tokio::test]
async fn what_cannot_be_is_refused_when_it_is_made() {
    let view = collection().await;
    let upsert = || MongoSink::upsert(&view);
    for (refused, expected) in [
        (
            upsert().id("a:{key"),
            "the template `a:{key`: a `{` has no partner",
        ),
        (
            upsert().batch(0),
            "the sink to `shop.view` has batches of 0 messages",
        ),
        (
            MongoSink::insert(&view).versioned(),
            "the sink to `shop.view` is versioned",
        ),
        (
            MongoSink::merge(&view).versioned(),
            "the sink to `shop.view` is versioned",
        ),
    ] {
        let error = refused.expect_err(expected);
        assert!(error.is_configuration(), "{error}");
        assert!(error.to_string().starts_with(expected), "{error}");
    }
}

#[tokio::test]
async fn it_shows_where_it_writes_and_no_secret() {
    let sink = MongoSink::upsert(&collection().await).id("{key}");
    let shown = format!("{:?}", sink.expect("a sink"));
    assert!(shown.contains("\"shop.view\""), "{shown}");
    assert!(!shown.contains("secret"), "{shown}");
}
