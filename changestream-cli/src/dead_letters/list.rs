use std::process::ExitCode;

use changestream_core::{DeadLetterFilter, DeadLetterStore, DeadLetterSummary};
use clap::Args;
use serde::Serialize;

use super::{PAGE, selection::Selection, view::LetterView};
use crate::{
    failure::Failure,
    output::{Output, count, time},
};

#[derive(Debug, Args)]
pub(crate) struct List {
    #[command(flatten)]
    selection: Selection,
    /// At most so many
    #[arg(long, default_value_t = PAGE, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    limit: u32,
    /// Those that come after the letter of this id
    #[arg(long, value_name = "ID")]
    after: Option<String>,
}

#[derive(Debug, Serialize)]
struct Listed<'a> {
    letters: Vec<LetterView<'a>>,
    /// What `--after` takes to go on; null when these are the last.
    next: Option<&'a str>,
}

impl List {
    pub(super) async fn run(
        &self,
        store: &dyn DeadLetterStore,
        output: Output,
    ) -> Result<ExitCode, Failure> {
        let after = match &self.after {
            Some(id) => Some(self.find(store, id).await?),
            None => None,
        };
        let filter = self.selection.filter();
        let mut letters = store.list(&filter, after.as_ref(), self.limit + 1).await?;
        let is_more = letters.len() > self.limit as usize;
        letters.truncate(self.limit as usize);
        let next = letters.last().filter(|_| is_more);
        let next = next.map(|letter| letter.id.as_str());

        output.document(&Listed {
            letters: letters.iter().map(LetterView::of).collect(),
            next,
        })?;
        if !letters.is_empty() {
            let header = [
                "FAILED AT",
                "RUNTIME",
                "HANDLER",
                "SINK",
                "NAMESPACE",
                "OPERATION",
                "KIND",
                "ATTEMPTS",
                "REPLAY",
                "ID",
            ];
            let rows: Vec<_> = letters.iter().map(row).collect();
            output.table(header, &rows)?;
        }
        output.line(&match next {
            Some(next) => format!("There are more: --after {next}"),
            None => count(letters.len(), "dead letter"),
        })?;
        Ok(ExitCode::SUCCESS)
    }

    async fn find(
        &self,
        store: &dyn DeadLetterStore,
        id: &str,
    ) -> Result<DeadLetterSummary, Failure> {
        let filter = DeadLetterFilter::default().id(id);
        let found = store.list(&filter, None, 1).await?.pop();
        found.ok_or_else(|| {
            Failure::failed(format!(
                "--after names letter `{id}`, which is gone; list anew"
            ))
        })
    }
}

fn row(letter: &DeadLetterSummary) -> [String; 10] {
    let replay = match &letter.replay {
        None => "-",
        Some(replay) if replay.refused.is_some() => "refused",
        Some(replay) if replay.taken_at.is_some() => "under way",
        Some(_) => "requested",
    };
    [
        time(letter.failed_at),
        letter.runtime.clone(),
        letter.handler.clone(),
        letter.sink.clone().unwrap_or_else(|| "-".to_owned()),
        letter.namespace.clone(),
        letter.operation.clone(),
        letter.kind.clone(),
        letter.attempts.to_string(),
        replay.to_owned(),
        letter.id.clone(),
    ]
}
