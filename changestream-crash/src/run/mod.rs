//! One run: a writer, a service that dies again and again, and a server and a network that fail.

mod commit;
mod process;
mod progress;
pub(crate) mod soak;
mod supervisor;

use std::{
    fs,
    io::ErrorKind,
    path::Path,
    pin::pin,
    sync::Arc,
    time::{Duration, Instant},
};

use changestream::{
    bson::{Timestamp, doc},
    mongodb::Database,
};
use tokio::{sync::watch, time::timeout};

pub(crate) use progress::Progress;
pub(crate) use supervisor::Lives;

use crate::{
    Result,
    checker::{Findings, Limits, Logs, check},
    deployment::Deployment,
    log::{Log, parse_commits, parse_entries, parse_versions},
    plan::{Fault, Kind, Plan},
    service,
    writer::{Pace, Writer},
};
use supervisor::Supervisor;

/// The names of the logs in the folder of a run.
pub(crate) const WRITER_LOG: &str = "writer.log";
const BEFORE_LOG: &str = "before.log";
pub(crate) const SERVICE_LOG: &str = "service.log";
const COMMITS_LOG: &str = "commits.log";
const ERRORS: &str = "service.stderr";

/// For so long the service may get no further.
const PATIENCE: Duration = Duration::from_secs(60);
/// So many versions of the run's, one in so many, are there before the snapshot of a run with one.
const BEFORE_SNAPSHOT: u64 = 4;
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
    let writes_large = plan.kind == Kind::Split && deployment.splits_events();
    let mut create = doc! { "create": service::COLLECTION };
    if writes_large {
        create.insert("changeStreamPreAndPostImages", doc! { "enabled": true });
    }
    database.run_command(create).await?;
    let start = time(&database).await?;
    let (progress_in, progress) = watch::channel(Progress {
        // None are known to be seen as long as nobody looks.
        unseen: u64::MAX,
        ..Progress::default()
    });
    let pace = Pace::Lead(progress.clone(), plan.lead);
    let writer = Writer::new(client, database.clone(), pace, plan.seed, plan.events);
    let mut script = Script {
        plan: &plan,
        deployment,
        writer: writer.writes_large(writes_large),
        log: Log::append_to(&dir.join(WRITER_LOG))?,
        progress: progress.clone(),
    };
    if plan.kind == Kind::Snapshot {
        let before = Log::append_to(&dir.join(BEFORE_LOG))?;
        let count = plan.events / BEFORE_SNAPSHOT;
        script.writer.write(count, &before).await?;
    }
    let before = parse_versions(&read(dir, BEFORE_LOG)?)?;
    let (finish, finishing) = watch::channel(false);
    let service_log = dir.join(SERVICE_LOG);
    let supervisor = Supervisor {
        options: service::Options {
            uri: deployment.service_uri(),
            database: name,
            log: service_log.clone(),
            session: 0,
            start_at: match plan.starts_now {
                true => Vec::new(),
                false => vec![start.time, start.increment],
            },
            kind: plan.kind,
            settings: plan.settings,
        },
        errors: dir.join(ERRORS),
        log: Log::append_to(&service_log)?,
        sessions: Arc::new(1.into()),
        progress,
        finish: finishing,
    };
    let driving = async {
        let failure = script.play().await?;
        finish.send_replace(true);
        Ok(failure)
    };
    let living = supervisor.run_all(&plan.deaths);
    let lives = tokio::select! {
        lived = living_and_driving(living, driving) => lived?,
        followed = progress::follow(&service_log, before, progress_in) => {
            return Err(followed.err().unwrap_or_else(|| "the log has ended".into()));
        }
    };
    commit::note(&database, start, &Log::append_to(&dir.join(COMMITS_LOG))?).await?;
    database.drop().await?;
    let limits = Limits {
        uncommitted: plan.settings.uncommitted(),
        in_flight: plan.settings.in_flight_events,
        is_shared: plan.kind == Kind::Shared,
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
    let logs = Logs {
        before: parse_versions(&read(dir, BEFORE_LOG)?)?,
        acknowledged: parse_versions(&read(dir, WRITER_LOG)?)?,
        entries: parse_entries(&read(dir, SERVICE_LOG)?)?,
        commits: parse_commits(&read(dir, COMMITS_LOG)?)?,
    };
    Ok(check(&logs, limits))
}

/// A log of a run; empty where there is none.
fn read(dir: &Path, name: &str) -> Result<String> {
    match fs::read_to_string(dir.join(name)) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(String::new()),
        read => Ok(read?),
    }
}

/// What happens around the service.
struct Script<'a> {
    plan: &'a Plan,
    deployment: Deployment<'a>,
    writer: Writer,
    /// The writer's.
    log: Log,
    progress: watch::Receiver<Progress>,
}

impl Script<'_> {
    /// Writes, fails, and waits for the service to be done with everything. Tells what went wrong with that.
    async fn play(&mut self) -> Result<Option<String>> {
        let (plan, mut progress) = (self.plan, self.progress.clone());
        if plan.starts_now {
            let started = progress.wait_for(|progress| progress.has_saved);
            if timeout(PATIENCE, started).await.is_err() {
                return Ok(Some("the service never started".to_owned()));
            }
        }
        let writing = async {
            self.writer.write(plan.events, &self.log).await?;
            self.writer.write_last(&self.log).await
        };
        let suffering = suffer(&plan.faults, self.deployment, progress.clone());
        tokio::try_join!(writing, suffering)?;

        let written = self.writer.acknowledged();
        // Where replicas share the work, each of them says that of its own part.
        let says_so = |now: &Progress| now.has_saved_last && plan.kind != Kind::Shared;
        let is_done = |now: &Progress| (now.done >= written || says_so(now)) && now.unseen == 0;
        loop {
            let before = *progress.borrow_and_update();
            if is_done(&before) {
                return Ok(None);
            }
            let is_further = |now: &Progress| now.is_further_than(&before) || is_done(now);
            match timeout(PATIENCE, progress.wait_for(is_further)).await {
                Err(_elapsed) => return Ok(Some("the service gets no further".to_owned())),
                Ok(now) => _ = now?,
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
async fn time(database: &Database) -> Result<Timestamp> {
    let pong = database.run_command(doc! { "ping": 1 }).await?;
    Ok(pong.get_timestamp("operationTime")?)
}
