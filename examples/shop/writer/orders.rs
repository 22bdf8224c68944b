use changestream::{
    bson::{DateTime, Document, doc, serialize_to_bson, serialize_to_document},
    mongodb::error::Result,
};
use serde_json::json;

use super::{Writer, cents, consequence};
use crate::domain::{
    Buyer, Item, LOW_STOCK, Order, OrderStatus, Payment, PaymentStatus, Shipping, ShippingStatus,
    Totals,
};

impl Writer {
    pub(super) async fn place_order(&mut self) -> Result<()> {
        let Some(order) = self.new_order() else {
            return self.add_product().await;
        };
        self.expect_reserved(&order);
        let write = self.ledger.write_of(&order.correlation_id);
        consequence::order_placed(&write, &order);
        self.orders.insert_one(&order).await?;
        write.acknowledged();
        self.open_orders.push(order);
        self.written().await;
        Ok(())
    }

    /// An order whose total is no number: poison for the handlers that decode it, none for the one that
    /// only looks at the items.
    pub(super) async fn place_poisonous_order(&mut self) -> Result<()> {
        let Some(order) = self.new_order() else {
            return Ok(());
        };
        self.ledger.expect_dead_letter("order_created", &order.id);
        self.ledger
            .expect_dead_letter("customer_notified", &order.id);
        self.expect_reserved(&order);
        let mut poison = serialize_to_document(&order)?;
        poison.insert("totals", "free of charge");
        let orders = self.orders.clone_with_type::<Document>();
        orders.insert_one(poison).await?;
        self.written().await;
        Ok(())
    }

    fn new_order(&mut self) -> Option<Order> {
        let wanted = self.rng.usize(1..4);
        let (stock, catalog) = (&self.stock, self.catalog.iter());
        let on_sale =
            catalog.filter(|product| stock.get(&product.id).is_some_and(|left| *left > 0));
        let chosen = self.rng.choose_multiple(on_sale, wanted);
        let items: Vec<_> = chosen
            .into_iter()
            .map(|product| Item {
                product_id: product.id.clone(),
                price: product.price,
            })
            .collect();
        let customer = self.rng.choice(self.people.iter())?.clone();
        if items.is_empty() {
            return None;
        }
        let id = self.next_id("o");
        Some(Order {
            order_number: format!("2026-{}", &id[2..]),
            status: OrderStatus::Created,
            priority: "normal".to_owned(),
            totals: Totals {
                grand_total: cents(items.iter().map(|item| item.price).sum()),
            },
            items,
            customer: Buyer {
                customer_id: customer.id,
                email: customer.email,
                name: customer.name,
            },
            payment: Payment {
                status: PaymentStatus::Pending,
                method: self.choose(&["card", "invoice", "wallet"]).to_owned(),
            },
            shipping: Shipping {
                status: ShippingStatus::Pending,
                tracking_number: None,
                actual_delivery: None,
            },
            correlation_id: format!("checkout-{}", &id[2..]),
            id,
        })
    }

    /// The handler's own writes to the inventory come back as events. In whatever order they are made, each
    /// takes one unit, so the quantities on the way are known.
    fn expect_reserved(&mut self, order: &Order) {
        let products: Vec<_> = order.items.iter().map(|item| &item.product_id).collect();
        let write = self.ledger.write();
        write.expect(
            "stock_reserved",
            "warehouse-service",
            json!({ "orderId": order.id, "products": products }),
        );
        for product in products {
            let left = self.stock.entry(product.clone()).or_default();
            *left -= 1;
            if *left < LOW_STOCK {
                consequence::low_stock(&write, product, "inventory", *left);
            }
        }
    }

    /// The order's next status, with what goes with it in the same update.
    pub(super) async fn advance_order(&mut self) -> Result<()> {
        let Some(index) = self.any_order() else {
            return self.place_order().await;
        };
        let mut order = self.open_orders[index].clone();
        let mut set = Document::new();
        match order.status {
            OrderStatus::Created => {
                order.status = OrderStatus::Confirmed;
                order.payment.status = PaymentStatus::Captured;
                set.insert("payment.status", "captured");
            }
            OrderStatus::Confirmed => order.status = OrderStatus::Processing,
            OrderStatus::Processing => order.status = OrderStatus::Fulfilling,
            OrderStatus::Fulfilling => {
                let tracking = format!("TRK-{:06}", self.rng.u32(..1_000_000));
                order.status = OrderStatus::Shipped;
                order.shipping.status = ShippingStatus::InTransit;
                set.insert("shipping.status", "in_transit");
                set.insert("shipping.trackingNumber", &tracking);
                order.shipping.tracking_number = Some(tracking);
            }
            _ => {
                order.status = OrderStatus::Delivered;
                order.shipping.status = ShippingStatus::Delivered;
                order.shipping.actual_delivery = Some(DateTime::now());
                set.insert("shipping.status", "delivered");
                set.insert("shipping.actualDelivery", order.shipping.actual_delivery);
            }
        }
        set.insert("status", serialize_to_bson(&order.status)?);
        self.update_order(index, order, set).await
    }

    pub(super) async fn cancel_order(&mut self) -> Result<()> {
        let Some(index) = self.any_order() else {
            return self.place_order().await;
        };
        let mut order = self.open_orders[index].clone();
        order.status = OrderStatus::Cancelled;
        order.payment.status = PaymentStatus::Refunded;
        let payment = serialize_to_bson(&order.payment)?;
        let set = doc! { "status": "cancelled", "payment": payment };
        self.update_order(index, order, set).await
    }

    /// Changes that leave the status alone: a failed payment, a parcel on its way, or nothing that anybody
    /// watches.
    pub(super) async fn touch_order(&mut self) -> Result<()> {
        let Some(index) = self.any_order() else {
            return self.place_order().await;
        };
        let mut order = self.open_orders[index].clone();
        let set = match (order.status, order.payment.status) {
            (OrderStatus::Created, PaymentStatus::Pending) => {
                order.payment.status = PaymentStatus::Failed;
                doc! { "payment": serialize_to_bson(&order.payment)? }
            }
            (OrderStatus::Shipped, _) if order.shipping.status == ShippingStatus::InTransit => {
                order.shipping.status = ShippingStatus::OutForDelivery;
                doc! { "shipping.status": "out_for_delivery" }
            }
            _ => {
                order.payment.method.push_str(" (checked)");
                doc! { "payment.method": &order.payment.method, "priority": "high" }
            }
        };
        self.update_order(index, order, set).await
    }

    fn any_order(&mut self) -> Option<usize> {
        let orders = self.open_orders.len();
        (orders > 0).then(|| self.rng.usize(..orders))
    }

    async fn update_order(&mut self, index: usize, after: Order, set: Document) -> Result<()> {
        let write = self.ledger.write_of(&after.correlation_id);
        consequence::order_updated(&write, &self.open_orders[index], &after);
        let update = doc! { "$set": set };
        self.orders
            .update_one(doc! { "_id": &after.id }, update)
            .await?;
        write.acknowledged();
        match after.status {
            OrderStatus::Delivered | OrderStatus::Cancelled => {
                self.open_orders.swap_remove(index);
            }
            _ => self.open_orders[index] = after,
        }
        self.written().await;
        Ok(())
    }
}
