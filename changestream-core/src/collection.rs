//! The collections in which a runtime keeps what must not be lost.

use mongodb::{
    Collection, Database,
    error::{Error as DriverError, ErrorKind, WriteFailure},
    options::{CollectionOptions, ReadConcern, ReadPreference, SelectionCriteria, WriteConcern},
};

const DUPLICATE_KEY: i32 = 11000;

/// The collection `name` of `database`, read from the primary and written with majority concern, whatever the
/// client's own settings.
pub(crate) fn durable<T: Send + Sync>(database: &Database, name: &str) -> Collection<T> {
    let options = CollectionOptions::builder()
        .read_concern(ReadConcern::majority())
        .selection_criteria(primary())
        .write_concern(WriteConcern::majority())
        .build();
    database.collection_with_options(name, options)
}

pub(crate) fn primary() -> SelectionCriteria {
    SelectionCriteria::ReadPreference(ReadPreference::Primary)
}

/// Whether an insert, or an upsert that found nothing, met a document of the same id.
pub(crate) fn is_duplicate_key(error: &DriverError) -> bool {
    match *error.kind {
        ErrorKind::Write(WriteFailure::WriteError(ref error)) => error.code == DUPLICATE_KEY,
        ErrorKind::Command(ref error) => error.code == DUPLICATE_KEY,
        _ => false,
    }
}
