//! What must come of the writes to orders and products: which message, from which handler, to which service.

use serde_json::{Map, Value, json};

use crate::{
    domain::{Order, OrderStatus, Product, ProductStatus},
    ledger::Write,
};

pub(super) fn order_placed(write: &Write<'_>, order: &Order) {
    write.expect(
        "order_created",
        "fulfillment-service",
        json!({
            "orderId": order.id,
            "orderNumber": order.order_number,
            "urgency": "normal",
            "itemCount": order.items.len(),
            "grandTotal": order.totals.grand_total,
        }),
    );
    notified(write, order, "order_confirmation");
}

pub(super) fn order_updated(write: &Write<'_>, before: &Order, after: &Order) {
    if before.status != after.status {
        let urgency = match after.status {
            OrderStatus::Cancelled => "high",
            OrderStatus::Processing => "medium",
            _ => "normal",
        };
        let changed = json!({
            "orderId": after.id,
            "from": before.status,
            "to": after.status,
            "urgency": urgency,
        });
        if after.status == OrderStatus::Cancelled {
            write.expect("order_cancelled", "alert-service", changed.clone());
        }
        write.expect("order_status_changed", "fulfillment-service", changed);
        let template = match after.status {
            OrderStatus::Shipped => "order_shipped",
            OrderStatus::Delivered => "order_delivered",
            _ => "order_update",
        };
        notified(write, after, template);
    }
    if before.payment.status != after.payment.status {
        write.expect(
            "payment_changed",
            "payment-service",
            json!({
                "orderId": after.id,
                "from": before.payment.status,
                "to": after.payment.status,
                "method": after.payment.method,
            }),
        );
    }
    if before.shipping.status != after.shipping.status {
        for service in ["shipping-service", "tracking-service"] {
            write.expect(
                "shipping_updated",
                service,
                json!({
                    "orderId": after.id,
                    "status": after.shipping.status,
                    "trackingNumber": after.shipping.tracking_number,
                }),
            );
        }
    }
}

fn notified(write: &Write<'_>, order: &Order, template: &str) {
    write.expect(
        "customer_notified",
        "notification-service",
        json!({
            "recipient": order.customer.email,
            "template": template,
            "orderNumber": order.order_number,
        }),
    );
}

pub(super) fn product_added(write: &Write<'_>, product: &Product) {
    write.expect("product_created", "catalog-service", stored(product, "low"));
    indexed(write, product);
    invalidated(write, product);
}

pub(super) fn product_deleted(write: &Write<'_>, product: &Product) {
    write.expect(
        "product_deleted",
        "catalog-service",
        stored(product, "critical"),
    );
    write.expect(
        "search_indexed",
        "search-service",
        json!({ "action": "remove", "productId": product.id }),
    );
    invalidated(write, product);
}

pub(super) fn product_updated(write: &Write<'_>, before: &Product, after: &Product) {
    let mut changes = Map::new();
    let mut change = |field: &str, old: Value, new: Value| {
        if old != new {
            changes.insert(field.to_owned(), json!({ "old": old, "new": new }));
        }
    };
    change("status", json!(before.status), json!(after.status));
    change("price", json!(before.price), json!(after.price));
    change("name", json!(before.name), json!(after.name));
    let (old, new) = (before.inventory_count, after.inventory_count);
    change("inventory_count", json!(old), json!(new));

    if !changes.is_empty() {
        let severity = match &changes {
            changes if changes.contains_key("status") => "high",
            changes if changes.contains_key("name") => "low",
            _ => "medium",
        };
        let became_active = after.status == ProductStatus::Active && before.status != after.status;
        write.expect(
            "product_changed",
            "catalog-service",
            json!({
                "productId": after.id,
                "severity": severity,
                "changes": changes,
                "becameActive": became_active,
            }),
        );
        invalidated(write, after);
    }
    let searched = before.status != after.status
        || before.name != after.name
        || before.description != after.description
        || before.tags != after.tags;
    if searched {
        indexed(write, after);
    }
    if old != new {
        write.expect(
            "inventory_count_changed",
            "inventory-service",
            json!({
                "productId": after.id,
                "delta": new - old,
                "current": new,
                "threshold": after.low_stock_threshold,
            }),
        );
        if new < after.low_stock_threshold {
            low_stock(write, &after.id, "products", new);
        }
    }
}

pub(super) fn low_stock(write: &Write<'_>, product: &str, collection: &str, left: i64) {
    let level = if left == 0 { "out_of_stock" } else { "low" };
    for service in ["alert-service", "reporting-service"] {
        write.expect(
            "low_stock",
            service,
            json!({
                "productId": product,
                "collection": collection,
                "quantity": left,
                "level": level,
            }),
        );
    }
}

fn stored(product: &Product, severity: &str) -> Value {
    json!({
        "productId": product.id,
        "severity": severity,
        "sku": product.sku,
        "name": product.name,
        "category": product.category,
        "price": product.price,
    })
}

fn indexed(write: &Write<'_>, product: &Product) {
    write.expect(
        "search_indexed",
        "search-service",
        json!({
            "action": "upsert",
            "productId": product.id,
            "name": product.name,
            "description": product.description,
            "tags": product.tags,
            "searchable": product.status == ProductStatus::Active,
        }),
    );
}

fn invalidated(write: &Write<'_>, product: &Product) {
    let (id, category) = (&product.id, &product.category);
    let keys = [
        format!("product:{id}"),
        format!("products:category:{category}"),
        "products:featured".to_owned(),
    ];
    write.expect(
        "cache_invalidated",
        "cache-service",
        json!({ "keys": keys }),
    );
}
