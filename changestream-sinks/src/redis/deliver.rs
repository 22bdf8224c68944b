//! Deliveries.

use std::sync::Arc;

use ::redis::{Cmd, Pipeline, Value};
use changestream_core::{Delivery, HandlerError};

use super::{RedisSink, Settings, action::Plan, connection::Connection, error, matching};

/// What a sink does with its deliveries.
#[derive(Clone)]
pub(super) struct Deliver {
    connection: Connection,
    settings: Arc<Settings>,
}

impl Deliver {
    /// So many deliveries go to the server at once.
    pub(super) const BATCH: usize = 512;

    pub(super) fn new(sink: RedisSink) -> Self {
        Self {
            connection: sink.connection,
            settings: Arc::new(sink.settings),
        }
    }

    fn host(&self) -> &str {
        &self.connection.server().name
    }

    /// One after whose patterns the server looks first.
    pub(super) async fn one(self, delivery: Delivery) -> Result<(), HandlerError> {
        let mut plan = Plan::default();
        plan.add(&delivery, &self.settings)?;
        drop(delivery);
        let all_removed = self.remove(plan.patterns).await?;
        let (commands, replies) = self.send(plan.commands).await?;
        error::of(self.host(), &commands, 0, &replies)?;
        match all_removed {
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
        let mut plan = Plan::default();
        let mut failed = Vec::new();
        let mut planned = Vec::with_capacity(deliveries.len());
        for (place, delivery) in deliveries.iter().enumerate() {
            let begin = plan.commands.len();
            match plan.add(delivery, &self.settings) {
                Ok(()) => planned.push((place, begin..plan.commands.len())),
                Err(error) => failed.push((place, error)),
            }
        }
        drop(deliveries);
        let (commands, replies) = self.send(plan.commands).await?;
        for (place, range) in planned {
            let first = range.start;
            let replies = replies.get(range).unwrap_or_default();
            if let Err(error) = error::of(self.host(), &commands, first, replies) {
                failed.push((place, error));
            }
        }
        match failed.is_empty() {
            true => Ok(()),
            false => Err(HandlerError::partial(failed)),
        }
    }

    async fn send(&self, commands: Vec<Cmd>) -> Result<(Pipeline, Vec<Value>), HandlerError> {
        let mut pipeline = Pipeline::with_capacity(commands.len());
        for command in commands {
            pipeline.add_command(command);
        }
        if pipeline.is_empty() {
            return Ok((pipeline, Vec::new()));
        }
        let patience = self.settings.response_timeout;
        let replies = self.connection.query(&mut pipeline, patience).await?;
        Ok((pipeline, replies))
    }

    /// Removes what matches; whether that was all of it.
    async fn remove(&self, patterns: Vec<String>) -> Result<bool, HandlerError> {
        let patience = self.settings.response_timeout;
        let mut room = self.settings.max_matches;
        for pattern in patterns {
            match matching::unlink(&self.connection, &pattern, room, patience).await? {
                Some(removed) => room -= removed,
                None => return Ok(false),
            }
        }
        Ok(true)
    }
}
