use std::{fmt::Write as _, fs, path::Path, process::Command, time::Instant};

use crate::{
    Figures, Result,
    backlog::Backlog,
    comparison::{Bound, Comparison, Contestant, Target},
    measure::Measure,
};

const MORE: usize = 100;
/// What documents there are; both crates have the types of all.
const TYPES: usize = 20;

const WORKSPACE: &str = r#"
[workspace]
members = ["one", "many"]
resolver = "3"
"#;

const MANIFEST: &str = r#"
[package]
name = "NAME"
version = "0.1.0"
edition = "2024"

[dependencies]
changestream = { path = "CHANGESTREAM" }
futures = "0.3"
mongodb = { version = "3.9", default-features = false, features = ["bson-3", "compat-3-3-0", "rustls-tls"] }
serde = { version = "1", features = ["derive"] }
tokio = { version = "1", features = ["macros", "rt-multi-thread"] }
"#;

const SDK: &str = r#"
use changestream::prelude::*;
use serde::Deserialize;

#[tokio::main]
async fn main() -> Result<(), changestream::Error> {
    let client = mongodb::Client::with_uri_str("mongodb://localhost").await?;
    Runtime::builder(client.database("shop"))
        .name("compiled")
        .handlers(handlers![HANDLERS])
        .build()?
        .run_until(shutdown_signal())
        .await
}
"#;

const DRIVER: &str = r#"
use futures::{StreamExt, future::{BoxFuture, FutureExt, try_join_all}};
use mongodb::{Database, bson::doc, change_stream::event::ChangeStreamEvent, error::Result};
use serde::Deserialize;

#[tokio::main]
async fn main() -> Result<()> {
    let client = mongodb::Client::with_uri_str("mongodb://localhost").await?;
    let database = client.database("shop");
    let loops: [fn(Database) -> BoxFuture<'static, Result<()>>; HANDLER_COUNT] = [HANDLERS];
    try_join_all(loops.map(|each| each(database.clone()))).await?;
    Ok(())
}
"#;

/// What the programs are made with.
#[derive(Clone, Copy)]
enum Program {
    Sdk,
    Driver,
}

pub(crate) fn comparison() -> Comparison {
    Comparison {
        name: "compile".into(),
        about: "incremental debug build after a change in a handler's body: (101 handlers - 1 handler) / 100; \
                with the driver, a handler is a loop of its own"
            .into(),
        receiver: None,
        backlog: Backlog::Empty,
        events: 1,
        contestants: vec![
            Contestant::new("changestream", |_| compile(Program::Sdk)),
            Contestant::new("driver, typed loops", |_| compile(Program::Driver)),
        ],
        columns: vec![Measure::CompileTime],
        targets: vec![Target {
            what: "compile time of a handler in ms",
            measure: Measure::CompileTime,
            of: 0,
            against: None,
            bound: Bound::AtMost(20.0),
        }],
        plot: None,
    }
}

async fn compile(program: Program) -> Result<Figures> {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("compile");
    fs::create_dir_all(&folder)?;
    fs::write(folder.join("Cargo.toml"), WORKSPACE)?;
    let lock = folder.join("Cargo.lock");
    if !lock.exists() {
        fs::copy(root().join("Cargo.lock"), lock)?;
    }
    let crates = [("one", 1), ("many", 1 + MORE)];
    for (name, handlers) in crates {
        write(&folder.join(name), name, program, handlers)?;
    }
    let [one, many] = crates.map(|(name, handlers)| rebuild(&folder, name, program, handlers));
    let each = (many? - one?) * 1e3 / MORE as f64;
    Ok(Figures::from([(Measure::CompileTime, each)]))
}

fn write(folder: &Path, name: &str, program: Program, handlers: usize) -> Result<()> {
    fs::create_dir_all(folder.join("src"))?;
    let manifest = MANIFEST.replace("NAME", name);
    let manifest = manifest.replace("CHANGESTREAM", &root().display().to_string());
    fs::write(folder.join("Cargo.toml"), manifest)?;
    fs::write(
        folder.join("src/main.rs"),
        main(program, handlers, "unchanged")?,
    )?;
    Ok(())
}

/// How long it takes in seconds to build once more after a change.
fn rebuild(folder: &Path, name: &str, program: Program, handlers: usize) -> Result<f64> {
    cargo(folder, name)?;
    let source = folder.join(name).join("src/main.rs");
    fs::write(source, main(program, handlers, "changed")?)?;
    let begin = Instant::now();
    cargo(folder, name)?;
    Ok(begin.elapsed().as_secs_f64())
}

fn cargo(folder: &Path, package: &str) -> Result<()> {
    let status = Command::new("cargo")
        .args(["build", "--quiet", "--package", package])
        .current_dir(folder)
        .env("CARGO_TARGET_DIR", folder.join("target"))
        .env("CARGO_INCREMENTAL", "1")
        .env_remove("RUSTFLAGS")
        .status()?;
    match status.success() {
        true => Ok(()),
        false => Err("the handlers do not compile".into()),
    }
}

/// The program, with `changed` in the body of the first handler.
fn main(program: Program, handlers: usize, changed: &str) -> Result<String> {
    let names: Vec<_> = (0..handlers).map(|n| format!("handler_{n}")).collect();
    let text = match program {
        Program::Sdk => SDK.replace("HANDLERS", &names.join(", ")),
        Program::Driver => {
            let loops = names
                .iter()
                .map(|name| format!("|database| {name}(database).boxed()"));
            let loops = loops.collect::<Vec<_>>().join(", ");
            let text = DRIVER.replace("HANDLER_COUNT", &handlers.to_string());
            text.replace("HANDLERS", &loops)
        }
    };
    let mut text = format!("#![allow(dead_code)]\n{text}");
    for n in 0..TYPES {
        write!(
            text,
            r#"
#[derive(Deserialize)]
struct Document{n} {{ id: i64, name: String, status: String, total: f64, tags: Vec<String>, note: Option<String> }}
"#
        )?;
    }
    for (n, name) in names.iter().enumerate() {
        let document = n % TYPES;
        let body = if n == 0 { changed } else { "unchanged" };
        match program {
            Program::Sdk => {
                let what = match n % 3 {
                    0 => r#"op = "insert""#,
                    1 => r#"field = "status""#,
                    _ => r#"op = ["insert", "replace"]"#,
                };
                write!(
                    text,
                    r#"
#[on_change(coll = "documents_{document}", {what})]
async fn {name}(FullDocument(document): FullDocument<Document{document}>, id: EventId) -> Result<(), HandlerError> {{
    println!("{body} {{}} {{id}}", document.id);
    Ok(())
}}
"#
                )?;
            }
            Program::Driver => write!(
                text,
                r#"
async fn {name}(database: Database) -> Result<()> {{
    let documents = database.collection::<Document{document}>("documents_{document}");
    let filter = doc! {{ "$match": {{ "operationType": "insert" }} }};
    let mut events = documents.watch().pipeline([filter]).await?;
    while let Some(event) = events.next().await {{
        let ChangeStreamEvent {{ id, full_document, .. }} = event?;
        if let Some(document) = full_document {{
            println!("{body} {{}} {{id:?}}", document.id);
        }}
    }}
    Ok(())
}}
"#
            )?,
        }
    }
    Ok(text)
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}
