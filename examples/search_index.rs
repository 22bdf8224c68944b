//! Indexes products for search in bulk: one request for many changes. What the search engine refuses is retried, or
//! dead-lettered, by itself.
//!
//! ```text
//! cargo run --example search_index --features testing
//! ```

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
};

use changestream::{
    prelude::*,
    testing::{TestRuntime, change},
};
use serde::{Deserialize, Serialize};

#[derive(Debug, Deserialize, Serialize)]
struct Product {
    name: String,
    status: String,
}

/// Stands for a search engine: names by id.
#[derive(Clone, Debug, Default)]
struct Search(Arc<Mutex<BTreeMap<i64, String>>>);

impl Search {
    /// One request. `None` removes an entry. Gives the places of the entries that were refused.
    async fn bulk(&self, entries: Vec<(i64, Option<String>)>) -> Vec<usize> {
        let mut index = self.0.lock().expect("no panic");
        println!("a request of {} entries", entries.len());
        let mut refused = Vec::new();
        for (place, (id, name)) in entries.into_iter().enumerate() {
            match name {
                Some(name) if name.is_empty() => refused.push(place),
                Some(name) => drop(index.insert(id, name)),
                None => drop(index.remove(&id)),
            }
        }
        refused
    }
}

/// The events of a batch are in order, so the last one of a product wins.
#[on_change(coll = "products", batch(max = 500, within = "200ms"))]
async fn indexed(
    State(search): State<Search>,
    products: Vec<Change<Product>>,
) -> Result<(), HandlerError> {
    let mut entries = Vec::new();
    for change in &products {
        let key = change.document_key();
        let id = key.and_then(|key| key.get("_id").ok().flatten());
        let id = id.ok_or_else(|| HandlerError::reject("a product has an id"))?;
        let active = change
            .full_document()
            .filter(|product| product.status == "active");
        entries.push((id, active.map(|product| product.name.clone())));
    }
    let refused = search.bulk(entries).await;
    match refused.is_empty() {
        true => Ok(()),
        false => Err(HandlerError::partial(refused.into_iter().map(|place| {
            (place, HandlerError::reject("a product needs a name"))
        }))),
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let search = Search::default();
    let builder = TestRuntime::builder().state(search.clone());
    let mut runtime = builder.handlers(handlers![indexed]).build()?;

    let product = |name: &str| Product {
        name: name.to_owned(),
        status: "active".to_owned(),
    };
    let insert = |id: i64, name| {
        let product = product(name);
        change::insert("products").id(id).full_document(&product)
    };
    let changes = [
        insert(1, "lamp"),
        insert(2, ""),
        insert(3, "chair"),
        change::delete("products").id(1_i64),
    ];
    runtime.send_all(changes).await;

    let index = search.0.lock().expect("no panic").clone();
    assert_eq!(index, BTreeMap::from([(3, "chair".to_owned())]));
    let letters = runtime.dead_letters();
    assert_eq!(letters[0].error(), ["a product needs a name"]);
    println!("indexed {index:?}; {} dead letter", letters.len());
    Ok(())
}
