//! mq-bridge with a handler behind its MongoDB endpoint. The first argument is the size of its batches.

use std::{
    env, fs,
    hint::black_box,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Instant, SystemTime, UNIX_EPOCH},
};

use anyhow::{Context, Result};
use mongodb::{
    Client,
    bson::{Timestamp, doc},
};
use mq_bridge::{CanonicalMessage, Handled, Route, models::Endpoint};
use nix::sys::{
    resource::{UsageWho, getrusage},
    time::TimeValLike,
};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::sync::Notify;

#[derive(Deserialize)]
struct Task {
    database: String,
    time: u32,
    increment: u32,
    events: u64,
}

#[allow(dead_code)]
#[derive(Deserialize)]
struct Item {
    #[serde(rename = "_id")]
    id: Value,
    sku: String,
    name: String,
    category: String,
    price: f64,
    quantity: i32,
    status: String,
    description: String,
    written: Option<f64>,
}

#[tokio::main]
async fn main() -> Result<()> {
    let mut arguments = env::args().skip(1);
    let batch = arguments.next().context("no size of batches")?.parse()?;
    let task: Task = serde_json::from_str(&arguments.next().context("no task")?)?;
    let uri = env::var("MONGODB_URI")?;

    // It knows only "now" and "where I was".
    let folder = tempfile::tempdir()?;
    let checkpoints = folder.path().join("checkpoints.json");
    let token = token(&uri, &task).await?;
    let place = json!({ "_data": token }).to_string();
    fs::write(&checkpoints, json!({ "items:bench": place }).to_string())?;

    let input: Endpoint = serde_json::from_value(json!({ "mongodb": {
        "url": uri,
        "database": task.database,
        "collection": "items",
        "consume": "capture_new",
        "cursor_id": "bench",
        "checkpoint_store": format!("file://{}", checkpoints.display()),
    } }))?;
    let output: Endpoint = serde_json::from_value(json!({ "null": null }))?;
    let seen = Arc::new(AtomicU64::new(0));
    let all = Arc::new(Notify::new());
    let ages = Arc::new(Mutex::new(Vec::new()));
    let handler = {
        let (seen, all, events) = (seen, Arc::clone(&all), task.events);
        let ages = Arc::clone(&ages);
        move |message: CanonicalMessage| {
            if let Ok(item) = message.parse::<Item>() {
                black_box(item.quantity);
                if let Some(written) = item.written {
                    let mut ages = ages.lock().unwrap_or_else(PoisonError::into_inner);
                    ages.push(now() - written);
                }
                if seen.fetch_add(1, Ordering::Relaxed) + 1 == events {
                    all.notify_one();
                }
            }
            async { Ok(Handled::Ack) }
        }
    };

    let (begin, begin_cpu) = (Instant::now(), cpu_micros()?);
    let route = Route::new(input, output).with_batch_size(batch);
    let running = route.with_handler(handler).run("bench").await?;
    all.notified().await;
    let (seconds, cpu) = (begin.elapsed().as_secs_f64(), cpu_micros()? - begin_cpu);
    drop(running);
    let mut figures = json!({
        "events_per_second": task.events as f64 / seconds,
        "client_cpu": cpu as f64 / task.events as f64,
        "peak_memory": getrusage(UsageWho::RUSAGE_SELF)?.max_rss() as f64 / 1024.0,
    });
    let mut ages = ages.lock().unwrap_or_else(PoisonError::into_inner);
    let half = ages.len() / 2;
    // The first half warms up.
    let half = &mut ages[half..];
    half.sort_by(f64::total_cmp);
    if !half.is_empty() {
        figures["from_write_p50"] = half[half.len() * 50 / 100].into();
        figures["from_write_p99"] = half[half.len() * 99 / 100].into();
    }
    println!("{figures}");
    std::process::exit(0)
}

/// The token of the time where the backlog begins.
async fn token(uri: &str, task: &Task) -> Result<String> {
    let start = Timestamp {
        time: task.time,
        increment: task.increment,
    };
    let stage = doc! { "$changeStream": { "startAtOperationTime": start } };
    let open = doc! { "aggregate": "items", "pipeline": [stage], "cursor": { "batchSize": 0 } };
    let database = Client::with_uri_str(uri).await?.database(&task.database);
    let reply = database.run_command(open).await?;
    let cursor = reply.get_document("cursor")?;
    let token = cursor.get_document("postBatchResumeToken")?;
    Ok(token.get_str("_data")?.to_owned())
}

/// In microseconds since the Unix epoch.
fn now() -> f64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0.0, |since| since.as_secs_f64() * 1e6)
}

fn cpu_micros() -> Result<i64> {
    let usage = getrusage(UsageWho::RUSAGE_SELF)?;
    Ok(usage.user_time().num_microseconds() + usage.system_time().num_microseconds())
}
