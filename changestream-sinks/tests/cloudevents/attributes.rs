//! What the attributes are made of.

use bson::Document;
use changestream_core::{
    HandlerError, Message, RawChange, SinkSpec,
    testing::{RecordingSink, change},
};
use changestream_sinks::CloudEvents;
use serde_json::{Value, json};

use crate::{KEY, runtime, sent, update};

fn event(message: &Message) -> Value {
    message.parse_json().expect("JSON")
}

#[tokio::test]
async fn source_and_type_are_what_is_set() {
    let events = CloudEvents::structured()
        .source("https://shop.example/orders?of=all#a")
        .and_then(|events| {
            events.event_type("example.{collection}.{full_document.status | operation}")
        })
        .expect("valid");
    let stored = change::insert("orders").full_document(&bson::doc! { "status": "paid" });
    for (change, ty) in [
        (stored, "example.orders.paid"),
        (update(), "example.orders.update"),
    ] {
        let message = sent(events.clone(), change, Message::new("m", "text/plain")).await;
        assert_eq!(
            event(&message)["source"],
            "https://shop.example/orders?of=all#a"
        );
        assert_eq!(event(&message)["type"], ty);
    }
}

#[tokio::test]
async fn what_an_event_lacks_is_no_attribute() {
    let raw = bson::rawdoc! { "_id": { "_data": "82" }, "operationType": "dropDatabase", "ns": { "db": "test" } };
    let dropped = RawChange::new(raw.into_bytes()).expect("an event");
    let message = Message::new("m", "text/plain").key("");
    let sent = sent(CloudEvents::structured(), dropped.clone(), message).await;
    let expected = json!({
        "specversion": "1.0",
        "id": format!("{}/changed/0", dropped.event_id()),
        "source": "/changestream/shop%20%C3%A9%20%22%25%22",
        "type": "test.dropDatabase",
        "datacontenttype": "text/plain",
        "data": "m",
    });
    assert_eq!(event(&sent), expected);
}

/// As servers older than 6.0 have it.
#[tokio::test]
async fn without_a_wall_time_it_is_the_cluster_time() {
    let mut event_of_4_4 = Document::try_from(update().build().as_raw()).expect("BSON");
    event_of_4_4.remove("wallTime").expect("a wall time");
    let bytes = bson::serialize_to_vec(&event_of_4_4).expect("BSON");
    let change = RawChange::new(bytes).expect("an event");
    let message = sent(
        CloudEvents::structured(),
        change,
        Message::new("m", "text/plain"),
    )
    .await;
    assert_eq!(event(&message)["time"], "2026-01-02T03:04:05Z");
}

#[tokio::test]
async fn json_stays_as_it_is() {
    let payload =
        r#"{ "z": 123456789012345678901234567890, "a": 0.10000000000000000001, "z": "\u00eb" }"#;
    let message = Message::new(payload, "application/json");
    let sent = sent(CloudEvents::structured(), update(), message).await;
    let text = std::str::from_utf8(sent.payload()).expect("UTF-8");
    assert!(text.contains(&format!(r#""data":{payload}"#)), "{text}");
    assert_eq!(sent.content_type(), "application/cloudevents+json");
}

#[tokio::test]
async fn key_and_headers_of_a_message_stay() {
    for events in [
        CloudEvents::structured(),
        CloudEvents::http_binary(),
        CloudEvents::kafka_binary(),
        CloudEvents::nats_binary(),
    ] {
        let message = Message::new("m", "text/plain")
            .key(KEY)
            .header("X-Tenant", "Zo\u{eb}");
        let sent = sent(events, update(), message).await;
        assert_eq!(sent.get_key(), Some(KEY));
        assert_eq!(sent.headers()["X-Tenant"], "Zo\u{eb}");
    }
}

#[tokio::test]
async fn an_event_that_comes_again_is_the_same() {
    for events in [CloudEvents::structured(), CloudEvents::kafka_binary()] {
        let sink = RecordingSink::default();
        let message = Message::new("m", "text/plain").key(KEY);
        let runtime = runtime(events.around(sink.clone()), message);
        let mut runtime = runtime.build().expect("a runtime");
        let change = update().build();
        runtime.send(change.clone()).await;
        runtime.send(change).await;
        let deliveries = sink.deliveries();
        assert_eq!(deliveries.len(), 2);
        assert_eq!(deliveries[0].message(), deliveries[1].message());
    }
}

#[tokio::test(start_paused = true)]
async fn the_sinks_own_error_comes_through() {
    let sink = tower::service_fn(|_| async { Err::<(), _>(HandlerError::reject("full")) });
    let sink = CloudEvents::structured().around(SinkSpec::new(sink));
    let error = crate::send(sink, update(), Message::new("m", "text/plain")).await;
    assert_eq!(error, Err(vec!["full".to_owned()]));
}

/// What is set before sees the handler's message, what is set later the event's.
#[tokio::test]
async fn a_sinks_own_shape_is_the_data() {
    let (sink, later) = (RecordingSink::default(), RecordingSink::default());
    let shaped = SinkSpec::new(sink.clone()).map(|_| Ok(Some(Message::json(&"shaped")?)));
    let shaped = CloudEvents::structured().around(shaped);
    crate::send(shaped, update(), Message::new("m", "text/plain"))
        .await
        .expect("delivered");
    assert_eq!(event(sink.deliveries()[0].message())["data"], "shaped");

    let seen_later = CloudEvents::structured()
        .around(later.clone())
        .map(|delivery| {
            let event: Value = delivery.message().parse_json()?;
            Ok(Some(Message::json(&event["data"])?))
        });
    crate::send(seen_later, update(), Message::new("m", "text/plain"))
        .await
        .expect("delivered");
    assert_eq!(&later.deliveries()[0].message().payload()[..], br#""m""#);
}
