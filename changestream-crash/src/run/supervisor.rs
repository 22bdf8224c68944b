//! Starts the service, ends it as the plan says, and starts it again.

use std::{
    path::PathBuf,
    slice,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use futures::future::try_join_all;
use nix::sys::signal::Signal;
use tokio::{
    sync::watch,
    time::{sleep, timeout},
};

use super::{
    process::{End, Process, stopped},
    progress::Progress,
};
use crate::{
    Result,
    log::{Deed, Entry, Log},
    plan::{Death, Kind, Manner},
    service,
};

/// Longer than the service's drain deadline.
pub(super) const STOPS_WITHIN: Duration = Duration::from_secs(30);
/// It is given up after so many.
const FAILURES: usize = 5;
/// Before the service is started again that ended by itself.
const PAUSE: Duration = Duration::from_millis(100);
/// For so much longer than its lease a process is stopped..
const STOPPED_PAST_LEASE: Duration = Duration::from_millis(300);
/// ..and then until another one has taken over, or for so long.
const TAKEN_OVER_WITHIN: Duration = Duration::from_secs(5);

/// What became of the service's processes.
#[derive(Clone, Debug, Default)]
pub(crate) struct Lives {
    pub(crate) killed: u32,
    pub(crate) stopped: u32,
    /// Stopped for longer than the lease, and then let go on.
    pub(crate) paused: u32,
    /// Ended by a fault.
    pub(crate) hindered: u32,
    /// The crash points that they died or stopped at.
    pub(crate) points: Vec<&'static str>,
    /// What should not have happened.
    pub(crate) failures: Vec<String>,
}

/// Leads processes of the service, one after the other. Clones lead others beside them.
#[derive(Clone)]
pub(super) struct Supervisor {
    pub(super) options: service::Options,
    pub(super) errors: PathBuf,
    /// Where it notes what it did to the service.
    pub(super) log: Log,
    pub(super) sessions: Arc<AtomicU32>,
    pub(super) progress: watch::Receiver<Progress>,
    pub(super) finish: watch::Receiver<bool>,
}

/// What is to be done with a process.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Told {
    Die,
    Stop,
    Pause,
    /// It has stopped by itself, at its point.
    AtPoint,
    Finish,
}

/// What became of a process.
enum Ended {
    /// As the plan had in mind.
    AsPlanned,
    /// By itself.
    Early,
    /// Because all is done.
    Finished,
}

impl Supervisor {
    /// Leads as many lines of processes as there are in `deaths`, side by side, until they are to finish.
    pub(super) async fn run_all(self, deaths: &[Vec<Death>]) -> Result<Lives> {
        let lines = deaths.iter().map(|deaths| self.clone().run(deaths));
        let lines = try_join_all(lines).await?;
        Ok(lines.into_iter().fold(Lives::default(), Lives::and))
    }

    async fn run(mut self, deaths: &[Death]) -> Result<Lives> {
        let mut lives = Lives::default();
        let mut deaths = deaths.iter();
        while lives.failures.len() < FAILURES {
            match self.live(&mut deaths, &mut lives).await? {
                Ended::AsPlanned => _ = deaths.next(),
                Ended::Early => sleep(PAUSE).await,
                Ended::Finished => break,
            }
        }
        Ok(lives)
    }

    /// Starts a process and leads it to the first of `deaths`, or on to the next where that lets it live.
    async fn live(
        &mut self,
        deaths: &mut slice::Iter<'_, Death>,
        lives: &mut Lives,
    ) -> Result<Ended> {
        self.options.session = self.sessions.fetch_add(1, Ordering::SeqCst);
        let mut death = deaths.as_slice().first();
        let mut process = Process::start(&self.options, death, &self.errors)?;
        let mut point = death.and_then(|death| Some((death.point?.0, death.manner)));
        let id = process.id();
        loop {
            let dies_at = point.filter(|(_, manner)| *manner != Manner::Pause);
            let stops_at = point.filter(|(_, manner)| *manner == Manner::Pause);
            let told = tokio::select! {
                biased;
                end = process.ended(dies_at.is_some()) => return Ok(lives.ended(end?, dies_at)),
                told = self.told(death) => told,
                stopped = stopped(id), if stops_at.is_some() => {
                    stopped?;
                    lives.points.extend(stops_at.map(|(name, _)| name));
                    Told::AtPoint
                }
            };
            match told {
                Told::Die => {
                    process.kill().await?;
                    lives.killed += 1;
                    return Ok(Ended::AsPlanned);
                }
                Told::Pause | Told::AtPoint => {
                    process.signal(Signal::SIGSTOP)?;
                    self.wait_until_taken_over().await?;
                    process.signal(Signal::SIGCONT)?;
                    lives.paused += 1;
                    deaths.next();
                    death = deaths.as_slice().first();
                    // It may come there yet, where it has not.
                    point = point.filter(|_| told == Told::Pause);
                }
                Told::Stop | Told::Finish => {
                    lives.stopped += 1;
                    match timeout(STOPS_WITHIN, stop(&mut process, point)).await {
                        Ok(end) => _ = lives.ended(end?, dies_at),
                        Err(_elapsed) => {
                            lives.failures.push("the service does not stop".to_owned());
                        }
                    }
                    return Ok(match told {
                        Told::Finish => Ended::Finished,
                        _ => Ended::AsPlanned,
                    });
                }
            }
        }
    }

    /// Waits until it is time for `death`, or all is done.
    async fn told(&mut self, death: Option<&Death>) -> Told {
        // Of replicas, it is the active one who dies.
        let dies_standing_by = self.options.kind != Kind::Standby;
        let session = self.options.session;
        let due = async {
            let Some(death) = death else {
                return std::future::pending().await;
            };
            let is_due = |now: &Progress| {
                now.done >= death.after && (dies_standing_by || now.active == session)
            };
            // An error means that the run is over, and with it the service.
            self.progress.wait_for(is_due).await.ok();
            match death.manner {
                Manner::Kill => Told::Die,
                Manner::Ask => Told::Stop,
                Manner::Pause => Told::Pause,
            }
        };
        tokio::select! {
            biased;
            _ = self.finish.wait_for(|finish| *finish) => Told::Finish,
            told = due => told,
        }
    }

    /// Waits while the process is stopped, until another one has done some of its work.
    async fn wait_until_taken_over(&mut self) -> Result<()> {
        let lease = Duration::from_secs(self.options.settings.lease);
        sleep(lease + STOPPED_PAST_LEASE).await;
        let session = self.options.session;
        let is_taken_over = |now: &Progress| now.active != session && now.saver != session;
        let taken_over = self.progress.wait_for(is_taken_over);
        timeout(TAKEN_OVER_WITHIN, taken_over).await.ok();
        let deed = Deed::Woken;
        Ok(self.log.append(&[Entry { session, deed }])?)
    }
}

/// Asks a process to stop, which may come to its point before it ends.
async fn stop(process: &mut Process, point: Option<(&'static str, Manner)>) -> Result<End> {
    process.ask_to_stop().await?;
    let id = process.id();
    let is_fatal = point.is_some_and(|(_, manner)| manner != Manner::Pause);
    loop {
        tokio::select! {
            end = process.ended(is_fatal) => return end,
            stopped = stopped(id) => stopped?,
        }
        process.signal(Signal::SIGCONT)?;
    }
}

impl Lives {
    /// Takes note of an end that came by itself.
    fn ended(&mut self, end: End, point: Option<(&'static str, Manner)>) -> Ended {
        let is_at_point = end == End::AtPoint;
        match end {
            End::Well => {}
            End::AtPoint => self.points.extend(point.map(|(name, _)| name)),
            End::Hindered => self.hindered += 1,
            End::Badly(failure) => self.failures.push(failure),
        }
        match is_at_point {
            true => Ended::AsPlanned,
            false => Ended::Early,
        }
    }

    fn and(mut self, other: Self) -> Self {
        self.killed += other.killed;
        self.stopped += other.stopped;
        self.paused += other.paused;
        self.hindered += other.hindered;
        self.points.extend(other.points);
        self.failures.extend(other.failures);
        self
    }
}
