use changestream_core::{DeadLetterFilter, DeadLetterStore, DeadLetterSummary, FailureKind};
use clap::{Args, builder::PossibleValuesParser};

use super::PAGE;
use crate::failure::Failure;

#[derive(Debug, Args)]
pub(crate) struct Selection {
    /// Letters of this runtime
    #[arg(long)]
    runtime: Option<String>,
    /// Letters of this handler, its deliveries included
    #[arg(long)]
    handler: Option<String>,
    /// Letters of deliveries to this sink
    #[arg(long)]
    sink: Option<String>,
    /// Letters of this kind of failure
    #[arg(long, value_parser = kinds())]
    kind: Option<String>,
}

fn kinds() -> PossibleValuesParser {
    FailureKind::ALL.iter().map(|kind| kind.as_str()).into()
}

impl Selection {
    pub(crate) fn filter(&self) -> DeadLetterFilter {
        let mut filter = DeadLetterFilter::default();
        filter.runtime.clone_from(&self.runtime);
        filter.handler.clone_from(&self.handler);
        filter.sink.clone_from(&self.sink);
        filter.kind.clone_from(&self.kind);
        filter
    }
}

/// Letters that something is to be done with: named, or selected on purpose.
#[derive(Debug, Args)]
pub(crate) struct Letters {
    /// Letters by their ids, as `list` shows them
    #[arg(value_name = "ID", conflicts_with_all = ["runtime", "handler", "sink", "kind", "all"])]
    ids: Vec<String>,
    #[command(flatten)]
    selection: Selection,
    /// Every letter, or every one of the runtime
    #[arg(long, conflicts_with_all = ["handler", "sink", "kind"])]
    all: bool,
}

impl Letters {
    pub(crate) fn check(&self) -> Result<(), Failure> {
        let Selection {
            handler,
            sink,
            kind,
            ..
        } = &self.selection;
        let narrowed = handler.is_some() || sink.is_some() || kind.is_some();
        match self.ids.is_empty() && !narrowed && !self.all {
            true => Err(Failure::missing(
                "which letters? Name them by id, select them with --handler, --sink or --kind, or give --all",
            )),
            false => Ok(()),
        }
    }

    /// Those that are there, oldest first within a page, and the ids of those that are not.
    pub(crate) async fn find(
        &self,
        store: &dyn DeadLetterStore,
    ) -> Result<(Vec<DeadLetterSummary>, Vec<String>), Failure> {
        let (mut found, mut missing) = (Vec::new(), Vec::new());
        if !self.ids.is_empty() {
            for id in &self.ids {
                let filter = DeadLetterFilter::default().id(id);
                match store.list(&filter, None, 1).await?.pop() {
                    Some(letter) => found.push(letter),
                    None => missing.push(id.clone()),
                }
            }
            return Ok((found, missing));
        }
        let filter = self.selection.filter();
        loop {
            let page = store.list(&filter, found.last(), PAGE).await?;
            let is_last = page.len() < PAGE as usize;
            found.extend(page);
            if is_last {
                return Ok((found, missing));
            }
        }
    }
}
