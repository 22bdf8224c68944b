//! The engine and its parts, each by itself and on one core.
//!
//! `cargo bench --bench parts --all-features` prints time and allocations of a thousand events, `benches/instructions` the
//! instructions of one, which are the same whatever else the machine does.

mod events;

use std::{cell::Cell, hint::black_box};

use changestream::{
    FieldPath, Filter, RawChange,
    prelude::*,
    testing::{TestRuntime, change},
};
use changestream_core::internals::{Selections, pass, request, track};
use divan::{AllocProfiler, Bencher, counter::ItemsCount};
use futures::stream;
use mongodb::bson::{DateTime, doc};
use serde::Deserialize;

use events::{Item, replies};

#[global_allocator]
static ALLOCATOR: AllocProfiler = AllocProfiler::system();

const EVENTS: usize = 1_000;
const COLLECTIONS: usize = 20;

#[derive(Deserialize)]
struct Changed {
    quantity: i32,
    changed: DateTime,
}

fn main() {
    divan::main();
}

/// From a reply of the server to events, whose parts are found and not read.
#[divan::bench]
fn decode(bencher: Bencher<'_, '_>) {
    let replies = replies(EVENTS, EVENTS);
    measure(bencher, || change::of_reply(replies[0].clone()));
}

/// From an event to the two fields that a handler takes.
#[divan::bench]
fn document(bencher: Bencher<'_, '_>) {
    let requests: Vec<_> = inserts().into_iter().map(request).collect();
    measure(bencher, || {
        for request in &requests {
            let item = FullDocument::<Item>::from_change(request, &());
            let FullDocument(item) = item.expect("an item");
            black_box(item.price * f64::from(item.quantity));
        }
    });
}

/// The same where the last of eight fields is a date, which bson decodes.
#[divan::bench]
fn date(bencher: Bencher<'_, '_>) {
    let insert = |n: usize| {
        let document = doc! {
            "_id": n as i64, "sku": format!("SKU-{n:08}"), "name": format!("Item number {n}"), "category": "household",
            "status": "active", "price": 9.99, "quantity": 7, "changed": DateTime::from_millis(1_700_000_000_000),
        };
        request(change::insert("items").full_document(&document).build())
    };
    let requests: Vec<_> = (0..EVENTS).map(insert).collect();
    measure(bencher, || {
        for request in &requests {
            let item = FullDocument::<Changed>::from_change(request, &());
            let FullDocument(item) = item.expect("an item");
            black_box((item.quantity, item.changed));
        }
    });
}

/// Whether an update of five fields is of one that a handler is about.
#[divan::bench]
fn filter(bencher: Bencher<'_, '_>) {
    let status = FieldPath::new("payment.status").expect("a path");
    let filter = Filter::And(vec![
        Filter::Operation(vec![Operation::Update]),
        Filter::Changed(vec![status]),
    ]);
    let updates: Vec<_> = (0..EVENTS).map(update).collect();
    measure(bencher, || {
        updates
            .iter()
            .filter(|change| filter.matches(change))
            .count()
    });
}

/// From an update to its handlers, of so many on 20 collections.
#[divan::bench(args = [20, 100])]
fn route(bencher: Bencher<'_, '_>, handlers: usize) {
    let handler = |n: usize| {
        let handler = HandlerSpec::new(format!("handler_{n}"), async |_: RawChange| {
            Ok::<_, HandlerError>(())
        });
        let handler = handler.collections([collection(n)]);
        handler.fields([format!("field_{}", n / COLLECTIONS)])
    };
    let handlers = (0..handlers).map(handler).collect();
    let selections = Selections::new(handlers, change::DATABASE).expect("handlers");
    let updates: Vec<_> = (0..EVENTS).map(update).collect();
    measure(bencher, || {
        let routed = updates.iter().map(|change| selections.routed(change).len());
        routed.sum::<usize>()
    });
}

/// Onto so many lanes and off again, a hundred keys in turn.
#[divan::bench(args = [1, 16])]
fn lane(bencher: Bencher<'_, '_>, lanes: usize) {
    let changes = inserts();
    measure(bencher, || pass(&changes, 100, lanes));
}

/// Done in the order that holds back the low-water mark most.
#[divan::bench]
fn tracker(bencher: Bencher<'_, '_>) {
    let changes = inserts();
    measure(bencher, || track(&changes));
}

/// From events to their handler, through all of the default stack, with so many lanes.
#[divan::bench(args = [1, 16])]
fn engine(bencher: Bencher<'_, '_>, lanes: usize) {
    let tokio = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    let changes = inserts();
    let runtime = || {
        let builder = TestRuntime::builder().concurrency(lanes);
        builder.handlers(handlers![item_inserted]).build()
    };
    bencher
        .counter(ItemsCount::new(EVENTS))
        .with_inputs(|| Cell::new(Some(runtime().expect("a runtime"))))
        .bench_local_values(|runtime| {
            measured(&|| {
                let runtime = runtime.take().expect("one run");
                tokio.block_on(runtime.run(stream::iter([changes.clone()])));
            });
        });
}

#[on_change(coll = "items", op = "insert")]
async fn item_inserted(FullDocument(item): FullDocument<Item>) -> Result<(), HandlerError> {
    black_box(item.price * f64::from(item.quantity));
    Ok(())
}

fn inserts() -> Vec<RawChange> {
    let replies = replies(EVENTS, EVENTS);
    change::of_reply(replies[0].clone()).expect("events")
}

fn update(n: usize) -> RawChange {
    let update = change::update(&collection(n)).id(n as i64);
    let update = (0..4).fold(update, |update, field| {
        update.set(&format!("field_{field}"), 1)
    });
    update.set("payment.status", "paid").build()
}

fn collection(n: usize) -> String {
    format!("items_{}", n % COLLECTIONS)
}

fn measure<T>(bencher: Bencher<'_, '_>, part: impl Fn() -> T + Sync) {
    bencher
        .counter(ItemsCount::new(EVENTS))
        .bench_local(|| measured(&part));
}

/// What `benches/instructions` counts, by this name.
#[inline(never)]
fn measured<T>(part: &impl Fn() -> T) -> T {
    black_box(part())
}
