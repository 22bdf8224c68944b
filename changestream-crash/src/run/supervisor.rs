//! Starts the service, ends it as the plan says, and starts it again.

use std::{path::PathBuf, time::Duration};

use tokio::{
    sync::watch,
    time::{sleep, timeout},
};

use super::{
    process::{End, Process},
    progress::Progress,
};
use crate::{Result, plan::Death, service};

/// Longer than the service's drain deadline.
pub(super) const STOPS_WITHIN: Duration = Duration::from_secs(30);
/// It is given up after so many.
const FAILURES: usize = 5;
/// Before the service is started again that ended by itself.
const PAUSE: Duration = Duration::from_millis(100);

/// What became of the service's processes.
#[derive(Clone, Debug, Default)]
pub(crate) struct Lives {
    pub(crate) killed: u32,
    pub(crate) stopped: u32,
    /// Ended by a fault.
    pub(crate) hindered: u32,
    /// The crash points that they died at.
    pub(crate) points: Vec<&'static str>,
    /// What should not have happened.
    pub(crate) failures: Vec<String>,
}

pub(super) struct Supervisor {
    pub(super) options: service::Options,
    pub(super) errors: PathBuf,
    pub(super) progress: watch::Receiver<Progress>,
    pub(super) finish: watch::Receiver<bool>,
}

impl Supervisor {
    /// Leads the service through `deaths`, and then on until it is to finish.
    pub(super) async fn run(mut self, deaths: &[Death]) -> Result<Lives> {
        let mut lives = Lives::default();
        let mut deaths = deaths.iter();
        let mut death = deaths.next();
        loop {
            let point = death.and_then(|death| death.point);
            let mut process = Process::start(&self.options, point, &self.errors)?;
            self.options.session += 1;
            let told = tokio::select! {
                biased;
                end = process.ended(point.is_some()) => {
                    match lives.ended(end?, point) {
                        true => death = deaths.next(),
                        false => sleep(PAUSE).await,
                    }
                    if lives.failures.len() < FAILURES {
                        continue;
                    }
                    return Ok(lives);
                }
                told = told(&mut self.progress, &mut self.finish, death) => told,
            };
            if told == Told::Die {
                process.kill().await?;
                lives.killed += 1;
                death = deaths.next();
                continue;
            }
            process.ask_to_stop()?;
            lives.stopped += 1;
            match timeout(STOPS_WITHIN, process.ended(point.is_some())).await {
                Ok(end) => _ = lives.ended(end?, point),
                Err(_elapsed) => lives.failures.push("the service does not stop".to_owned()),
            }
            if told == Told::Finish {
                return Ok(lives);
            }
            death = deaths.next();
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Told {
    Die,
    Stop,
    Finish,
}

/// Waits until it is time for `death`, or all is done.
async fn told(
    progress: &mut watch::Receiver<Progress>,
    finish: &mut watch::Receiver<bool>,
    death: Option<&Death>,
) -> Told {
    let due = async {
        let Some(death) = death else {
            return std::future::pending().await;
        };
        let due = progress.wait_for(|progress| progress.done >= death.after);
        // An error means that the run is over, and with it the service.
        due.await.ok();
        match death.is_asked {
            true => Told::Stop,
            false => Told::Die,
        }
    };
    tokio::select! {
        biased;
        _ = finish.wait_for(|finish| *finish) => Told::Finish,
        told = due => told,
    }
}

impl Lives {
    /// Takes note of an end; whether it was one that the plan had in mind.
    fn ended(&mut self, end: End, point: Option<(&'static str, u64)>) -> bool {
        let is_at_point = end == End::AtPoint;
        match end {
            End::Well => {}
            End::AtPoint => self.points.extend(point.map(|(name, _)| name)),
            End::Hindered => self.hindered += 1,
            End::Badly(failure) => self.failures.push(failure),
        }
        is_at_point
    }
}
