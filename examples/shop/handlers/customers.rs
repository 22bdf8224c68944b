use changestream::prelude::*;
use serde::Serialize;

use crate::domain::{Customer, Tier};

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct CustomerJoined {
    customer_id: String,
    email: String,
    name: String,
    tier: Tier,
}

#[on_change(coll = "customers", op = "insert", to = ["profile-service", "marketing-service"])]
pub(crate) async fn customer_joined(
    FullDocument(customer): FullDocument<Customer>,
) -> Result<CustomerJoined, HandlerError> {
    Ok(CustomerJoined {
        customer_id: customer.id,
        email: customer.email,
        name: customer.name,
        tier: customer.tier,
    })
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct TierChanged {
    customer_id: String,
    tier: Tier,
}

/// Takes what it needs from the update itself: `customers` records no images.
#[on_change(coll = "customers", op = "update", field = "tier", to = ["marketing-service", "analytics-service"])]
pub(crate) async fn customer_tier_changed(
    key: DocumentKey,
    update: UpdateDescription,
) -> Result<TierChanged, HandlerError> {
    Ok(TierChanged {
        customer_id: required(key.get("_id")?)?,
        tier: required(update.get("tier")?)?,
    })
}

fn required<T>(value: Option<T>) -> Result<T, HandlerError> {
    value.ok_or_else(|| HandlerError::reject("the event lacks a field that it should have"))
}
