//! What is written before the contestants come.

use std::collections::BTreeMap;

use bson::{Document, Timestamp, doc};
use mongodb::{Client, Database, options::WriteConcern};
use serde::{Deserialize, Serialize};

use crate::Result;

/// Holds one document after each backlog, for contestants that are to see nothing before it.
pub(crate) const END: &str = "end";
/// So many documents of a collection are updated in turn.
const UPDATED: u64 = 1_000;
const CHUNK: usize = 10_000;

#[derive(Clone, Copy)]
pub(crate) enum Backlog {
    /// Nothing: the contestants write themselves.
    Empty,
    /// Nothing: each contestant runs while something is written (`live.rs`).
    Live,
    /// Inserts spread over so many collections, each of about so many bytes.
    Inserts { collections: usize, bytes: usize },
    /// Inserts into one collection of documents with 40 fields, about 1,600 bytes.
    Wide,
    /// Updates of documents in so many collections: where the one of this number goes, and what it sets.
    Updates {
        collections: usize,
        update: fn(u64) -> (usize, Document),
    },
}

impl Backlog {
    /// Inserts of about 220 bytes into one collection.
    pub(crate) const PLAIN: Self = Self::Inserts {
        collections: 1,
        bytes: Item::LEAST_BYTES,
    };

    /// Writes it, and gives the operation time before its first event.
    pub(crate) async fn write(
        self,
        client: &Client,
        database: &str,
        events: u64,
    ) -> Result<Timestamp> {
        let database = client.database(database);
        database.create_collection(END).await?;
        let count = match self {
            Self::Empty => 0,
            Self::Live | Self::Wide => 1,
            Self::Inserts { collections, .. } | Self::Updates { collections, .. } => collections,
        };
        for n in 0..count {
            database.create_collection(collection(n)).await?;
            if let Self::Updates { .. } = self {
                let items = (0..UPDATED).map(|id| (n, Item::new(id, Item::LEAST_BYTES)));
                insert(&database, items).await?;
            }
        }
        let start = operation_time(&database).await?;
        let numbers: Vec<_> = (0..events).collect();
        for numbers in numbers.chunks(CHUNK) {
            let numbers = numbers.iter().copied();
            match self {
                Self::Empty | Self::Live => {}
                Self::Wide => {
                    let items = database.collection::<Document>(&collection(0));
                    let write = items.insert_many(numbers.map(wide));
                    write.write_concern(WriteConcern::majority()).await?;
                }
                Self::Inserts { collections, bytes } => {
                    let place = |n| usize::try_from(n).map_or(0, |n: usize| n % collections);
                    insert(&database, numbers.map(|n| (place(n), Item::new(n, bytes)))).await?;
                }
                Self::Updates { update: change, .. } => {
                    update(&database, numbers.map(|n| (n % UPDATED, change(n)))).await?;
                }
            }
        }
        let end = database.collection(END);
        end.insert_one(doc! {})
            .write_concern(WriteConcern::majority())
            .await?;
        Ok(start)
    }
}

/// The time of whatever is written next, or before it.
pub(crate) async fn operation_time(database: &Database) -> Result<Timestamp> {
    let ping = database.run_command(doc! { "ping": 1 }).await?;
    let last = ping.get_timestamp("operationTime")?;
    Ok(Timestamp {
        increment: last.increment + 1,
        ..last
    })
}

fn wide(n: u64) -> Document {
    let mut document = doc! { "_id": n as i64, "quantity": 7 };
    for field in 2..40 {
        let value = format!("what field {field} of {n} holds");
        document.insert(format!("field_{field}"), value);
    }
    document
}

/// The collection of this number. The first one is the `items` that handlers of one collection name.
pub(crate) fn collection(n: usize) -> String {
    match n {
        0 => "items".to_owned(),
        n => format!("items_{n}"),
    }
}

/// The first id of items that a contestant writes itself: no other process has them.
pub(crate) fn first_id() -> u64 {
    u64::from(std::process::id()) << 32
}

async fn insert(database: &Database, items: impl Iterator<Item = (usize, Item)>) -> Result<()> {
    let mut by_collection = BTreeMap::<usize, Vec<_>>::new();
    for (place, item) in items {
        by_collection.entry(place).or_default().push(item);
    }
    for (place, items) in by_collection {
        database
            .collection::<Item>(&collection(place))
            .insert_many(items)
            .write_concern(WriteConcern::majority())
            .await?;
    }
    Ok(())
}

async fn update(
    database: &Database,
    updates: impl Iterator<Item = (u64, (usize, Document))>,
) -> Result<()> {
    let mut by_collection = BTreeMap::<usize, Vec<Document>>::new();
    for (id, (place, set)) in updates {
        let update = doc! { "q": { "_id": i64::try_from(id)? }, "u": { "$set": set } };
        by_collection.entry(place).or_default().push(update);
    }
    for (place, updates) in by_collection {
        let expected = i32::try_from(updates.len())?;
        let concern = doc! { "w": "majority" };
        let reply = database
            .run_command(
                doc! { "update": collection(place), "updates": updates, "writeConcern": concern },
            )
            .await?;
        // What changes nothing makes no event.
        if reply.get_i32("nModified")? != expected {
            return Err(format!("not all of {expected} updates changed something: {reply}").into());
        }
    }
    Ok(())
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Item {
    #[serde(rename = "_id")]
    pub(crate) id: u64,
    pub(crate) sku: String,
    pub(crate) name: String,
    pub(crate) category: String,
    pub(crate) price: f64,
    pub(crate) quantity: i32,
    pub(crate) status: String,
    pub(crate) description: String,
}

impl Item {
    pub(crate) const LEAST_BYTES: usize = 220;

    pub(crate) fn new(id: u64, bytes: usize) -> Self {
        let description = "A small thing that is good to have about the house.";
        let more = bytes.saturating_sub(Self::LEAST_BYTES);
        Self {
            id,
            sku: format!("SKU-{id:08}"),
            name: format!("Item number {id}"),
            category: "household".into(),
            price: 9.99,
            quantity: 7,
            status: "active".into(),
            description: description
                .chars()
                .cycle()
                .take(description.len() + more)
                .collect(),
        }
    }
}
