use std::{env, process::ExitCode, sync::Arc, time::Duration};

use changestream_core::{DeadLetterStore, DeadLetterSummary, ReplayOutcome};
use clap::Args;
use serde::Serialize;

use super::{PAGE, selection::Letters};
use crate::{
    failure::{Failure, chain},
    output::Output,
};

#[derive(Debug, Args)]
pub(crate) struct Replay {
    #[command(flatten)]
    pub(super) letters: Letters,
    /// Gives up when nothing was heard of a letter for so many seconds; what no runtime has taken by then is
    /// withdrawn
    #[arg(long, value_name = "SECONDS", default_value_t = 30, value_parser = clap::value_parser!(u64).range(1..))]
    timeout: u64,
}

#[derive(Debug, Default, Serialize)]
struct Report {
    replayed: usize,
    failed: usize,
    refused: usize,
    missing: usize,
    letters: Vec<LetterReport>,
    /// Why the rest was not waited for.
    error: Option<String>,
}

#[derive(Debug, Serialize)]
struct LetterReport {
    id: String,
    outcome: &'static str,
    kind: Option<String>,
    attempts: Option<u32>,
    /// The messages of the new error, outermost first, or why the runtime refused.
    error: Vec<String>,
}

impl Replay {
    pub(super) async fn run(
        &self,
        store: Arc<dyn DeadLetterStore>,
        output: Output,
    ) -> Result<ExitCode, Failure> {
        let (letters, missing) = self.letters.find(&*store).await?;
        let mut report = Report::default();
        for id in missing {
            report.add(id, ReplayOutcome::Gone, output)?;
        }
        let waited = self.replay(store, letters, &mut report, output).await;
        if let Err(Failure::Failed(error)) = &waited {
            report.error = Some(chain(&**error));
        }
        let Report {
            replayed,
            failed,
            refused,
            missing,
            ..
        } = report;
        output.document(&report)?;
        let counts = [
            (replayed, "replayed"),
            (failed, "failed again"),
            (refused, "refused"),
            (missing, "not there"),
        ];
        let counts = counts.into_iter();
        let counts = counts.filter(|(count, what)| *count > 0 || *what == "replayed");
        let counts: Vec<_> = counts
            .map(|(count, what)| format!("{count} {what}"))
            .collect();
        output.line(&counts.join(", "))?;
        waited?;
        Ok(match failed + refused + missing {
            0 => ExitCode::SUCCESS,
            _ => ExitCode::FAILURE,
        })
    }

    /// Page by page, so that a request is not much older than its outcome.
    async fn replay(
        &self,
        store: Arc<dyn DeadLetterStore>,
        mut letters: Vec<DeadLetterSummary>,
        report: &mut Report,
        output: Output,
    ) -> Result<(), Failure> {
        changestream_core::Replay::sort(&mut letters);
        let by = env::var("USER").ok();
        let patience = Duration::from_secs(self.timeout);
        for page in letters.chunks(PAGE as usize) {
            let request = changestream_core::Replay::request(
                Arc::clone(&store),
                page.to_vec(),
                by.as_deref(),
            );
            let mut replay = request.await?;
            while let Some((letter, outcome)) = replay.next(patience).await? {
                report.add(letter.id, outcome, output)?;
            }
        }
        Ok(())
    }
}

impl Report {
    fn add(&mut self, id: String, outcome: ReplayOutcome, output: Output) -> Result<(), Failure> {
        let mut letter = LetterReport {
            id,
            outcome: "",
            kind: None,
            attempts: None,
            error: Vec::new(),
        };
        let id = &letter.id;
        let text = match outcome {
            ReplayOutcome::Replayed => {
                self.replayed += 1;
                letter.outcome = "replayed";
                format!("replayed      {id}")
            }
            ReplayOutcome::FailedAgain(written) => {
                self.failed += 1;
                letter.outcome = "failed";
                let error = written.error.join(": ");
                let (kind, attempts) = (&written.kind, written.attempts);
                let text = format!("failed again  {id}: {kind}, attempts: {attempts}: {error}");
                letter.kind = Some(written.kind);
                letter.attempts = Some(written.attempts);
                letter.error = written.error;
                text
            }
            ReplayOutcome::Refused(reason) => {
                self.refused += 1;
                letter.outcome = "refused";
                let text = format!("refused       {id}: {reason}");
                letter.error = vec![reason];
                text
            }
            ReplayOutcome::Gone => {
                self.missing += 1;
                letter.outcome = "missing";
                format!("not there     {id}")
            }
            other => return Err(Failure::failed(format!("unknown outcome: {other:?}"))),
        };
        self.letters.push(letter);
        Ok(output.line(&text)?)
    }
}
