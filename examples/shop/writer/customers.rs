use changestream::{
    bson::{doc, serialize_to_bson},
    mongodb::error::Result,
};
use serde_json::json;

use super::Writer;
use crate::domain::{Customer, Tier};

const NAMES: [&str; 8] = [
    "Ada", "Bela", "Chidi", "Dana", "Emre", "Fatou", "Goran", "Hana",
];

impl Writer {
    pub(super) async fn add_customer(&mut self) -> Result<()> {
        let name = self.choose(&NAMES);
        let id = self.next_id("c");
        let customer = Customer {
            email: format!("{}@{id}.example", name.to_lowercase()),
            id,
            name: name.to_owned(),
            tier: Tier::Standard,
            status: "active".to_owned(),
        };
        let write = self.ledger.write();
        for service in ["profile-service", "marketing-service"] {
            write.expect(
                "customer_joined",
                service,
                json!({ "customerId": customer.id, "email": customer.email, "tier": "standard" }),
            );
        }
        self.customers.insert_one(&customer).await?;
        write.acknowledged();
        self.people.push(customer);
        self.written().await;
        Ok(())
    }

    /// Mostly the tier; a new name is for nobody.
    pub(super) async fn change_customer(&mut self) -> Result<()> {
        let index = self.rng.usize(..self.people.len());
        let customer = &mut self.people[index];
        let write = self.ledger.write();
        let set = if self.rng.u8(0..4) == 0 {
            customer.name.push_str(" Jr");
            doc! { "name": &customer.name }
        } else {
            customer.tier = match customer.tier {
                Tier::Standard => Tier::Vip,
                Tier::Vip => Tier::Enterprise,
                Tier::Enterprise => Tier::Standard,
            };
            for service in ["marketing-service", "analytics-service"] {
                write.expect(
                    "customer_tier_changed",
                    service,
                    json!({ "customerId": customer.id, "tier": customer.tier }),
                );
            }
            doc! { "tier": serialize_to_bson(&customer.tier)? }
        };
        let update = doc! { "$set": set };
        self.customers
            .update_one(doc! { "_id": &customer.id }, update)
            .await?;
        write.acknowledged();
        self.written().await;
        Ok(())
    }
}
