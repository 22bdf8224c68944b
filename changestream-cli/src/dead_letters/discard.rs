use std::process::ExitCode;

use changestream_core::{DeadLetterStore, DeadLetterSummary};
use clap::Args;
use serde::Serialize;

use super::selection::Letters;
use crate::{
    confirm::Confirm,
    failure::Failure,
    output::{Output, count},
};

#[derive(Debug, Args)]
pub(crate) struct Discard {
    #[command(flatten)]
    pub(super) letters: Letters,
    #[command(flatten)]
    confirm: Confirm,
}

#[derive(Debug, Default, Serialize)]
struct Report {
    discarded: Vec<String>,
    /// Those that wait for a replay.
    kept: Vec<String>,
    missing: Vec<String>,
}

impl Discard {
    pub(super) async fn run(
        &self,
        store: &dyn DeadLetterStore,
        output: Output,
    ) -> Result<ExitCode, Failure> {
        let (letters, missing) = self.letters.find(store).await?;
        let (kept, letters): (Vec<_>, Vec<_>) = letters
            .into_iter()
            .partition(DeadLetterSummary::awaits_replay);
        let mut report = Report {
            kept: kept.into_iter().map(|letter| letter.id).collect(),
            missing,
            ..Report::default()
        };
        if !letters.is_empty() && !self.confirm.ask(&question(&letters))? {
            return Err(Failure::failed("nothing was discarded"));
        }
        for letter in letters {
            match store.remove(&letter.id).await? {
                true => {
                    output.line(&format!("discarded  {}", letter.id))?;
                    report.discarded.push(letter.id);
                }
                false => report.missing.push(letter.id),
            }
        }
        for id in &report.kept {
            output.line(&format!("kept       {id}: it waits for a replay"))?;
        }
        for id in &report.missing {
            output.line(&format!("not there  {id}"))?;
        }
        output.line(&format!(
            "{} discarded",
            count(report.discarded.len(), "dead letter")
        ))?;
        output.document(&report)?;
        Ok(match report.kept.is_empty() && report.missing.is_empty() {
            true => ExitCode::SUCCESS,
            false => ExitCode::FAILURE,
        })
    }
}

fn question(letters: &[DeadLetterSummary]) -> String {
    let what = match letters {
        [letter] => format!("the dead letter {}", letter.id),
        letters => count(letters.len(), "dead letter"),
    };
    format!("Discard {what}? What happened to the event is then nowhere on record.")
}
