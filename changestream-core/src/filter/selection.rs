use super::{FieldPath, Filter};
use crate::{
    checkpoint::MongoCheckpoints, dead_letter::MongoDeadLetters, event::Operation,
    lease::MongoLeases, processed::MongoProcessed, snapshot::MongoSnapshots,
};

/// The runtime's own collections. A handler of a whole database does not receive their changes: each
/// checkpoint would be an event, and each event a checkpoint.
pub(crate) fn own_collections() -> [&'static str; 6] {
    [
        MongoCheckpoints::COLLECTION,
        MongoCheckpoints::GAPS,
        MongoDeadLetters::COLLECTION,
        MongoLeases::COLLECTION,
        MongoSnapshots::COLLECTION,
        MongoProcessed::COLLECTION,
    ]
}

/// What one handler selects: the flat form from which its exact filter, the merged filter and the
/// router's table are made.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Selection {
    /// The runtime's database when `None`.
    pub(crate) database: Option<String>,
    /// Every collection when empty.
    pub(crate) collections: Vec<String>,
    pub(crate) operations: Vec<Operation>,
    /// Any change when empty.
    pub(crate) fields: Vec<FieldPath>,
}

impl Selection {
    /// The exact filter. Operations that name no collection, or no database, are not held to one.
    pub(crate) fn filter(&self) -> Filter {
        let mut all = vec![Filter::Operation(self.operations.clone())];
        if let Some(database) = &self.database {
            let database = Filter::Database(database.clone());
            all.push(self.or_operations(database, &[Operation::Invalidate]));
        }
        if self.collections.is_empty() {
            let own = own_collections().map(str::to_owned).to_vec();
            all.push(Filter::Not(Box::new(Filter::Collection(own))));
        } else {
            let collection = Filter::Collection(self.collections.clone());
            let unnamed = [Operation::DropDatabase, Operation::Invalidate];
            all.push(self.or_operations(collection, &unnamed));
        }
        all.extend(self.changed());
        Filter::And(all)
    }

    /// What of it is left to ask of an event that is of its database and one of its collections.
    pub(crate) fn filter_within_collections(&self) -> Filter {
        let mut all = vec![Filter::Operation(self.operations.clone())];
        all.extend(self.changed());
        Filter::And(all)
    }

    fn changed(&self) -> Option<Filter> {
        (!self.fields.is_empty()).then(|| Filter::Changed(self.fields.clone()))
    }

    fn or_operations(&self, filter: Filter, operations: &[Operation]) -> Filter {
        let mut selected = operations.to_vec();
        selected.retain(|operation| self.selects(operation));
        match selected.as_slice() {
            [] => filter,
            _ => Filter::Or(vec![filter, Filter::Operation(selected)]),
        }
    }

    pub(crate) fn selects(&self, operation: &Operation) -> bool {
        self.operations.contains(operation)
    }
}
