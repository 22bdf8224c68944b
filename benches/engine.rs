//! The engine alone, with its whole default stack and no server: events from memory, on one core.
//!
//! What the row `engine` of `cargo xbench` runs: a program of its own, since its allocator counts.

mod events;

use std::{alloc::System, cell::Cell, error::Error, hint::black_box, time::Instant};

use alloc_tracker::{Allocator, Session};
use bytes::Bytes;
use changestream::{
    Delivery,
    prelude::*,
    testing::{TestRuntime, change},
};
use clap::{Parser, ValueEnum};
use futures::stream;
use mongodb::{
    bson::{RawDocument, deserialize_from_slice},
    change_stream::event::ChangeStreamEvent,
};
use serde::Deserialize;
use serde_json::json;
use tokio::{runtime, task::yield_now};
use tower::service_fn;

use events::{Item, Text, replies};

#[global_allocator]
static ALLOCATOR: Allocator<System> = Allocator::system();

/// Different events, which come again until there were enough.
const EVENTS: usize = 100_000;
const BATCH: usize = 2_000;

type Outcome<T> = Result<T, Box<dyn Error>>;

#[derive(Parser)]
struct Cli {
    #[arg(default_value = "default")]
    variant: Variant,
    /// What `cargo xbench` tells its contestants
    #[arg(default_value = r#"{"events": 1000000}"#)]
    task: String,
    /// What cargo says to every benchmark
    #[arg(long, hide = true)]
    bench: bool,
}

#[derive(Deserialize)]
struct Task {
    events: usize,
}

#[derive(Clone, Copy, ValueEnum)]
enum Variant {
    /// No engine: events decoded to the driver's type
    Decoding,
    Default,
    OneLane,
    /// With all text of the documents, of which each handler has a copy
    TextCopied,
    /// The same with text that stays in the event
    TextBorrowed,
    /// With a sink whose receiver answers a moment later
    Sink,
    /// The same with one that takes batches
    SinkOfBatches,
}

thread_local! {
    static HANDLED: Cell<usize> = const { Cell::new(0) };
}

fn main() -> Outcome<()> {
    let cli = Cli::parse();
    let Task { events } = serde_json::from_str(&cli.task)?;
    let tokio = runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let replies = replies(EVENTS, BATCH);
    tokio.block_on(cli.variant.run(&replies))?;

    HANDLED.set(0);
    let batches = events.div_ceil(BATCH);
    let heap = Session::new();
    let begin = Instant::now();
    {
        let _counted = heap.operation("run").measure_thread();
        tokio.block_on(cli.variant.run(replies.iter().cycle().take(batches)))?;
    }
    let took = begin.elapsed().as_secs_f64();

    let events = batches * BATCH;
    if HANDLED.get() != events {
        return Err(format!("{} of {events} events were handled", HANDLED.get()).into());
    }
    let counted = heap.to_report();
    let counted = counted.operations();
    let allocations: u64 = counted.map(|(_, run)| run.total_allocations_count()).sum();
    let events = events as f64;
    let figures = json!({
        "events_per_second": events / took,
        "allocations": allocations as f64 / events,
    });
    println!("{figures}");
    Ok(())
}

impl Variant {
    async fn run(self, replies: impl IntoIterator<Item = &Bytes>) -> Outcome<()> {
        let builder = TestRuntime::builder();
        let builder = match self {
            Self::Decoding => return replies.into_iter().try_for_each(decode),
            Self::Default => builder.handlers(handlers![item_inserted]),
            Self::OneLane => builder.concurrency(1).handlers(handlers![item_inserted]),
            Self::TextCopied => builder.handlers(handlers![text_copied]),
            Self::TextBorrowed => builder.handlers(handlers![text_borrowed]),
            Self::Sink => builder
                .sink("sink", service_fn(receive::<Delivery>))
                .handlers(handlers![item_sent]),
            Self::SinkOfBatches => {
                let sink = SinkSpec::batched(500, service_fn(receive::<Vec<Delivery>>));
                builder.sink("sink", sink).handlers(handlers![item_sent])
            }
        };
        let batches = replies.into_iter().map(|reply| {
            let changes = change::of_reply(reply.clone());
            changes.expect("events")
        });
        builder.build()?.run(stream::iter(batches)).await;
        Ok(())
    }
}

fn decode(reply: &Bytes) -> Outcome<()> {
    let reply = RawDocument::from_bytes(reply)?;
    for event in reply.get_document("cursor")?.get_array("nextBatch")? {
        let event = event?.as_document().ok_or("an event that is none")?;
        let event: ChangeStreamEvent<Item> = deserialize_from_slice(event.as_bytes())?;
        handled(event);
    }
    Ok(())
}

#[on_change(coll = "items", op = "insert")]
async fn item_inserted(FullDocument(item): FullDocument<Item>) -> Result<(), HandlerError> {
    handled(item.price * f64::from(item.quantity));
    Ok(())
}

#[on_change(coll = "items", op = "insert")]
async fn text_copied(FullDocument(text): FullDocument<Text<String>>) -> Result<(), HandlerError> {
    handled(text);
    Ok(())
}

#[on_change(coll = "items", op = "insert")]
async fn text_borrowed(FullDocument(text): FullDocument<Text<&str>>) -> Result<(), HandlerError> {
    handled(text);
    Ok(())
}

#[on_change(coll = "items", op = "insert", to = "sink")]
async fn item_sent(FullDocument(item): FullDocument<Item>) -> Result<Message, HandlerError> {
    handled(item.price * f64::from(item.quantity));
    Ok(Message::new("sent", "text/plain"))
}

async fn receive<T>(_delivered: T) -> Result<(), HandlerError> {
    yield_now().await;
    Ok(())
}

fn handled<T>(what: T) {
    black_box(what);
    HANDLED.set(HANDLED.get() + 1);
}
