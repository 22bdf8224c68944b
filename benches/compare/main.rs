//! Drains a backlog of small inserts with the bare driver's typed loop and with this crate's whole default
//! stack, in turn, each in a process of its own, and prints one table.
//!
//! `cargo xbench` starts a server and runs it; `MONGODB_URI` names another. Options after `--`:
//! `--events N` (200,000 by default) and `--runs N` (5 by default).

use std::{
    env,
    error::Error,
    process::{Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use bson::{Timestamp, doc};
use changestream::{StartAt, prelude::*};
use futures::StreamExt;
use mongodb::{Client, change_stream::event::ChangeStreamEvent, options::WriteConcern};
use nix::sys::{
    resource::{UsageWho, getrusage},
    time::TimeValLike,
};
use serde::{Deserialize, Serialize};
use tokio::sync::Notify;

type Result<T> = std::result::Result<T, Box<dyn Error>>;

const COLLECTION: &str = "items";
const BATCH_SIZE: u32 = 5_000;
const CONTESTANTS: [&str; 2] = ["driver, typed loop", "changestream, whole stack"];

/// About 220 bytes of BSON.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Item {
    #[serde(rename = "_id")]
    id: i64,
    sku: String,
    name: String,
    category: String,
    price: f64,
    quantity: i32,
    status: String,
    description: String,
}

impl Item {
    fn new(id: i64) -> Self {
        Self {
            id,
            sku: format!("SKU-{id:08}"),
            name: format!("Item number {id}"),
            category: "household".into(),
            price: 9.99,
            quantity: 7,
            status: "active".into(),
            description: "A small thing that is good to have about the house.".into(),
        }
    }
}

#[derive(Debug, Serialize, Deserialize)]
struct Figures {
    events_per_second: f64,
    cpu_micros_per_event: f64,
}

/// What a contestant is told.
struct Task {
    client: Client,
    database: String,
    start: Timestamp,
    events: u64,
}

#[tokio::main]
async fn main() -> Result<()> {
    let options: Vec<_> = env::args().skip(1).collect();
    let option = |name: &str| {
        let at = options.iter().position(|option| option == name)?;
        options.get(at + 1).cloned()
    };
    let uri = env::var("MONGODB_URI")
        .map_err(|_| "MONGODB_URI is not set; `cargo xbench` starts a server and sets it")?;
    let client = Client::with_uri_str(uri).await?;
    let events = option("--events").map_or(Ok(200_000), |events| events.parse())?;

    if let Some(contestant) = option("--contestant") {
        let task = Task {
            client,
            database: option("--database").ok_or("--database is missing")?,
            start: Timestamp {
                time: option("--time").ok_or("--time is missing")?.parse()?,
                increment: option("--increment")
                    .ok_or("--increment is missing")?
                    .parse()?,
            },
            events,
        };
        let figures = match contestant.as_str() {
            "0" => drain_with_driver(task).await?,
            _ => drain_with_changestream(task).await?,
        };
        println!("{}", serde_json::to_string(&figures)?);
        return Ok(());
    }

    let runs = option("--runs").map_or(Ok(5), |runs| runs.parse())?;
    let database = format!("changestream_bench_{}", std::process::id());
    let start = write_backlog(&client, &database, events).await?;
    let mut figures = [Vec::new(), Vec::new()];
    for run in 0..=runs {
        for (contestant, figures) in figures.iter_mut().enumerate() {
            let measured = run_contestant(contestant, &database, start, events)?;
            if run > 0 {
                figures.push(measured);
            }
        }
    }
    client.database(&database).drop().await?;
    print_table(&figures, events, runs);
    Ok(())
}

async fn write_backlog(client: &Client, database: &str, events: u64) -> Result<Timestamp> {
    let database = client.database(database);
    database.create_collection(COLLECTION).await?;
    let ping = database.run_command(doc! { "ping": 1 }).await?;
    let start = ping.get_timestamp("operationTime")?;
    let items = database.collection::<Item>(COLLECTION);
    let ids: Vec<_> = (0..i64::try_from(events)?).collect();
    for ids in ids.chunks(10_000) {
        items
            .insert_many(ids.iter().map(|id| Item::new(*id)))
            .write_concern(WriteConcern::majority())
            .await?;
    }
    Ok(start)
}

fn run_contestant(
    contestant: usize,
    database: &str,
    start: Timestamp,
    events: u64,
) -> Result<Figures> {
    let output = Command::new(env::current_exe()?)
        .args(["--contestant", &contestant.to_string()])
        .args(["--database", database])
        .args(["--time", &start.time.to_string()])
        .args(["--increment", &start.increment.to_string()])
        .args(["--events", &events.to_string()])
        .stderr(Stdio::inherit())
        .output()?;
    if !output.status.success() {
        return Err(format!("`{}` failed", CONTESTANTS[contestant]).into());
    }
    Ok(serde_json::from_slice(&output.stdout)?)
}

async fn drain_with_driver(task: Task) -> Result<Figures> {
    let clock = Clock::start()?;
    let items = task
        .client
        .database(&task.database)
        .collection::<Item>(COLLECTION);
    let mut stream = items
        .watch()
        .start_at_operation_time(task.start)
        .batch_size(BATCH_SIZE)
        .await?;
    let mut seen = 0;
    let mut quantity = 0;
    while seen < task.events {
        let event: ChangeStreamEvent<Item> = stream.next().await.ok_or("the stream ended")??;
        quantity += event
            .full_document
            .map_or(0, |item| i64::from(item.quantity));
        seen += 1;
    }
    assert_eq!(quantity, 7 * i64::try_from(task.events)?);
    clock.stop(task.events)
}

#[derive(Clone)]
struct Seen {
    events: u64,
    quantity: Arc<AtomicU64>,
    all: Arc<Notify>,
}

#[on_change(coll = "items", op = "insert")]
async fn item_inserted(
    FullDocument(item): FullDocument<Item>,
    State(seen): State<Seen>,
) -> std::result::Result<(), HandlerError> {
    let quantity = u64::try_from(item.quantity)?;
    let before = seen.quantity.fetch_add(quantity, Ordering::Relaxed);
    if before + quantity == 7 * seen.events {
        seen.all.notify_one();
    }
    Ok(())
}

async fn drain_with_changestream(task: Task) -> Result<Figures> {
    let all = Arc::new(Notify::new());
    let seen = Seen {
        events: task.events,
        quantity: Arc::default(),
        all: Arc::clone(&all),
    };
    let clock = Clock::start()?;
    let database = task.client.database(&task.database);
    let runtime = Runtime::builder(database.clone())
        .name(format!("bench-{}", std::process::id()))
        .state(seen)
        .handlers(handlers![item_inserted])
        .start_at(StartAt::OperationTime(ClusterTime(task.start)))
        .batch_size(BATCH_SIZE)
        .build()?;
    let mut figures = None;
    runtime
        .run_until(async {
            all.notified().await;
            figures = Some(clock.stop(task.events));
        })
        .await?;
    figures.ok_or("the runtime stopped early")?
}

struct Clock {
    wall: Instant,
    cpu: Duration,
}

impl Clock {
    fn start() -> Result<Self> {
        Ok(Self {
            cpu: cpu_time()?,
            wall: Instant::now(),
        })
    }

    fn stop(&self, events: u64) -> Result<Figures> {
        let wall = self.wall.elapsed().as_secs_f64();
        let cpu = (cpu_time()? - self.cpu).as_secs_f64();
        Ok(Figures {
            events_per_second: events as f64 / wall,
            cpu_micros_per_event: cpu * 1e6 / events as f64,
        })
    }
}

/// What this process has used of the processors so far, in user and system mode.
fn cpu_time() -> Result<Duration> {
    let usage = getrusage(UsageWho::RUSAGE_SELF)?;
    let micros = usage.user_time().num_microseconds() + usage.system_time().num_microseconds();
    Ok(Duration::from_micros(u64::try_from(micros)?))
}

fn print_table(figures: &[Vec<Figures>; 2], events: u64, runs: usize) {
    println!(
        "Drain of {events} inserts of about 220 bytes, batches of {BATCH_SIZE}, {runs} alternating runs:"
    );
    println!("median (minimum to maximum)\n");
    println!("{:<28}{:>32}{:>28}", "", "events/s", "client CPU us/event");
    for (name, figures) in CONTESTANTS.iter().zip(figures) {
        let rate = spread(figures.iter().map(|figures| figures.events_per_second), 0);
        let cpu = spread(
            figures.iter().map(|figures| figures.cpu_micros_per_event),
            2,
        );
        println!("{name:<28}{rate:>32}{cpu:>28}");
    }
    let [driver, changestream] = figures;
    let pairs = || changestream.iter().zip(driver);
    let rate = spread(
        pairs().map(|(a, b)| a.events_per_second / b.events_per_second),
        2,
    );
    let cpu = spread(
        pairs().map(|(a, b)| a.cpu_micros_per_event / b.cpu_micros_per_event),
        2,
    );
    println!("{:<28}{rate:>32}{cpu:>28}", "ratio, pair by pair");
}

fn spread(values: impl Iterator<Item = f64>, decimals: usize) -> String {
    let mut values: Vec<_> = values.collect();
    values.sort_by(f64::total_cmp);
    match values.as_slice() {
        [] => "-".to_owned(),
        [least, ..] => {
            let most = values[values.len() - 1];
            let median = values[values.len() / 2];
            format!("{median:.decimals$} ({least:.decimals$} to {most:.decimals$})")
        }
    }
}
