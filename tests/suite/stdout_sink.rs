//! The example of the sink of lines runs.

use std::process::Stdio;

use changestream_testkit::MongoServer;
use mongodb::bson::doc;
use serde_json::{Value, json};
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::Command,
};

use crate::support::{TestResult, example, service, within};

#[tokio::test]
async fn the_example_prints_changes() -> TestResult {
    let mongodb = MongoServer::start().await?;
    let mut example = Command::new(example::example("stdout_sink").await);
    example.stdout(Stdio::piped());
    let mut service = service::begun(example, &mongodb).await?;
    let output = service.stdout.take().ok_or("no output")?;
    let mut lines = BufReader::new(output).lines();
    let products = mongodb
        .client()
        .await?
        .database("shop")
        .collection("products");
    for name in ["first\nline", "second"] {
        products
            .insert_one(doc! { "_id": name, "price": 9.5 })
            .await?;
        let line = within("a line", lines.next_line()).await?;
        let line: Value = serde_json::from_str(&line.ok_or("it has ended")?)?;
        assert_eq!(
            line["payload"],
            json!({ "collection": "products", "operation": "insert", "document": { "_id": name, "price": 9.5 } })
        );
        assert_eq!(line["handler"], "changed");
        assert_eq!(
            line["id"],
            format!("{}/changed/0", line["event_id"].as_str().ok_or("no id")?)
        );
    }
    service::ends_well(service).await
}
