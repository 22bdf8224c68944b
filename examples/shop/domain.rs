//! The shop's documents, as its services know them.

use bson::DateTime;
use changestream::{Message, bson, prelude::HandlerError};
use serde::{Deserialize, Serialize};

/// Below this stock runs low, unless the product has a threshold of its own.
pub(crate) const LOW_STOCK: i64 = 10;

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Product {
    #[serde(rename = "_id")]
    pub(crate) id: String,
    pub(crate) sku: String,
    pub(crate) name: String,
    pub(crate) description: String,
    pub(crate) category: String,
    pub(crate) tags: Vec<String>,
    pub(crate) price: f64,
    pub(crate) status: ProductStatus,
    pub(crate) inventory_count: i64,
    pub(crate) low_stock_threshold: i64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum ProductStatus {
    Active,
    Inactive,
    Discontinued,
    OutOfStock,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Order {
    #[serde(rename = "_id")]
    pub(crate) id: String,
    pub(crate) order_number: String,
    pub(crate) status: OrderStatus,
    pub(crate) priority: String,
    pub(crate) items: Vec<Item>,
    pub(crate) customer: Buyer,
    pub(crate) totals: Totals,
    pub(crate) payment: Payment,
    pub(crate) shipping: Shipping,
    pub(crate) correlation_id: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum OrderStatus {
    Created,
    Confirmed,
    Processing,
    Fulfilling,
    Shipped,
    Delivered,
    Cancelled,
}

/// One unit of a product.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Item {
    pub(crate) product_id: String,
    pub(crate) price: f64,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Buyer {
    pub(crate) customer_id: String,
    pub(crate) email: String,
    pub(crate) name: String,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Totals {
    pub(crate) grand_total: f64,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Payment {
    pub(crate) status: PaymentStatus,
    pub(crate) method: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum PaymentStatus {
    Pending,
    Failed,
    Captured,
    Refunded,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Shipping {
    pub(crate) status: ShippingStatus,
    pub(crate) tracking_number: Option<String>,
    pub(crate) actual_delivery: Option<DateTime>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum ShippingStatus {
    Pending,
    InTransit,
    OutForDelivery,
    Delivered,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Customer {
    #[serde(rename = "_id")]
    pub(crate) id: String,
    pub(crate) email: String,
    pub(crate) name: String,
    pub(crate) tier: Tier,
    pub(crate) status: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Tier {
    Standard,
    Vip,
    Enterprise,
}

/// How much of a product a warehouse has, and the orders that it was already reserved for.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Stock {
    #[serde(rename = "_id")]
    pub(crate) product_id: String,
    pub(crate) quantity: i64,
    pub(crate) warehouse: String,
    pub(crate) reserved_for: Vec<String>,
}

impl Order {
    /// `payload` as JSON, under the order's correlation id.
    pub(crate) fn message(&self, payload: &impl Serialize) -> Result<Message, HandlerError> {
        let message = Message::json(payload)?;
        Ok(message.header("X-Correlation-ID", &self.correlation_id))
    }
}
