//! The engine alone, with its whole default stack and no server: events from memory, on one core.
//!
//! `cargo bench --bench engine --all-features` prints time, events per second and allocations.

use bytes::Bytes;
use changestream::{
    Delivery, RuntimeBuilder,
    prelude::*,
    testing::{
        NoServer, TestRuntime,
        change::{self, DATABASE},
    },
};
use divan::{AllocProfiler, Bencher, counter::ItemsCount};
use futures::stream;
use mongodb::bson::{DateTime, Document, Timestamp, doc, serialize_to_vec};
use serde::Deserialize;
use tokio::task::yield_now;
use tower::service_fn;

#[global_allocator]
static ALLOCATOR: AllocProfiler = AllocProfiler::system();

const EVENTS: usize = 100_000;
const BATCH: usize = 2_000;

fn main() {
    divan::main();
}

/// As a server gives them: inserts of about 220 bytes, all of different documents.
fn replies() -> Vec<Bytes> {
    let events = (0..EVENTS).map(|n| {
        let n = i64::try_from(n).expect("a number");
        doc! {
            "_id": { "_data": format!("8263{n:016X}") },
            "operationType": "insert",
            "clusterTime": Timestamp { time: 1_700_000_000, increment: 1 },
            "wallTime": DateTime::from_millis(1_700_000_000_000),
            "fullDocument": {
                "_id": n, "sku": format!("SKU-{n:08}"), "name": format!("Item number {n}"),
                "category": "household", "price": 9.99, "quantity": 7, "status": "active",
                "description": "A small thing that is good to have about the house.",
            },
            "ns": { "db": DATABASE, "coll": "items" },
            "documentKey": { "_id": n },
        }
    });
    let events: Vec<_> = events.collect();
    let reply = |events: &[Document]| {
        let end = doc! { "_data": "8264" };
        let cursor = doc! { "nextBatch": events, "postBatchResumeToken": end, "id": 1_i64 };
        let reply = serialize_to_vec(&doc! { "cursor": cursor, "ok": 1.0 });
        Bytes::from(reply.expect("BSON"))
    };
    events.chunks(BATCH).map(reply).collect()
}

#[derive(Deserialize)]
struct Item {
    price: f64,
    quantity: i32,
}

#[on_change(coll = "items", op = "insert")]
async fn item_inserted(FullDocument(item): FullDocument<Item>) -> Result<(), HandlerError> {
    divan::black_box(item.price * f64::from(item.quantity));
    Ok(())
}

#[on_change(coll = "items", op = "insert", to = "sink")]
async fn item_sent(FullDocument(item): FullDocument<Item>) -> Result<Message, HandlerError> {
    divan::black_box(item.price * f64::from(item.quantity));
    Ok(Message::new("sent", "text/plain"))
}

#[divan::bench(args = [16, 1])]
fn whole_stack(bencher: Bencher<'_, '_>, concurrency: usize) {
    run(bencher, || {
        let builder = TestRuntime::builder().concurrency(concurrency);
        builder.handlers(handlers![item_inserted])
    });
}

/// With a sink whose receiver answers a moment later.
#[divan::bench]
fn with_a_sink(bencher: Bencher<'_, '_>) {
    run(bencher, || {
        let sink = service_fn(async |_: Delivery| {
            yield_now().await;
            Ok::<_, HandlerError>(())
        });
        let builder = TestRuntime::builder().sink("sink", sink);
        builder.handlers(handlers![item_sent])
    });
}

/// The same with one that takes batches.
#[divan::bench]
fn with_a_sink_of_batches(bencher: Bencher<'_, '_>) {
    run(bencher, || {
        let sink = service_fn(async |_: Vec<Delivery>| {
            yield_now().await;
            Ok::<_, HandlerError>(())
        });
        let builder = TestRuntime::builder().sink("sink", SinkSpec::batched(500, sink));
        builder.handlers(handlers![item_sent])
    });
}

fn run(bencher: Bencher<'_, '_>, builder: impl Fn() -> RuntimeBuilder<(), NoServer>) {
    let tokio = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    let replies = replies();
    bencher
        .counter(ItemsCount::new(EVENTS))
        .with_inputs(|| builder().build().expect("a runtime"))
        .bench_local_values(|runtime| {
            let batches = replies.iter().map(|reply| {
                let changes = change::of_reply(reply.clone());
                changes.expect("events")
            });
            tokio.block_on(runtime.run(stream::iter(batches)));
        });
}
