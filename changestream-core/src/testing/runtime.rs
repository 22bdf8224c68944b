use std::{collections::BTreeMap, sync::Arc};

use futures::{Stream, StreamExt};
use tokio::sync::{mpsc, watch};
use tower::ServiceExt;

use super::change::DATABASE;
use crate::{
    builder::RuntimeBuilder,
    checkpoint::MemoryCheckpoints,
    config::Config,
    dead_letter::{DeadLetter, DeadLetterFilter, MemoryDeadLetters},
    engine::{Drive, Engine, Registered},
    error::{Error, StoreError},
    event::RawChange,
    handler::{BatchItem, ChangeRequest},
    health::HealthReporter,
    lane::{Receipt, Turn},
    layer::Outcome,
    lease::MemoryLeases,
    replay::{ReplayOutcome, Replayer},
    snapshot::{Incoming, MemorySnapshots},
    source::Batch,
};

/// Stands for the server where there is none.
#[derive(Clone, Debug, Default)]
pub struct NoServer {
    dead_letters: MemoryDeadLetters,
}

/// A runtime whose events come from the test: its handlers, layers and sinks are the real ones, its dead
/// letters are in memory. An event that lacks a required image is a dead letter, whatever the policy.
#[derive(Debug)]
pub struct TestRuntime {
    name: Arc<str>,
    config: Config,
    engine: Engine,
    replayer: Replayer,
    dead_letters: MemoryDeadLetters,
}

/// Which handlers an event went to, and what became of it there.
#[derive(Clone, Debug, Default)]
pub struct Report {
    outcomes: Vec<(Arc<str>, Outcome)>,
}

impl TestRuntime {
    /// A builder as of [`Runtime::builder`](crate::Runtime::builder), named `test`, of a runtime that
    /// watches the database [`DATABASE`].
    pub fn builder() -> RuntimeBuilder<(), NoServer> {
        RuntimeBuilder::new(NoServer::default()).name("test")
    }

    /// Runs an event through every handler that wants it, retries, deliveries and dead letters included. The handlers
    /// come one after the other. For a handler of batches it is a batch of one.
    pub async fn send(&mut self, change: impl Into<RawChange>) -> Report {
        self.send_all([change]).await
    }

    /// Runs events through every handler that wants them, one after the other; handlers of batches get theirs
    /// together, in batches of as many as they take at most, without a wait for more. The report has each batch
    /// once, as dead-lettered where an item of it is.
    pub async fn send_all<C: Into<RawChange>>(
        &mut self,
        changes: impl IntoIterator<Item = C>,
    ) -> Report {
        let mut report = Report::default();
        let mut batches = BTreeMap::<usize, Vec<BatchItem>>::new();
        for change in changes {
            let change = change.into();
            let routed: Vec<_> = self.engine.router.route(&change).collect();
            for handler in routed {
                let Registered { name, batch, .. } = &self.engine.handlers[handler];
                let Some(limits) = batch else {
                    let (change, name) = (change.clone(), Arc::clone(name));
                    let request = ChangeRequest::new(change, name, Turn::default());
                    self.call(handler, request, &mut report).await;
                    continue;
                };
                let items = batches.entry(handler).or_default();
                items.push(BatchItem {
                    change: change.clone(),
                    receipt: Receipt::default(),
                });
                if items.len() == limits.max {
                    let items = std::mem::take(items);
                    self.call_batch(handler, items, &mut report).await;
                }
            }
        }
        for (handler, items) in batches {
            self.call_batch(handler, items, &mut report).await;
        }
        report
    }

    async fn call_batch(&mut self, handler: usize, items: Vec<BatchItem>, report: &mut Report) {
        let name = Arc::clone(&self.engine.handlers[handler].name);
        if let Some(request) = ChangeRequest::of_batch(items, name, Turn::default()) {
            self.call(handler, request, report).await;
        }
    }

    async fn call(&mut self, handler: usize, request: ChangeRequest, report: &mut Report) {
        let Registered { name, stacks, .. } = &self.engine.handlers[handler];
        let Ok(outcome) = stacks.stack().oneshot(request).await;
        report.outcomes.push((Arc::clone(name), outcome));
    }

    /// Runs batches of events as a runtime does, with all bounds: events of one key in order, as many of others side by
    /// side as the builder's `concurrency` says. Returns when all of them are done.
    pub async fn run<C: Into<RawChange>>(self, batches: impl Stream<Item = Vec<C>>) {
        let (batches_in, batches_out) = mpsc::channel(1);
        let (marks_in, mut marks) = mpsc::channel(1);
        let (_stop, stopped) = watch::channel(false);
        // Nobody asks for a snapshot.
        let (_chunks, chunks) = mpsc::channel(1);
        let drive = Drive::new(
            self.engine,
            Incoming::new(chunks, Arc::default()),
            marks_in,
            self.config,
            &self.name,
            HealthReporter::new(&self.name),
        );
        let feed = async move {
            let mut batches = std::pin::pin!(batches);
            while let Some(changes) = batches.next().await {
                let changes = changes.into_iter().map(Into::into);
                let batch = Batch::of_no_server(changes.collect());
                if batches_in.send(batch).await.is_err() {
                    return;
                }
            }
        };
        let take_marks = async { while marks.recv().await.is_some() {} };
        let run = drive.run(batches_out, stopped.clone(), stopped);
        tokio::join!(feed, run, take_marks);
    }

    /// Replays the dead letters that `filter` lets through, as
    /// [`Runtime::replay`](crate::Runtime::replay) does.
    ///
    /// # Errors
    ///
    /// When a store that the builder was given fails.
    pub async fn replay(
        &mut self,
        filter: &DeadLetterFilter,
    ) -> Result<Vec<(String, ReplayOutcome)>, StoreError> {
        self.replayer.replay_all(filter).await
    }

    /// The dead letters so far, as they were written, unless the builder was given another store for them.
    pub fn dead_letters(&self) -> Vec<DeadLetter> {
        self.dead_letters.letters()
    }
}

impl Report {
    /// The handlers that succeeded, and whose messages were delivered.
    pub fn handled(&self) -> Vec<&str> {
        self.with(Outcome::Done)
    }

    /// The handlers that failed for good, or a message of which could not be delivered.
    pub fn dead_lettered(&self) -> Vec<&str> {
        self.with(Outcome::DeadLettered)
    }

    fn with(&self, outcome: Outcome) -> Vec<&str> {
        let outcomes = self.outcomes.iter();
        outcomes
            .filter(|(_, found)| *found == outcome)
            .map(|(handler, _)| &**handler)
            .collect()
    }
}

impl<S> RuntimeBuilder<S, NoServer> {
    /// The runtime.
    ///
    /// # Errors
    ///
    /// As of a real runtime's `build`, and when a handler takes a [`Transaction`](crate::Transaction), which
    /// only a server has.
    pub fn build(self) -> Result<TestRuntime, Error> {
        let (server, parts) = self.into_parts(
            |_| Arc::new(MemoryCheckpoints::default()),
            |server| Arc::new(server.dead_letters.clone()),
            |_| Arc::new(MemoryLeases::default()),
            |_| Arc::new(MemorySnapshots::default()),
        )?;
        let mut handlers = parts.handlers.iter();
        if let Some(handler) = handlers.find(|handler| handler.needs.transaction) {
            return Err(Error::configuration(format!(
                "handler `{}` takes a `Transaction`, which needs a server: test it with a real runtime, as on a server \
                 that `changestream-testkit` starts",
                handler.name
            )));
        }
        let (name, config) = (Arc::clone(&parts.name), parts.config);
        let (engine, replayer) = parts.into_engine_and_replayer(DATABASE);
        Ok(TestRuntime {
            name,
            config,
            engine,
            replayer,
            dead_letters: server.dead_letters,
        })
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use bson::{Bson, doc};
    use tokio::time::{Instant, sleep};

    use super::*;
    use crate::{
        handler::{HandlerError, HandlerSpec},
        testing::change,
    };

    const SECOND: Duration = Duration::from_secs(1);

    /// Runs two events of each of two documents, each of which takes a second: how long all of them took, and what
    /// came of each document in turn.
    async fn run(concurrency: usize) -> (Duration, [Vec<i32>; 2]) {
        let (tell, mut told) = mpsc::unbounded_channel();
        let handler = move |change: RawChange| {
            let key = change.document_key().and_then(|key| key.get("_id").ok()?);
            let update = change.update_description().expect("an update");
            let n = update.get::<i32>("n").expect("an integer");
            let tell = tell.clone();
            async move {
                sleep(SECOND).await;
                tell.send((key, n)).ok();
                Ok::<_, HandlerError>(())
            }
        };
        let builder = TestRuntime::builder().concurrency(concurrency);
        let spec = HandlerSpec::new("handler", handler).collections(["orders"]);
        let runtime = builder.handlers([spec]).build().expect("a runtime");
        let batch = |n: i32| [1, 2].map(|id| change::update("orders").id(id).set("n", n));
        let begin = Instant::now();
        let batches = [1, 2].map(|n| batch(n).to_vec());
        runtime.run(futures::stream::iter(batches)).await;
        let took = begin.elapsed();
        let mut seen = [Vec::new(), Vec::new()];
        while let Ok((id, n)) = told.try_recv() {
            let id: i32 = id.expect("an id");
            seen[id as usize - 1].push(n.expect("it was set"));
        }
        (took, seen)
    }

    #[tokio::test(start_paused = true)]
    async fn batches_run_side_by_side_and_in_order_per_key() {
        assert_eq!(run(16).await, (2 * SECOND, [vec![1, 2], vec![1, 2]]));
        assert_eq!(run(1).await, (4 * SECOND, [vec![1, 2], vec![1, 2]]));
    }

    #[test]
    fn a_reply_is_its_events() {
        let event = doc! { "_id": { "_data": "82" }, "operationType": "insert", "documentKey": { "_id": 7 } };
        let reply = |cursor: Bson| {
            let reply = bson::serialize_to_vec(&doc! { "ok": 1.0, "cursor": cursor });
            change::of_reply(reply.expect("BSON"))
        };
        let events = reply(doc! { "firstBatch": [event.clone(), event] }.into()).expect("events");
        let keys = events.iter().map(|event| event.raw_document_key());
        assert_eq!(
            keys.collect::<Vec<_>>(),
            [Some(&*bson::rawdoc! { "_id": 7 }); 2]
        );
        let error = reply(Bson::Null).expect_err("no cursor");
        assert!(error.to_string().contains("`cursor`"), "{error}");
    }
}
