//! Which checkpoints the server has committed: by its own account, whatever the service thinks.

use std::collections::HashMap;

use changestream::{
    MongoCheckpoints,
    bson::{Document, Timestamp, doc},
    mongodb::{
        Database,
        change_stream::event::{ChangeStreamEvent, OperationType},
        options::WriteConcern,
    },
};

use crate::{
    Result,
    log::{Commit, Log, Place},
};

/// The key of the document with which the account ends.
const END: &str = "the end of the run";

/// Notes all commits since `start` in `log`.
pub(super) async fn note(database: &Database, start: Timestamp, log: &Log) -> Result<()> {
    let checkpoints = database.collection::<Document>(MongoCheckpoints::COLLECTION);
    let marking = checkpoints.insert_one(doc! { "_id": END });
    marking.write_concern(WriteConcern::majority()).await?;
    // The driver's own stream: nothing that is judged has a part in it.
    let mut stream = checkpoints.watch().start_at_operation_time(start).await?;
    let mut checkpoints: HashMap<String, Document> = HashMap::new();
    loop {
        let Some(event) = stream.next_if_any().await? else {
            continue;
        };
        let key = event.document_key.as_ref();
        let Some(name) = key.and_then(|key| key.get_str("_id").ok()) else {
            continue;
        };
        if name == END {
            return Ok(());
        }
        let checkpoint = checkpoints.entry(name.to_owned()).or_default();
        apply(&event, checkpoint);
        log.append(&[Commit {
            name: name.to_owned(),
            place: Place::of(checkpoint),
        }])?;
    }
}

fn apply(event: &ChangeStreamEvent<Document>, checkpoint: &mut Document) {
    match (&event.operation_type, &event.update_description) {
        (OperationType::Update, Some(update)) => {
            for field in &update.removed_fields {
                checkpoint.remove(field);
            }
            let fields = update.updated_fields.iter();
            checkpoint.extend(fields.map(|(field, value)| (field.clone(), value.clone())));
        }
        _ => *checkpoint = event.full_document.clone().unwrap_or_default(),
    }
    // A token may have been changed in part.
    if let Some(data) = checkpoint.remove("token._data")
        && let Ok(token) = checkpoint.get_document_mut("token")
    {
        token.insert("_data", data);
    }
}
