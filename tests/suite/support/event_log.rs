//! The events of a script of writes, as the server reported them.

use std::{
    collections::{BTreeSet, HashMap},
    time::Duration,
};

use bson::{Bson, Document, RawDocumentBuf, Timestamp, doc};
use changestream::{Operation, RawChange};
use changestream_testkit::TestServer;
use futures::StreamExt;
use mongodb::{Client, Collection, action::Aggregate};

use super::random::{NAMESPACES, Write};

/// Events by their place in the log.
pub(crate) type Events = BTreeSet<usize>;

pub(crate) struct Log {
    pub(crate) client: Client,
    pub(crate) databases: Vec<String>,
    pub(crate) events: Vec<RawChange>,
    /// The operation time before the first event.
    pub(crate) from: Timestamp,
    until: Timestamp,
    places: HashMap<String, usize>,
    copies: Collection<RawDocumentBuf>,
    has_images: bool,
    _server: TestServer,
}

impl Log {
    /// The collection of the first database into which the last write goes.
    pub(crate) const SENTINEL: &str = "sentinel";
    const DEADLINE: Duration = Duration::from_secs(180);

    pub(crate) async fn of(script: Vec<Write>) -> Self {
        let server = TestServer::from_env_or_start().await.expect("a server");
        let client = server.client().await.expect("a client");
        let databases = vec![
            server.unique_database("filters"),
            server.unique_database("filters"),
        ];
        let copies = client
            .database(&server.unique_database("filters_log"))
            .collection("events");
        let mut log = Self {
            from: Timestamp {
                time: 0,
                increment: 0,
            },
            until: Timestamp {
                time: 0,
                increment: 0,
            },
            events: Vec::new(),
            places: HashMap::new(),
            has_images: false,
            copies,
            databases,
            client,
            _server: server,
        };
        log.has_images = log.record_images().await;
        log.from = log.now().await;
        for write in script {
            let (database, _) = NAMESPACES[write.namespace];
            // What the server refuses makes no event.
            log.command(database, write.command).await.ok();
        }
        log.drop_the_second_database().await;
        let sentinel = doc! { "insert": Self::SENTINEL, "documents": [{}], "writeConcern": { "w": "majority" } };
        log.command(0, sentinel).await.expect("the last write");
        log.until = log.now().await;
        // Moves the streams past the last event.
        log.copies
            .insert_one(RawDocumentBuf::new())
            .await
            .expect("a write");
        log.read_events().await;
        log
    }

    async fn command(
        &self,
        database: usize,
        command: Document,
    ) -> mongodb::error::Result<Document> {
        self.client
            .database(&self.databases[database])
            .run_command(command)
            .await
    }

    async fn now(&self) -> Timestamp {
        let pong = self
            .command(0, doc! { "ping": 1 })
            .await
            .expect("an answer");
        pong.get_timestamp("operationTime").expect("a replica set")
    }

    /// Whether the first collection records images; the others do not.
    async fn record_images(&self) -> bool {
        for (database, collection) in NAMESPACES {
            let create = doc! { "create": collection };
            self.command(database, create).await.expect("a collection");
        }
        let images = doc! { "collMod": NAMESPACES[0].1, "changeStreamPreAndPostImages": { "enabled": true } };
        self.command(0, images).await.is_ok()
    }

    /// Renames a collection, drops it, and drops its database.
    async fn drop_the_second_database(&self) {
        let name = &self.databases[1];
        let (from, to) = (format!("{name}.orders"), format!("{name}.plain"));
        let rename = doc! { "renameCollection": from, "to": to };
        let renamed = self.client.database("admin").run_command(rename).await;
        renamed.expect("a rename");
        self.command(1, doc! { "drop": "plain" })
            .await
            .expect("a drop");
        self.command(1, doc! { "create": "orders" })
            .await
            .expect("a collection");
        self.command(1, doc! { "dropDatabase": 1 })
            .await
            .expect("a drop");
    }

    async fn read_events(&mut self) {
        let ours = doc! { "$match": { "ns.db": { "$in": &self.databases } } };
        let events = self.stream(&[ours]).await;
        let renamed = self.client.database(&self.databases[1]);
        let renamed = renamed.collection::<Document>("orders");
        let only_invalidate = doc! { "$match": { "operationType": "invalidate" } };
        let pipeline = [self.change_stream(false), only_invalidate];
        let invalidate = self.read(renamed.aggregate(pipeline)).await;
        for event in events.into_iter().chain(invalidate) {
            self.places.insert(token(&event), self.events.len());
            self.events.push(event);
        }
        let copies = self.events.iter().map(|event| event.as_raw().to_owned());
        self.copies
            .insert_many(copies)
            .await
            .expect("copies of the events");
    }

    fn change_stream(&self, is_of_deployment: bool) -> Document {
        let mut options =
            doc! { "startAtOperationTime": self.from, "fullDocument": "updateLookup" };
        if is_of_deployment {
            options.insert("allChangesForCluster", true);
        }
        if self.has_images {
            options.insert("fullDocumentBeforeChange", "whenAvailable");
        }
        doc! { "$changeStream": options }
    }

    async fn stream(&self, stages: &[Document]) -> Vec<RawChange> {
        let stages = stages.iter().cloned();
        let pipeline: Vec<_> = [self.change_stream(true)]
            .into_iter()
            .chain(stages)
            .collect();
        self.read(self.client.database("admin").aggregate(pipeline))
            .await
    }

    /// The events of a stream up to the last one of the log.
    async fn read(&self, stream: Aggregate<'_>) -> Vec<RawChange> {
        let reading = async {
            let stream = stream
                .max_await_time(Duration::from_millis(10))
                .batch_size(10_000);
            let mut batches = stream.batch().await.expect("a stream");
            let mut events = Vec::new();
            while let Some(reply) = batches.next().await {
                let reply = reply.expect("a batch");
                for event in reply.doc_slices().expect("events") {
                    let event = event.expect("an event").as_document().expect("an event");
                    events.push(RawChange::new(event.as_bytes().to_vec()).expect("an event"));
                }
                let cursor = reply
                    .as_raw_document()
                    .get_document("cursor")
                    .expect("a cursor");
                let place = cursor
                    .get_document("postBatchResumeToken")
                    .expect("a token");
                let place = place.get_str("_data").expect("a token");
                if place.get(2..18) > Some(&hexadecimal(self.until)) {
                    break;
                }
            }
            events
        };
        self.within_deadline(reading).await
    }

    pub(crate) async fn within_deadline<T>(&self, work: impl Future<Output = T>) -> T {
        let done = tokio::time::timeout(Self::DEADLINE, work).await;
        done.expect("done before the deadline")
    }

    /// The event as extended JSON.
    pub(crate) fn text(&self, place: usize) -> String {
        let event = Document::try_from(self.events[place].as_raw());
        Bson::from(event.expect("an event")).to_string()
    }

    pub(crate) fn all(&self) -> Events {
        (0..self.events.len()).collect()
    }

    /// The events that a stream of the deployment reports.
    pub(crate) fn streamable(&self) -> Events {
        let all = self.all().into_iter();
        all.filter(|place| *self.events[*place].operation() != Operation::Invalidate)
            .collect()
    }

    /// The events that `stages` let through in a change stream.
    pub(crate) async fn streamed(&self, stages: &[Document]) -> Events {
        let events = self.stream(stages).await;
        let known = events
            .iter()
            .filter_map(|event| self.places.get(&token(event)));
        known.copied().collect()
    }

    /// The events that `stages` let through in an ordinary aggregate.
    pub(crate) async fn stored(&self, stages: &[Document]) -> Events {
        let project = doc! { "$project": { "_id": 1 } };
        // Outside a change stream there is nothing to split.
        let splits = |stage: &&Document| stage.contains_key("$changeStreamSplitLargeEvent");
        let stages = stages.iter().filter(|stage| !splits(stage));
        let pipeline = stages.cloned().chain([project]);
        let passed = self.copies.aggregate(pipeline).await.expect("an aggregate");
        let passed = passed.filter_map(async |document| {
            let document = document.expect("a document");
            let token = document.get_document("_id").ok()?.get_str("_data").ok()?;
            self.places.get(token).copied()
        });
        passed.collect::<Vec<_>>().await.into_iter().collect()
    }

    /// Checks that the script brought what it is there for.
    pub(crate) fn assert_varied(&self) {
        let count = |is: &dyn Fn(&RawChange) -> bool| self.events.iter().filter(|e| is(e)).count();
        let of = |operation: &str| count(&|event| event.operation().as_str() == operation);
        let counts = [
            "insert",
            "update",
            "replace",
            "delete",
            "drop",
            "rename",
            "dropDatabase",
            "invalidate",
        ]
        .map(|operation| (operation, of(operation)));
        let updates = |is: &dyn Fn(&changestream::UpdateDescription) -> bool| {
            count(&|event| event.update_description().is_some_and(|update| is(&update)))
        };
        let removed = updates(&|update| update.removed_fields().next().is_some());
        let truncated = updates(&|update| update.truncated_arrays().next().is_some());
        let dotted = updates(&|update| {
            update
                .updated_fields()
                .iter()
                .flatten()
                .any(|(key, _)| key.as_str().contains('.'))
        });
        let images = count(&|event| event.pre_image().is_some());
        eprintln!(
            "{counts:?}, {removed} removed, {truncated} truncated, {dotted} dotted, {images} pre-images"
        );
        assert!(counts.iter().all(|(_, count)| *count > 0));
        assert!(removed > 10 && dotted > 10);
        assert_eq!(images > 10, self.has_images);
    }
}

fn token(event: &RawChange) -> String {
    event
        .raw_token()
        .get_str("_data")
        .expect("a token")
        .to_owned()
}

fn hexadecimal(time: Timestamp) -> String {
    format!("{:08X}{:08X}", time.time, time.increment)
}
