//! A database of its own on a real server, and runtimes that run over what happened in it.

use std::{
    future::ready,
    sync::{Arc, Mutex},
    time::Duration,
};

use bson::{Bson, Document, Timestamp, doc};
use changestream::{
    ClusterTime, DeadLetter, DocumentKey, HandlerError, HandlerSpec, MemoryCheckpoints,
    MemoryDeadLetters, Operation, RawChange, Runtime, RuntimeBuilder, StartAt,
};
use changestream_testkit::TestServer;
use mongodb::{
    Client, Collection, Database,
    options::{DatabaseOptions, WriteConcern},
};
use tokio::{sync::Notify, time::timeout};

pub(crate) const DEADLINE: Duration = Duration::from_secs(180);

pub(crate) struct Shop {
    pub(crate) client: Client,
    pub(crate) database: Database,
    server: TestServer,
}

impl Shop {
    pub(crate) async fn open() -> Self {
        let server = TestServer::from_env_or_start().await.expect("a server");
        let client = server.client().await.expect("a client");
        // So that a lookup by the stream sees all that was written before.
        let majority = DatabaseOptions::builder()
            .write_concern(WriteConcern::majority())
            .build();
        let name = server.unique_database("shop");
        let database = client.database_with_options(&name, majority);
        Self {
            client,
            database,
            server,
        }
    }

    pub(crate) fn orders(&self) -> Collection<Document> {
        self.database.collection("orders")
    }

    pub(crate) async fn insert(&self, order: Document) {
        self.orders().insert_one(order).await.expect("an insert");
    }

    pub(crate) async fn update(&self, id: impl Into<Bson>, update: Document) {
        let query = doc! { "_id": id.into() };
        let updated = self.orders().update_one(query, update).await;
        assert_eq!(updated.expect("an update").matched_count, 1);
    }

    pub(crate) async fn replace(&self, id: impl Into<Bson>, order: Document) {
        let query = doc! { "_id": id.into() };
        let replaced = self.orders().replace_one(query, order).await;
        assert_eq!(replaced.expect("a replace").matched_count, 1);
    }

    pub(crate) async fn delete(&self, id: impl Into<Bson>) {
        let deleted = self.orders().delete_one(doc! { "_id": id.into() }).await;
        assert_eq!(deleted.expect("a delete").deleted_count, 1);
    }

    pub(crate) fn another_database(&self) -> Database {
        self.client.database(&self.server.unique_database("other"))
    }

    /// Makes `orders` record pre- and post-images; `false` where the server is too old for it.
    pub(crate) async fn record_images(&self) -> bool {
        let images =
            doc! { "create": "orders", "changeStreamPreAndPostImages": { "enabled": true } };
        let recorded = self.database.run_command(images).await.is_ok();
        let version = self.server.version().await.expect("a version");
        assert_eq!(recorded, version.major >= 6, "{version:?}");
        recorded
    }

    /// The time after all that happened so far.
    pub(crate) async fn now(&self) -> ClusterTime {
        let pong = self.database.run_command(doc! { "ping": 1 }).await;
        let pong = pong.expect("an answer");
        let last = pong.get_timestamp("operationTime").expect("a replica set");
        ClusterTime(Timestamp {
            increment: last.increment + 1,
            ..last
        })
    }

    pub(crate) fn runtime(&self) -> RuntimeBuilder<()> {
        Runtime::builder(self.database.clone())
            .concurrency(1)
            .name("test")
            .backoff(Duration::from_millis(1))
            .checkpoint_store(MemoryCheckpoints::default())
    }

    /// Runs `runtime` over what `during` does, and gives its dead letters.
    ///
    /// The stream is opened when all of that has happened, and ends with an insert into `orders`, which
    /// each handler of its inserts sees too.
    pub(crate) async fn run<S: Send + Sync + 'static>(
        &self,
        runtime: RuntimeBuilder<S>,
        during: impl Future<Output = ()>,
    ) -> Vec<DeadLetter> {
        let from = StartAt::OperationTime(self.now().await);
        self.run_from(from, runtime, during).await
    }

    pub(crate) async fn run_from<S: Send + Sync + 'static>(
        &self,
        from: StartAt,
        runtime: RuntimeBuilder<S>,
        during: impl Future<Output = ()>,
    ) -> Vec<DeadLetter> {
        during.await;
        let query = doc! { "_id": SENTINEL };
        self.orders()
            .delete_one(query.clone())
            .await
            .expect("a delete");
        self.insert(doc! { "_id": SENTINEL, "status": "" }).await;

        let end = Arc::new(Notify::new());
        let at_end = Arc::clone(&end);
        let handler = move |key: DocumentKey| {
            if key
                .get("_id")
                .is_ok_and(|id: Option<Bson>| id == Some(SENTINEL.into()))
            {
                at_end.notify_one();
            }
            ready(Ok::<(), HandlerError>(()))
        };
        let sentinel = HandlerSpec::new(SENTINEL, handler)
            .collections(["orders"])
            .operations([Operation::Insert]);
        let dead_letters = MemoryDeadLetters::default();
        let runtime = runtime
            .handler(sentinel)
            .start_at(from)
            .dead_letter_store(dead_letters.clone())
            .build()
            .expect("a runtime");
        let run = timeout(DEADLINE, runtime.run_until(end.notified())).await;
        run.expect("the last write is seen in time")
            .expect("the runtime runs");
        dead_letters.letters()
    }

    /// What of all that `during` does reaches a handler, each as operation and `_id`.
    pub(crate) async fn seen_by(
        &self,
        annotate: impl FnOnce(HandlerSpec<()>) -> HandlerSpec<()>,
        during: impl Future<Output = ()>,
    ) -> Vec<String> {
        let seen = Seen::default();
        let handler = annotate(HandlerSpec::new("seen", seen.handler()));
        let dead_letters = self.run(self.runtime().handler(handler), during).await;
        assert!(dead_letters.is_empty(), "{dead_letters:?}");
        seen.take()
    }
}

const SENTINEL: &str = "sentinel";

/// The events that a handler received.
#[derive(Clone, Default)]
pub(crate) struct Seen(Arc<Mutex<Vec<String>>>);

impl Seen {
    pub(crate) fn handler(
        &self,
    ) -> impl Fn(RawChange) -> std::future::Ready<Result<(), HandlerError>> + Clone + Send + Sync + 'static
    {
        let seen = self.clone();
        move |change| {
            seen.push(&change);
            ready(Ok(()))
        }
    }

    pub(crate) fn push(&self, change: &RawChange) {
        let id = change.document_key().and_then(|key| key.get("_id").ok()?);
        let text = match id {
            Some(Bson::String(id)) if id == SENTINEL => return,
            Some(Bson::String(id)) => format!("{} {id}", change.operation()),
            Some(id) => format!("{} {id}", change.operation()),
            None => change.operation().to_string(),
        };
        self.0.lock().expect("no panic").push(text);
    }

    pub(crate) fn take(&self) -> Vec<String> {
        std::mem::take(&mut self.0.lock().expect("no panic"))
    }
}
