//! A server that is killed and comes back.

use std::{collections::BTreeMap, time::Duration};

use bytes::Bytes;
use changestream_core::{
    HandlerError, HandlerSpec, MemoryDeadLetters, RawChange, SinkSpec,
    testing::{
        TestRuntime, change,
        conformance::{self, Receiver},
    },
};
use changestream_sinks::RedisSink;
use changestream_testkit::RedisServer;
use futures::stream;
use tokio::time::{sleep, timeout};

use crate::client;

struct Stream {
    server: RedisServer,
    has_patterns: bool,
}

impl Receiver for Stream {
    fn sink(&self) -> SinkSpec {
        let sink = RedisSink::new(self.server.uri()).unwrap();
        let sink = sink.stream("stream").unwrap();
        match self.has_patterns {
            true => sink.unlink_matching("none:*").unwrap().into(),
            false => sink.into(),
        }
    }

    async fn received(&self) -> Vec<Bytes> {
        let entries = entries(&self.server).await.into_iter();
        entries.map(|entry| entry.payload.into()).collect()
    }

    async fn stop(&self) {
        self.server.kill().await.unwrap();
    }

    async fn start(&self) {
        self.server.restart().await.unwrap();
    }
}

struct Entry {
    id: String,
    payload: String,
}

async fn entries(server: &RedisServer) -> Vec<Entry> {
    let mut range = redis::cmd("XRANGE");
    range.arg(&["stream", "-", "+"]);
    let mut client = client(&server.uri()).await;
    let entries: Vec<(String, BTreeMap<String, String>)> =
        range.query_async(&mut client).await.unwrap();
    let entries = entries.into_iter().map(|(_, fields)| Entry {
        id: fields["id"].clone(),
        payload: fields["payload"].clone(),
    });
    entries.collect()
}

#[tokio::test]
async fn it_is_as_a_sink_has_to_be() {
    for has_patterns in [false, true] {
        let server = RedisServer::start().await.unwrap();
        conformance::check(&Stream {
            server,
            has_patterns,
        })
        .await;
    }
}

#[tokio::test]
async fn nothing_is_lost_and_all_of_a_document_comes_in_order() {
    const DOCUMENTS: i32 = 200;
    const EACH: i32 = 50;
    const IN_FLIGHT: usize = 512;
    let server = RedisServer::start().await.unwrap();
    let letters = MemoryDeadLetters::default();
    let sink = RedisSink::new(server.uri())
        .unwrap()
        .stream("stream")
        .unwrap();
    let sink = SinkSpec::from(sink).backoff(Duration::from_millis(20));
    let spec = HandlerSpec::new("send", |change: RawChange| async move {
        let key = change
            .document_key()
            .ok_or_else(|| HandlerError::reject("no key"))?;
        let update = change
            .update_description()
            .ok_or_else(|| HandlerError::reject("no update"))?;
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
    let kills = async {
        for kill in 1..=3 {
            let mut client = client(&server.uri()).await;
            let mut len = redis::cmd("XLEN");
            len.arg("stream");
            while len.query_async::<u32>(&mut client).await.unwrap() < kill * 2000 {
                sleep(Duration::from_millis(5)).await;
            }
            server.kill().await.unwrap();
            server.restart().await.unwrap();
        }
    };
    let running = async { tokio::join!(runtime.run(stream::iter(batches)), kills) };
    timeout(Duration::from_secs(300), running).await.unwrap();
    assert!(letters.letters().is_empty());

    let entries = entries(&server).await;
    let mut ids = BTreeMap::new();
    let mut of_documents = BTreeMap::<_, Vec<i32>>::new();
    let mut repeats = 0;
    for Entry { id, payload } in entries {
        let of_payload = ids.entry(payload.clone()).or_insert_with(|| id.clone());
        assert_eq!(*of_payload, id, "a repeat has another id");
        let text: String = serde_json::from_str(&payload).unwrap();
        let (document, n) = text.split_once('/').unwrap();
        let of_document = of_documents.entry(document.to_owned()).or_default();
        let n = n.parse().unwrap();
        match of_document.last() == Some(&n) {
            true => repeats += 1,
            false => of_document.push(n),
        }
    }
    assert_eq!(of_documents.len(), DOCUMENTS as usize);
    for (document, of_it) in of_documents {
        assert_eq!(of_it, (0..EACH).collect::<Vec<_>>(), "document {document}");
    }
    assert!(repeats <= 3 * IN_FLIGHT, "{repeats} repeats");
}
