use std::time::Duration;

use mongodb::Client;
use tokio::{
    sync::{mpsc, watch},
    time::sleep,
};

use super::{Batch, Plan, Position, cursor::Cursor, fault::Fault};
use crate::{
    error::{Error, Kind},
    layer::Backoff,
    shutdown::stopped,
};

/// Between attempts to resume or reopen: the first waits at most 100 ms, later ones up to 10 s.
const BACKOFF: Backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(10));

/// How often opening is tried at start-up before it counts as failed.
const OPENING_ATTEMPTS: u32 = 5;

/// The task that owns the cursor.
///
/// It reads one batch ahead of the one that is being worked on, and asks for no further one.
pub(crate) struct SourceTask {
    plan: Plan,
    client: Client,
    position: Position,
    batches: mpsc::Sender<Batch>,
    stop: watch::Receiver<bool>,
    /// How long the server is to wait for a change.
    await_time: watch::Receiver<Duration>,
    state: State,
}

enum State {
    /// There is no cursor; after so many failures in a row, one is to be opened.
    Closed { failures: u32 },
    /// The cursor is open. The failures before it count until it has brought something.
    Open { cursor: Cursor, failures: u32 },
}

impl SourceTask {
    pub(crate) fn new(
        plan: Plan,
        client: Client,
        position: Position,
        batches: mpsc::Sender<Batch>,
        stop: watch::Receiver<bool>,
        await_time: watch::Receiver<Duration>,
    ) -> Self {
        Self {
            plan,
            client,
            position,
            batches,
            stop,
            await_time,
            state: State::Closed { failures: 0 },
        }
    }

    /// Opens the stream for the first time, so that what is wrong with it shows at start-up, and says where
    /// it starts: "now" becomes a token, from which a restart can go on.
    pub(crate) async fn open(&mut self) -> Result<Position, Error> {
        let mut failures = 0;
        loop {
            match self.try_open(failures).await {
                Ok(()) => break,
                Err(Fault::Fatal(error)) => return Err(error),
                Err(Fault::Resumable(error) | Fault::Transient(error)) => {
                    failures += 1;
                    if failures == OPENING_ATTEMPTS {
                        let message = "the change stream cannot be opened";
                        return Err(Error::new(Kind::Unreachable, message).caused_by(error));
                    }
                    back_off(failures, &error).await;
                }
            }
        }
        Ok(self.position.clone())
    }

    async fn try_open(&mut self, failures: u32) -> Result<(), Fault> {
        if let Position::Now = self.position {
            self.position = Cursor::now(&self.plan, &self.client).await?;
        }
        let cursor = Cursor::open(&self.plan, &self.client, &self.position, failures).await?;
        self.state = State::Open {
            cursor,
            failures: 0,
        };
        Ok(())
    }

    /// Reads batches until it is told to stop or the stream fails for good.
    pub(crate) async fn run(mut self) -> Result<(), Error> {
        let mut stop = self.stop.clone();
        let batches = self.batches.clone();
        loop {
            let room = tokio::select! {
                biased;
                () = stopped(&mut stop) => return Ok(()),
                room = batches.reserve() => room,
            };
            let Ok(room) = room else { return Ok(()) };
            // A cursor dropped here is not missed: nobody reads on.
            tokio::select! {
                biased;
                () = stopped(&mut stop) => return Ok(()),
                batch = self.next() => room.send(batch?),
            }
        }
    }

    /// The next batch.
    async fn next(&mut self) -> Result<Batch, Error> {
        loop {
            self.keep_await_time();
            match &mut self.state {
                State::Closed { failures } => {
                    let failures = *failures;
                    let opening = Cursor::open(&self.plan, &self.client, &self.position, failures);
                    match opening.await {
                        Ok(cursor) => self.state = State::Open { cursor, failures },
                        Err(fault) => self.fail(fault, failures).await?,
                    }
                }
                State::Open { cursor, failures } => match cursor.next().await {
                    Ok(Some(batch)) => {
                        if cursor.has_got_more() || !batch.events.is_empty() {
                            *failures = 0;
                        }
                        if let Some(end) = batch.end() {
                            let (token, kind) = end.token();
                            self.position = Position::Token(token, kind);
                        }
                        return Ok(batch);
                    }
                    Ok(None) => {
                        let failures = *failures + 1;
                        self.state = State::Closed { failures };
                        sleep(BACKOFF.wait(failures)).await;
                    }
                    Err(fault) => {
                        let failures = *failures;
                        self.fail(fault, failures).await?;
                    }
                },
            }
        }
    }

    /// A cursor keeps the time that it was opened with.
    fn keep_await_time(&mut self) {
        let await_time = *self.await_time.borrow_and_update();
        if self.plan.await_time == await_time {
            return;
        }
        self.plan.await_time = await_time;
        if let State::Open { failures, .. } = self.state {
            self.state = State::Closed { failures };
        }
    }

    async fn fail(&mut self, fault: Fault, failures: u32) -> Result<(), Error> {
        let error = match fault {
            Fault::Fatal(error) => return Err(error),
            Fault::Resumable(error) | Fault::Transient(error) => error,
        };
        let failures = failures + 1;
        self.state = State::Closed { failures };
        back_off(failures, &error).await;
        Ok(())
    }
}

async fn back_off(failures: u32, error: &mongodb::error::Error) {
    let wait = BACKOFF.wait(failures);
    tracing::warn!(
        failures,
        ?wait,
        error = %error.kind,
        "the change stream was interrupted; it goes on where it was"
    );
    sleep(wait).await;
}
