//! CloudEvents of a real server's changes.

use std::time::{Duration, SystemTime};

use changestream::{
    CloudEvents, StartAt,
    bson::{Document, doc},
    prelude::*,
    testing::RecordingSink,
};

use crate::support::shop::Shop;

/// The handler takes no document; the event's type does.
#[tokio::test]
async fn the_server_is_asked_for_what_the_type_takes_of_documents() {
    let shop = Shop::open().await;
    let from = StartAt::OperationTime(shop.now().await);
    shop.insert(doc! { "_id": 1, "kind": "gift", "status": "created" })
        .await;
    shop.update(1, doc! { "$set": { "status": "paid" } }).await;
    let sink = RecordingSink::default();
    let events = CloudEvents::structured()
        .event_type("shop.{full_document.kind | \"sentinel\"}.{operation}")
        .expect("a template");
    let spec = HandlerSpec::new("changed", |id: EventId| async move {
        Ok::<_, HandlerError>(id.to_string())
    })
    .collections(["orders"])
    .to(["events"]);
    let runtime = shop
        .runtime()
        .sink("events", events.around(sink.clone()))
        .handler(spec);
    let letters = shop.run_from(from, runtime, async {}).await;
    assert!(letters.is_empty(), "{letters:?}");

    let events: Vec<Document> = sink
        .deliveries()
        .iter()
        .map(|delivery| delivery.message().parse_json().expect("JSON"))
        .collect();
    let types = events
        .iter()
        .map(|event| event.get_str("type").expect("a type"));
    let mut types: Vec<_> = types.filter(|ty| !ty.contains("sentinel")).collect();
    types.sort_unstable();
    assert_eq!(types, ["shop.gift.insert", "shop.gift.update"]);
    for event in &events {
        let time = event.get_str("time").expect("a time");
        let time = bson::DateTime::parse_rfc3339_str(time).expect("RFC 3339");
        let since = SystemTime::now().duration_since(time.to_system_time());
        assert!(since.is_ok_and(|since| since < Duration::from_secs(60)));
    }
}
