//! What a database's checkpoints ever were.

use std::collections::HashMap;

use changestream::MongoCheckpoints;
use futures::StreamExt;
use mongodb::{Database, bson::Document, options::FullDocumentType};

use super::BoxError;

/// Every state of the checkpoints that was ever durable.
pub(crate) struct Commits(tokio::task::JoinHandle<Result<(), String>>);

impl Commits {
    /// Watches each of them go forward.
    pub(crate) async fn watch(database: &Database) -> Result<Self, BoxError> {
        let checkpoints = database.collection::<Document>(MongoCheckpoints::COLLECTION);
        let mut stream = checkpoints
            .watch()
            .full_document(FullDocumentType::UpdateLookup)
            .await?;
        Ok(Self(tokio::spawn(async move {
            let mut newest = HashMap::new();
            while let Some(Ok(event)) = stream.next().await {
                let key = event.document_key.unwrap_or_default();
                let last = newest.entry(key.to_string()).or_insert((0, -1));
                // Not the looked-up document: that may be of a later update.
                let update = event.update_description.map(|update| update.updated_fields);
                let written = update.or(event.full_document).unwrap_or_default();
                let epoch = written.get_i64("epoch").unwrap_or(last.0);
                let sequence = written.get_i64("sequence").unwrap_or(last.1);
                if (epoch, sequence) < *last {
                    return Err(format!("{key}: ({epoch}, {sequence}) came after {last:?}"));
                }
                *last = (epoch, sequence);
            }
            Ok(())
        })))
    }

    pub(crate) fn assert_in_order(&self) {
        assert!(!self.0.is_finished(), "a stale holder has committed");
    }
}
