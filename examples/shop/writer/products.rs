use changestream::{
    bson::{Document, doc, serialize_to_document},
    mongodb::error::Result,
};

use super::{Writer, cents, consequence};
use crate::domain::{Product, ProductStatus, Stock};

const NAMES: [&str; 8] = [
    "Teapot", "Kettle", "Grinder", "Mug", "Scale", "Filter", "Tray", "Whisk",
];
const CATEGORIES: [&str; 4] = ["tea", "coffee", "kitchen", "gifts"];
const STATUSES: [ProductStatus; 4] = [
    ProductStatus::Active,
    ProductStatus::Inactive,
    ProductStatus::Discontinued,
    ProductStatus::OutOfStock,
];
/// As many products stay on sale.
const FEWEST: usize = 6;

impl Writer {
    /// Two writes: the product, and what the warehouse has of it.
    pub(super) async fn add_product(&mut self) -> Result<()> {
        let id = self.next_id("p");
        let product = Product {
            sku: format!("SKU-{}", &id[2..]),
            name: self.choose(&NAMES).to_owned(),
            description: "As good as new".to_owned(),
            category: self.choose(&CATEGORIES).to_owned(),
            tags: vec!["new".to_owned()],
            price: f64::from(self.rng.u32(300..9_000)) / 100.0,
            status: ProductStatus::Active,
            inventory_count: self.rng.i64(20..60),
            low_stock_threshold: self.rng.i64(5..15),
            id,
        };
        let write = self.ledger.write();
        consequence::product_added(&write, &product);
        self.products.insert_one(&product).await?;
        write.acknowledged();
        self.written().await;

        let stock = Stock {
            product_id: product.id.clone(),
            quantity: self.rng.i64(4..16),
            warehouse: "north".to_owned(),
            reserved_for: Vec::new(),
        };
        self.inventory.insert_one(&stock).await?;
        self.written().await;
        self.stock.insert(stock.product_id, stock.quantity);
        self.catalog.push(product);
        Ok(())
    }

    pub(super) async fn delete_product(&mut self) -> Result<()> {
        if self.catalog.len() <= FEWEST {
            return Ok(());
        }
        let index = self.rng.usize(..self.catalog.len());
        let product = self.catalog.swap_remove(index);
        let write = self.ledger.write();
        consequence::product_deleted(&write, &product);
        self.products
            .delete_one(doc! { "_id": &product.id })
            .await?;
        write.acknowledged();
        self.written().await;
        Ok(())
    }

    pub(super) async fn change_product(&mut self) -> Result<()> {
        let index = self.rng.usize(..self.catalog.len());
        let before = self.catalog[index].clone();
        let mut after = before.clone();
        match self.rng.u8(0..9) {
            0 => after.status = self.other_status(before.status),
            1 => after.price = cents(before.price + 1.25),
            2..5 => after.inventory_count = (before.inventory_count + self.rng.i64(1..45)) % 45,
            5 => after.name.push_str(" Plus"),
            6 => after.description.push('!'),
            7 => after.tags.push("sale".to_owned()),
            _ => {
                after.status = self.other_status(before.status);
                after.price = cents(before.price / 2.0);
            }
        }
        let write = self.ledger.write();
        consequence::product_updated(&write, &before, &after);
        let old = serialize_to_document(&before)?;
        let new = serialize_to_document(&after)?.into_iter();
        let set: Document = new
            .filter(|(field, value)| old.get(field) != Some(value))
            .collect();
        let update = doc! { "$set": set };
        self.products
            .update_one(doc! { "_id": &before.id }, update)
            .await?;
        write.acknowledged();
        self.catalog[index] = after;
        self.written().await;
        Ok(())
    }

    fn other_status(&mut self, status: ProductStatus) -> ProductStatus {
        let mut others = STATUSES.to_vec();
        others.retain(|other| *other != status);
        self.rng.choice(others).unwrap_or(status)
    }
}
