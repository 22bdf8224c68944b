//! Tables of services and routes, read from files.
//!
//! A table is TOML, JSON or YAML. `${NAME}` in a text is the environment variable of that name, `$$` a dollar sign:
//! secrets stay out of the file.
//!
//! ```toml
//! [services]
//! inventory-service = "https://inventory.internal/events"
//! cache-service = "redis://cache:6379/0?op=unlink&key=product:{document_key._id}&key=products:featured"
//! analytics-service = "kafka://kafka-1:9092,kafka-2:9092/customer-events"
//! audit-service = "nats://nats:4222/shop.{collection}.{operation}"
//!
//! [services.alert-service]
//! url = "https://alerts.example/hooks/shop"
//! headers = { Authorization = "Bearer ${ALERTS_TOKEN}" }
//! sign-with = "${ALERTS_KEY}"
//! timeout = "3s"
//!
//! [[routes]]
//! coll = "products"
//! to = ["inventory-service", "cache-service"]
//!
//! [[routes]]
//! coll = "orders"
//! equals = { "full_document.status" = "cancelled" }
//! to = "alert-service"
//!
//! [[routes]]
//! handler = ["customer_changed", "customer_created"]
//! to = ["analytics-service", "audit-service"]
//! ```
//!
//! # Services
//!
//! A service is a URL, or a table of
//!
//! | key | meaning |
//! | --- | --- |
//! | `url` | where it is; its scheme says which sink it is |
//! | `timeout`, `retries`, `backoff`, `concurrency` | as in [`SinkSpec`]; durations as `"3s"`, `"500ms"` |
//! | `on-down` | `"pause"` or `"dead-letter"`, as in [`OnSinkDown`] |
//! | `headers`, `source`, `sign-with`, `public-only` | of an HTTP sink |
//! | `cloudevents` | `"structured"`, `"binary"` (HTTP, Kafka, NATS), or a table of `mode`, `source` and `type`: what is sent are CloudEvents, as with `CloudEvents`, whose feature must be enabled |
//!
//! | URL | sink, whose feature must be enabled |
//! | --- | --- |
//! | `https://host/path`, `http://host/path` | `http` |
//! | `kafka://broker:9092,broker:9092/topic`, with options of librdkafka behind `?` | `kafka` |
//! | `redis://host/0?op=unlink&key=..&pattern=..`, each as often as there are | `redis` |
//! | `redis://host/0?op=unlink-payload`, `?op=publish&channel=..`, `?op=stream&key=..&max-len=..` | `redis` |
//! | `redis://host/0?op=set&key=..&ttl=60`, `?op=hash&key=..`; `rediss://` with TLS | `redis` |
//! | `nats://host/subject?stream=NAME`, `nats://host/subject?mode=core`; `tls://` with TLS | `nats` |
//! | `mongodb://host/database?collection=..&op=insert`, `op=upsert` or `op=merge`, with `id=..` | `mongodb` |
//!
//! Topics, keys, channels and subjects are templates ([`Template`]). A login with other characters than letters and
//! digits is percent-encoded, as in any URL. A `mongodb://` is to be read within a tokio runtime.
//!
//! # Routes
//!
//! A route has the keys `to`, `coll`, `op`, `field` and `handler`, each a text or a list, and `equals`, a table of fields and
//! values: as the methods of [`Route`]. Operations have the names that `#[on_change(..)]` has for them.

/// What is there where a feature is enabled.
macro_rules! with_feature {
    ($feature:literal, $who:literal, $it:expr) => {{
        #[cfg(feature = $feature)]
        let it = $it;
        #[cfg(not(feature = $feature))]
        let it = Err(Error::configuration(concat!(
            $who,
            " needs the feature `",
            $feature,
            "`; enable it"
        )));
        it
    }};
}

mod endpoint;
mod envelope;
mod environment;
mod file;
#[cfg_attr(
    not(all(
        feature = "kafka",
        feature = "mongodb",
        feature = "nats",
        feature = "redis"
    )),
    allow(dead_code)
)]
mod url;

use std::path::Path;

use changestream_core::{Error, Route, Routes, SinkSpec};
#[cfg(doc)]
use changestream_core::{OnSinkDown, Template};
use config::{Config, FileFormat};

use environment::Environment;

/// The table of a file whose name ends in `.toml`, `.json`, `.yaml` or `.yml`.
///
/// # Errors
///
/// A configuration error when the file cannot be read, and those of [`from_toml`].
pub fn from_file(path: impl AsRef<Path>) -> Result<Routes, Error> {
    let path = path.as_ref();
    let shown = path.display();
    let wrong =
        |problem: &str| Error::configuration(format!("the table of routes `{shown}` {problem}"));
    let format = match path.extension().and_then(|extension| extension.to_str()) {
        Some("toml") => FileFormat::Toml,
        Some("json") => FileFormat::Json,
        Some("yaml" | "yml") => FileFormat::Yaml,
        _ => return Err(wrong("is neither `.toml`, `.json`, `.yaml` nor `.yml`")),
    };
    let text = std::fs::read_to_string(path);
    let text = text.map_err(|error| wrong("cannot be read").caused_by(error))?;
    read(&text, format, &Environment::of_process())
        .map_err(|error| wrong("is wrong").caused_by(error))
}

/// A table in TOML.
///
/// # Errors
///
/// A configuration error, which shows no value of the environment, when the text is no such table, when a variable is not
/// set, when a URL or an option is wrong, when a scheme is unknown, or when its feature is not enabled.
pub fn from_toml(text: &str) -> Result<Routes, Error> {
    read(text, FileFormat::Toml, &Environment::of_process())
}

/// A table in JSON; its errors are those of [`from_toml`].
///
/// # Errors
///
/// Those of [`from_toml`].
pub fn from_json(text: &str) -> Result<Routes, Error> {
    read(text, FileFormat::Json, &Environment::of_process())
}

/// A table in YAML.
///
/// # Errors
///
/// Those of [`from_toml`].
pub fn from_yaml(text: &str) -> Result<Routes, Error> {
    read(text, FileFormat::Yaml, &Environment::of_process())
}

fn read(text: &str, format: FileFormat, environment: &Environment) -> Result<Routes, Error> {
    let wrong = |error| Error::configuration("the table of routes cannot be read").caused_by(error);
    let config = Config::builder().add_source(config::File::from_str(text, format));
    let table: file::Table = config
        .build()
        .and_then(Config::try_deserialize)
        .map_err(wrong)?;
    let mut routes = Routes::default();
    for (name, service) in table.services {
        let sink: SinkSpec = service.sink(environment).map_err(|error| {
            Error::configuration(format!("service `{name}` of the table of routes"))
                .caused_by(error)
        })?;
        routes = routes.service(name, sink);
    }
    for route in table.routes {
        routes = routes.route(Route::try_from(route)?);
    }
    Ok(routes)
}
