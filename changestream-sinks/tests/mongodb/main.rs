//! The MongoDB sink against real servers.

mod access;
mod insert;
mod merge;
mod oldest;
mod outage;
mod refused;
mod settings;
mod upsert;

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use bson::{Bson, Document, doc};
use changestream_core::{
    DeadLetter, HandlerError, HandlerSpec, MemoryDeadLetters, Message, OnSinkDown, RawChange,
    SinkSpec,
    testing::{TestRuntime, change},
};
use changestream_testkit::{MongoServer, ServerVersion, TestServer};
use futures::{TryStreamExt, stream};
use mongodb::{
    Client, Collection, Database,
    event::{EventHandler, command::CommandEvent},
    options::ClientOptions,
};
use tokio::time::{Instant, sleep};

type TestResult<T = ()> = Result<T, Box<dyn std::error::Error + Send + Sync>>;

/// A database of a server, and how many commands that write were sent to it.
struct Scene {
    _server: Server,
    database: Database,
    writes: Arc<AtomicUsize>,
}

#[allow(dead_code, reason = "they are kept until the test is over")]
enum Server {
    Any(TestServer),
    Own(MongoServer),
}

impl Scene {
    async fn new() -> TestResult<Self> {
        let server = TestServer::from_env_or_start().await?;
        let uri = server.uri().to_owned();
        let database = server.unique_database("sink");
        Self::on(Server::Any(server), &uri, &database).await
    }

    async fn oldest() -> TestResult<Self> {
        let server = MongoServer::builder().version(ServerVersion::V4_4);
        let server = server.start().await?;
        let uri = server.uri();
        Self::on(Server::Own(server), &uri, "sink").await
    }

    async fn on(server: Server, uri: &str, database: &str) -> TestResult<Self> {
        let writes = Arc::new(AtomicUsize::new(0));
        let mut options = ClientOptions::parse(uri).await?;
        // After some errors the driver waits until it hears of the server again.
        options.heartbeat_freq = Some(Duration::from_millis(500));
        let count = Arc::clone(&writes);
        options.command_event_handler = Some(EventHandler::callback(move |event| {
            if let CommandEvent::Started(command) = event {
                let is_write = ["insert", "update", "delete"].contains(&&*command.command_name);
                count.fetch_add(usize::from(is_write), SeqCst);
            }
        }));
        Ok(Self {
            _server: server,
            database: Client::with_options(options)?.database(database),
            writes,
        })
    }

    fn collection(&self, name: &str) -> Collection<Document> {
        self.database.collection(name)
    }
}

/// Sends each message about its event, all at once; the dead letters.
async fn deliver(
    sink: impl Into<SinkSpec>,
    messages: impl IntoIterator<Item = (RawChange, Message)>,
) -> Vec<DeadLetter> {
    let (changes, messages): (Vec<_>, HashMap<_, _>) = messages
        .into_iter()
        .map(|(change, message)| (change.clone(), (change.event_id(), message)))
        .unzip();
    let messages = Arc::new(messages);
    let handler = move |change: RawChange| {
        let message = messages.get(&change.event_id()).cloned();
        async move { Ok::<_, HandlerError>(message) }
    };
    let letters = MemoryDeadLetters::default();
    let sink = sink.into().backoff(Duration::from_millis(1));
    TestRuntime::builder()
        .handlers([HandlerSpec::new("send", handler).to(["sink"])])
        .sink("sink", sink.on_down(OnSinkDown::DeadLetter))
        .dead_letter_store(letters.clone())
        .concurrency(64)
        .build()
        .expect("a runtime")
        .run(stream::iter([changes]))
        .await;
    letters.letters()
}

/// Delivers all of them.
#[track_caller]
fn assert_none(letters: &[DeadLetter]) {
    let errors: Vec<_> = letters.iter().map(DeadLetter::error).collect();
    assert!(errors.is_empty(), "{errors:?}");
}

/// What was wrong with the only one that was not delivered: a rejection, after the first attempt.
#[track_caller]
fn rejection(letters: &[DeadLetter]) -> String {
    let [letter] = letters else {
        panic!("{} dead letters", letters.len());
    };
    let error = letter.error().join(": ");
    assert_eq!(letter.attempts(), 1, "{error}");
    error
}

fn json(document: Document) -> Message {
    Message::json(&document).expect("a message")
}

fn insert(id: impl Into<Bson>) -> RawChange {
    change::insert("orders").id(id).build()
}

fn delete(id: impl Into<Bson>) -> RawChange {
    change::delete("orders").id(id).build()
}

async fn all(collection: &Collection<Document>) -> TestResult<Vec<Document>> {
    let found = collection.find(doc! {}).sort(doc! { "_id": 1 }).await?;
    Ok(found.try_collect().await?)
}

async fn eventually<T>(what: &str, mut look: impl AsyncFnMut() -> Option<T>) -> T {
    let begin = Instant::now();
    loop {
        if let Some(found) = look().await {
            return found;
        }
        assert!(begin.elapsed() < Duration::from_secs(60), "{what}");
        sleep(Duration::from_millis(20)).await;
    }
}
