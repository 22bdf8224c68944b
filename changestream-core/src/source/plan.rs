use std::time::Duration;

use bson::{Document, doc};
use mongodb::{
    Client,
    error::Result,
    options::{ReadConcern, ReadPreference, SelectionCriteria},
    raw_batch_cursor::RawBatchCursor,
};
use sha2::{Digest, Sha256};

use super::{
    DocumentModes, Position, Scope, StreamPolicy, oversize::header_stages, patience::Patience,
    projection,
};
use crate::{
    config::Config,
    extract::Reads,
    filter::{Selection, merged},
};

/// What the cursor watches, asks for and lets through: all of a stream but its position.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    scope: Scope,
    modes: DocumentModes,
    stages: Vec<Document>,
    batch_size: u32,
    /// How long the server waits for a change before it answers with an empty batch.
    pub(super) await_time: Duration,
    reply_timeout: Duration,
    policy: StreamPolicy,
}

impl Plan {
    /// The longest time that the server waits for a change before it answers with an empty batch.
    pub(crate) const MAX_AWAIT_TIME: Duration = Duration::from_secs(1);

    pub(crate) fn new(
        selections: &[Selection],
        reads: &Reads,
        default_database: &str,
        modes: DocumentModes,
        config: Config,
    ) -> Self {
        let scope = Scope::covering(selections, default_database);
        let mut stages = merged(selections, &scope);
        stages.extend(projection::stage(reads, modes));
        Self {
            stages,
            scope,
            modes,
            batch_size: config.batch_size,
            await_time: Self::MAX_AWAIT_TIME,
            reply_timeout: config.reply_timeout,
            policy: config.stream,
        }
    }

    /// The same stream, whose first reply holds no events, only its place.
    pub(crate) fn without_events(&self) -> Self {
        Self {
            batch_size: 0,
            ..self.clone()
        }
    }

    /// What to do about what the stream cannot give.
    pub(super) fn policy(&self) -> StreamPolicy {
        self.policy
    }

    /// The documents that the cursor asks for.
    pub(crate) fn modes(&self) -> DocumentModes {
        self.modes
    }

    /// The most events in one reply.
    pub(super) fn batch_size(&self) -> u32 {
        self.batch_size
    }

    /// The same stream, with events that are too large in parts.
    pub(super) fn splitting(&self) -> Self {
        let mut plan = self.clone();
        plan.stages
            .push(doc! { "$changeStreamSplitLargeEvent": {} });
        plan
    }

    /// The same stream, one event in each reply.
    pub(super) fn singly(&self) -> Self {
        Self {
            batch_size: 1,
            ..self.clone()
        }
    }

    /// The same stream, one event in each reply, without its documents.
    pub(super) fn headers(&self) -> Self {
        let mut plan = self.singly();
        plan.stages.extend(header_stages());
        plan
    }

    /// How long a reply may be overdue.
    pub(super) fn patience(&self) -> Patience {
        Patience::new(self.reply_timeout)
    }

    /// Changes when the pipeline or its options do.
    pub(crate) fn fingerprint(&self) -> String {
        let plan = doc! {
            "scope": format!("{:?}", self.scope),
            "pipeline": self.pipeline(&Position::Now),
        };
        let bytes = bson::serialize_to_vec(&plan).expect("a pipeline is a document");
        let digest = Sha256::digest(bytes);
        digest[..8]
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect()
    }

    /// The pipeline that opens the stream at `position`.
    pub(crate) fn pipeline(&self, position: &Position) -> Vec<Document> {
        let mut stage = self.modes.stage();
        if let Ok(options) = stage.get_document_mut("$changeStream") {
            if matches!(self.scope, Scope::Deployment(_)) {
                options.insert("allChangesForCluster", true);
            }
            position.add_to(options);
        }
        let mut pipeline = vec![stage];
        pipeline.extend(self.stages.iter().cloned());
        pipeline
    }

    /// Opens the cursor, reading from the primary with majority read concern, whatever the client's
    /// own settings.
    pub(crate) async fn open(
        &self,
        client: &Client,
        position: &Position,
    ) -> Result<RawBatchCursor> {
        let (database, collection) = match &self.scope {
            Scope::Collection {
                database,
                collection,
            } => (database.as_str(), Some(collection)),
            Scope::Database(database) => (database.as_str(), None),
            Scope::Deployment(_) => ("admin", None),
        };
        let database = client.database(database);
        let collection = collection.map(|name| database.collection::<Document>(name));
        let pipeline = self.pipeline(position);
        let aggregate = match &collection {
            Some(collection) => collection.aggregate(pipeline),
            None => database.aggregate(pipeline),
        };
        aggregate
            .batch_size(self.batch_size)
            .max_await_time(self.await_time)
            .read_concern(ReadConcern::majority())
            .selection_criteria(SelectionCriteria::ReadPreference(ReadPreference::Primary))
            .batch()
            .await
    }
}
