//! The state, extractors of the user's own, and what happens to an event that one refuses.

use std::{
    future::ready,
    sync::{Arc, Mutex},
};

use bson::doc;
use changestream::{ChangeRequest, prelude::*};
use serde::{Deserialize, Serialize};

use crate::support::shop::Shop;

#[derive(Debug, PartialEq, Deserialize)]
struct Order {
    status: String,
}

#[derive(Clone, Default)]
struct App {
    lines: Arc<Mutex<Vec<String>>>,
}

/// An extractor of the user's own: the last name of the namespace.
struct Topic(String);

impl<S> FromChange<S> for Topic {
    fn from_change(request: &ChangeRequest, _state: &S) -> Result<Self, Rejection> {
        let topic = request.change().collection();
        let topic = topic.ok_or_else(|| Rejection::absent("it is of no collection"))?;
        match topic.contains("secret") {
            true => Err(Rejection::new("it is not for us")),
            false => Ok(Self(topic.to_owned())),
        }
    }
}

#[derive(Serialize)]
struct Line(String);

#[on_change(op = ["insert", "drop_database"])]
async fn note(
    topic: Option<Topic>,
    operation: Operation,
    State(app): State<App>,
) -> Result<Line, HandlerError> {
    let topic = topic.map_or("-".to_owned(), |Topic(name)| name);
    let line = format!("{operation} {topic}");
    app.lines.lock().expect("no panic").push(line.clone());
    Ok(Line(line))
}

#[tokio::test]
async fn state_and_extractors_of_ones_own_work_behind_the_attribute() {
    let shop = Shop::open().await;
    let app = App::default();
    let runtime = shop.runtime().state(app.clone()).handlers(handlers![note]);
    let during = async {
        shop.insert(doc! { "_id": 1 }).await;
        let secret = shop.database.collection("secrets");
        secret.insert_one(doc! {}).await.expect("an insert");
        shop.database.drop().await.expect("a drop");
    };
    let letters = shop.run(runtime, during).await;
    let lines = app.lines.lock().expect("no panic");
    assert_eq!(*lines, ["insert orders", "dropDatabase -", "insert orders"]);
    let [letter] = letters.as_slice() else {
        panic!("{letters:?}")
    };
    assert_eq!((letter.kind(), letter.attempts()), ("rejection", 1));
    assert_eq!(
        letter.error(),
        ["it is not for us"],
        "a refusal is not `None`"
    );
}

/// The document survives as it is, and so does its place in the stream.
#[tokio::test]
async fn a_document_that_does_not_decode_is_kept_whole_and_the_stream_goes_on() {
    let shop = Shop::open().await;
    let seen = Arc::new(Mutex::new(Vec::new()));
    let keep = Arc::clone(&seen);
    let decodes = HandlerSpec::new(
        "decodes",
        move |FullDocument(order): FullDocument<Order>| {
            keep.lock().expect("no panic").push(order);
            ready(Ok::<(), HandlerError>(()))
        },
    );
    let raw = Arc::new(Mutex::new(None));
    let keep = Arc::clone(&raw);
    let sees_raw = HandlerSpec::new("sees raw", move |change: RawChange| {
        keep.lock().expect("no panic").get_or_insert(change);
        ready(Ok::<(), HandlerError>(()))
    });
    let updates =
        |spec: HandlerSpec<()>| spec.collections(["orders"]).operations([Operation::Update]);
    for id in [1, 2] {
        shop.insert(doc! { "_id": id, "status": "new" }).await;
    }
    let during = async {
        shop.update(1, doc! { "$set": { "status": 7 } }).await;
        shop.update(2, doc! { "$set": { "status": "paid" } }).await;
    };
    let runtime = shop
        .runtime()
        .handlers([updates(decodes), updates(sees_raw)]);
    let letters = shop.run(runtime, during).await;
    assert_eq!(
        *seen.lock().expect("no panic"),
        [Order {
            status: "paid".into()
        }]
    );
    let [letter] = letters.as_slice() else {
        panic!("{letters:?}")
    };
    let raw = raw.lock().expect("no panic").take().expect("the event");
    assert_eq!(letter.change(), raw.as_raw());
    assert_eq!(letter.token(), raw.raw_token());
    assert_eq!(letter.event_id(), raw.event_id().to_string());
    assert_eq!(
        (letter.handler(), letter.kind(), letter.attempts()),
        ("decodes", "rejection", 1)
    );
    assert!(
        letter.error()[0].contains("does not decode"),
        "{:?}",
        letter.error()
    );
}
