//! One run: a writer, a service that dies again and again, and a server and a network that fail.

mod process;
mod progress;
pub(crate) mod soak;
mod supervisor;

use std::{
    fs,
    path::Path,
    pin::pin,
    time::{Duration, Instant},
};

use changestream::{bson::doc, mongodb::Database};
use tokio::{sync::watch, time::timeout};

pub(crate) use progress::Progress;
pub(crate) use supervisor::Lives;

use crate::{
    Result,
    checker::{Findings, Limits, check},
    deployment::Deployment,
    log::{Log, parse_entries, parse_versions},
    plan::{Fault, Plan},
    service,
    writer::{Pace, Writer},
};
use supervisor::Supervisor;

/// The names of the logs in the folder of a run.
pub(crate) const WRITER_LOG: &str = "writer.log";
pub(crate) const SERVICE_LOG: &str = "service.log";
const ERRORS: &str = "service.stderr";

/// For so long the service may get no further.
const PATIENCE: Duration = Duration::from_secs(60);
/// For so long a fault waits for its time.
const FAULT_WITHIN: Duration = Duration::from_secs(10);

/// What came of a run.
#[derive(Clone, Debug)]
pub(crate) struct Outcome {
    pub(crate) plan: Plan,
    pub(crate) findings: Findings,
    pub(crate) lives: Lives,
    pub(crate) took: Duration,
}

impl Outcome {
    pub(crate) fn is_good(&self) -> bool {
        self.findings.violations.is_empty() && self.lives.failures.is_empty()
    }
}

/// Carries out `plan` on `deployment`, with its logs in `dir`, and judges them.
pub(crate) async fn run(plan: Plan, deployment: Deployment<'_>, dir: &Path) -> Result<Outcome> {
    let begin = Instant::now();
    let client = deployment.client().await?;
    let name = format!("crash_{}", plan.seed);
    let database = client.database(&name);
    database.drop().await?;
    database.create_collection(service::COLLECTION).await?;
    let options = service::Options {
        uri: deployment.service_uri(),
        database: name,
        log: dir.join(SERVICE_LOG),
        session: 1,
        start_at: match plan.starts_now {
            true => Vec::new(),
            false => time(&database).await?.into(),
        },
        batch_size: plan.batch_size,
        checkpoint_events: plan.checkpoint_events,
        checkpoint_interval: plan.checkpoint_interval.as_millis().try_into()?,
        lease: 1,
    };
    let (progress_in, progress) = watch::channel(Progress::default());
    let log = Log::append_to(&dir.join(WRITER_LOG))?;
    let pace = Pace::Lead(progress.clone(), plan.lead);
    let writer = Writer::new(client, database.clone(), log, pace);
    let (finish, finishing) = watch::channel(false);
    let supervisor = Supervisor {
        options,
        errors: dir.join(ERRORS),
        progress: progress.clone(),
        finish: finishing,
    };
    let service_log = dir.join(SERVICE_LOG);
    let driving = async {
        let failure = drive(&plan, deployment, &writer, progress).await?;
        finish.send_replace(true);
        Ok(failure)
    };
    let living = supervisor.run(&plan.deaths);
    let lives = tokio::select! {
        lived = living_and_driving(living, driving) => lived?,
        followed = progress::follow(&service_log, progress_in) => {
            return Err(followed.err().unwrap_or_else(|| "the log has ended".into()));
        }
    };
    database.drop().await?;
    let limits = Limits {
        uncommitted: plan.uncommitted(),
    };
    Ok(Outcome {
        findings: judge(dir, limits)?,
        lives,
        took: begin.elapsed(),
        plan,
    })
}

/// What became of the service, which may be given up before all is done.
async fn living_and_driving(
    living: impl Future<Output = Result<Lives>>,
    driving: impl Future<Output = Result<Option<String>>>,
) -> Result<Lives> {
    let (mut living, mut driving) = (pin!(living), pin!(driving));
    tokio::select! {
        lives = &mut living => lives,
        failure = &mut driving => {
            let failure = failure?;
            let mut lives = living.await?;
            lives.failures.extend(failure);
            Ok(lives)
        }
    }
}

/// Judges a run by the logs in its folder.
pub(crate) fn judge(dir: &Path, limits: Limits) -> Result<Findings> {
    let versions = parse_versions(&fs::read_to_string(dir.join(WRITER_LOG))?)?;
    let entries = parse_entries(&fs::read_to_string(dir.join(SERVICE_LOG))?)?;
    Ok(check(&versions, &entries, limits))
}

/// Writes, fails, and waits for the service to be done with everything. Tells what went wrong with that.
async fn drive(
    plan: &Plan,
    deployment: Deployment<'_>,
    writer: &Writer,
    mut progress: watch::Receiver<Progress>,
) -> Result<Option<String>> {
    if plan.starts_now {
        let started = progress.wait_for(|progress| progress.has_saved);
        if timeout(PATIENCE, started).await.is_err() {
            return Ok(Some("the service never started".to_owned()));
        }
    }
    let writing = writer.write(plan.events, plan.seed);
    let suffering = suffer(&plan.faults, deployment, progress.clone());
    tokio::try_join!(writing, suffering)?;

    let written = writer.acknowledged();
    let mut done = progress.borrow().done;
    loop {
        let further = |now: &Progress| now.done > done || now.has_saved_last;
        match timeout(PATIENCE, progress.wait_for(further)).await {
            Err(_elapsed) => return Ok(Some("the service gets no further".to_owned())),
            Ok(now) => {
                let now = now?;
                if now.done >= written || now.has_saved_last {
                    return Ok(None);
                }
                done = now.done;
            }
        }
    }
}

async fn suffer(
    faults: &[Fault],
    deployment: Deployment<'_>,
    mut progress: watch::Receiver<Progress>,
) -> Result<()> {
    for fault in faults {
        let due = progress.wait_for(|now| now.done >= fault.after);
        // A service that has lost events may never come so far.
        timeout(FAULT_WITHIN, due).await.ok();
        deployment.suffer(&fault.kind).await?;
    }
    Ok(())
}

/// The server's time.
async fn time(database: &Database) -> Result<[u32; 2]> {
    let pong = database.run_command(doc! { "ping": 1 }).await?;
    let time = pong.get_timestamp("operationTime")?;
    Ok([time.time, time.increment])
}
