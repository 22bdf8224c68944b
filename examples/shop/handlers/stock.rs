//! Handlers across collections.

use changestream::{bson::doc, prelude::*};
use serde::{Deserialize, Serialize};

use super::App;
use crate::domain::{Item, LOW_STOCK, Product};

/// The part of an order that stock is reserved by.
#[derive(Debug, Deserialize)]
pub(crate) struct Basket {
    #[serde(rename = "_id")]
    order_id: String,
    items: Vec<Item>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Reserved {
    order_id: String,
    products: Vec<String>,
}

/// A new order takes its items out of the inventory. An event may come twice, so each order is taken
/// into account once.
#[on_change(coll = "orders", op = "insert", to = "warehouse-service")]
pub(crate) async fn stock_reserved(
    FullDocument(basket): FullDocument<Basket>,
    State(app): State<App>,
) -> Result<Reserved, HandlerError> {
    let Basket { order_id, items } = basket;
    for item in &items {
        let not_yet = doc! { "_id": &item.product_id, "reservedFor": { "$ne": &order_id } };
        let reserve = doc! { "$inc": { "quantity": -1 }, "$push": { "reservedFor": &order_id } };
        app.inventory.update_one(not_yet, reserve).await?;
    }
    Ok(Reserved {
        order_id,
        products: items.into_iter().map(|item| item.product_id).collect(),
    })
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct LowStock {
    product_id: String,
    collection: Option<String>,
    quantity: i64,
    level: &'static str,
}

/// Watches the counts of two collections; a product may have a threshold of its own.
#[on_change(
    coll = ["inventory", "products"],
    op = "update",
    field = ["quantity", "inventory_count"],
    to = ["alert-service", "reporting-service"],
)]
pub(crate) async fn low_stock(
    namespace: Namespace,
    key: DocumentKey,
    update: UpdateDescription,
    product: Option<PreImage<Product>>,
) -> Result<Option<LowStock>, HandlerError> {
    let count = match update.get("quantity")? {
        Some(quantity) => Some(quantity),
        None => update.get("inventory_count")?,
    };
    let (Some(quantity), Some(product_id)) = (count, key.get("_id")?) else {
        return Err(HandlerError::reject("the update states no count"));
    };
    let threshold = product.map_or(LOW_STOCK, |PreImage(product)| product.low_stock_threshold);
    Ok((quantity < threshold).then(|| LowStock {
        product_id,
        collection: namespace.collection().map(str::to_owned),
        quantity,
        level: if quantity == 0 { "out_of_stock" } else { "low" },
    }))
}
