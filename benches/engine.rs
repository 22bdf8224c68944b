//! The engine alone, with its whole default stack and no server: events from memory, on one core.
//!
//! `cargo bench --bench engine --all-features` prints time, events per second and allocations.

mod events;

use changestream::{
    Delivery, RuntimeBuilder,
    prelude::*,
    testing::{NoServer, TestRuntime, change},
};
use divan::{AllocProfiler, Bencher, counter::ItemsCount};
use futures::stream;
use tokio::task::yield_now;
use tower::service_fn;

use events::{Item, Text, replies};

#[global_allocator]
static ALLOCATOR: AllocProfiler = AllocProfiler::system();

const EVENTS: usize = 100_000;
const BATCH: usize = 2_000;

fn main() {
    divan::main();
}

#[on_change(coll = "items", op = "insert")]
async fn item_inserted(FullDocument(item): FullDocument<Item>) -> Result<(), HandlerError> {
    divan::black_box(item.price * f64::from(item.quantity));
    Ok(())
}

#[on_change(coll = "items", op = "insert")]
async fn text_copied(FullDocument(text): FullDocument<Text<String>>) -> Result<(), HandlerError> {
    divan::black_box(text);
    Ok(())
}

#[on_change(coll = "items", op = "insert")]
async fn text_borrowed(FullDocument(text): FullDocument<Text<&str>>) -> Result<(), HandlerError> {
    divan::black_box(text);
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

/// With all text of the documents, of which each handler has a copy.
#[divan::bench]
fn with_text_copied(bencher: Bencher<'_, '_>) {
    run(bencher, || {
        TestRuntime::builder().handlers(handlers![text_copied])
    });
}

/// The same with text that stays in the event.
#[divan::bench]
fn with_text_borrowed(bencher: Bencher<'_, '_>) {
    run(bencher, || {
        TestRuntime::builder().handlers(handlers![text_borrowed])
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
    let replies = replies(EVENTS, BATCH);
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
