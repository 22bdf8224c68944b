use std::process::Command;

use changestream_testkit::{KafkaServer, MongoServer, MongoServerBuilder, NatsServer, RedisServer};
use clap::Args;
use tokio::{runtime::Runtime, signal::ctrl_c};

use crate::command::{Result, cargo, mongodb_uri, run};

/// Room for the backlogs, so that reading them is not what is measured.
const BENCH_CACHE_GB: f64 = 2.0;

#[derive(Debug, Args)]
pub(crate) struct DemoOptions {
    /// How many writes to the database the demo makes
    #[arg(long)]
    events: Option<u64>,
    /// Goes on until Ctrl-C
    #[arg(long)]
    keep_running: bool,
    /// Further arguments of the example
    #[arg(last = true)]
    args: Vec<String>,
}

#[derive(Debug, Args)]
pub(crate) struct BenchOptions {
    /// Arguments of the benchmark
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    args: Vec<String>,
}

pub(crate) fn demo(options: &DemoOptions) -> Result {
    let mut command = cargo();
    command.args([
        "run",
        "--quiet",
        "--example",
        "shop",
        "--all-features",
        "--",
    ]);
    if let Some(events) = options.events {
        command.args(["--events", &events.to_string()]);
    }
    if options.keep_running {
        command.arg("--keep-running");
    }
    let _services = Services::start(&mut command)?;
    run_with_server(command.args(&options.args), MongoServer::builder())
}

/// The servers that some services of the shop are reached by.
#[derive(Default)]
struct Services {
    redis: Option<RedisServer>,
    nats: Option<NatsServer>,
    kafka: Option<KafkaServer>,
    /// Some of them have tasks.
    runtime: Option<Runtime>,
}

impl Services {
    /// Starts those that no variable names, and names them to `command`. The demo does without what can't be had.
    fn start(command: &mut Command) -> Result<Self> {
        let runtime = Runtime::new()?;
        let mut services = Self::default();
        if is_free("REDIS_URI") {
            services.redis = told("Redis", runtime.block_on(RedisServer::start()));
            command.envs(
                services
                    .redis
                    .iter()
                    .map(|redis| ("REDIS_URI", redis.uri())),
            );
        }
        if is_free("NATS_URI") {
            services.nats = told("NATS", runtime.block_on(NatsServer::start()));
            command.envs(services.nats.iter().map(|nats| ("NATS_URI", nats.uri())));
        }
        if is_free("KAFKA_BROKERS") {
            services.kafka = told(
                "Tansu, in place of Kafka",
                runtime.block_on(KafkaServer::start()),
            );
            let brokers = services.kafka.iter().map(KafkaServer::bootstrap);
            command.envs(brokers.map(|brokers| ("KAFKA_BROKERS", brokers)));
        }
        services.runtime = Some(runtime);
        Ok(services)
    }
}

fn is_free(variable: &str) -> bool {
    std::env::var_os(variable).is_none_or(|value| value.is_empty())
}

fn told<T>(server: &str, started: changestream_testkit::Result<T>) -> Option<T> {
    started
        .map_err(|error| eprintln!("the demo does without {server}: {error}"))
        .ok()
}

pub(crate) fn bench(options: &BenchOptions) -> Result {
    let mut command = cargo();
    command.args(["bench", "--bench", "compare", "--all-features", "--"]);
    let server = MongoServer::builder().cache_size_gb(BENCH_CACHE_GB);
    run_with_server(command.args(&options.args), server)
}

/// Runs a command with `MONGODB_URI` set, and gives it this server if there is none. On Ctrl-C the command decides when to end.
fn run_with_server(command: &mut Command, server: MongoServerBuilder) -> Result {
    let runtime = Runtime::new()?;
    let server = match mongodb_uri() {
        Some(_) => None,
        None => Some(runtime.block_on(server.start())?),
    };
    if let Some(server) = &server {
        command.env("MONGODB_URI", server.uri());
    }
    // From the first poll on, the signal no longer ends this process, and with it the server.
    runtime.spawn(async { while ctrl_c().await.is_ok() {} });
    let outcome = run(command);
    drop(server);
    outcome
}
