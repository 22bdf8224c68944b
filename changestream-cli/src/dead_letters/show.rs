use std::process::ExitCode;

use changestream_core::{DeadLetter, DeadLetterStore, Json};
use clap::Args;

use super::view::{MessageView, WholeLetterView};
use crate::{
    failure::Failure,
    output::{Output, print_json, time},
};

#[derive(Debug, Args)]
pub(crate) struct Show {
    /// The letter's id, as `list` shows it
    id: String,
}

impl Show {
    pub(super) async fn run(
        &self,
        store: &dyn DeadLetterStore,
        output: Output,
    ) -> Result<ExitCode, Failure> {
        let letter = store.get(&self.id).await?;
        let letter = letter
            .ok_or_else(|| Failure::failed(format!("there is no dead letter `{}`", self.id)))?;
        match output.json {
            true => output.document(&WholeLetterView::of(&letter))?,
            false => print(&letter, output)?,
        }
        Ok(ExitCode::SUCCESS)
    }
}

fn print(letter: &DeadLetter, output: Output) -> Result<(), Failure> {
    let summary = letter.summary();
    let mut fields = vec![
        ("id", summary.id.clone()),
        ("runtime", summary.runtime.clone()),
        ("handler", summary.handler.clone()),
    ];
    fields.extend(summary.sink.clone().map(|sink| ("sink", sink)));
    fields.extend([
        ("event id", summary.event_id.clone()),
        ("namespace", summary.namespace.clone()),
        ("operation", summary.operation.clone()),
        ("failed at", time(summary.failed_at)),
        ("kind", summary.kind.clone()),
        ("attempts", summary.attempts.to_string()),
        ("error", summary.error.join("\n           caused by: ")),
    ]);
    if let Some(replay) = &summary.replay {
        let by = replay.requested_by.as_deref().unwrap_or("unknown");
        let mut text = format!("requested by {by} at {}", time(replay.requested_at));
        if let Some(taken_at) = replay.taken_at {
            text += &format!(", begun at {}", time(taken_at));
        }
        if let Some(reason) = &replay.refused {
            text += &format!(", refused: {reason}");
        }
        fields.push(("replay", text));
    }
    for (name, value) in fields {
        output.line(&format!("{name:<9}  {value}"))?;
    }
    output.line("event")?;
    print_json(&Json::relaxed(letter.change()))?;
    if let Some(message) = letter.message() {
        output.line("message")?;
        print_json(&MessageView::of(message))?;
    }
    Ok(())
}
