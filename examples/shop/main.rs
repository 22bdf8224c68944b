//! A shop, as its services see it: a microservice built with `changestream`, the services that it sends to,
//! and a writer that keeps the database changing.
//!
//! `cargo demo` starts a MongoDB server and runs this on it. With a server of one's own:
//!
//! ```text
//! MONGODB_URI=mongodb://localhost:27017 cargo run --example shop --features http,kafka,nats,redis
//! ```
//!
//! Some services are reached by Kafka, NATS and Redis, where `KAFKA_BROKERS`, `NATS_URI` and `REDIS_URI` say where these
//! are, and by HTTP otherwise.
//!
//! The microservice is in `handlers/`, `domain.rs` and [`microservice`]; all else is stage and audience. The
//! writer knows what must come of each write. The demo succeeds when exactly that arrives, while one
//! service refuses every fourth message at first and one order is poison.

mod domain;
mod handlers;
mod ledger;
mod receiver;
mod report;
mod telemetry;
mod transport;
mod writer;

use std::{error::Error, process::ExitCode, sync::Arc, time::Duration};

use changestream::{
    ClusterTime, HttpSink, Runtime, SinkSpec, StartAt,
    bson::doc,
    mongodb::{Client, Database},
    shutdown_signal,
};
use clap::Parser;
use futures::TryStreamExt;
use tokio::{
    sync::oneshot,
    task::JoinHandle,
    time::{Instant, interval, sleep, sleep_until},
};
use tower::util::MapRequestLayer;

use crate::{
    ledger::Ledger,
    receiver::Receiver,
    report::{Letter, Report},
    telemetry::Telemetry,
    transport::Transports,
    writer::{Progress, Writer},
};

const NAME: &str = "shop";
/// Time for what nobody expects to arrive as well.
const GRACE: Duration = Duration::from_millis(500);

#[derive(Debug, Parser)]
#[command(about = "A shop's changes on their way to its services")]
struct Args {
    /// Writes to the database
    #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u64).range(60..))]
    events: u64,
    /// Goes on gently after that, until Ctrl-C, and keeps the database
    #[arg(long)]
    keep_running: bool,
    /// The database to use, which must not exist yet
    #[arg(long)]
    database: Option<String>,
    /// Seconds until all must have arrived
    #[arg(long, default_value_t = 60)]
    deadline: u64,
    /// A service that refuses everything, to see the demo fail
    #[arg(long, value_name = "SERVICE", value_parser = handlers::SERVICES)]
    broken: Option<String>,
}

type Result<T, E = Box<dyn Error + Send + Sync>> = std::result::Result<T, E>;

#[tokio::main]
async fn main() -> ExitCode {
    let args = Args::parse();
    if std::env::var_os("RUST_LOG").is_some() {
        tracing_subscriber::fmt()
            .with_env_filter(tracing_subscriber::EnvFilter::from_default_env())
            .with_writer(std::io::stderr)
            .init();
    }
    match open(args).await {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error}");
            let mut cause = error.source();
            while let Some(error) = cause {
                eprintln!("  because: {error}");
                cause = error.source();
            }
            ExitCode::FAILURE
        }
    }
}

/// The microservice: what a user of the library writes, besides the handlers.
fn microservice(
    database: &Database,
    receiver: &Receiver,
    transports: &mut Transports,
    start: StartAt,
) -> Result<Runtime> {
    let app = handlers::App {
        inventory: database.collection("inventory"),
    };
    let mut builder = Runtime::builder(database.clone())
        .name(NAME)
        .start_at(start)
        .state(app)
        // At the end, nobody waits long for a service that is down.
        .drain_deadline(Duration::from_secs(5))
        .handlers(handlers::all());
    for service in handlers::SERVICES {
        let sink = match transports.take(service) {
            Some(sink) => sink,
            None => HttpSink::new(receiver.url(service))?.into(),
        };
        let sink: SinkSpec = sink.layer(MapRequestLayer::new(telemetry::count_attempt));
        let sink = match service {
            receiver::FLAKY => sink.retries(5).backoff(Duration::from_millis(100)),
            _ => sink,
        };
        builder = builder.sink(service, sink);
    }
    Ok(builder.build()?)
}

async fn open(args: Args) -> Result<bool> {
    let uri = std::env::var("MONGODB_URI").map_err(|_| {
        "MONGODB_URI is not set; set it to a replica set's, or run `cargo demo`, which starts a server"
    })?;
    let client = Client::with_uri_str(uri).await?;
    let name = args.database.clone();
    let name = name.unwrap_or_else(|| format!("ecommerce_platform_{}", std::process::id()));
    if client.list_database_names().await?.contains(&name) {
        return Err(
            format!("the database `{name}` exists already; name another with --database").into(),
        );
    }
    let database = client.database(&name);
    println!("The shop opens in database `{name}`.");
    println!(
        "{} handlers on one change stream send to {} services; {} refuses some messages at first, and one order \
         is poison.",
        handlers::all().len(),
        handlers::SERVICES.len(),
        receiver::FLAKY
    );
    let result = run(&args, &database).await;
    if !args.keep_running {
        database.drop().await?;
    }
    result
}

async fn run(args: &Args, database: &Database) -> Result<bool> {
    let telemetry = Telemetry::install();
    let ledger = Arc::new(Ledger::default());
    let progress = Arc::new(Progress::default());
    let writer = Writer::new(database, Arc::clone(&ledger), Arc::clone(&progress)).await?;
    let receiver = Receiver::start(Arc::clone(&ledger), NAME, args.broken.clone()).await?;
    let start = StartAt::OperationTime(now(database).await?);

    let mut transports = Transports::open(&ledger, database.name()).await?;
    let runtime = microservice(database, &receiver, &mut transports, start)?;
    let (stop, stopped) = oneshot::channel::<()>();
    let running = tokio::spawn(runtime.run_until(async move {
        let _ = stopped.await;
    }));

    let handlers = handlers::all();
    let names = handlers.iter().map(|handler| handler.name().to_owned());
    let mut report = Report::new(
        names.collect(),
        Arc::clone(&ledger),
        Arc::clone(&progress),
        telemetry,
    );
    let writing = tokio::spawn(writer.run(args.events, args.keep_running));
    let running = watch(args, &mut report, &progress, writing, running).await?;

    let _ = stop.send(());
    if let Err(error) = running.await? {
        ledger.problem(format!("the runtime ended badly: {error}"));
    }
    Ok(report.conclude(&dead_letters(database).await?)?)
}

/// Shows how it goes until everything expected is there, the deadline passed, or Ctrl-C was pressed and
/// what was under way is done.
async fn watch(
    args: &Args,
    report: &mut Report,
    progress: &Progress,
    mut writing: JoinHandle<changestream::mongodb::error::Result<()>>,
    mut running: JoinHandle<Result<(), changestream::Error>>,
) -> Result<JoinHandle<Result<(), changestream::Error>>> {
    let mut ticks = interval(Duration::from_millis(200));
    let patience = Duration::from_secs(args.deadline);
    let mut deadline = Instant::now() + patience;
    let mut written = false;
    let mut interrupted = std::pin::pin!(shutdown_signal());
    let mut is_interrupted = false;
    loop {
        tokio::select! {
            ended = &mut running => {
                ended??;
                return Err("the runtime ended by itself".into());
            }
            ended = &mut writing, if !written => {
                ended??;
                written = true;
                deadline = deadline.max(Instant::now() + patience / 2);
            }
            () = &mut interrupted, if !is_interrupted => {
                is_interrupted = true;
                progress.stop();
            }
            _ = ticks.tick() => {
                report.show()?;
                if written && report.is_settled() {
                    sleep(GRACE).await;
                    return Ok(running);
                }
            }
            () = sleep_until(deadline), if written || !args.keep_running => return Ok(running),
        }
    }
}

async fn now(database: &Database) -> Result<ClusterTime> {
    let reply = database.run_command(doc! { "ping": 1 }).await?;
    let time = reply.get_timestamp("operationTime");
    time.map(ClusterTime)
        .map_err(|_| "the server is no replica set; start mongod with `--replSet rs0`".into())
}

async fn dead_letters(database: &Database) -> Result<Vec<Letter>> {
    let letters = database.collection("changestream.dead_letters");
    Ok(letters.find(doc! {}).await?.try_collect().await?)
}
