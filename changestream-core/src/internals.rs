//! What fuzz targets (`fuzz/`) and benchmarks (`benches/parts.rs`) reach and users do not: it may change at any time.
//!
//! Built by `cargo fuzz`, which sets `cfg(fuzzing)`, and with the feature `testing`.

use std::{hash::DefaultHasher, sync::Arc};

use bson::{Document, RawDocument};

use crate::{
    checkpoint::Checkpoint,
    decode::DecodeError,
    error::Error,
    event::RawChange,
    filter::{FieldPath, Filter, Selection, merged},
    handler::{ChangeRequest, HandlerSpec},
    key,
    lane::Turn,
    route::Router,
    source::{Assembly, Position, Scope},
    tracker::Tracker,
};

pub use crate::lane::pass;

#[cfg(test)]
mod tests;

/// The first attempt at `change`, for extractors to be taken from.
pub fn request(change: RawChange) -> ChangeRequest {
    ChangeRequest::new(change, Arc::from("handler"), Turn::default())
}

/// The key of `change` as messages carry it. The bytes that part events among partitions are made on the way.
pub fn key(change: &RawChange, path: Option<&FieldPath>) -> Option<String> {
    let value = key::key(change, path)?;
    key::write(value, &mut DefaultHasher::new());
    Some(key::text(value))
}

/// What is stored of `change` in a dead letter.
pub fn stored(change: &RawChange) -> Vec<u8> {
    change.to_document_buf().into_bytes()
}

/// The event that `documents` are the fragments of; `None` where they are none, or not all.
///
/// # Errors
///
/// As for the stream: fragments that are missing or out of order, or make no event.
pub fn assemble(documents: &[&RawDocument]) -> Result<Option<RawChange>, DecodeError> {
    let mut assembly = Assembly::default();
    for document in documents {
        if let Some(change) = assembly.add(document)? {
            return Ok(Some(change));
        }
    }
    Ok(None)
}

/// The options of `$changeStream` that go on from `checkpoint`, with the pipeline that it was saved with or, as after a
/// change of the handlers, another one.
pub fn resumed(checkpoint: &Checkpoint, is_same_pipeline: bool) -> Document {
    let saved_with = &checkpoint.fingerprint;
    let now = match is_same_pipeline {
        true => saved_with.clone(),
        false => format!("not {saved_with}"),
    };
    let mut options = Document::new();
    if let Some(point) = checkpoint.position.clone() {
        Position::of_checkpoint(point, saved_with, &now).add_to(&mut options);
    }
    options
}

/// What several handlers select, and how it is told apart.
#[derive(Debug)]
pub struct Selections {
    selections: Vec<Selection>,
    database: String,
    router: Router,
}

impl Selections {
    /// Of the handlers of a runtime of `database`.
    ///
    /// # Errors
    ///
    /// Where a runtime would not take them either.
    pub fn new(handlers: Vec<HandlerSpec<()>>, database: &str) -> Result<Self, Error> {
        let bound = handlers
            .into_iter()
            .map(|handler| Ok(handler.bind(Arc::new(()))?.selection));
        let selections = bound.collect::<Result<Vec<_>, Error>>()?;
        Ok(Self {
            router: Router::new(&selections, database),
            database: database.to_owned(),
            selections,
        })
    }

    /// Each handler's exact filter.
    pub fn filters(&self) -> impl Iterator<Item = Filter> {
        self.selections.iter().map(|selection| {
            let database = selection.database.as_ref().unwrap_or(&self.database);
            let selection = Selection {
                database: Some(database.clone()),
                ..selection.clone()
            };
            selection.filter()
        })
    }

    /// The merged filter, as the server gets it.
    pub fn merged(&self) -> Vec<Document> {
        let scope = Scope::covering(&self.selections, &self.database);
        merged(&self.selections, &scope)
    }

    /// The handlers that `change` goes to, by their places.
    pub fn routed(&self, change: &RawChange) -> Vec<usize> {
        self.router.route(change).collect()
    }
}

/// Takes note of events, and then that they are done, the last one first; tells how many the low-water mark passed.
pub fn track(changes: &[RawChange]) -> u64 {
    let mut tracker = Tracker::default();
    let begin = |change: &RawChange| tracker.begin(change, 1);
    let begun: Vec<_> = changes.iter().map(begin).collect();
    for sequence in begun.into_iter().rev() {
        tracker.done(sequence);
    }
    tracker.passed()
}
