//! Writes the corpora of the targets that decode: what a real server sends, and what it stores for a runtime. To be run by
//! hand when there is more to learn from: `cargo run --manifest-path fuzz/Cargo.toml --example record`.

use std::{error::Error, fs, path::Path};

use bson::{
    Binary, Bson, DateTime, Decimal128, Document, JavaScriptCodeWithScope, RawDocumentBuf, Regex,
    Timestamp, Uuid, doc, oid::ObjectId, spec::BinarySubtype,
};
use changestream_core::{
    Checkpoint, CheckpointStore, ClusterTime, MongoCheckpoints, Operation, RawChange, ResumePoint,
};
use changestream_testkit::MongoServer;
use fastrand::Rng;
use futures::StreamExt;
use mongodb::{Client, raw_batch_cursor::RawBatchCursor};

type Result<T, E = Box<dyn Error>> = std::result::Result<T, E>;

/// How many bytes the target `filter` makes its filters from, in these inputs.
const CHOICES: u8 = 96;

#[tokio::main]
async fn main() -> Result<()> {
    let server = MongoServer::start().await?;
    let client = server.client().await?;
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus");
    let events = events(&client).await?;
    let mut rng = Rng::with_seed(1);
    for (number, event) in (1..).zip(&events) {
        let name = format!("{number:02}-{}", event.operation());
        let event = event.as_raw().as_bytes();
        write(&corpus.join("event"), &name, event)?;
        let mut input = vec![CHOICES];
        input.extend((0..CHOICES).map(|_| rng.u8(..)));
        input.extend(event);
        write(&corpus.join("filter"), &name, &input)?;
    }
    for (name, checkpoint) in checkpoints(&client, &events[0]).await? {
        write(&corpus.join("checkpoint"), &name, checkpoint.as_bytes())?;
    }
    Ok(())
}

fn write(dir: &Path, name: &str, input: &[u8]) -> Result<()> {
    fs::create_dir_all(dir)?;
    Ok(fs::write(dir.join(name), input)?)
}

/// Commands on the database `shop`.
fn script() -> Result<Vec<Document>> {
    let update = |update: Bson| {
        let update = doc! { "q": { "_id": 1 }, "u": update };
        doc! { "update": "orders", "updates": [update] }
    };
    let order = doc! {
        "_id": 1, "status": "placed", "total": 12.5, "placed": DateTime::from_millis(1_700_000_000_000),
        "items": [
            { "sku": "A-1", "quantity": 2, "price": 1.5 },
            { "sku": "B-2", "quantity": 1 },
            { "sku": "C-3", "quantity": 9 },
        ],
        "customer": { "id": ObjectId::from_bytes([7; 12]), "name": "Ada" },
        "seen": Timestamp { time: 7, increment: 3 }, "payment": { "status": "open", "tries": 0 },
    };
    let mut shipped = order.clone();
    shipped.insert(
        "status",
        doc! { "shipped": { "at": DateTime::from_millis(0) } },
    );
    let binary = Binary {
        subtype: BinarySubtype::Generic,
        bytes: vec![1, 2, 3],
    };
    let scoped = JavaScriptCodeWithScope {
        code: "g()".to_owned(),
        scope: doc! { "x": 1 },
    };
    let of_every_type = doc! {
        "_id": ObjectId::from_bytes([9; 12]), "double": f64::NAN, "long": i64::MAX, "true": true,
        "decimal": "12.50".parse::<Decimal128>()?, "binary": binary, "uuid": Uuid::from_bytes([5; 16]),
        "regex": Regex { pattern: bson::cstr!("a.*").to_owned(), options: bson::cstr!("i").to_owned() },
        "code": Bson::JavaScriptCode("f()".to_owned()), "scoped": scoped, "symbol": Bson::Symbol("s".to_owned()),
        "null": null, "min": Bson::MinKey, "max": Bson::MaxKey,
        "nested": [[1, [2, "é"]], { "a": { "b": { "c": [] } } }], "a.b": "a dot in its name",
    };
    let shorter = doc! { "$set": { "items": { "$slice": ["$items", 1] } } };
    Ok(vec![
        doc! { "insert": "orders", "documents": [order] },
        doc! { "insert": "orders", "documents": [of_every_type] },
        update(doc! { "$set": { "status": "paid" } }.into()),
        update(doc! { "$set": { "payment.status": "captured", "items.1.quantity": 3 } }.into()),
        update(doc! { "$unset": { "seen": "" }, "$set": { "total": 13 } }.into()),
        update(doc! { "$push": { "items": { "sku": "D-4", "quantity": 1 } } }.into()),
        update(vec![shorter].into()),
        update(doc! { "$rename": { "status": "state" } }.into()),
        update(shipped.into()),
        doc! { "delete": "orders", "deletes": [{ "q": { "_id": 1 }, "limit": 1 }] },
        doc! { "renameCollection": "shop.orders", "to": "shop.old" },
        doc! { "drop": "old" },
        doc! { "insert": "carts", "documents": [{}] },
        doc! { "dropDatabase": 1 },
    ])
}

/// The events of the script, with all their images, and the `invalidate` of a stream of the database.
async fn events(client: &Client) -> Result<Vec<RawChange>> {
    let (shop, admin) = (client.database("shop"), client.database("admin"));
    let images = doc! { "create": "orders", "changeStreamPreAndPostImages": { "enabled": true } };
    shop.run_command(images).await?;
    let mut options = doc! {
        "fullDocument": "whenAvailable", "fullDocumentBeforeChange": "whenAvailable",
    };
    let of_shop = [doc! { "$changeStream": options.clone() }];
    let mut of_shop = shop.aggregate(of_shop).batch().await?;
    options.insert("allChangesForCluster", true);
    let of_all = [doc! { "$changeStream": options }];
    let mut of_all = admin.aggregate(of_all).batch().await?;
    for command in script()? {
        let is_rename = command.contains_key("renameCollection");
        let database = if is_rename { &admin } else { &shop };
        database.run_command(command).await?;
    }
    let mut events = read(&mut of_all, &Operation::DropDatabase).await?;
    events.extend(read(&mut of_shop, &Operation::Invalidate).await?.pop());
    Ok(events)
}

/// The events up to the first of `last`.
async fn read(cursor: &mut RawBatchCursor, last: &Operation) -> Result<Vec<RawChange>> {
    let mut events = Vec::new();
    while let Some(batch) = cursor.next().await {
        for event in batch?.doc_slices()? {
            let event = event?.as_document().ok_or("a document")?;
            let event = RawChange::new(event.as_bytes().to_vec())?;
            let is_last = event.operation() == last;
            events.push(event);
            if is_last {
                return Ok(events);
            }
        }
    }
    Err("the stream has ended".into())
}

/// Checkpoints of every kind, with the token of `event`, as they are found in the database.
async fn checkpoints(
    client: &Client,
    event: &RawChange,
) -> Result<Vec<(&'static str, RawDocumentBuf)>> {
    let database = client.database("checkpoints");
    let store = MongoCheckpoints::new(&database);
    let time = event.cluster_time().ok_or("a time")?.seconds();
    let time = ClusterTime(Timestamp {
        time,
        increment: u32::MAX,
    });
    let token = || event.token();
    let positions = [
        ("resume_after", ResumePoint::ResumeAfter(token())),
        ("start_after", ResumePoint::StartAfter(token())),
        ("split_event", ResumePoint::SplitEvent(token())),
        ("operation_time", ResumePoint::OperationTime(time)),
        ("partitioned", ResumePoint::StartAfter(token())),
    ];
    let mut names = vec!["claimed"];
    store.claim("claimed", 1).await?;
    for (name, position) in positions {
        let mut checkpoint = Checkpoint::default();
        checkpoint.position = Some(position);
        checkpoint.fingerprint = "0f1e2d3c4b5a6978".to_owned();
        (checkpoint.epoch, checkpoint.sequence) = (3, 41);
        if name == "partitioned" {
            let partitioning = doc! { "partitions": 4, "since": 3_i64 };
            checkpoint.partitioning = Some(bson::deserialize_from_document(partitioning)?);
        }
        store.save(name, &checkpoint).await?;
        names.push(name);
    }
    let stored = database.collection::<RawDocumentBuf>(MongoCheckpoints::COLLECTION);
    let mut found = Vec::new();
    for name in names {
        let checkpoint = stored.find_one(doc! { "_id": name }).await?;
        found.push((name, checkpoint.ok_or("a checkpoint")?));
    }
    Ok(found)
}
