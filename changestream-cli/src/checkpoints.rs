//! `changestream checkpoints`.

use std::process::ExitCode;

use bson::DateTime;
use changestream_core::{CheckpointStore, Json, MongoCheckpoints, StoredCheckpoint};
use clap::{Args, Subcommand};
use serde::Serialize;

use crate::{
    confirm::Confirm,
    connection::Connection,
    failure::{Failure, chain},
    output::{Output, count, print_json, time},
};

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Lists the checkpoints of all runtimes, and of their partitions
    List,
    /// Shows one checkpoint whole, its resume token included
    Show(Show),
    /// Removes the checkpoint of a runtime, and of all its partitions; it then starts anew
    ///
    /// The runtime's next start is as its first: it begins at its `StartAt`, which is now unless the code
    /// says otherwise, and the events between the checkpoint and then are not handled. Stop the runtime
    /// first: one that runs saves its checkpoint again.
    Reset(Reset),
}

#[derive(Debug, Args)]
pub(crate) struct Show {
    /// The name of the runtime
    runtime: String,
}

#[derive(Debug, Args)]
pub(crate) struct Reset {
    /// The name of the runtime
    runtime: String,
    #[command(flatten)]
    confirm: Confirm,
}

impl Command {
    pub(crate) async fn run(
        &self,
        connection: &Connection,
        output: Output,
    ) -> Result<ExitCode, Failure> {
        let database = connection.database().await?;
        let store = match &connection.collection {
            Some(collection) => MongoCheckpoints::in_collection(&database, collection),
            None => MongoCheckpoints::new(&database),
        };
        match self {
            Self::List => list(&store, output).await,
            Self::Show(show) => show.run(&store, output).await,
            Self::Reset(reset) => reset.run(&store, output).await,
        }
    }
}

#[derive(Debug, Serialize)]
struct Listed {
    checkpoints: Vec<CheckpointView>,
}

/// A checkpoint but for its token, which holds a document's key.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct CheckpointView {
    runtime: String,
    kind: Option<&'static str>,
    /// The time of its place in the stream, to the second.
    stream_time: Option<String>,
    saved_at: Option<String>,
    sequence: Option<i64>,
    fingerprint: Option<String>,
    /// Why it cannot be read.
    error: Option<String>,
}

#[derive(Debug, Serialize)]
struct WholeCheckpointView<'a> {
    #[serde(flatten)]
    checkpoint: CheckpointView,
    token: Option<Json<'a>>,
}

impl CheckpointView {
    fn of(stored: &StoredCheckpoint) -> Self {
        let checkpoint = stored.checkpoint.as_ref();
        let error = checkpoint.err().map(|error| chain(error));
        let checkpoint = checkpoint.ok();
        let stream_time = checkpoint.and_then(|checkpoint| checkpoint.cluster_time());
        let position = checkpoint.and_then(|checkpoint| checkpoint.position.as_ref());
        Self {
            runtime: stored.runtime.clone(),
            kind: position.map(|position| position.kind()),
            stream_time: stream_time
                .map(|at| time(DateTime::from_millis(i64::from(at.seconds()) * 1000))),
            saved_at: stored.saved_at.map(time),
            sequence: checkpoint.map(|checkpoint| checkpoint.sequence),
            fingerprint: checkpoint.map(|checkpoint| checkpoint.fingerprint.clone()),
            error,
        }
    }

    fn row(&self) -> [String; 5] {
        let or_dash = |value: Option<String>| value.unwrap_or_else(|| "-".to_owned());
        let kind = match self.error {
            Some(_) => Some("unreadable"),
            None => self.kind,
        };
        [
            self.runtime.clone(),
            or_dash(kind.map(str::to_owned)),
            or_dash(self.stream_time.clone()),
            or_dash(self.saved_at.clone()),
            or_dash(self.sequence.map(|sequence| sequence.to_string())),
        ]
    }
}

/// The checkpoints that have a position, or cannot be read.
async fn placed(store: &dyn CheckpointStore) -> Result<Vec<StoredCheckpoint>, Failure> {
    let mut stored = store.list().await?;
    stored
        .retain(|stored| !matches!(&stored.checkpoint, Ok(claimed) if claimed.position.is_none()));
    Ok(stored)
}

async fn list(store: &dyn CheckpointStore, output: Output) -> Result<ExitCode, Failure> {
    let stored = placed(store).await?;
    let checkpoints: Vec<_> = stored.iter().map(CheckpointView::of).collect();
    if !checkpoints.is_empty() {
        let rows: Vec<_> = checkpoints.iter().map(CheckpointView::row).collect();
        let header = ["RUNTIME", "KIND", "STREAM TIME", "SAVED AT", "SEQUENCE"];
        output.table(header, &rows)?;
    }
    output.line(&count(checkpoints.len(), "checkpoint"))?;
    output.document(&Listed { checkpoints })?;
    Ok(ExitCode::SUCCESS)
}

async fn find(store: &dyn CheckpointStore, runtime: &str) -> Result<StoredCheckpoint, Failure> {
    let stored = placed(store).await?.into_iter();
    let mut of_runtime = stored.filter(|stored| stored.runtime == runtime);
    of_runtime.next().ok_or_else(|| none_of(runtime))
}

fn none_of(runtime: &str) -> Failure {
    Failure::failed(format!("there is no checkpoint of a runtime `{runtime}`"))
}

impl Show {
    async fn run(&self, store: &dyn CheckpointStore, output: Output) -> Result<ExitCode, Failure> {
        let stored = find(store, &self.runtime).await?;
        let view = WholeCheckpointView {
            token: stored.checkpoint.as_ref().ok().and_then(|checkpoint| {
                let token = checkpoint.token()?;
                Some(Json::relaxed(token.as_raw()))
            }),
            checkpoint: CheckpointView::of(&stored),
        };
        if output.json {
            output.document(&view)?;
            return Ok(ExitCode::SUCCESS);
        }
        let checkpoint = &view.checkpoint;
        let [runtime, kind, stream_time, saved_at, sequence] = checkpoint.row();
        for (name, value) in [
            ("runtime", runtime),
            ("kind", kind),
            ("stream time", stream_time),
            ("saved at", saved_at),
            ("sequence", sequence),
        ] {
            output.line(&format!("{name:<11}  {value}"))?;
        }
        if let Some(fingerprint) = &checkpoint.fingerprint {
            output.line(&format!("fingerprint  {fingerprint}"))?;
        }
        if let Some(error) = &checkpoint.error {
            output.line(&format!("error        {error}"))?;
        }
        if let Some(token) = &view.token {
            output.line("token")?;
            print_json(token)?;
        }
        Ok(ExitCode::SUCCESS)
    }
}

impl Reset {
    async fn run(&self, store: &dyn CheckpointStore, output: Output) -> Result<ExitCode, Failure> {
        #[derive(Serialize)]
        struct Report<'a> {
            reset: &'a str,
            checkpoints: &'a [String],
        }
        let runtime = &self.runtime;
        let mut stored = placed(store).await?;
        let named = stored.iter().find(|stored| stored.runtime == *runtime);
        if let Some(whole) = named.and_then(StoredCheckpoint::partition_of) {
            return Err(Failure::failed(format!(
                "`{runtime}` is the checkpoint of a partition; reset them all: checkpoints reset {whole}"
            )));
        }
        stored.retain(|stored| {
            stored.runtime == *runtime || stored.partition_of() == Some(runtime.as_str())
        });
        if stored.is_empty() {
            return Err(none_of(runtime));
        }
        let views: Vec<_> = stored.iter().map(CheckpointView::of).collect();
        let partitions = views.iter().filter(|view| view.runtime != *runtime).count();
        let and_partitions = match partitions {
            0 => String::new(),
            _ => format!(" and of its {}", count(partitions, "partition")),
        };
        let place = match views
            .iter()
            .filter_map(|view| view.stream_time.as_ref())
            .min()
        {
            Some(time) => format!(" (its stream is at {time})"),
            None => String::new(),
        };
        let question = format!(
            "Reset the checkpoint of `{runtime}`{and_partitions}{place}? At its next start the runtime begins anew, at \
             its StartAt: events between the checkpoint and then are not handled. It must not be running: it would \
             save its checkpoint again."
        );
        if !self.confirm.ask(&question)? {
            return Err(Failure::failed("nothing was reset"));
        }
        let reset = store.reset(runtime).await?;
        if reset.is_empty() {
            return Err(Failure::failed(format!(
                "the checkpoint of `{runtime}` is gone already"
            )));
        }
        let names: Vec<_> = reset.iter().map(|name| format!("`{name}`")).collect();
        let (what, are) = match names.len() {
            1 => ("checkpoint", "is"),
            _ => ("checkpoints", "are"),
        };
        output.line(&format!(
            "The {what} {} {are} gone. The next start of `{runtime}` is as its first: at its StartAt; events before \
             that are not handled.",
            names.join(", ")
        ))?;
        output.document(&Report {
            reset: runtime,
            checkpoints: &reset,
        })?;
        Ok(ExitCode::SUCCESS)
    }
}
