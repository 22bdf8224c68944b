//! What the tests against real servers share: a server and database of their own, a handler that notes what it saw,
//! a runtime that runs beside the test, and waiting with a deadline.

pub(crate) mod child;
pub(crate) mod commit;
pub(crate) mod effect;
pub(crate) mod event_log;
pub(crate) mod example;
pub(crate) mod failpoint;
pub(crate) mod handler;
pub(crate) mod lease;
pub(crate) mod oplog;
pub(crate) mod partition;
pub(crate) mod preload;
pub(crate) mod random;
pub(crate) mod service;
pub(crate) mod shop;
pub(crate) mod snapshot;
pub(crate) mod store;
pub(crate) mod writer;

pub(crate) use handler::{gated, recorder};

use std::{
    error::Error as StdError,
    future::Future,
    sync::Arc,
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

use changestream::{
    Checkpoint, CheckpointStore, ClusterTime, Error, EventId, Health, MongoCheckpoints,
    MongoLeases, Operation, RuntimeBuilder, RuntimeState, StartAt, prelude::*,
};
use changestream_testkit::{MongoServer, TestServer};
use lease::{Holders, SceneLeases};
use mongodb::{
    Client, Collection, Database,
    bson::{Document, Timestamp, doc},
    options::{ClientOptions, WriteConcern},
};
use tokio::{
    sync::{oneshot, watch},
    task::JoinHandle,
    time::{sleep, timeout},
};

/// Any error.
pub(crate) type BoxError = Box<dyn StdError + Send + Sync>;

/// What a test returns.
pub(crate) type TestResult = Result<(), BoxError>;

/// The name of the runtimes that [`Scene::runtime`] builds.
pub(crate) const RUNTIME: &str = "test";

/// How long anything may take that a test waits for.
pub(crate) const PATIENCE: Duration = Duration::from_secs(180);

/// Waits until `probe` finds something.
pub(crate) async fn eventually<T>(what: &str, mut probe: impl AsyncFnMut() -> Option<T>) -> T {
    let found = timeout(PATIENCE, async {
        loop {
            if let Some(found) = probe().await {
                return found;
            }
            sleep(Duration::from_millis(10)).await;
        }
    });
    found
        .await
        .unwrap_or_else(|_| panic!("waited in vain: {what}"))
}

/// Waits for `future`.
pub(crate) async fn within<T>(what: &str, future: impl Future<Output = T>) -> T {
    let result = timeout(PATIENCE, future).await;
    result.unwrap_or_else(|_| panic!("waited in vain: {what}"))
}

/// A server, and a database of the test's own on it.
pub(crate) struct Scene<S> {
    pub(crate) server: S,
    pub(crate) client: Client,
    pub(crate) database: Database,
    /// The time before anything happened in the database.
    pub(crate) start: StartAt,
    holders: Holders,
}

impl Scene<TestServer> {
    /// On the server that the environment names, else on one of the test's own.
    pub(crate) async fn new() -> Self {
        let server = TestServer::from_env_or_start().await.expect("a server");
        let uri = server.uri().to_owned();
        Self::on(server, &uri).await
    }
}

impl Scene<MongoServer> {
    /// On a server that the test may kill, or set fail points on.
    pub(crate) async fn own() -> Self {
        let server = MongoServer::start().await.expect("a server");
        let uri = server.uri().to_owned();
        Self::on(server, &uri).await
    }
}

impl<S> Scene<S> {
    /// On `server`, which is reached at `uri`.
    pub(crate) async fn on(server: S, uri: &str) -> Self {
        static SCENES: AtomicU32 = AtomicU32::new(0);
        let number = SCENES.fetch_add(1, Ordering::Relaxed);
        let client = client(uri).await;
        let database = format!("changestream_test_{}_{number}", std::process::id());
        Self {
            server,
            database: client.database(&database),
            start: StartAt::OperationTime(after(&client).await),
            client,
            holders: Holders::default(),
        }
    }

    /// A builder of a runtime that starts at the scene's beginning, handles events in stream order, and handlers of
    /// which note what they see.
    pub(crate) fn runtime(&self, seen: &Seen) -> RuntimeBuilder<Seen> {
        self.runtime_of(self.database.clone(), seen)
    }

    /// As [`runtime`](Self::runtime), with another client.
    pub(crate) fn runtime_through(&self, client: &Client, seen: &Seen) -> RuntimeBuilder<Seen> {
        self.runtime_of(client.database(self.database.name()), seen)
    }

    fn runtime_of(&self, database: Database, seen: &Seen) -> RuntimeBuilder<Seen> {
        let leases = SceneLeases::new(MongoLeases::new(&database), self.holders.clone());
        Runtime::builder(database)
            .name(RUNTIME)
            .lease_store(leases)
            .state(seen.clone())
            .start_at(self.start.clone())
            .concurrency(1)
            .backoff(Duration::from_millis(20))
            .checkpoint_interval(Duration::from_millis(20))
    }

    pub(crate) fn collection(&self, name: &str) -> Collection<Document> {
        self.database.collection(name)
    }

    /// Inserts documents of these ids into `orders`.
    pub(crate) async fn insert(&self, ids: impl IntoIterator<Item = i64>) -> TestResult {
        self.insert_into("orders", ids).await
    }

    pub(crate) async fn insert_into(
        &self,
        collection: &str,
        ids: impl IntoIterator<Item = i64>,
    ) -> TestResult {
        for id in ids {
            let document = doc! { "_id": id, "n": id };
            self.collection(collection).insert_one(document).await?;
        }
        Ok(())
    }

    /// The stored checkpoint, once it has a position.
    pub(crate) async fn checkpoint(&self) -> Option<Checkpoint> {
        let checkpoints = MongoCheckpoints::new(&self.database);
        let stored = checkpoints.load(RUNTIME).await.expect("a checkpoint");
        stored.filter(|stored| stored.position.is_some())
    }

    pub(crate) async fn dead_letters(&self) -> Vec<Document> {
        use futures::TryStreamExt;
        let letters = self.collection("changestream.dead_letters");
        let letters = letters.find(doc! {}).sort(doc! { "_id": 1 }).await;
        let letters = letters.expect("dead letters");
        letters.try_collect().await.expect("dead letters")
    }

    /// The server's version, such as `[6, 0]`.
    pub(crate) async fn version(&self) -> [i32; 2] {
        let admin = self.client.database("admin");
        let info = admin.run_command(doc! { "buildInfo": 1 }).await;
        let info = info.expect("the build's information");
        let version = info.get_array("versionArray").expect("a version");
        [0, 1].map(|part| version[part].as_i32().expect("a number"))
    }
}

/// A client whose writes are for good, and that notices within half a second that its server is back.
pub(crate) async fn client(uri: &str) -> Client {
    let mut options = ClientOptions::parse(uri)
        .await
        .expect("a connection string");
    options.heartbeat_freq = Some(Duration::from_millis(500));
    options.write_concern = Some(WriteConcern::majority());
    Client::with_options(options).expect("a client")
}

/// A time after everything that was written so far.
pub(crate) async fn after(client: &Client) -> ClusterTime {
    let admin = client.database("admin");
    // A server with authorization says it once it has the keys to sign it with.
    let mut time = eventually("the server tells the time", async || {
        let ping = admin.run_command(doc! { "ping": 1 }).await;
        ping.expect("a pong").get_timestamp("operationTime").ok()
    })
    .await;
    time.increment += 1;
    ClusterTime(time)
}

/// The time in a resume token.
pub(crate) fn token_time(token: &ResumeToken) -> ClusterTime {
    let data = token.as_raw().get_str("_data").expect("the token's data");
    let number = |range| u32::from_str_radix(&data[range], 16).expect("a number");
    ClusterTime(Timestamp {
        time: number(2..10),
        increment: number(10..18),
    })
}

/// A change as a handler saw it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Event {
    pub(crate) operation: Operation,
    pub(crate) collection: Option<String>,
    pub(crate) id: Option<i64>,
    /// What the change made of the document's field `n`.
    pub(crate) n: Option<i64>,
    pub(crate) event_id: EventId,
    pub(crate) time: Option<ClusterTime>,
    pub(crate) attempt: u32,
}

impl Event {
    pub(crate) fn of(change: &RawChange, attempt: u32) -> Self {
        let integer = |document: &mongodb::bson::RawDocument| document.get_i64("n").ok();
        let key = change.document_key();
        Self {
            operation: change.operation().clone(),
            collection: change.collection().map(str::to_owned),
            id: key.and_then(|key| key.get("_id").ok().flatten()),
            n: match change.update_description() {
                Some(update) => update.get("n").expect("an integer"),
                None => change.full_document().and_then(integer),
            },
            event_id: change.event_id(),
            time: change.cluster_time(),
            attempt,
        }
    }
}

/// What the handlers saw so far, in order.
#[derive(Clone)]
pub(crate) struct Seen(Arc<watch::Sender<Vec<Event>>>);

impl Default for Seen {
    fn default() -> Self {
        Self(Arc::new(watch::Sender::default()))
    }
}

impl Seen {
    pub(crate) fn push(&self, event: Event) {
        self.0.send_modify(|events| events.push(event));
    }

    pub(crate) fn events(&self) -> Vec<Event> {
        self.0.borrow().clone()
    }

    pub(crate) fn ids(&self) -> Vec<i64> {
        self.0
            .borrow()
            .iter()
            .filter_map(|event| event.id)
            .collect()
    }

    /// Waits until `enough` of them are there.
    pub(crate) async fn until(&self, enough: impl Fn(&[Event]) -> bool) -> Vec<Event> {
        let mut events = self.0.subscribe();
        let waited = timeout(PATIENCE, events.wait_for(|events| enough(events))).await;
        match waited {
            Ok(events) => events.expect("the sender is here").clone(),
            Err(_elapsed) => panic!("waited in vain for events after {:#?}", self.events()),
        }
    }

    /// Waits until so many of them are there.
    pub(crate) async fn count(&self, count: usize) -> Vec<Event> {
        self.until(|events| events.len() >= count).await
    }

    /// Waits until every one of these ids was seen.
    pub(crate) async fn all(&self, ids: impl IntoIterator<Item = i64>) -> Vec<Event> {
        let ids: Vec<_> = ids.into_iter().collect();
        let seen = |events: &[Event], id| events.iter().any(|event| event.id == Some(id));
        self.until(|events| ids.iter().all(|id| seen(events, *id)))
            .await
    }
}

/// A runtime that runs beside the test.
pub(crate) struct Started {
    pub(crate) health: Health,
    shutdown: oneshot::Sender<()>,
    task: JoinHandle<Result<(), Error>>,
}

impl Started {
    /// A runtime that notes what it sees of `orders`.
    pub(crate) fn recording<S>(scene: &Scene<S>, seen: &Seen) -> Self {
        Self::new(scene.runtime(seen).handlers([recorder(&["orders"])]))
    }

    pub(crate) fn new(builder: RuntimeBuilder<Seen>) -> Self {
        let runtime = builder.build().expect("a runtime");
        let (shutdown, asked) = oneshot::channel();
        let shut_down = async {
            asked.await.ok();
        };
        Self {
            health: runtime.health(),
            shutdown,
            task: tokio::spawn(runtime.run_until(shut_down)),
        }
    }

    /// Shuts it down.
    pub(crate) async fn stop(self) -> Result<(), Error> {
        self.shutdown.send(()).ok();
        let stopped = within("the runtime stops", self.task).await;
        stopped.expect("no panic")
    }

    pub(crate) fn has_ended(&self) -> bool {
        self.task.is_finished()
    }

    /// Drops it where it stands, as a crash would.
    pub(crate) async fn crash(self) {
        self.task.abort();
        let ended = within("the runtime is dropped", self.task).await;
        assert!(ended.is_err_and(|error| error.is_cancelled()));
    }

    /// The error that ends it by itself.
    pub(crate) async fn error(self) -> Error {
        let ended = within("the runtime ends", self.task).await;
        ended.expect("no panic").expect_err("an error")
    }
}

/// Waits until the runtime is interrupted; why.
pub(crate) async fn interrupted(health: &Health) -> String {
    let mut health = health.clone();
    let reason = async {
        loop {
            if let RuntimeState::Interrupted { reason, .. } = health.state() {
                return reason;
            }
            health.changed().await.expect("it runs on");
        }
    };
    within("the runtime is interrupted", reason).await
}

/// Waits until the runtime is ready.
pub(crate) async fn ready(health: &Health) {
    assert!(within("the runtime is ready", health.ready()).await);
}

/// The messages of an error and of all that caused it.
pub(crate) fn chain(error: &dyn StdError) -> String {
    let mut messages = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        messages = format!("{messages}: {error}");
        cause = error.source();
    }
    messages
}
