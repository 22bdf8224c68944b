//! What happens on a change: the microservice proper.

mod customers;
mod orders;
mod products;
mod stock;

use changestream::{bson::Document, mongodb::Collection, prelude::*};

use customers::*;
use orders::*;
use products::*;
use stock::*;

/// What the handlers share.
#[derive(Clone, Debug)]
pub(crate) struct App {
    pub(crate) inventory: Collection<Document>,
}

/// Every service that some handler sends to.
pub(crate) const SERVICES: [&str; 15] = [
    "alert-service",
    "analytics-service",
    "cache-service",
    "catalog-service",
    "fulfillment-service",
    "inventory-service",
    "marketing-service",
    "notification-service",
    "payment-service",
    "profile-service",
    "reporting-service",
    "search-service",
    "shipping-service",
    "tracking-service",
    "warehouse-service",
];

pub(crate) fn all() -> Vec<HandlerSpec<App>> {
    handlers![
        order_created,
        order_status_changed,
        order_cancelled,
        customer_notified,
        payment_changed,
        shipping_updated,
        product_created,
        product_changed,
        product_deleted,
        inventory_count_changed,
        search_indexed,
        cache_invalidated,
        customer_joined,
        customer_tier_changed,
        stock_reserved,
        low_stock,
    ]
}
