//! Handlers whose arguments borrow from the event.

use std::{
    borrow::Cow,
    collections::BTreeMap,
    sync::{Arc, Mutex},
};

use bson::{DateTime, RawArrayBuf, cstr, doc};
use changestream::{
    BorrowFromChange, ChangeRequest, DeadLetter, Needs, Projection, Scratch,
    prelude::*,
    testing::{
        TestRuntime,
        change::{self, ChangeBuilder},
    },
};
use serde::Deserialize;
use tokio::task::yield_now;

use crate::support::shop::Shop;

#[derive(Clone, Debug, Deserialize)]
struct Order<'a> {
    status: &'a str,
    #[serde(borrow, default)]
    note: Cow<'a, str>,
    placed: Option<DateTime>,
    #[serde(default)]
    sent: Sent,
    #[serde(borrow, default)]
    tags: BTreeMap<&'a str, &'a str>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
enum Sent {
    #[default]
    No,
    By {
        carrier: String,
    },
}

#[derive(Clone, Default)]
struct App {
    lines: Arc<Mutex<Vec<String>>>,
}

impl App {
    fn note(&self, line: impl Into<String>) {
        self.lines.lock().expect("no panic").push(line.into());
    }

    fn lines(&self) -> Vec<String> {
        self.lines.lock().expect("no panic").clone()
    }
}

fn runtime(app: &App, handlers: Vec<HandlerSpec<App>>) -> TestRuntime {
    let builder = TestRuntime::builder().state(app.clone()).handlers(handlers);
    builder.build().expect("a runtime")
}

/// The event where it is too large for the server to send whole.
fn header_only(change: ChangeBuilder) -> RawChange {
    let mut event = change.build().as_raw().to_owned();
    event.append(cstr!("omittedFields"), RawArrayBuf::new());
    RawChange::new(event.into_bytes()).expect("an event")
}

/// The extractor of the user's own.
struct Tenant<'r>(&'r str);

impl<'r> BorrowFromChange<'r> for Tenant<'r> {
    fn borrow_from_change(request: &'r ChangeRequest, _: &'r Scratch) -> Result<Self, Rejection> {
        Ok(Self(request.change().database()))
    }
}

#[on_change(coll = "orders")]
async fn borrows(
    FullDocument(order): FullDocument<Order<'_>>,
    before: Option<PreImage<Order<'_>>>,
    change: Change<Order<'_>>,
    Tenant(tenant): Tenant<'_>,
    raw: RawChange,
    State(app): State<App>,
) -> Result<(), HandlerError> {
    yield_now().await;
    let event = raw.as_raw().as_bytes().as_ptr_range();
    let note = &*order.note;
    let again = change.full_document().map_or("", |order| order.status);
    for text in [order.status, note, again, tenant]
        .into_iter()
        .chain(order.tags.into_keys())
    {
        let is_of_event = event.contains(&text.as_ptr());
        app.note(format!("{text} {is_of_event}"));
    }
    let placed = order.placed.map(DateTime::timestamp_millis);
    app.note(format!("{placed:?} {:?}", order.sent));
    if let Some(PreImage(order)) = before {
        app.note(format!(
            "was {} {}",
            order.status,
            event.contains(&order.status.as_ptr())
        ));
    }
    Ok(())
}

#[tokio::test]
async fn text_is_not_copied_and_what_is_not_plain_is_decoded_beside_it() {
    let app = App::default();
    let document = doc! {
        "status": "sent", "note": "as text", "placed": DateTime::from_millis(7),
        "sent": { "By": { "carrier": "bike" } }, "tags": { "gift": "yes" },
    };
    let change = change::replace("orders")
        .full_document(&document)
        .pre_image(&doc! { "status": "new" });
    let report = runtime(&app, handlers![borrows]).send(change).await;
    assert_eq!(report.handled(), ["borrows"]);
    let lines = [
        "sent true",
        "as text true",
        "sent true",
        "test true",
        "gift true",
        "Some(7) By { carrier: \"bike\" }",
        "was new true",
    ];
    assert_eq!(app.lines(), lines);
}

#[tokio::test]
async fn what_is_optional_and_absent_is_none() {
    let app = App::default();
    let insert = change::insert("orders").full_document(&doc! { "status": "new" });
    let report = runtime(&app, handlers![borrows]).send(insert).await;
    assert_eq!(report.handled(), ["borrows"]);
}

#[tokio::test]
async fn one_that_does_not_decode_is_a_dead_letter_that_names_the_field() {
    let app = App::default();
    let mut runtime = runtime(&app, handlers![borrows]);
    let document = doc! { "status": "new", "note": 7 };
    let report = runtime
        .send(change::insert("orders").full_document(&document))
        .await;
    assert_eq!(report.dead_lettered(), ["borrows"]);
    let letters = runtime.dead_letters();
    assert_eq!(letters[0].kind(), "rejection");
    let error = letters[0].error().join(": ");
    assert!(
        error.contains("Order<'_>` at `note` does not decode"),
        "{error}"
    );
    assert!(app.lines().is_empty());
}

#[tokio::test]
async fn one_that_lacks_its_documents_is_a_dead_letter() {
    let app = App::default();
    let mut runtime = runtime(&app, handlers![borrows, borrows_batches]);
    let report = runtime.send(header_only(change::insert("orders"))).await;
    assert_eq!(report.dead_lettered(), ["borrows", "borrows_batches"]);
    let letters = runtime.dead_letters();
    let kinds: Vec<_> = letters.iter().map(DeadLetter::kind).collect();
    assert_eq!(kinds, ["oversize", "oversize"]);
    assert!(app.lines().is_empty());
}

/// Counts how often it is made.
struct Counted;

impl FromChange<App> for Counted {
    fn from_change(request: &ChangeRequest, app: &App) -> Result<Self, Rejection> {
        app.note("counted");
        match request.change().database() {
            "other" => Err(Rejection::new("not ours")),
            _ => Ok(Self),
        }
    }
}

#[on_change(coll = "orders", db = "other")]
async fn counts(
    _: Counted,
    FullDocument(_order): FullDocument<Order<'_>>,
    _: Counted,
    State(_app): State<App>,
) -> Result<(), HandlerError> {
    Ok(())
}

#[tokio::test]
async fn what_is_owned_is_taken_until_one_is_rejected_and_not_where_the_documents_are_missing() {
    let app = App::default();
    let mut runtime = runtime(&app, handlers![counts]);
    let change = change::insert("orders").database("other");
    runtime.send(header_only(change.clone())).await;
    assert!(app.lines().is_empty());
    runtime.send(change).await;
    assert_eq!(app.lines(), ["counted"]);
    let letters = runtime.dead_letters();
    let kinds: Vec<_> = letters.iter().map(DeadLetter::kind).collect();
    assert_eq!(kinds, ["oversize", "rejection"]);
}

#[on_change(coll = "orders", retries = 2, backoff = "1ms")]
async fn fails_once(
    FullDocument(order): FullDocument<Order<'_>>,
    attempt: Attempt,
    State(app): State<App>,
) -> Result<(), HandlerError> {
    app.note(format!("{} {}", attempt.0, order.status));
    match attempt {
        Attempt(1) => Err(HandlerError::retry("not yet")),
        _ => Ok(()),
    }
}

#[tokio::test(start_paused = true)]
async fn each_attempt_borrows_anew() {
    let app = App::default();
    let change = change::insert("orders").full_document(&doc! { "status": "new" });
    let report = runtime(&app, handlers![fails_once]).send(change).await;
    assert_eq!(report.handled(), ["fails_once"]);
    assert_eq!(app.lines(), ["1 new", "2 new"]);
}

#[on_change(coll = "orders", batch(max = 10, within = "1s"))]
async fn borrows_batches(
    State(app): State<App>,
    orders: Vec<Change<Order<'_>>>,
    _attempt: Attempt,
) -> Result<(), HandlerError> {
    yield_now().await;
    for change in &orders {
        let event = change.raw().as_raw().as_bytes().as_ptr_range();
        let status = change.full_document().map_or("", |order| order.status);
        app.note(format!("{status} {}", event.contains(&status.as_ptr())));
    }
    Ok(())
}

#[tokio::test]
async fn the_items_of_a_batch_borrow_and_one_that_does_not_decode_is_left_out() {
    let app = App::default();
    let mut runtime = runtime(&app, handlers![borrows_batches]);
    let documents = [
        doc! { "status": "new" },
        doc! { "status": 7 },
        doc! { "status": "sent" },
    ];
    let changes = documents
        .iter()
        .map(|document| change::insert("orders").full_document(document));
    runtime.send_all(changes).await;
    assert_eq!(app.lines(), ["new true", "sent true"]);
    let letters = runtime.dead_letters();
    assert_eq!(letters.len(), 1);
    let error = letters[0].error().join(": ");
    assert!(error.contains("at `status` does not decode"), "{error}");
}

#[on_change(coll = "orders")]
async fn takes_full_documents(
    _: FullDocument<Order<'_>>,
    _: State<App>,
) -> Result<(), HandlerError> {
    Ok(())
}

#[on_change(coll = "orders", batch(max = 10, within = "1s"))]
async fn takes_optional_images(
    _: Vec<Option<PreImage<Order<'_>>>>,
    _: State<App>,
) -> Result<(), HandlerError> {
    Ok(())
}

#[test]
fn a_signature_that_borrows_asks_of_the_server_what_an_owned_one_does() {
    let needs = |spec: HandlerSpec<App>| spec.needs();
    let [documents, images] = [
        needs(takes_full_documents::spec()),
        needs(takes_optional_images::spec()),
    ];
    assert_eq!(documents, <FullDocument<Sent> as FromChange<()>>::NEEDS);
    assert_eq!(images, <Option<PreImage<Sent>> as FromChange<()>>::NEEDS);
    assert_ne!(documents, Needs::NONE);
}

#[derive(Debug, Deserialize)]
struct Status<'a> {
    status: &'a str,
}

#[on_change(coll = "orders", op = "insert")]
async fn notes_fields(
    change: Change<Status<'_>>,
    State(app): State<App>,
) -> Result<(), HandlerError> {
    let document = change.raw().full_document();
    let status = change.full_document().map(|order| order.status);
    let names = document.into_iter().flatten();
    let names: Vec<_> = names.map(|field| field.expect("BSON").0.as_str()).collect();
    app.note(format!("{status:?} {names:?}"));
    Ok(())
}

#[on_change(coll = "orders", op = "insert", batch(max = 1, within = "1s"))]
async fn notes_fields_of_batches(
    changes: Vec<Change<Status<'_>>>,
    State(app): State<App>,
) -> Result<(), HandlerError> {
    for change in changes {
        let document = change.raw().full_document();
        app.note(format!(
            "{:?}",
            document.map(|document| document.iter().count())
        ));
    }
    Ok(())
}

#[tokio::test]
async fn the_server_sends_the_fields_of_a_type_that_borrows_and_no_others() {
    let shop = Shop::open().await;
    let app = App::default();
    let runtime = shop
        .runtime()
        .projection(Projection::Fields)
        .state(app.clone())
        .handlers(handlers![notes_fields, notes_fields_of_batches]);
    let insert = shop.insert(doc! { "_id": 1, "status": "new", "total": 9.5 });
    let letters = shop.run(runtime, insert).await;
    assert!(letters.is_empty(), "{letters:?}");
    let mut lines = app.lines();
    lines.sort();
    let expected = [
        "Some(\"\") [\"status\"]",
        "Some(\"new\") [\"status\"]",
        "Some(1)",
        "Some(1)",
    ];
    assert_eq!(lines, expected);
}
