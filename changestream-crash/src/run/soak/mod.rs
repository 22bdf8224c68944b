//! One process of the service, for long: at a steady rate, while its server and its network fail every few seconds. Its
//! memory is to stay flat, and it is never to fall far behind.

mod measure;
mod report;

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use clap::Args;
use fastrand::Rng;
use tokio::{
    sync::watch,
    time::{Instant, sleep, timeout},
};

use super::{
    COMMITS_LOG, ERRORS, PATIENCE, Progress, SERVICE_LOG, WRITER_LOG, commit, judge,
    process::{End, Process},
    progress,
    supervisor::STOPS_WITHIN,
    time,
};
use crate::{
    Result,
    checker::Limits,
    deployment::{Deployment, Pool},
    log::Log,
    plan::{self, Kind, Settings},
    service,
    writer::{Pace, Writer},
};
use measure::{Measures, measure};
use report::Report;

const DATABASE: &str = "soak";
/// The defaults of a runtime, but for the lease.
const SETTINGS: Settings = Settings {
    batch_size: 2_000,
    concurrency: 16,
    in_flight_events: 1_024,
    checkpoint_events: 1_000,
    checkpoint_interval: 1_000,
    partitions: 1,
    // Longer than any fault, even on a busy machine: who loses it again and again gets nowhere.
    lease: 10,
};

#[derive(Clone, Debug, Args)]
pub(crate) struct Options {
    /// For how long
    #[arg(long, default_value_t = 30.0)]
    minutes: f64,
    /// Of what is written, and of the faults
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// How many versions are written in a second
    #[arg(long, default_value_t = 200)]
    rate: u32,
    /// By how many MiB the service's memory may grow after it has warmed up
    #[arg(long, default_value_t = 8.0)]
    growth: f64,
    /// For how many seconds the service may be behind
    #[arg(long, default_value_t = 30.0)]
    lag: f64,
    /// Writes a report to this file
    #[arg(long)]
    report: Option<PathBuf>,
    /// The command that the report names
    #[arg(long, default_value = "changestream-crash soak")]
    command: String,
}

impl Options {
    /// How many versions are written.
    fn events(&self) -> u64 {
        (self.minutes * 60.0 * f64::from(self.rate)) as u64
    }
}

/// How often each kind of fault came.
type Faults = BTreeMap<String, u32>;

/// Carries it out; whether all is as it should be.
pub(crate) async fn soak(options: Options) -> Result<bool> {
    crate::report::note_commit();
    let dir = tempfile::Builder::new()
        .prefix("changestream-soak-")
        .tempdir()?;
    let mut pool = Pool::default();
    let deployment = pool.get(plan::Deployment::Single).await?;
    let report = work(&options, deployment, dir.path()).await;
    let is_good = report.as_ref().is_ok_and(Report::is_good);
    if !is_good {
        println!("logs: {}", dir.keep().display());
    }
    let report = report?;
    print!("{}", report.figures());
    if let Some(path) = &options.report {
        fs::write(path, report.text(&options.command, &pool.version()))?;
    }
    Ok(is_good)
}

async fn work(options: &Options, deployment: Deployment<'_>, dir: &Path) -> Result<Report> {
    let client = deployment.client().await?;
    let database = client.database(DATABASE);
    database.create_collection(service::COLLECTION).await?;
    let start = time(&database).await?;
    let service_log = dir.join(SERVICE_LOG);
    let mut process = Process::start(
        &service::Options {
            uri: deployment.service_uri(),
            database: DATABASE.to_owned(),
            log: service_log.clone(),
            session: 1,
            start_at: Vec::new(),
            kind: Kind::Single,
            settings: SETTINGS,
        },
        None,
        &dir.join(ERRORS),
    )?;
    let id = process.id().ok_or("the service has ended")?;
    let (progress_in, progress) = watch::channel(Progress::default());
    let log = Log::append_to(&dir.join(WRITER_LOG))?;

    let soaking = async {
        let mut started = progress.clone();
        let started = started.wait_for(|progress| progress.has_saved);
        let started = timeout(PATIENCE, started).await;
        started.map_err(|_elapsed| "the service never started")??;
        let pace = Pace::Rate(options.rate, Instant::now());
        let database = database.clone();
        let mut writer = Writer::new(client, database, pace, options.seed, options.events());
        let acknowledged = writer.count();
        let load = load(options, deployment, &mut writer, &log, progress.clone());
        measure(id, &acknowledged, progress.clone(), load).await
    };
    let (faults, measures): (Faults, Measures) = tokio::select! {
        soaked = soaking => soaked?,
        ended = process.ended(false) => return Err(format!("the service ended: {:?}", ended?).into()),
        followed = progress::follow(&service_log, Vec::new(), progress_in) => {
            return Err(followed.err().unwrap_or_else(|| "the log has ended".into()));
        }
    };
    process.ask_to_stop().await?;
    let end = timeout(STOPS_WITHIN, process.ended(false)).await??;
    commit::note(&database, start, &Log::append_to(&dir.join(COMMITS_LOG))?).await?;
    let limits = Limits {
        uncommitted: SETTINGS.uncommitted(),
        in_flight: SETTINGS.in_flight_events,
        is_shared: false,
    };
    Ok(Report {
        options: options.clone(),
        findings: judge(dir, limits)?,
        stopped_well: end == End::Well,
        faults,
        measures,
    })
}

/// Writes at the rate and lets things fail, until all is written; then waits for the service to be done with it.
async fn load(
    options: &Options,
    deployment: Deployment<'_>,
    writer: &mut Writer,
    log: &Log,
    mut progress: watch::Receiver<Progress>,
) -> Result<Faults> {
    let (written, writing) = watch::channel(false);
    let write = async {
        writer.write(options.events(), log).await?;
        writer.write_last(log).await?;
        written.send_replace(true);
        Ok(())
    };
    let ((), faults) = tokio::try_join!(write, suffer(options.seed, deployment, writing))?;
    let all_done = progress.wait_for(|now| now.has_saved_last);
    // What is not done by then is lost to the checker.
    timeout(PATIENCE, all_done).await.ok();
    Ok(faults)
}

/// One fault after the other, each some seconds after the one before, as long as there is something to write.
async fn suffer(
    seed: u64,
    deployment: Deployment<'_>,
    mut written: watch::Receiver<bool>,
) -> Result<Faults> {
    let mut rng = Rng::with_seed(seed);
    let mut faults = Faults::new();
    loop {
        let pause = Duration::from_millis(rng.u64(2_000..8_000));
        tokio::select! {
            _ = written.wait_for(|written| *written) => return Ok(faults),
            () = sleep(pause) => {}
        }
        let fault = plan::fault_of_single(&mut rng);
        deployment.suffer(&fault).await?;
        *faults.entry(fault.to_string()).or_default() += 1;
    }
}
