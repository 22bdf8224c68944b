//! `changestream dead-letters`.

mod discard;
mod list;
mod replay;
mod selection;
mod show;
mod view;

use std::{process::ExitCode, sync::Arc};

use changestream_core::{DeadLetterStore, MongoDeadLetters};
use clap::Subcommand;

use crate::{connection::Connection, failure::Failure, output::Output};

/// Letters that are read at once.
const PAGE: u32 = 100;

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Lists dead letters, oldest change first, without events, messages and errors
    List(list::List),
    /// Shows one letter whole: its error, its event and its message
    Show(show::Show),
    /// Has the running runtime replay letters, oldest change first, into the handler or sink that failed
    ///
    /// What was successful is removed; what fails again stays, with the new error. The runtime must be
    /// running: the handlers are there. One that dies in the middle begins the letter at hand anew.
    Replay(replay::Replay),
    /// Removes letters for good
    Discard(discard::Discard),
}

impl Command {
    pub(crate) async fn run(
        &self,
        connection: &Connection,
        output: Output,
    ) -> Result<ExitCode, Failure> {
        match self {
            Self::List(_) | Self::Show(_) => {}
            Self::Replay(replay) => replay.letters.check()?,
            Self::Discard(discard) => discard.letters.check()?,
        }
        let database = connection.database().await?;
        let store: Arc<dyn DeadLetterStore> = Arc::new(match &connection.collection {
            Some(collection) => MongoDeadLetters::in_collection(&database, collection),
            None => MongoDeadLetters::new(&database),
        });
        match self {
            Self::List(list) => list.run(&*store, output).await,
            Self::Show(show) => show.run(&*store, output).await,
            Self::Replay(replay) => replay.run(store, output).await,
            Self::Discard(discard) => discard.run(&*store, output).await,
        }
    }
}
