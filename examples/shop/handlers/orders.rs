use changestream::prelude::*;
use serde::Serialize;

use crate::domain::{Order, OrderStatus, PaymentStatus, Shipping};

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct OrderCreated<'a> {
    order_id: &'a str,
    order_number: &'a str,
    urgency: &'static str,
    customer_id: &'a str,
    payment_method: &'a str,
    item_count: usize,
    grand_total: f64,
}

#[on_change(coll = "orders", op = "insert", to = "fulfillment-service")]
pub(crate) async fn order_created(
    FullDocument(order): FullDocument<Order>,
) -> Result<Message, HandlerError> {
    order.message(&OrderCreated {
        order_id: &order.id,
        order_number: &order.order_number,
        urgency: urgency(&order),
        customer_id: &order.customer.customer_id,
        payment_method: &order.payment.method,
        item_count: order.items.len(),
        grand_total: order.totals.grand_total,
    })
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct StatusChanged<'a> {
    order_id: &'a str,
    order_number: &'a str,
    from: OrderStatus,
    to: OrderStatus,
    urgency: &'static str,
}

impl<'a> StatusChanged<'a> {
    fn new(before: &Order, after: &'a Order) -> Self {
        Self {
            order_id: &after.id,
            order_number: &after.order_number,
            from: before.status,
            to: after.status,
            urgency: urgency(after),
        }
    }
}

#[on_change(
    coll = "orders",
    op = "update",
    field = "status",
    to = "fulfillment-service"
)]
pub(crate) async fn order_status_changed(
    FullDocument(order): FullDocument<Order>,
    PreImage(before): PreImage<Order>,
) -> Result<Message, HandlerError> {
    order.message(&StatusChanged::new(&before, &order))
}

/// A cancelled order is urgent.
#[on_change(coll = "orders", op = "update", field = "status", to = "alert-service")]
pub(crate) async fn order_cancelled(
    FullDocument(order): FullDocument<Order>,
    PreImage(before): PreImage<Order>,
) -> Result<Option<Message>, HandlerError> {
    if order.status != OrderStatus::Cancelled {
        return Ok(None);
    }
    order
        .message(&StatusChanged::new(&before, &order))
        .map(Some)
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Notification<'a> {
    recipient: &'a str,
    name: &'a str,
    template: &'static str,
    order_number: &'a str,
    tracking_number: Option<&'a str>,
}

/// Tells the customer, when the order is placed and whenever its status changes.
#[on_change(coll = "orders", op = ["insert", "update"], field = "status", to = "notification-service")]
pub(crate) async fn customer_notified(
    operation: Operation,
    FullDocument(order): FullDocument<Order>,
) -> Result<Message, HandlerError> {
    let template = match (operation, order.status) {
        (Operation::Insert, _) => "order_confirmation",
        (_, OrderStatus::Shipped) => "order_shipped",
        (_, OrderStatus::Delivered) => "order_delivered",
        _ => "order_update",
    };
    order.message(&Notification {
        recipient: &order.customer.email,
        name: &order.customer.name,
        template,
        order_number: &order.order_number,
        tracking_number: order.shipping.tracking_number.as_deref(),
    })
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct PaymentChanged<'a> {
    order_id: &'a str,
    from: PaymentStatus,
    to: PaymentStatus,
    method: &'a str,
    grand_total: f64,
}

/// Written as `payment.status` or as a whole new `payment`: one path covers both.
#[on_change(
    coll = "orders",
    op = "update",
    field = "payment.status",
    to = "payment-service"
)]
pub(crate) async fn payment_changed(
    FullDocument(order): FullDocument<Order>,
    PreImage(before): PreImage<Order>,
) -> Result<Message, HandlerError> {
    order.message(&PaymentChanged {
        order_id: &order.id,
        from: before.payment.status,
        to: order.payment.status,
        method: &order.payment.method,
        grand_total: order.totals.grand_total,
    })
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct ShippingUpdated<'a> {
    order_id: &'a str,
    order_number: &'a str,
    #[serde(flatten)]
    shipping: &'a Shipping,
}

#[on_change(
    coll = "orders",
    op = "update",
    field = ["shipping.trackingNumber", "shipping.status", "shipping.actualDelivery"],
    to = ["shipping-service", "tracking-service"],
)]
pub(crate) async fn shipping_updated(
    FullDocument(order): FullDocument<Order>,
) -> Result<Message, HandlerError> {
    order.message(&ShippingUpdated {
        order_id: &order.id,
        order_number: &order.order_number,
        shipping: &order.shipping,
    })
}

fn urgency(order: &Order) -> &'static str {
    match (order.status, order.payment.status) {
        (OrderStatus::Cancelled, _) => "high",
        (OrderStatus::Processing, _) | (_, PaymentStatus::Failed) => "medium",
        _ => "normal",
    }
}
