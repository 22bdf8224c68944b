//! The application that is killed: an ordinary service, which notes down what it does.

mod change;
mod store;

use std::{error::Error as _, path::PathBuf, process::ExitCode, time::Duration};

use changestream::{
    ClusterTime, Error, MongoCheckpoints, MongoDeadLetters, StartAt, bson::Timestamp,
    mongodb::Client, prelude::*,
};
use clap::Args;
use tokio::time::sleep;

use crate::log::{Deed, Entry, Log};
pub(crate) use change::{STATE, Trouble, Written};
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
    #[arg(long)]
    pub(crate) batch_size: u32,
    #[arg(long)]
    pub(crate) checkpoint_events: u64,
    /// In milliseconds
    #[arg(long)]
    pub(crate) checkpoint_interval: u64,
    /// In seconds
    #[arg(long)]
    pub(crate) lease: u64,
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

#[on_change(coll = "documents", op = ["insert", "update", "replace"])]
async fn changed(
    written: Written,
    id: EventId,
    token: ResumeToken,
    Attempt(attempt): Attempt,
    State(app): State<App>,
) -> Result<(), HandlerError> {
    crash_point("effect.before");
    match written.trouble {
        Trouble::Poison => return Err(HandlerError::reject("a poison event")),
        Trouble::Fails(times) if attempt <= times => return Err(not_yet()),
        Trouble::Slow(pause) => sleep(Duration::from_millis(pause)).await,
        _ => tokio::task::yield_now().await,
    }
    let fails_late = matches!(written.trouble, Trouble::FailsLate(times) if attempt <= times);
    let event = written.event(&id, &token);
    app.note(Deed::Effect(event, attempt, !fails_late));
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
    let client = Client::with_uri_str(&options.uri).await?;
    let database = client.database(&options.database);
    let app = App {
        log: Log::append_to(&options.log).expect("the log can be written"),
        session: options.session,
    };
    let start_at = match options.start_at[..] {
        [time, increment] => StartAt::OperationTime(ClusterTime(Timestamp { time, increment })),
        _ => StartAt::Now,
    };
    Runtime::builder(database.clone())
        .name(RUNTIME)
        .state(app.clone())
        .handlers(handlers![changed])
        .start_at(start_at)
        .lease(Duration::from_secs(options.lease))
        .batch_size(options.batch_size)
        .checkpoint_events(options.checkpoint_events)
        .checkpoint_interval(Duration::from_millis(options.checkpoint_interval))
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
        })
        .build()?
        .run_until(shutdown_signal())
        .await
}

/// A place at which a crash run lets the service die.
fn crash_point(name: &str) {
    #[cfg(changestream_crash)]
    changestream::crash_point::reach(name);
    #[cfg(not(changestream_crash))]
    let _ = name;
}
