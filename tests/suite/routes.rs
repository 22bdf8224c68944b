//! Which sinks a message goes to, and in what shape.

use std::{collections::BTreeMap, sync::Arc, sync::Mutex};

use changestream::{
    Delivery, Message, Operation, Projection, Route, Routes, SinkSpec, StartAt, Template,
    bson::doc,
    prelude::*,
    testing::{RecordingSink, TestRuntime, change},
};
use serde::{Deserialize, Serialize};
use tower::service_fn;

use crate::support::shop::Shop;

#[derive(Debug, Serialize, Deserialize)]
struct OrderEvent {
    id: i32,
    urgency: String,
}

/// Every change of an order: urgent where it was cancelled.
async fn order_changed(change: Change<Order>) -> Result<OrderEvent, HandlerError> {
    let status = change.full_document().map(|order| order.status.as_str());
    Ok(OrderEvent {
        id: change
            .document_key()
            .expect("a key")
            .get("_id")?
            .expect("an id"),
        urgency: if status == Some("cancelled") {
            "high"
        } else {
            "normal"
        }
        .to_owned(),
    })
}

async fn product_changed(key: DocumentKey) -> Result<i32, HandlerError> {
    Ok(key.get("_id")?.unwrap_or_default())
}

#[derive(Debug, Deserialize)]
struct Order {
    status: String,
}

/// The sinks of a runtime, which say what came to each.
#[derive(Default)]
struct Services(BTreeMap<&'static str, RecordingSink>);

impl Services {
    fn sink(&mut self, name: &'static str) -> RecordingSink {
        self.0.entry(name).or_default().clone()
    }

    /// The payloads that came to each, without those to which nothing came.
    fn received(&self) -> BTreeMap<&'static str, Vec<String>> {
        let text = |delivery: &Delivery| {
            String::from_utf8_lossy(delivery.message().payload()).into_owned()
        };
        let received = self.0.iter().map(|(name, sink)| {
            let payloads = sink.deliveries().iter().map(text).collect();
            (*name, payloads)
        });
        received
            .filter(|(_, payloads): &(_, Vec<_>)| !payloads.is_empty())
            .collect()
    }
}

fn handlers() -> [HandlerSpec<()>; 2] {
    [
        HandlerSpec::new("order_changed", order_changed).collections(["orders"]),
        HandlerSpec::new("product_changed", product_changed)
            .collections(["products"])
            .to(["catalog"]),
    ]
}

fn update(status: &str) -> change::ChangeBuilder {
    let order = doc! { "_id": 7, "status": status, "total": 5_i64 };
    change::update("orders")
        .id(7)
        .set("status", status)
        .full_document(&order)
}

#[tokio::test]
async fn a_message_goes_where_its_handler_and_the_routes_say_and_once() {
    let mut services = Services::default();
    let routes = Routes::default()
        .service("audit", services.sink("audit"))
        .service("inventory", services.sink("inventory"))
        .service("alerts", services.sink("alerts"))
        .service("shipping", services.sink("shipping"))
        .service("big", services.sink("big"))
        .route(Route::to(["audit"]))
        .route(Route::to(["audit", "catalog", "inventory"]).collections(["products"]))
        .route(Route::to(["alerts"]).equals("message.urgency", "high"))
        .route(Route::to(["alerts"]).equals("full_document.status", "cancelled"))
        .route(
            Route::to(["shipping"])
                .handlers(["order_changed"])
                .fields(["shipping"]),
        )
        .route(
            Route::to(["big"])
                .equals("full_document.total", 5.0)
                .operations([Operation::Update]),
        )
        .route(
            Route::to(["big"]).when(|delivery| delivery.change().operation() == &Operation::Delete),
        );
    let mut runtime = TestRuntime::builder()
        .handlers(handlers())
        .sink("catalog", services.sink("catalog"))
        .routes(routes)
        .build()
        .expect("a runtime");

    runtime.send(change::insert("products").id(1)).await;
    let expected = BTreeMap::from([
        ("audit", vec!["1".into()]),
        ("catalog", vec!["1".into()]),
        ("inventory", vec!["1".into()]),
    ]);
    assert_eq!(services.received(), expected);

    services.0.values().for_each(RecordingSink::clear);
    runtime.send(update("paid")).await;
    let normal = r#"{"id":7,"urgency":"normal"}"#.to_owned();
    let expected = BTreeMap::from([
        ("audit", vec![normal.clone()]),
        ("big", vec![normal.clone()]),
    ]);
    assert_eq!(services.received(), expected);

    services.0.values().for_each(RecordingSink::clear);
    runtime.send(update("cancelled")).await;
    let high = r#"{"id":7,"urgency":"high"}"#.to_owned();
    let expected =
        BTreeMap::from(["alerts", "audit", "big"].map(|service| (service, vec![high.clone()])));
    assert_eq!(services.received(), expected);

    services.0.values().for_each(RecordingSink::clear);
    runtime
        .send(
            change::update("orders")
                .id(7)
                .set("shipping.status", "sent"),
        )
        .await;
    let expected =
        BTreeMap::from(["audit", "shipping"].map(|service| (service, vec![normal.clone()])));
    assert_eq!(services.received(), expected);

    services.0.values().for_each(RecordingSink::clear);
    runtime.send(change::delete("orders").id(7)).await;
    let expected =
        BTreeMap::from(["audit", "big", "shipping"].map(|service| (service, vec![normal.clone()])));
    assert_eq!(services.received(), expected);
}

#[test]
fn a_table_that_leads_nowhere_is_refused() {
    let refused = |routes: fn(Routes) -> Routes| {
        let sink = RecordingSink::default();
        let table = Routes::default().service("alerts", sink.clone());
        let runtime = TestRuntime::builder()
            .handlers(handlers())
            .sink("catalog", sink);
        let error = runtime
            .routes(routes(table))
            .build()
            .expect_err("a wrong table");
        assert!(error.is_configuration());
        error.to_string()
    };
    let unused = refused(|table| table);
    assert_eq!(
        unused,
        "nothing leads to service `alerts`; add a route to it, or remove it"
    );
    let unknown = refused(|table| table.route(Route::to(["alert"])));
    assert!(
        unknown.starts_with(
            "a route leads to sink `alert`, which is not there; there are `catalog`, `alerts`"
        ),
        "{unknown}"
    );
    let handler = refused(|table| table.route(Route::to(["alerts"]).handlers(["orders_changed"])));
    assert_eq!(
        handler,
        "the route to `alerts`: there is no handler `orders_changed`; there are `order_changed`, `product_changed`"
    );
    let collection = refused(|table| table.route(Route::to(["alerts"]).collections(["customers"])));
    assert!(
        collection.starts_with("the route to `alerts`: no handler watches what it is about"),
        "{collection}"
    );
    let operation =
        refused(|table| table.route(Route::to(["alerts"]).operations([Operation::Drop])));
    assert!(
        operation.starts_with("the route to `alerts`: no handler watches what it is about"),
        "{operation}"
    );
    let nowhere = refused(|table| table.route(Route::to(Vec::<String>::new())));
    assert_eq!(nowhere, "a route leads to no sink; name one");
    let field =
        refused(|table| table.route(Route::to(["alerts"]).equals("fullDocument.status", "x")));
    assert!(
        field.starts_with("the route to `alerts`: `fullDocument.status` is nothing of a delivery"),
        "{field}"
    );
    let path = refused(|table| table.route(Route::to(["alerts"]).fields(["$set"])));
    assert!(
        path.starts_with("the route to `alerts`: `$set` is not a field path"),
        "{path}"
    );
    let twice = refused(|table| table.service("catalog", RecordingSink::default()));
    assert!(
        twice.starts_with("two sinks are named `catalog`"),
        "{twice}"
    );
}

#[tokio::test]
async fn each_service_has_a_payload_of_its_own() {
    let mut services = Services::default();
    let search = SinkSpec::from(services.sink("search")).map(|delivery: &Delivery| {
        let order: OrderEvent = delivery.message().parse_json()?;
        if order.urgency == "normal" {
            return Ok(None);
        }
        let document = Message::json(&doc! { "remove": order.id })?;
        Ok(Some(document.header("X-From", delivery.handler())))
    });
    let handler = HandlerSpec::new("order_changed", order_changed).to(["all", "search"]);
    let mut runtime = TestRuntime::builder()
        .handler(handler)
        .sink("all", services.sink("all"))
        .sink("search", search)
        .build()
        .expect("a runtime");
    let report = runtime
        .send_all([update("paid"), update("cancelled")])
        .await;
    assert_eq!(report.handled().len(), 2);
    let received = services.received();
    assert_eq!(received["all"].len(), 2);
    assert_eq!(received["search"], [r#"{"remove":7}"#]);
    let delivery = &services.0["search"].deliveries()[0];
    assert_eq!(delivery.message().get_key(), Some("7"), "the key stays");
    assert_eq!(delivery.message().headers()["X-From"], "order_changed");
    assert_eq!(delivery.id(), services.0["all"].deliveries()[1].id());
}

#[tokio::test]
async fn a_payload_that_cannot_be_made_is_a_dead_letter_of_that_service() {
    let mut services = Services::default();
    let search = SinkSpec::from(services.sink("search"))
        .map(|delivery: &Delivery| delivery.message().parse_json::<Vec<i32>>().map(|_| None));
    let handler = HandlerSpec::new("order_changed", order_changed).to(["all", "search"]);
    let mut runtime = TestRuntime::builder()
        .handler(handler)
        .sink("all", services.sink("all"))
        .sink("search", search)
        .build()
        .expect("a runtime");
    let report = runtime.send(update("paid")).await;
    assert_eq!(report.dead_lettered(), ["order_changed"]);
    let letters = runtime.dead_letters();
    assert_eq!(
        letters
            .iter()
            .map(|letter| letter.sink())
            .collect::<Vec<_>>(),
        [Some("search")]
    );
    assert_eq!(services.received()["all"].len(), 1);
}

/// The handler takes neither document; a template and a route do.
#[tokio::test]
async fn the_server_is_asked_for_what_sinks_and_routes_take_of_documents() {
    for projection in [Projection::Whole, Projection::Fields] {
        let shop = Shop::open().await;
        let from = StartAt::OperationTime(shop.now().await);
        let customer = doc! { "name": "Ada" };
        shop.insert(doc! { "_id": 1, "status": "created", "customer": customer })
            .await;
        shop.update(1, doc! { "$set": { "status": "paid" } }).await;
        let seen = Arc::new(Mutex::new(Vec::new()));
        let sink = |name: &'static str| {
            let template =
                Template::new("{operation}:{full_document.customer.name | \"sentinel\"}")
                    .expect("a template");
            let (seen, render) = (Arc::clone(&seen), template.clone());
            let sink = service_fn(move |delivery: Delivery| {
                let rendered = render.render(&delivery);
                let seen = Arc::clone(&seen);
                async move {
                    seen.lock()
                        .expect("no panic")
                        .push(format!("{name} {}", rendered?));
                    Ok::<(), HandlerError>(())
                }
            });
            SinkSpec::new(sink).renders([&template])
        };
        let spec = HandlerSpec::new("changed", |id: EventId| async move {
            Ok::<_, HandlerError>(id.to_string())
        })
        .collections(["orders"])
        .to(["all"]);
        let runtime = shop
            .runtime()
            .projection(projection)
            .sink("all", sink("all"))
            .sink("paid", sink("paid"))
            .route(Route::to(["paid"]).equals("full_document.status", "paid"))
            .handler(spec);
        let letters = shop.run_from(from, runtime, async {}).await;
        assert!(letters.is_empty(), "{letters:?}");
        let mut seen = seen.lock().expect("no panic").clone();
        seen.retain(|text| !text.contains("sentinel"));
        seen.sort_unstable();
        assert_eq!(
            seen,
            ["all insert:Ada", "all update:Ada", "paid update:Ada"]
        );
    }
}
