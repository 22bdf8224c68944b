use changestream::prelude::*;

use serde::{Deserialize, Serialize};

#[derive(Deserialize)]
struct Order {
    status: String,
}

#[derive(Serialize)]
struct StatusChanged {
    from: Option<String>,
    to: String,
}

#[derive(Clone)]
struct App;

#[on_change(
    db = "shop",
    coll = ["orders", "orders.archive"],
    op = ["update", "replace"],
    field = ["status", "items.0.price"],
    to = "fulfillment",
    name = "status",
    key = "customer.customerId",
    timeout = "1m 30s",
    retries = 5,
    backoff = "200ms",
)]
async fn order_status_changed(
    FullDocument(order): FullDocument<Order>,
    before: Option<PreImage<Order>>,
    State(_app): State<App>,
) -> Result<StatusChanged, HandlerError> {
    Ok(StatusChanged {
        from: before.map(|PreImage(order)| order.status),
        to: order.status,
    })
}

#[on_change]
async fn everything() -> Result<(), HandlerError> {
    Ok(())
}

async fn called() -> Result<StatusChanged, HandlerError> {
    everything().await?;
    let order = Order {
        status: "shipped".to_owned(),
    };
    order_status_changed(FullDocument(order), None, State(App)).await
}

fn main() {
    let _ = called();
    let _: Vec<HandlerSpec<App>> = handlers![order_status_changed, everything];
}
