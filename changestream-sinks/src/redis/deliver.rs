//! Deliveries.

use std::sync::Arc;

use changestream_core::{Delivery, HandlerError};

use super::{RedisSink, Settings, matching, nodes::Nodes, plan::Plan, send::Work};

/// What a sink does with its deliveries.
#[derive(Clone)]
pub(super) struct Deliver {
    nodes: Nodes,
    settings: Arc<Settings>,
}

impl Deliver {
    /// So many deliveries go to the server at once.
    pub(super) const BATCH: usize = 512;

    pub(super) fn new(sink: RedisSink) -> Self {
        Self {
            nodes: sink.nodes,
            settings: Arc::new(sink.settings),
        }
    }

    fn host(&self) -> &str {
        &self.nodes.server().name
    }

    /// One after whose patterns the server looks first.
    pub(super) async fn one(self, delivery: Delivery) -> Result<(), HandlerError> {
        let Plan {
            patterns, parts, ..
        } = Plan::of(&delivery, &self.settings)?;
        drop(delivery);
        let are_all_removed = self.remove(patterns).await?;
        let patience = self.settings.response_timeout;
        self.nodes.send_one(parts, patience).await?;
        match are_all_removed {
            true => Ok(()),
            false => Err(HandlerError::reject(format!(
                "more than {} keys of `{}` match; so many were removed, and the others are still there",
                self.settings.max_matches,
                self.host()
            ))),
        }
    }

    /// Several that have no patterns.
    pub(super) async fn all(self, deliveries: Vec<Delivery>) -> Result<(), HandlerError> {
        if self.settings.actions.is_empty() {
            // For the one who runs it to mend: no message becomes a dead letter for that.
            return Err(HandlerError::retry(format!(
                "the Redis sink to `{}` is not told what to do; add `.unlink(..)` or the like",
                self.host()
            )));
        }
        let work = deliveries
            .iter()
            .map(|delivery| match Plan::of(delivery, &self.settings) {
                Ok(plan) => Work::new(plan.parts),
                Err(error) => Work::failed(error),
            });
        let mut work: Vec<_> = work.collect();
        drop(deliveries);
        let patience = self.settings.response_timeout;
        self.nodes.send(&mut work, patience).await?;
        let failed = work.into_iter().enumerate();
        let failed = failed.filter_map(|(place, work)| Some((place, work.failed?)));
        let failed: Vec<_> = failed.collect();
        match failed.is_empty() {
            true => Ok(()),
            false => Err(HandlerError::partial(failed)),
        }
    }

    /// Removes what matches; whether that was all of it.
    async fn remove(&self, patterns: Vec<String>) -> Result<bool, HandlerError> {
        let patience = self.settings.response_timeout;
        let mut room = self.settings.max_matches;
        for pattern in patterns {
            match matching::unlink(&self.nodes, &pattern, room, patience).await? {
                Some(removed) => room -= removed,
                None => return Ok(false),
            }
        }
        Ok(true)
    }
}
