//! Many updates of many documents, sent by a runtime while servers are killed, and what came of them.

use std::{
    collections::{BTreeMap, BTreeSet},
    future::Future,
    time::Duration,
};

use changestream_core::{
    HandlerError, HandlerSpec, MemoryDeadLetters, RawChange, SinkSpec,
    testing::{TestRuntime, change},
};
use changestream_sinks::RedisSink;
use changestream_testkit::RedisServer;
use futures::stream;
use tokio::time::timeout;

use crate::client;

pub(crate) const DOCUMENTS: i32 = 200;
pub(crate) const EACH: i32 = 50;
const IN_FLIGHT: usize = 512;

/// An entry of a stream.
pub(crate) struct Entry {
    id: String,
    pub(crate) payload: String,
}

impl Entry {
    /// The document, and the place among its updates.
    pub(crate) fn update(&self) -> (i32, i32) {
        let text: String = serde_json::from_str(&self.payload).unwrap();
        let (document, n) = text.split_once('/').unwrap();
        (document.parse().unwrap(), n.parse().unwrap())
    }
}

pub(crate) async fn entries(server: &RedisServer, stream: &str) -> Vec<Entry> {
    let mut range = redis::cmd("XRANGE");
    range.arg(&[stream, "-", "+"]);
    let mut client = client(&server.uri()).await;
    let entries: Vec<(String, BTreeMap<String, String>)> =
        range.query_async(&mut client).await.unwrap();
    let entries = entries.into_iter().map(|(_, fields)| Entry {
        id: fields["id"].clone(),
        payload: fields["payload"].clone(),
    });
    entries.collect()
}

/// Sends all of it, and meanwhile does what kills servers. Nothing becomes a dead letter.
pub(crate) async fn run(sink: RedisSink, kills: impl Future<Output = ()>) {
    let letters = MemoryDeadLetters::default();
    let sink = SinkSpec::from(sink).backoff(Duration::from_millis(20));
    let spec = HandlerSpec::new("send", |change: RawChange| async move {
        let wrong = || HandlerError::reject("no update of the test");
        let key = change.document_key().ok_or_else(wrong)?;
        let update = change.update_description().ok_or_else(wrong)?;
        let id: i32 = key.get("_id")?.unwrap_or_default();
        let n: i32 = update.get("n")?.unwrap_or_default();
        Ok::<_, HandlerError>(format!("{id}/{n}"))
    });
    let runtime = TestRuntime::builder()
        .handlers([spec.collections(["products"]).to(["redis"])])
        .sink("redis", sink)
        .dead_letter_store(letters.clone())
        .concurrency(64)
        .in_flight_events(IN_FLIGHT)
        .drain_deadline(Duration::from_secs(600))
        .build()
        .unwrap();
    let update = |n, id| change::update("products").id(id).set("n", n);
    let batches = (0..EACH).map(|n| (0..DOCUMENTS).map(|id| update(n, id)).collect::<Vec<_>>());
    let running = async { tokio::join!(runtime.run(stream::iter(batches)), kills) };
    timeout(Duration::from_secs(300), running).await.unwrap();
    let letters = letters.letters();
    assert!(letters.is_empty(), "{:?}", letters[0].error());
}

/// All updates of every document are there, in their order; after three kills, some more than once.
pub(crate) fn assert_all_came(entries: impl IntoIterator<Item = Entry>) {
    let mut ids = BTreeMap::new();
    let mut of_documents = BTreeMap::<_, Vec<i32>>::new();
    let mut repeats = 0;
    for entry in entries {
        let (document, n) = entry.update();
        let id = ids.entry((document, n)).or_insert_with(|| entry.id.clone());
        assert_eq!(*id, entry.id, "a repeat has another id");
        let of_document = of_documents.entry(document).or_default();
        match of_document.last() == Some(&n) {
            true => repeats += 1,
            false => of_document.push(n),
        }
    }
    assert_eq!(of_documents.len(), DOCUMENTS as usize);
    for (document, of_it) in of_documents {
        assert_eq!(of_it, (0..EACH).collect::<Vec<_>>(), "document {document}");
    }
    let ids: BTreeSet<_> = ids.into_values().collect();
    assert_eq!(ids.len(), (DOCUMENTS * EACH) as usize);
    assert!(repeats <= 3 * IN_FLIGHT, "{repeats} repeats");
}
