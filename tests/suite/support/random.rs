//! Random writes, filters and handlers.

use bson::{Bson, Decimal128, Document, doc, oid::ObjectId};
use changestream::{FieldPath, Filter, Operation};
use proptest::{
    collection::vec,
    option,
    prelude::{Just, Strategy, any},
    prop_oneof,
    sample::{select, subsequence},
    strategy::Union,
};

/// The namespaces that are written to, as places in the list of databases, with collections.
pub(crate) const NAMESPACES: [(usize, &str); 4] =
    [(0, "orders"), (0, "plain"), (0, "orders.eu"), (1, "orders")];

/// Few names, so that paths meet; prefixes of one another, numbers, and what looks like a path.
const NAMES: [&str; 10] = ["a", "b", "ab", "list", "docs", "0", "1", "12", "é", "a b"];
const STRANGE_NAMES: [&str; 3] = ["a.b", "", "$x"];

/// One write: a command on a collection of one of [`NAMESPACES`].
#[derive(Clone, Debug)]
pub(crate) struct Write {
    pub(crate) namespace: usize,
    pub(crate) command: Document,
}

/// What a handler of the random sets is annotated with.
#[derive(Clone, Debug)]
pub(crate) struct Wish {
    /// A place in the list of databases; the runtime's where `None`.
    pub(crate) database: Option<usize>,
    pub(crate) collections: Vec<&'static str>,
    pub(crate) operations: Vec<Operation>,
    pub(crate) fields: Vec<String>,
}

fn path() -> impl Strategy<Value = String> {
    let segments = prop_oneof![5 => 1..=1usize, 4 => 2..=2usize, 1 => 3..=3usize];
    segments
        .prop_flat_map(|segments| vec(select(&NAMES[..]), segments))
        .prop_map(|segments| segments.join("."))
}

fn array_path() -> impl Strategy<Value = String> {
    prop_oneof![4 => select(vec!["list", "docs"]).prop_map(str::to_owned), 1 => path()]
}

/// Values that the server holds equal, or nearly, are there in several types.
fn scalar() -> impl Strategy<Value = Bson> {
    let decimal = |text: &str| Bson::Decimal128(text.parse::<Decimal128>().expect("a decimal"));
    select(vec![
        Bson::Null,
        Bson::Boolean(true),
        Bson::Int32(0),
        Bson::Double(-0.0),
        Bson::Int32(1),
        Bson::Int64(1),
        Bson::Double(1.0),
        decimal("1.0"),
        Bson::Double(0.1),
        decimal("0.1"),
        Bson::Int64((1 << 53) + 1),
        Bson::Double((1_u64 << 53) as f64),
        Bson::Double(1e36),
        decimal("1E+36"),
        Bson::Double(f64::NAN),
        decimal("NaN"),
        Bson::Double(f64::INFINITY),
        decimal("Infinity"),
        Bson::String(String::new()),
        Bson::String("1".into()),
        Bson::String("a longer text, so that an update of an array is told as a difference".into()),
        Bson::Symbol("1".into()),
        Bson::ObjectId(ObjectId::from_bytes([7; 12])),
        Bson::DateTime(bson::DateTime::from_millis(0)),
        Bson::Timestamp(bson::Timestamp {
            time: 1,
            increment: 1,
        }),
    ])
}

fn value() -> impl Strategy<Value = Bson> {
    scalar().prop_recursive(3, 12, 4, |inner| {
        prop_oneof![
            vec(inner.clone(), 0..5).prop_map(Bson::Array),
            fields(inner, 3).prop_map(Bson::Document),
        ]
    })
}

fn fields(value: impl Strategy<Value = Bson>, most: usize) -> impl Strategy<Value = Document> {
    let name = prop_oneof![30 => select(&NAMES[..]), 1 => select(&STRANGE_NAMES[..])];
    vec((name, value), 0..=most)
        .prop_map(|fields| fields.into_iter().map(|(n, v)| (n.to_owned(), v)).collect())
}

/// A document, mostly with arrays where the operators of arrays look for them.
fn document() -> impl Strategy<Value = Document> {
    let list = option::weighted(0.8, vec(scalar(), 0..6));
    let docs = option::weighted(0.8, vec(fields(scalar(), 2), 0..4));
    (fields(value(), 4), list, docs).prop_map(|(mut document, list, docs)| {
        document.extend(list.map(|list| ("list".to_owned(), Bson::Array(list))));
        document.extend(docs.map(|docs| ("docs".to_owned(), docs.into())));
        document
    })
}

fn operator() -> impl Strategy<Value = Document> {
    let on = |operator: &'static str| move |(path, value): (String, Bson)| doc! { operator: { path: value } };
    let slice = |(path, value, slice, position): (String, Bson, i32, i32)| {
        doc! { "$push": { path: { "$each": [value], "$slice": slice, "$position": position } } }
    };
    prop_oneof![
        6 => (path(), value()).prop_map(on("$set")),
        2 => (path(), fields(value(), 3).prop_map(Bson::Document)).prop_map(on("$set")),
        3 => path().prop_map(|path| doc! { "$unset": { path: "" } }),
        1 => (path(), path()).prop_map(|(from, to)| doc! { "$rename": { from: to } }),
        3 => (array_path(), value()).prop_map(on("$push")),
        1 => (array_path(), value()).prop_map(on("$addToSet")),
        2 => (array_path(), value(), -3..3, 0..3).prop_map(slice),
        2 => (array_path(), select(vec![1, -1])).prop_map(|(path, end)| doc! { "$pop": { path: end } }),
        2 => (array_path(), scalar()).prop_map(on("$pull")),
        2 => (path(), select(vec![1.into(), Bson::Double(0.5)])).prop_map(on("$inc")),
        1 => (path(), Just(true.into())).prop_map(on("$currentDate")),
    ]
}

/// Operators side by side; those of one name are put together.
fn operators() -> impl Strategy<Value = Bson> {
    vec(operator(), 1..4).prop_map(|operators| {
        let mut update = Document::new();
        for (operator, fields) in operators.into_iter().flatten() {
            match update.get_document_mut(&operator) {
                Ok(together) => together.extend(fields.as_document().cloned().unwrap_or_default()),
                Err(_) => drop(update.insert(operator, fields)),
            }
        }
        Bson::Document(update)
    })
}

fn pipeline() -> impl Strategy<Value = Bson> {
    let slice = |(path, size): (String, i32)| {
        let array = format!("${path}");
        let slice = doc! { "$slice": [&array, size] };
        doc! { "$set": { path: { "$cond": [{ "$isArray": &array }, slice, 7] } } }
    };
    let stage = prop_oneof![
        3 => (path(), value()).prop_map(|(path, value)| doc! { "$set": { path: { "$literal": value } } }),
        2 => path().prop_map(|path| doc! { "$unset": path }),
        3 => (array_path(), 1..4).prop_map(slice),
        1 => document().prop_map(|new| {
            doc! { "$replaceWith": { "$mergeObjects": [{ "_id": "$_id" }, { "$literal": new }] } }
        }),
    ];
    vec(stage, 1..3).prop_map(Bson::from)
}

/// A write of every kind.
pub(crate) fn write() -> impl Strategy<Value = Write> {
    let update = || {
        prop_oneof![
            6 => operators(),
            3 => pipeline(),
            2 => document().prop_map(Bson::Document),
        ]
    };
    let command = prop_oneof![
        1 => document().prop_map(|new| doc! { "insert": new }),
        9 => (update(), any::<bool>()).prop_map(|(u, upsert)| doc! { "update": u, "upsert": upsert }),
        2 => update().prop_map(|update| doc! { "findAndModify": update }),
        1 => Just(doc! { "delete": 1 }),
    ];
    (0..NAMESPACES.len(), 0..5, command).prop_map(|(namespace, id, command)| Write {
        namespace,
        command: on_document(NAMESPACES[namespace].1, id, command),
    })
}

/// The writes that fill the collections.
pub(crate) fn inserts() -> impl Strategy<Value = Vec<Write>> {
    vec(document(), 5 * NAMESPACES.len()).prop_map(|documents| {
        let insert = |(place, new): (usize, Document)| {
            let namespace = place % NAMESPACES.len();
            let id = (place / NAMESPACES.len()) as i32;
            let command = on_document(NAMESPACES[namespace].1, id, doc! { "insert": new });
            Write { namespace, command }
        };
        documents.into_iter().enumerate().map(insert).collect()
    })
}

fn on_document(collection: &str, id: i32, command: Document) -> Document {
    let (kind, what) = command.iter().next().expect("a command");
    match kind.as_str() {
        "insert" => {
            let mut new = doc! { "_id": id };
            new.extend(what.as_document().cloned().unwrap_or_default());
            doc! { "insert": collection, "documents": [new] }
        }
        "update" => {
            let upsert = command.get_bool("upsert").unwrap_or_default();
            doc! { "update": collection, "updates": [{ "q": { "_id": id }, "u": what, "upsert": upsert }] }
        }
        "findAndModify" => doc! { kind: collection, "query": { "_id": id }, "update": what },
        _ => doc! { "delete": collection, "deletes": [{ "q": { "_id": id }, "limit": 1 }] },
    }
}

fn operations() -> impl Strategy<Value = Vec<Operation>> {
    use Operation::*;
    let of_documents = subsequence(vec![Insert, Update, Replace, Delete], 1..=4);
    let of_anything = subsequence(
        vec![
            Insert,
            Update,
            Replace,
            Delete,
            Drop,
            Rename,
            DropDatabase,
            Invalidate,
        ],
        1..=8,
    );
    prop_oneof![of_documents, of_anything]
}

fn collections(
    size: impl Into<proptest::sample::SizeRange>,
) -> impl Strategy<Value = Vec<&'static str>> {
    subsequence(vec!["orders", "plain", "orders.eu"], size)
}

/// A filter over events of `databases`.
pub(crate) fn filter(databases: &[String]) -> impl Strategy<Value = Filter> + use<> {
    let database = Union::new(databases.iter().cloned().map(Just));
    let changed = vec(path(), 0..4).prop_map(|paths| {
        let paths = paths.into_iter().map(FieldPath::new);
        Filter::Changed(paths.collect::<Result<_, _>>().expect("paths"))
    });
    let leaf = prop_oneof![
        2 => operations().prop_map(Filter::Operation),
        1 => database.prop_map(Filter::Database),
        2 => collections(0..=3)
            .prop_map(|names| Filter::Collection(names.into_iter().map(str::to_owned).collect())),
        6 => changed,
    ];
    leaf.prop_recursive(3, 12, 4, |inner| {
        prop_oneof![
            3 => vec(inner.clone(), 0..4).prop_map(Filter::And),
            3 => vec(inner.clone(), 0..4).prop_map(Filter::Or),
            2 => inner.prop_map(|filter| Filter::Not(Box::new(filter))),
        ]
    })
}

/// A set of handlers.
pub(crate) fn wishes(databases: usize) -> impl Strategy<Value = Vec<Wish>> {
    let wish = (
        option::weighted(0.3, 0..databases),
        prop_oneof![1 => collections(0..=0), 3 => collections(1..=3)],
        operations(),
        prop_oneof![1 => vec(path(), 0..=0), 3 => vec(path(), 1..4)],
    );
    let wish = wish.prop_map(|(database, collections, operations, fields)| Wish {
        database,
        collections,
        operations,
        fields,
    });
    vec(wish, 1..9)
}
