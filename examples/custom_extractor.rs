//! An extractor of one's own: here, the tenant that a database belongs to.
//!
//! `cargo run --example custom_extractor --features testing` needs no server.

use std::collections::BTreeMap;

use changestream::{
    ChangeRequest,
    prelude::*,
    testing::{TestRuntime, change},
};

#[derive(Clone)]
struct App {
    tenants: BTreeMap<String, String>,
}

/// Whose data changed. Events of a database that is nobody's are rejected: they become dead letters.
struct Tenant(String);

impl FromChange<App> for Tenant {
    fn from_change(request: &ChangeRequest, app: &App) -> Result<Self, Rejection> {
        let tenant = app.tenants.get(request.change().database());
        let tenant = tenant.ok_or_else(|| Rejection::new("the database is no tenant's"))?;
        Ok(Self(tenant.clone()))
    }
}

#[on_change(coll = "orders", op = "insert")]
async fn order_created(Tenant(tenant): Tenant, key: DocumentKey) -> Result<(), HandlerError> {
    println!("{tenant} has a new order {key:?}");
    Ok(())
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), changestream::Error> {
    for (database, handled) in [("test", true), ("elsewhere", false)] {
        let app = App {
            tenants: BTreeMap::from([(database.to_owned(), "Acme".to_owned())]),
        };
        let mut runtime = TestRuntime::builder()
            .state(app)
            .handlers(handlers![order_created])
            .build()?;
        let report = runtime.send(change::insert("orders").id(7)).await;
        assert_eq!(report.handled().len(), usize::from(handled));
        assert_eq!(runtime.dead_letters().len(), usize::from(!handled));
    }
    Ok(())
}
