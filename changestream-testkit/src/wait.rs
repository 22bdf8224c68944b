use std::time::Duration;

use tokio::time::{Instant, sleep};

use crate::{Error, Result, daemon::Daemon};

/// How long a server may take to do what it is waited for; it takes a fraction of a second on an idle machine.
const PATIENCE: Duration = Duration::from_secs(180);
const POLL: Duration = Duration::from_millis(10);

/// A bounded wait for a state of a server: ask, let the answer be judged, and ask again as long as there is none.
#[derive(Debug)]
pub(crate) struct Wait<'a> {
    daemon: &'a Daemon,
    what: &'static str,
    deadline: Instant,
}

impl<'a> Wait<'a> {
    pub(crate) fn new(daemon: &'a Daemon, what: &'static str) -> Self {
        Self {
            daemon,
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
        self.daemon.check_alive()?;
        if Instant::now() >= self.deadline {
            return Err(self.daemon.timeout(self.what, PATIENCE));
        }
        sleep(POLL).await;
        Ok(None)
    }
}
