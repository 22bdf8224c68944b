use std::collections::BTreeMap;

use changestream::prelude::*;
use serde::Serialize;
use serde_json::{Value, json};

use crate::domain::{Product, ProductStatus};

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ProductStored {
    product_id: String,
    severity: &'static str,
    sku: String,
    name: String,
    category: String,
    price: f64,
    status: ProductStatus,
}

impl ProductStored {
    fn new(product: Product, severity: &'static str) -> Self {
        Self {
            product_id: product.id,
            severity,
            sku: product.sku,
            name: product.name,
            category: product.category,
            price: product.price,
            status: product.status,
        }
    }
}

#[on_change(coll = "products", op = "insert", to = "catalog-service")]
pub(crate) async fn product_created(
    FullDocument(product): FullDocument<Product>,
) -> Result<ProductStored, HandlerError> {
    Ok(ProductStored::new(product, "low"))
}

/// What was deleted is in the pre-image.
#[on_change(coll = "products", op = "delete", to = "catalog-service")]
pub(crate) async fn product_deleted(
    PreImage(product): PreImage<Product>,
) -> Result<ProductStored, HandlerError> {
    Ok(ProductStored::new(product, "critical"))
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ProductChanged {
    product_id: String,
    severity: &'static str,
    changes: BTreeMap<&'static str, FieldChange>,
    became_active: bool,
    ceased_to_be_active: bool,
}

#[derive(Debug, Serialize)]
pub(crate) struct FieldChange {
    old: Value,
    new: Value,
}

#[on_change(
    coll = "products",
    op = "update",
    field = ["status", "price", "inventory_count", "name", "category"],
    to = "catalog-service",
)]
pub(crate) async fn product_changed(
    PreImage(before): PreImage<Product>,
    FullDocument(after): FullDocument<Product>,
) -> Result<ProductChanged, HandlerError> {
    let fields = |product: &Product| {
        [
            ("status", json!(product.status)),
            ("price", json!(product.price)),
            ("inventory_count", json!(product.inventory_count)),
            ("name", json!(product.name)),
            ("category", json!(product.category)),
        ]
    };
    let pairs = fields(&before).into_iter().zip(fields(&after));
    let changed = pairs.filter(|((_, old), (_, new))| old != new);
    let changes: BTreeMap<_, _> = changed
        .map(|((field, old), (_, new))| (field, FieldChange { old, new }))
        .collect();
    let was_active = before.status == ProductStatus::Active;
    let is_active = after.status == ProductStatus::Active;
    Ok(ProductChanged {
        product_id: after.id,
        severity: severity(&changes),
        changes,
        became_active: is_active && !was_active,
        ceased_to_be_active: was_active && !is_active,
    })
}

fn severity(changes: &BTreeMap<&'static str, FieldChange>) -> &'static str {
    if changes.contains_key("status") {
        return "high";
    }
    let matters = ["price", "inventory_count"];
    match matters.iter().any(|field| changes.contains_key(field)) {
        true => "medium",
        false => "low",
    }
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct InventoryCountChanged {
    product_id: String,
    delta: i64,
    current: i64,
    threshold: i64,
}

#[on_change(
    coll = "products",
    op = "update",
    field = "inventory_count",
    to = "inventory-service"
)]
pub(crate) async fn inventory_count_changed(
    PreImage(before): PreImage<Product>,
    FullDocument(after): FullDocument<Product>,
) -> Result<InventoryCountChanged, HandlerError> {
    Ok(InventoryCountChanged {
        product_id: after.id,
        delta: after.inventory_count - before.inventory_count,
        current: after.inventory_count,
        threshold: after.low_stock_threshold,
    })
}

#[derive(Debug, Serialize)]
#[serde(
    tag = "action",
    rename_all = "camelCase",
    rename_all_fields = "camelCase"
)]
pub(crate) enum SearchAction {
    Upsert {
        product_id: String,
        name: String,
        description: String,
        category: String,
        tags: Vec<String>,
        searchable: bool,
    },
    Remove {
        product_id: Option<String>,
    },
}

#[on_change(
    coll = "products",
    op = ["insert", "update", "delete"],
    field = ["name", "description", "category", "tags", "status"],
    to = "search-service",
)]
pub(crate) async fn search_indexed(change: Change<Product>) -> Result<SearchAction, HandlerError> {
    let Some(product) = change.full_document().cloned() else {
        let deleted = change.pre_image().map(|product| product.id.clone());
        return Ok(SearchAction::Remove {
            product_id: deleted,
        });
    };
    Ok(SearchAction::Upsert {
        searchable: product.status == ProductStatus::Active,
        product_id: product.id,
        name: product.name,
        description: product.description,
        category: product.category,
        tags: product.tags,
    })
}

#[derive(Debug, Serialize)]
pub(crate) struct Invalidate {
    keys: Vec<String>,
    patterns: [&'static str; 1],
}

#[on_change(
    coll = "products",
    op = ["insert", "update", "delete"],
    field = ["status", "price", "inventory_count", "name", "category"],
    to = "cache-service",
)]
pub(crate) async fn cache_invalidated(
    change: Change<Product>,
) -> Result<Option<Invalidate>, HandlerError> {
    let product = change.full_document().or(change.pre_image());
    Ok(product.map(|product| Invalidate {
        keys: vec![
            format!("product:{}", product.id),
            format!("products:category:{}", product.category),
            "products:featured".to_owned(),
        ],
        patterns: ["products:search:*"],
    }))
}
