use std::time::Duration;

use tokio::time::{Instant, sleep};

use crate::{Error, Result, node::Node};

/// How long a server may take to do what it is waited for; it takes a fraction of a second on an idle machine.
const PATIENCE: Duration = Duration::from_secs(180);
const POLL: Duration = Duration::from_millis(10);

/// A bounded wait for a state of a node: ask, let the answer be judged, and ask again as long as there is none.
#[derive(Debug)]
pub(crate) struct Wait<'a> {
    node: &'a Node,
    what: &'static str,
    deadline: Instant,
}

impl<'a> Wait<'a> {
    pub(crate) fn new(node: &'a Node, what: &'static str) -> Self {
        Self {
            node,
            what,
            deadline: Instant::now() + PATIENCE,
        }
    }

    /// Gives an answer back; where there is none yet, a moment passes. Fails once the process or the time has ended.
    pub(crate) async fn judge<T>(&self, answer: Result<Option<T>>) -> Result<Option<T>> {
        match answer {
            // A server that starts, or changes its role, refuses commands for a moment.
            Ok(None) | Err(Error::Driver(_)) => {}
            decided => return decided,
        }
        self.node.check_alive()?;
        if Instant::now() >= self.deadline {
            return Err(Error::Timeout {
                what: self.what,
                after: PATIENCE,
                log: self.node.log_tail(),
            });
        }
        sleep(POLL).await;
        Ok(None)
    }
}
