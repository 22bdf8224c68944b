use std::sync::Arc;

use super::change::DATABASE;
use crate::{
    builder::RuntimeBuilder,
    checkpoint::MemoryCheckpoints,
    dead_letter::{DeadLetter, MemoryDeadLetters},
    engine::Engine,
    error::Error,
    event::RawChange,
    layer::Outcome,
};

/// Stands for the server where there is none.
#[derive(Clone, Debug, Default)]
pub struct NoServer {
    dead_letters: MemoryDeadLetters,
}

/// A runtime whose events come from the test: its handlers, layers and sinks are the real ones, its dead
/// letters are in memory.
#[derive(Debug)]
pub struct TestRuntime {
    engine: Engine,
    dead_letters: MemoryDeadLetters,
}

/// Which handlers an event went to, and what became of it there.
#[derive(Clone, Debug, Default)]
pub struct Report {
    outcomes: Vec<(Arc<str>, Outcome)>,
}

impl TestRuntime {
    /// A builder as of [`Runtime::builder`](crate::Runtime::builder), named `test`, of a runtime that
    /// watches the database [`DATABASE`].
    pub fn builder() -> RuntimeBuilder<(), NoServer> {
        RuntimeBuilder::new(NoServer::default()).name("test")
    }

    /// Runs an event through every handler that wants it, retries, deliveries and dead letters included.
    pub async fn send(&mut self, change: impl Into<RawChange>) -> Report {
        let outcomes = self.engine.handle(&change.into()).await;
        Report { outcomes }
    }

    /// The dead letters so far, oldest first, unless the builder was given another store for them.
    pub fn dead_letters(&self) -> Vec<DeadLetter> {
        self.dead_letters.letters()
    }
}

impl Report {
    /// The handlers that succeeded, and whose messages were delivered.
    pub fn handled(&self) -> Vec<&str> {
        self.with(Outcome::Done)
    }

    /// The handlers that failed for good, or a message of which could not be delivered.
    pub fn dead_lettered(&self) -> Vec<&str> {
        self.with(Outcome::DeadLettered)
    }

    fn with(&self, outcome: Outcome) -> Vec<&str> {
        let outcomes = self.outcomes.iter();
        outcomes
            .filter(|(_, found)| *found == outcome)
            .map(|(handler, _)| &**handler)
            .collect()
    }
}

impl<S> RuntimeBuilder<S, NoServer> {
    /// The runtime.
    ///
    /// # Errors
    ///
    /// As of a real runtime's `build`, and when a handler takes a [`Transaction`](crate::Transaction), which
    /// only a server has.
    pub fn build(self) -> Result<TestRuntime, Error> {
        let (server, parts) = self.into_parts(
            |_| Arc::new(MemoryCheckpoints::default()),
            |server| Arc::new(server.dead_letters.clone()),
        )?;
        let mut handlers = parts.handlers.iter();
        if let Some(handler) = handlers.find(|handler| handler.needs.transaction) {
            return Err(Error::configuration(format!(
                "handler `{}` takes a `Transaction`, which needs a server: test it with a real runtime, as on a server \
                 that `changestream-testkit` starts",
                handler.name
            )));
        }
        Ok(TestRuntime {
            engine: parts.into_engine(DATABASE),
            dead_letters: server.dead_letters,
        })
    }
}
