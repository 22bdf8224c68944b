//! A service in a process of its own, to send signals to. It copies what it handles to another database.

use std::{
    env,
    process::Stdio,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use changestream::{
    Checkpoint, CheckpointStore, Claimed, Gap, MongoCheckpoints, Saved, StoreError,
    StoredCheckpoint, prelude::*,
};
use futures::TryStreamExt;
use mongodb::{
    Client,
    bson::{Document, doc},
};
use nix::{
    sys::signal::{Signal, kill, raise},
    unistd::Pid,
};
use tokio::{process::Command, sync::Semaphore};

use super::{Event, eventually, within};

const URI: &str = "CHANGESTREAM_TEST_CHILD_URI";
const LEASE: &str = "CHANGESTREAM_TEST_CHILD_LEASE";
const PERMITS: &str = "CHANGESTREAM_TEST_CHILD_PERMITS";
const PARTITIONS: &str = "CHANGESTREAM_TEST_CHILD_PARTITIONS";
const STOPS_AT_SAVE: &str = "CHANGESTREAM_TEST_CHILD_STOPS_AT_SAVE";

/// The name of the test [`child`].
const CHILD: &str = "support::child::child";

/// What the process ends with when a second signal aborts its drain.
pub(crate) const ABORTED: i32 = 3;

/// How a child runs.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Settings {
    /// A short one may be lost on a slow machine; a long one is waited for after a crash.
    pub(crate) lease: Duration,
    /// How many of its events get through; the next one hangs.
    pub(crate) permits: usize,
    /// Before which of its saves of a checkpoint it stops, as of `SIGSTOP`; 0 for none.
    pub(crate) stops_at_save: u32,
    pub(crate) partitions: u32,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            lease: Duration::from_secs(30),
            permits: Semaphore::MAX_PERMITS,
            stops_at_save: 0,
            partitions: 1,
        }
    }
}

/// The process that [`start`](Self::start) starts: this binary, of which it runs the ignored test [`child`].
pub(crate) struct Child(tokio::process::Child);

impl Child {
    /// A process that watches the server of this connection string.
    pub(crate) fn start(uri: &str, settings: Settings) -> Self {
        Self::start_with(uri, settings, [])
    }

    /// The same with an environment of its own.
    pub(crate) fn start_with<const N: usize>(
        uri: &str,
        settings: Settings,
        environment: [(&str, String); N],
    ) -> Self {
        let mut command = Command::new(env::current_exe().expect("this test's binary"));
        command.args(["--exact", CHILD, "--ignored", "--nocapture"]);
        command.env(URI, uri);
        command.env(LEASE, settings.lease.as_secs().to_string());
        command.env(PERMITS, settings.permits.to_string());
        command.env(STOPS_AT_SAVE, settings.stops_at_save.to_string());
        command.env(PARTITIONS, settings.partitions.to_string());
        command.envs(environment);
        command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .kill_on_drop(true);
        Self(command.spawn().expect("a process"))
    }

    pub(crate) fn signal(&self, signal: Signal) {
        let id = self.0.id().expect("it runs");
        kill(Pid::from_raw(id.try_into().expect("a process id")), signal).expect("signalled");
    }

    pub(crate) async fn wait(&mut self) -> std::process::ExitStatus {
        self.0.wait().await.expect("a status")
    }

    /// Ends it as it should.
    pub(crate) async fn stop(mut self) {
        self.signal(Signal::SIGTERM);
        let status = within("the child ends", self.wait()).await;
        assert!(status.success(), "{status}");
    }
}

#[test]
#[ignore = "the tests of other processes run it"]
fn child() {
    let Ok(uri) = env::var(URI) else { return };
    let setting = |name| env::var(name).expect("a setting");
    let settings = Settings {
        lease: Duration::from_secs(setting(LEASE).parse().expect("a number")),
        permits: setting(PERMITS).parse().expect("a number"),
        stops_at_save: setting(STOPS_AT_SAVE).parse().expect("a number"),
        partitions: setting(PARTITIONS).parse().expect("a number"),
    };
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    match runtime.block_on(copy(&uri, settings)) {
        Ok(()) => {}
        Err(error) if error.is_aborted() => std::process::exit(ABORTED),
        Err(error) => panic!("{}", super::chain(&error)),
    }
}

/// Stops the process right before one of the saves, which goes on however long that takes.
#[derive(Debug)]
struct StopsAtSave {
    inner: MongoCheckpoints,
    saves_left: AtomicU32,
}

#[async_trait]
impl CheckpointStore for StopsAtSave {
    async fn load(&self, runtime: &str) -> Result<Option<Checkpoint>, StoreError> {
        self.inner.load(runtime).await
    }

    async fn claim(&self, runtime: &str, epoch: i64) -> Result<Claimed, StoreError> {
        self.inner.claim(runtime, epoch).await
    }

    async fn save(&self, runtime: &str, checkpoint: &Checkpoint) -> Result<Saved, StoreError> {
        let save = self.inner.save(runtime, checkpoint);
        let left = self.saves_left.load(Ordering::SeqCst);
        self.saves_left
            .store(left.saturating_sub(1), Ordering::SeqCst);
        if left != 1 {
            return save.await;
        }
        raise(Signal::SIGSTOP).expect("stopped and continued");
        // Not even a runtime that drops it keeps this save from being sent.
        tokio::task::block_in_place(|| tokio::runtime::Handle::current().block_on(save))
    }

    async fn record_gap(&self, gap: &Gap) -> Result<(), StoreError> {
        self.inner.record_gap(gap).await
    }

    async fn list(&self) -> Result<Vec<StoredCheckpoint>, StoreError> {
        self.inner.list().await
    }

    async fn reset(&self, runtime: &str) -> Result<Vec<String>, StoreError> {
        self.inner.reset(runtime).await
    }
}

async fn copy(uri: &str, settings: Settings) -> Result<(), changestream::Error> {
    let client = super::client(uri).await;
    let shop = client.database("shop");
    let copies = client.database("copies").collection::<Document>("orders");
    let gate = Arc::new(Semaphore::new(settings.permits));
    let copy = move |change: RawChange| {
        let (copies, gate) = (copies.clone(), Arc::clone(&gate));
        async move {
            let event = Event::of(&change, 1);
            copies
                .insert_one(doc! { "id": event.id, "n": event.n })
                .await?;
            gate.acquire().await?.forget();
            Ok::<_, HandlerError>(())
        }
    };
    let spec = HandlerSpec::new("copy", copy).collections(["orders"]);
    let checkpoints = StopsAtSave {
        inner: MongoCheckpoints::new(&shop),
        saves_left: AtomicU32::new(settings.stops_at_save),
    };
    Runtime::builder(shop)
        .name(super::RUNTIME)
        .concurrency(1)
        .lease(settings.lease)
        .partitions(settings.partitions)
        .checkpoint_store(checkpoints)
        .handlers([spec.timeout(Duration::from_secs(3600))])
        .build()?
        .run()
        .await
}

/// What the children have copied so far, in order: ids and versions.
pub(crate) async fn copies(client: &Client) -> Vec<(i64, i64)> {
    let copies = client.database("copies").collection::<Document>("orders");
    let copies: Vec<_> = copies
        .find(doc! {})
        .await
        .expect("read")
        .try_collect()
        .await
        .expect("read");
    let integer = |copy: &Document, key| copy.get_i64(key).expect("a number");
    copies
        .iter()
        .map(|copy| (integer(copy, "id"), integer(copy, "n")))
        .collect()
}

/// Waits until one of them is active for the first time.
pub(crate) async fn wait_until_watching(client: &Client) {
    let checkpoints = client
        .database("shop")
        .collection::<Document>(MongoCheckpoints::COLLECTION);
    eventually("the child watches", async || {
        let watching = doc! { "kind": { "$exists": true } };
        checkpoints.find_one(watching).await.expect("read")
    })
    .await;
}
