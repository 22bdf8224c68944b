//! The application that is killed: an ordinary service, which notes down what it does.

mod change;
mod point;
mod store;

use std::{
    error::Error as _, num::NonZeroU32, path::PathBuf, pin::pin, process::ExitCode, time::Duration,
};

use changestream::{
    ClusterTime, Error, MongoCheckpoints, MongoDeadLetters, Snapshot, StartAt,
    bson::{RawDocumentBuf, Timestamp},
    mongodb::{Client, options::ClientOptions},
    prelude::*,
};
use clap::Args;
use tokio::time::sleep;

use crate::{
    log::{Deed, Entry, Log},
    plan::{Kind, Settings},
};
pub(crate) use change::{STATE, Trouble, Written};
use point::crash_point;
pub(crate) use point::{CRASH_POINT, STOP_POINT};
use store::{LoggedCheckpoints, LoggedDeadLetters};

/// The name of the service's runtime.
pub(crate) const RUNTIME: &str = "crash";

/// The collection that it watches.
pub(crate) const COLLECTION: &str = "documents";

#[derive(Clone, Debug, Args)]
pub(crate) struct Options {
    /// The server
    #[arg(long)]
    pub(crate) uri: String,
    /// The database
    #[arg(long)]
    pub(crate) database: String,
    /// The log to append to
    #[arg(long)]
    pub(crate) log: PathBuf,
    /// The number of this process
    #[arg(long)]
    pub(crate) session: u32,
    /// Where to start when there is no checkpoint: seconds and increment; now if it is not given
    #[arg(long, num_args = 2)]
    pub(crate) start_at: Vec<u32>,
    /// What the run is about
    #[arg(long, value_enum)]
    pub(crate) kind: Kind,
    #[command(flatten)]
    pub(crate) settings: Settings,
}

impl Options {
    /// The arguments with which a process has these options.
    pub(crate) fn to_args(&self) -> Vec<String> {
        let Self {
            uri,
            database,
            log,
            session,
            start_at,
            kind,
            settings,
        } = self;
        let mut args = vec![
            format!("--uri={uri}"),
            format!("--database={database}"),
            format!("--log={}", log.display()),
            format!("--session={session}"),
            format!("--kind={kind}"),
        ];
        if let [seconds, increment] = start_at[..] {
            args.extend([
                "--start-at".to_owned(),
                seconds.to_string(),
                increment.to_string(),
            ]);
        }
        args.extend(settings.to_args());
        args
    }
}

/// The ways in which the process ends by itself.
pub(crate) mod exit {
    /// An error that no fault excuses.
    pub(crate) const FAILED: u8 = 1;
    /// The server could not be reached at start-up, or work was unfinished when the drain's time was up.
    pub(crate) const HINDERED: u8 = 3;
}

#[derive(Clone, Debug)]
struct App {
    log: Log,
    session: u32,
}

impl App {
    /// Notes a deed. Without its log the service is of no use, and its supervisor starts another.
    fn note(&self, deed: Deed) {
        let session = self.session;
        self.log
            .append(&[Entry { session, deed }])
            .expect("the log can be written");
    }
}

#[on_change(coll = "documents", op = ["insert", "update", "replace", "snapshot"], name = "changed")]
async fn changed(
    written: Written,
    id: EventId,
    token: ResumeToken,
    attempt: Attempt,
    State(app): State<App>,
) -> Result<(), HandlerError> {
    handle(written, id, token, attempt, &app).await
}

/// Asks for pre-images, with which the events of large documents are too large for one reply.
#[on_change(coll = "documents", op = ["insert", "update", "replace"], name = "changed")]
async fn changed_from(
    written: Written,
    _before: Option<PreImage<RawDocumentBuf>>,
    id: EventId,
    token: ResumeToken,
    attempt: Attempt,
    State(app): State<App>,
) -> Result<(), HandlerError> {
    handle(written, id, token, attempt, &app).await
}

async fn handle(
    written: Written,
    id: EventId,
    token: ResumeToken,
    Attempt(attempt): Attempt,
    app: &App,
) -> Result<(), HandlerError> {
    crash_point("effect.before");
    match written.trouble {
        Trouble::Poison => return Err(HandlerError::reject("a poison event")),
        Trouble::Fails(times) if attempt <= times => return Err(not_yet()),
        Trouble::Slow(pause) => sleep(Duration::from_millis(pause)).await,
        _ => tokio::task::yield_now().await,
    }
    let fails_late = matches!(written.trouble, Trouble::FailsLate(times) if attempt <= times);
    app.note(written.handled(&id, &token, attempt, !fails_late));
    crash_point("effect.after");
    match fails_late {
        true => Err(not_yet()),
        false => Ok(()),
    }
}

fn not_yet() -> HandlerError {
    HandlerError::retry(std::io::Error::other("not yet"))
}

/// Runs the service until it is told to stop.
pub(crate) async fn run(options: Options) -> ExitCode {
    tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .with_ansi(false)
        .with_env_filter(tracing_subscriber::EnvFilter::new(
            // Dead letters are many, and in its log.
            "warn,changestream_core=info,changestream_core::layer::dead_letter=error",
        ))
        .init();
    let Err(error) = serve(options).await else {
        return ExitCode::SUCCESS;
    };
    let unreadable = error.is_store() && error.source().is_some();
    let hindered =
        error.is_unreachable() || error.is_drain_deadline() || error.is_lease_lost() || unreadable;
    tracing::error!(?error, hindered, "the service ends");
    ExitCode::from(match hindered {
        true => exit::HINDERED,
        false => exit::FAILED,
    })
}

async fn serve(options: Options) -> Result<(), Error> {
    let settings = options.settings;
    let mut client_options = ClientOptions::parse(&options.uri).await?;
    client_options.command_event_handler = Some(point::on_checkpoints_sent());
    let client = Client::with_options(client_options)?;
    let database = client.database(&options.database);
    let app = App {
        log: Log::append_to(&options.log).expect("the log can be written"),
        session: options.session,
    };
    let start_at = match options.start_at[..] {
        [time, increment] => StartAt::OperationTime(ClusterTime(Timestamp { time, increment })),
        _ => StartAt::Now,
    };
    let handlers = match options.kind {
        Kind::Split => handlers![changed_from],
        _ => handlers![changed],
    };
    let builder = Runtime::builder(database.clone())
        .name(RUNTIME)
        .state(app.clone())
        .handlers(handlers)
        .start_at(start_at)
        .lease(Duration::from_secs(settings.lease))
        .partitions(settings.partitions)
        .batch_size(settings.batch_size)
        .concurrency(settings.concurrency)
        .in_flight_events(settings.in_flight_events)
        .checkpoint_events(settings.checkpoint_events)
        .checkpoint_interval(Duration::from_millis(settings.checkpoint_interval))
        .backoff(Duration::from_millis(5))
        .reply_timeout(Duration::from_secs(1))
        .drain_deadline(Duration::from_secs(10))
        .checkpoint_store(LoggedCheckpoints {
            app: app.clone(),
            inner: MongoCheckpoints::new(&database),
        })
        .dead_letter_store(LoggedDeadLetters {
            app,
            inner: MongoDeadLetters::new(&database),
        });
    // Small chunks at a slow rate, so that a snapshot takes a while.
    let builder = match options.kind {
        Kind::Snapshot => builder
            .snapshot(Snapshot::Initial)
            .snapshot_readers(2)
            .snapshot_chunk(20)
            .snapshot_rate(NonZeroU32::new(200).expect("not 0")),
        _ => builder,
    };
    builder.build()?.run_until(told_to_stop()).await
}

/// Says on standard output when it listens: a signal that comes earlier ends the process there and then.
async fn told_to_stop() {
    let mut signal = pin!(shutdown_signal());
    if futures::poll!(&mut signal).is_pending() {
        println!("listening");
        signal.await;
    }
}
