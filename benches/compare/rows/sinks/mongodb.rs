use bson::{Document, RawArrayBuf, RawDocumentBuf, rawdoc};
use changestream::MongoSink;

use crate::{
    Figures, Result,
    comparison::{Comparison, Contestant, Job},
    measure::Meter,
};

/// What a sink sends at once.
const BATCH: usize = 500;
/// What the contestants write to, each its own.
const BY_CLIENT: &str = "by_client";
const BY_SINK: &str = "by_sink";

pub(super) fn comparison(events: u64) -> Comparison {
    super::comparison(
        "upserts of a document for each event, 500 in a command, of JSON that becomes BSON",
        events,
        None,
        2 * BATCH,
        Contestant::new("mongodb", client),
        async |job: &Job| {
            Ok(MongoSink::upsert(&job.database.collection::<Document>(BY_SINK)).into())
        },
    )
}

async fn client(job: Job) -> Result<Figures> {
    let deliveries = super::deliveries(job.events)?;
    let meter = Meter::start(&job.client).await?;
    for (first, batch) in (0_i64..).step_by(BATCH).zip(deliveries.chunks(BATCH)) {
        let mut updates = RawArrayBuf::new();
        for (id, delivery) in (first..).zip(batch) {
            let item: Document = serde_json::from_slice(delivery.message().payload())?;
            let item = RawDocumentBuf::try_from(&item)?;
            updates.push(rawdoc! { "q": { "_id": id }, "u": item, "upsert": true });
        }
        let command = rawdoc! {
            "update": BY_CLIENT, "updates": updates, "ordered": false, "writeConcern": { "w": "majority" },
        };
        let reply = job.database.run_raw_command(command).await?;
        if reply.get_i32("n")? != i32::try_from(batch.len())? {
            return Err(format!("not all of {} documents were written", batch.len()).into());
        }
    }
    meter.stop(job.events).await
}
