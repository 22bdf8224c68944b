//! The example of the MongoDB sink runs.

use bson::{Document, doc, oid::ObjectId};
use changestream_testkit::MongoServer;
use futures::TryStreamExt;
use tokio::process::Command;

use crate::support::{TestResult, eventually, example, service};

#[tokio::test]
async fn the_example_keeps_a_view_and_a_log() -> TestResult {
    let mongodb = MongoServer::start().await?;
    let example = Command::new(example::example("mongodb_sink").await);
    let service = service::begun(example, &mongodb).await?;
    let shop = mongodb.client().await?.database("shop");
    let [orders, view, log] =
        ["orders", "open_orders", "order_log"].map(|name| shop.collection::<Document>(name));
    let [open, closed, gone] = [(); 3].map(|()| ObjectId::new());
    for id in [open, closed, gone] {
        let order = doc! { "_id": id, "customer": "Acme", "status": "open", "total": 9.5 };
        orders.insert_one(order).await?;
    }
    let close = doc! { "$set": { "status": "closed" } };
    orders.update_one(doc! { "_id": closed }, close).await?;
    orders.delete_one(doc! { "_id": gone }).await?;
    let all = async |collection: &mongodb::Collection<Document>| {
        let found = collection.find(doc! {}).sort(doc! { "at": 1 });
        let found = found.await.expect("read").try_collect::<Vec<_>>();
        found.await.expect("read")
    };
    let entries = async || {
        let entries = all(&log).await;
        (entries.len() == 5).then_some(entries)
    };
    let entries = eventually("all entries", entries).await;
    let of_closed = |entry: &&Document| entry.get_object_id("order").is_ok_and(|id| id == closed);
    let of_closed: Vec<_> = entries.iter().filter(of_closed).collect();
    assert_eq!(of_closed.len(), 2, "{entries:?}");
    assert_eq!(of_closed[0].get_str("operation")?, "insert");
    assert_eq!(of_closed[1].get_str("status")?, "closed");
    let only_one = async || {
        let view = all(&view).await;
        (view.len() == 1).then_some(view)
    };
    let left = eventually("the view", only_one).await;
    assert_eq!(left[0].get_object_id("_id")?, open);
    assert_eq!(left[0].get_f64("total")?, 9.5);
    assert!(left[0].contains_key("_changestream"));
    service::ends_well(service).await
}
