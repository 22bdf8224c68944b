//! Filters and handlers out of the bytes of an input.

use arbitrary::{Result, Unstructured};
use changestream_core::{FieldPath, Filter, HandlerError, HandlerSpec, Operation, RawChange};

/// The runtime's.
pub(crate) const DATABASE: &str = "shop";

const DEPTH: u32 = 4;
const HANDLERS: usize = 4;

const OPERATIONS: [Operation; 9] = [
    Operation::Insert,
    Operation::Update,
    Operation::Replace,
    Operation::Delete,
    Operation::Drop,
    Operation::Rename,
    Operation::DropDatabase,
    Operation::Invalidate,
    Operation::Snapshot,
];

pub(crate) struct Random<'a> {
    choices: Unstructured<'a>,
    databases: Vec<String>,
    collections: Vec<String>,
    paths: Vec<String>,
}

impl<'a> Random<'a> {
    /// Names are mostly those of `change`: others meet nothing.
    pub(crate) fn new(change: &RawChange, choices: Unstructured<'a>) -> Self {
        let mut paths = ["status", "items.0", "a.b", "é"]
            .map(str::to_owned)
            .to_vec();
        if let Some(update) = change.update_description() {
            let updated = update.updated_fields().iter_elements().flatten();
            paths.extend(updated.map(|field| field.key().as_str().to_owned()));
            paths.extend(update.removed_fields().map(str::to_owned));
            paths.extend(
                update
                    .truncated_arrays()
                    .map(|array| array.field.to_owned()),
            );
        }
        for document in [change.full_document(), change.pre_image()] {
            let fields = document
                .into_iter()
                .flat_map(|fields| fields.iter_elements());
            paths.extend(
                fields
                    .flatten()
                    .map(|field| field.key().as_str().to_owned()),
            );
        }
        let collection = change.collection().map(str::to_owned);
        let own = "changestream.checkpoints".to_owned();
        Self {
            choices,
            databases: vec![DATABASE.to_owned(), change.database().to_owned()],
            collections: collection
                .into_iter()
                .chain([own, "orders".to_owned()])
                .collect(),
            paths,
        }
    }

    pub(crate) fn filter(&mut self, depth: u32) -> Result<Filter> {
        let last = if depth < DEPTH { 6 } else { 3 };
        Ok(match self.choices.int_in_range(0..=last)? {
            0 => Filter::Operation(self.operations()?),
            1 => Filter::Database(self.name(|names| &names.databases)?),
            2 => Filter::Collection(self.some(|names| names.name(|names| &names.collections))?),
            3 => Filter::Changed(self.some(Self::path)?),
            4 => Filter::And(self.some(|within| within.filter(depth + 1))?),
            5 => Filter::Or(self.some(|within| within.filter(depth + 1))?),
            _ => Filter::Not(Box::new(self.filter(depth + 1)?)),
        })
    }

    pub(crate) fn handlers(&mut self) -> Result<Vec<HandlerSpec<()>>> {
        let count = self.choices.int_in_range(1..=HANDLERS)?;
        (0..count).map(|_| self.handler()).collect()
    }

    fn handler(&mut self) -> Result<HandlerSpec<()>> {
        let mut handler = HandlerSpec::new("handler", || async { Ok::<(), HandlerError>(()) });
        if self.choices.arbitrary()? {
            handler = handler.database(self.name(|names| &names.databases)?);
        }
        handler = handler.collections(self.some(|names| names.name(|names| &names.collections))?);
        let operations = self.operations()?;
        if !operations.is_empty() {
            handler = handler.operations(operations);
        }
        let fields = self.some(Self::path)?;
        Ok(handler.fields(fields.iter().map(FieldPath::as_str)))
    }

    fn operations(&mut self) -> Result<Vec<Operation>> {
        self.some(|random| random.choices.choose(&OPERATIONS).cloned())
    }

    fn path(&mut self) -> Result<FieldPath> {
        let mut path = self.name(|names| &names.paths)?;
        match self.choices.int_in_range(0..=3)? {
            // A parent of it, or a part.
            0 => path.truncate(path.rfind('.').unwrap_or(path.len())),
            1 => path.push_str(".b"),
            _ => {}
        }
        FieldPath::new(path).or_else(|_| Ok(FieldPath::new("status").expect("a path")))
    }

    /// One that is known, or any other.
    fn name(&mut self, known: fn(&Self) -> &Vec<String>) -> Result<String> {
        let known = known(self).clone();
        match self.choices.int_in_range(0..=7)? {
            0 => self.choices.arbitrary(),
            _ => self.choices.choose(&known).cloned(),
        }
    }

    fn some<T>(&mut self, mut one: impl FnMut(&mut Self) -> Result<T>) -> Result<Vec<T>> {
        let count = self.choices.int_in_range(0..=3)?;
        (0..count).map(|_| one(self)).collect()
    }
}
