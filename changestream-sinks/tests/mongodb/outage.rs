//! The server is killed and comes back.

use std::{collections::HashMap, time::Duration};

use bson::{Document, RawDocumentBuf, doc};
use bytes::Bytes;
use changestream_core::{
    HandlerError, HandlerSpec, Json, MemoryDeadLetters, RawChange, SinkSpec,
    testing::{
        TestRuntime, change,
        conformance::{self, Receiver},
    },
};
use changestream_sinks::MongoSink;
use changestream_testkit::{MongoServer, ServerVersion};
use futures::{StreamExt, TryStreamExt, stream};
use mongodb::{
    Client, Collection, change_stream::event::ChangeStreamEvent, options::FullDocumentType,
};
use tokio::time::timeout;

use crate::{TestResult, all, assert_none, eventually};

struct View {
    server: MongoServer,
    client: Client,
    sink: fn(&Collection<Document>) -> SinkSpec,
}

impl View {
    async fn check(sink: fn(&Collection<Document>) -> SinkSpec) -> TestResult {
        let server = MongoServer::start().await?;
        Self::check_on(server, sink).await
    }

    async fn check_on(
        server: MongoServer,
        sink: fn(&Collection<Document>) -> SinkSpec,
    ) -> TestResult {
        let client = server.client().await?;
        let view = Self {
            server,
            client,
            sink,
        };
        conformance::check(&view).await;
        Ok(())
    }
}

impl Receiver for View {
    fn sink(&self) -> SinkSpec {
        (self.sink)(&self.client.database("shop").collection("view"))
    }

    async fn received(&self) -> Vec<Bytes> {
        let database = self.client.database("shop");
        let view = database.collection::<RawDocumentBuf>("view");
        let found = view.find(doc! {}).sort(doc! { "$natural": 1 });
        let found: Vec<_> = found
            .await
            .expect("read")
            .try_collect()
            .await
            .expect("read");
        let json = |found: RawDocumentBuf| serde_json::to_vec(&Json::relaxed(&*found));
        let found = found.into_iter().map(|found| json(found).expect("JSON"));
        found.map(Bytes::from).collect()
    }

    async fn stop(&self) {
        self.server.kill().await.expect("killed");
    }

    async fn start(&self) {
        self.server.restart().await.expect("started");
    }
}

#[tokio::test]
async fn a_log_does_what_a_sink_must() -> TestResult {
    View::check(|log| MongoSink::insert(log).into()).await
}

#[tokio::test]
async fn a_view_does_what_a_sink_must() -> TestResult {
    View::check(|view| MongoSink::upsert(view).into()).await
}

#[tokio::test]
async fn a_versioned_view_does_what_a_sink_must() -> TestResult {
    let sink = |view: &_| MongoSink::upsert(view).versioned().expect("a sink").into();
    View::check(sink).await
}

#[tokio::test]
async fn a_merged_view_does_what_a_sink_must() -> TestResult {
    View::check(|view| MongoSink::merge(view).into()).await
}

#[tokio::test]
async fn a_view_on_the_oldest_server_does_what_a_sink_must() -> TestResult {
    let server = MongoServer::builder().version(ServerVersion::V4_4);
    View::check_on(server.start().await?, |view| MongoSink::upsert(view).into()).await
}

const KEYS: i32 = 200;
const EACH: i32 = 50;

/// What was written of each key, repeats dropped.
#[derive(Default)]
struct Order(HashMap<i32, Vec<i32>>);

impl Order {
    fn push(&mut self, key: i32, n: i32) {
        let of_key = self.0.entry(key).or_default();
        if of_key.last() != Some(&n) {
            of_key.push(n);
        }
    }

    fn check(&self, what: &str) {
        assert_eq!(self.0.len(), usize::try_from(KEYS).expect("few"), "{what}");
        for (key, seen) in &self.0 {
            assert!(seen.iter().copied().eq(0..EACH), "{what}, {key}: {seen:?}");
        }
    }
}

#[tokio::test]
async fn a_server_that_is_killed_and_restarted_loses_nothing_and_no_order() -> TestResult {
    let server = MongoServer::start().await?;
    let client = server.client().await?;
    let shop = client.database("shop");
    let [log, view, versioned, merged] =
        ["log", "view", "versioned", "merged"].map(|name| shop.collection::<Document>(name));
    let begin = shop.run_command(doc! { "ping": 1 }).await?;
    let begin = begin.get_timestamp("operationTime")?;

    let handler = async |change: RawChange| {
        let update = change.update_description().expect("an update");
        let n: Option<i32> = update.get("n")?;
        let key: Option<i32> = change.document_key().expect("a key").get("_id")?;
        Ok::<_, HandlerError>(doc! { "key": key, "n": n })
    };
    let letters = MemoryDeadLetters::default();
    let sinks: [(&str, SinkSpec); 4] = [
        ("log", MongoSink::insert(&log).into()),
        ("view", MongoSink::upsert(&view).into()),
        (
            "versioned",
            MongoSink::upsert(&versioned).versioned()?.into(),
        ),
        ("merged", MongoSink::merge(&merged).into()),
    ];
    let handler = HandlerSpec::new("send", handler).to(sinks.each_ref().map(|(name, _)| *name));
    let mut builder = TestRuntime::builder()
        .handlers([handler])
        .concurrency(64)
        .dead_letter_store(letters.clone())
        .drain_deadline(Duration::from_secs(600));
    for (name, sink) in sinks {
        builder = builder.sink(name, sink);
    }
    let runtime = builder.build()?;
    let updates = (0..EACH).map(|n| {
        let of_round = (0..KEYS).map(|key| change::update("orders").id(key).set("n", n).build());
        of_round.collect::<Vec<_>>()
    });
    let running = runtime.run(stream::iter(updates.collect::<Vec<_>>()));
    let killing = async {
        for count in [1000, 5000] {
            let written = async || {
                let counted = log.estimated_document_count().await.ok()?;
                (counted >= count).then_some(())
            };
            eventually("it writes", written).await;
            server.kill().await.expect("killed");
            server.restart().await.expect("started");
        }
    };
    timeout(Duration::from_secs(300), async {
        tokio::join!(running, killing)
    })
    .await?;
    assert_none(&letters.letters());

    let entries = log.count_documents(doc! {}).await?;
    assert_eq!(entries, 10_000, "a repeated delivery is there once");
    for view in [&view, &versioned, &merged] {
        let found = all(view).await?;
        let last = found
            .iter()
            .filter(|view| view.get_i32("n").is_ok_and(|n| n == EACH - 1));
        assert_eq!(last.count(), usize::try_from(KEYS)?, "{}", view.name());
    }
    for view in [log, view, versioned, merged] {
        let events = view.watch().start_at_operation_time(begin);
        let mut events = events.full_document(FullDocumentType::UpdateLookup).await?;
        let mut order = Order::default();
        let mut done = 0;
        while done < KEYS {
            let event: ChangeStreamEvent<Document> = events.next().await.ok_or("the end")??;
            let document = event.full_document.ok_or("no document")?;
            let n = match &event.update_description {
                Some(update) => update.updated_fields.get_i32("n")?,
                None => document.get_i32("n")?,
            };
            order.push(document.get_i32("key")?, n);
            done += i32::from(n == EACH - 1);
        }
        order.check(view.name());
    }
    Ok(())
}
