//! A database with a runtime whose handler fails, and the binary to look after it.

use std::{
    error::Error,
    io::Write,
    process::{Command, Output, Stdio},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use bson::{Document, doc};
use changestream_core::{
    Attempt, ClusterTime, DeadLetterFilter, DeadLetterStore, HandlerError, HandlerSpec,
    MongoDeadLetters, RawChange, Runtime, StartAt,
};
use changestream_testkit::TestServer;
use mongodb::Database;
use serde_json::Value;
use tokio::{
    sync::oneshot,
    task::{JoinHandle, spawn_blocking},
    time::{sleep, timeout},
};

pub(crate) type TestResult = Result<(), Box<dyn Error + Send + Sync>>;

pub(crate) const RUNTIME: &str = "shop";

/// In every order, and never to be printed but by `show`.
pub(crate) const SECRET: &str = "4111-1111";

pub(crate) const PATIENCE: Duration = Duration::from_secs(180);

pub(crate) struct Shop {
    pub(crate) database: Database,
    server: TestServer,
    start: StartAt,
    /// The orders that the handler saw, in order.
    seen: Arc<Mutex<Vec<i32>>>,
    /// Whether orders other than 13 are handled by now.
    mended: Arc<AtomicBool>,
}

pub(crate) struct Started {
    shutdown: oneshot::Sender<()>,
    task: JoinHandle<Result<(), changestream_core::Error>>,
}

impl Started {
    pub(crate) async fn stop(self) -> TestResult {
        self.shutdown.send(()).ok();
        timeout(PATIENCE, self.task).await???;
        Ok(())
    }
}

impl Shop {
    pub(crate) async fn open() -> Self {
        let server = TestServer::from_env_or_start().await.expect("a server");
        let client = server.client().await.expect("a client");
        let database = client.database(&server.unique_database("cli"));
        let pong = database
            .run_command(doc! { "ping": 1 })
            .await
            .expect("a pong");
        let mut now = pong.get_timestamp("operationTime").expect("a replica set");
        now.increment += 1;
        Self {
            database,
            server,
            start: StartAt::OperationTime(ClusterTime(now)),
            seen: Arc::default(),
            mended: Arc::default(),
        }
    }

    /// A shop with the dead letters of these orders; its runtime is stopped.
    pub(crate) async fn with_letters(orders: impl IntoIterator<Item = i32>) -> Self {
        let shop = Self::open().await;
        let orders: Vec<_> = orders.into_iter().collect();
        let runtime = shop.run("fragile");
        for id in &orders {
            let order = doc! { "_id": *id, "card": SECRET };
            let orders = shop.database.collection::<Document>("orders");
            orders.insert_one(order).await.expect("an insert");
        }
        shop.until_letters(orders.len()).await;
        runtime.stop().await.expect("a stop");
        shop
    }

    /// Runs a runtime, whose one handler has this name.
    pub(crate) fn run(&self, handler: &str) -> Started {
        self.run_partitioned(handler, 1)
    }

    /// As [`run`](Self::run), with the keys split into partitions.
    pub(crate) fn run_partitioned(&self, handler: &str, partitions: u32) -> Started {
        let (seen, mended) = (Arc::clone(&self.seen), Arc::clone(&self.mended));
        let handle = move |change: RawChange, Attempt(attempt): Attempt| {
            let key = change.document_key().and_then(|key| key.get("_id").ok()?);
            let id: i32 = key.expect("a key");
            seen.lock().expect("no panic").push(id);
            std::future::ready(match mended.load(Ordering::SeqCst) {
                false => Err(HandlerError::reject(format!("card {SECRET} is refused"))),
                true if id == 13 => Err(HandlerError::reject(format!("still broken, {attempt}"))),
                true => Ok(()),
            })
        };
        let runtime = Runtime::builder(self.database.clone())
            .name(RUNTIME)
            .handlers([HandlerSpec::new(handler, handle).collections(["orders"])])
            .start_at(self.start.clone())
            .checkpoint_events(1)
            .partitions(partitions)
            .build()
            .expect("a runtime");
        let (shutdown, asked) = oneshot::channel();
        let asked = async {
            asked.await.ok();
        };
        Started {
            shutdown,
            task: tokio::spawn(runtime.run_until(asked)),
        }
    }

    pub(crate) fn mend(&self) {
        self.mended.store(true, Ordering::SeqCst);
    }

    pub(crate) fn seen(&self) -> Vec<i32> {
        self.seen.lock().expect("no panic").clone()
    }

    /// The ids of the dead letters, oldest first.
    pub(crate) async fn letters(&self) -> Vec<String> {
        let letters = MongoDeadLetters::new(&self.database);
        let found = letters.list(&DeadLetterFilter::default(), None, 100).await;
        found
            .expect("letters")
            .into_iter()
            .map(|letter| letter.id)
            .collect()
    }

    async fn until_letters(&self, count: usize) {
        let waiting = async {
            while self.letters().await.len() < count {
                sleep(Duration::from_millis(20)).await;
            }
        };
        timeout(PATIENCE, waiting).await.expect("dead letters");
    }

    /// The binary, set to the shop's server and database.
    pub(crate) fn command(&self, args: &[&str]) -> Command {
        let mut command = binary(args);
        command
            .env("MONGODB_URI", self.server.uri())
            .args(["--database", self.database.name()]);
        command
    }

    pub(crate) async fn cli(&self, args: &[&str]) -> Ran {
        run(self.command(args)).await
    }
}

/// The binary, with nothing in its environment that it reads, and no terminal.
pub(crate) fn binary(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_changestream"));
    command
        .args(args)
        .env_remove("MONGODB_URI")
        .env("USER", "tester")
        .stdin(Stdio::null());
    command
}

/// What the binary did.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Ran {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    pub(crate) fn says(&self, text: &str) -> bool {
        self.stdout.contains(text) || self.stderr.contains(text)
    }
}

impl From<Output> for Ran {
    fn from(output: Output) -> Self {
        let text = |bytes| String::from_utf8(bytes).expect("text");
        Self {
            code: output.status.code(),
            stdout: text(output.stdout),
            stderr: text(output.stderr),
        }
    }
}

pub(crate) async fn run(mut command: Command) -> Ran {
    let running = spawn_blocking(move || command.output());
    let output = timeout(PATIENCE, running).await.expect("the binary ends");
    output.expect("no panic").expect("the binary starts").into()
}

/// Runs the binary on a terminal, where `answer` is typed.
pub(crate) async fn run_on_terminal(mut command: Command, answer: &'static str) -> Ran {
    let running = spawn_blocking(move || {
        let terminal = nix::pty::openpty(None, None).expect("a terminal");
        let mut keyboard = std::fs::File::from(terminal.master);
        keyboard.write_all(answer.as_bytes()).expect("typing");
        command.stdin(Stdio::from(terminal.slave)).output()
    });
    let output = timeout(PATIENCE, running).await.expect("the binary ends");
    output.expect("no panic").expect("the binary starts").into()
}
