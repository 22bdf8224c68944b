//! From a URL to its sink.

use changestream_core::{Error, SinkSpec};

use super::{file::HttpSettings, url::Url};

/// The sink of a URL, which is this text, by its scheme.
#[cfg_attr(
    not(all(
        feature = "http",
        feature = "kafka",
        feature = "mongodb",
        feature = "nats",
        feature = "redis"
    )),
    allow(unused_variables)
)]
pub(super) fn sink(
    text: &str,
    url: Url<'_>,
    http_settings: HttpSettings,
) -> Result<SinkSpec, Error> {
    let scheme = url.scheme;
    if !matches!(scheme, "http" | "https") && !http_settings.is_empty() {
        return Err(Error::configuration(format!(
            "`headers`, `source`, `sign-with` and `public-only` are of HTTP sinks, and its URL begins with `{scheme}://`"
        )));
    }
    match scheme {
        "http" | "https" => with_feature!("http", "its URL", http(text, http_settings)),
        "kafka" => with_feature!("kafka", "its URL", kafka(url)),
        "mongodb" => with_feature!("mongodb", "its URL", mongodb(url)),
        "nats" | "tls" => with_feature!("nats", "its URL", nats(url)),
        "redis" | "rediss" => with_feature!("redis", "its URL", redis(url)),
        _ => Err(Error::configuration(format!(
            "its URL begins with `{scheme}://`, which names no sink; there are `http`, `https`, `kafka`, `mongodb`, `nats`, \
             `tls` (NATS), `redis` and `rediss`"
        ))),
    }
}

#[cfg(feature = "http")]
fn http(url: &str, settings: HttpSettings) -> Result<SinkSpec, Error> {
    let mut sink = crate::HttpSink::new(url)?;
    for (name, value) in settings.headers {
        sink = sink.header(name, value)?;
    }
    if let Some(source) = settings.source {
        sink = sink.source(source)?;
    }
    for key in settings.sign_with {
        sink = sink.sign_with(crate::WebhookKey::new(key)?);
    }
    if settings.public_only {
        sink = sink.public_only()?;
    }
    Ok(sink.into())
}

/// `kafka://broker,broker/topic?option=value`.
#[cfg(feature = "kafka")]
fn kafka(mut url: Url<'_>) -> Result<SinkSpec, Error> {
    let mut sink = crate::KafkaSink::new(url.authority, url.path.as_str())?;
    for (option, value) in url.rest() {
        sink = sink.option(option, value)?;
    }
    Ok(sink.into())
}

/// `nats://host/subject?stream=NAME`, or `?mode=core`.
#[cfg(feature = "nats")]
fn nats(mut url: Url<'_>) -> Result<SinkSpec, Error> {
    let (base, subject) = (url.base(), url.path.as_str().to_owned());
    let mode = url.take("mode")?;
    let mut sink = match mode.as_deref() {
        None | Some("jetstream") => crate::NatsSink::jetstream(base, subject)?,
        Some("core") => crate::NatsSink::core(base, subject)?,
        Some(_) => {
            return Err(Error::configuration(
                "the `mode` of its URL is neither `jetstream` nor `core`",
            ));
        }
    };
    if let Some(stream) = url.take("stream")? {
        sink = sink.expect_stream(stream)?;
    }
    url.finish()?;
    Ok(sink.into())
}

/// `redis://host/0?op=unlink&key=..&key=..&pattern=..` and the like; several `op` are done in their order.
#[cfg(feature = "redis")]
fn redis(mut url: Url<'_>) -> Result<SinkSpec, Error> {
    let mut sink = crate::RedisSink::new(format!("{}/{}", url.base(), url.path))?;
    let operation = url.need("op")?;
    sink = match operation.as_str() {
        "unlink" => {
            sink = sink.unlink(url.take_all("key"))?;
            for pattern in url.take_all("pattern") {
                sink = sink.unlink_matching(pattern)?;
            }
            sink
        }
        "unlink-payload" => sink.unlink_payload(),
        "publish" => sink.publish(url.need("channel")?)?,
        "stream" => sink.stream(url.need("key")?)?,
        "set" => sink.set(url.need("key")?)?,
        "hash" => sink.hash(url.need("key")?)?,
        _ => {
            return Err(Error::configuration(
                "the `op` of its URL is neither `unlink`, `unlink-payload`, `publish`, `stream`, `set` nor `hash`",
            ));
        }
    };
    if let Some(entries) = url.take("max-len")? {
        sink = sink.max_len(number("max-len", &entries)?)?;
    }
    if let Some(seconds) = url.take("ttl")? {
        sink = sink.ttl(std::time::Duration::from_secs(number("ttl", &seconds)?))?;
    }
    url.finish()?;
    Ok(sink.into())
}

#[cfg(feature = "redis")]
fn number(name: &str, text: &str) -> Result<u64, Error> {
    let number = text.parse();
    number.map_err(|_| Error::configuration(format!("the `{name}` of its URL is no whole number")))
}

/// `mongodb://host/database?collection=..&op=insert`, and what else the driver knows.
#[cfg(feature = "mongodb")]
fn mongodb(mut url: Url<'_>) -> Result<SinkSpec, Error> {
    use crate::MongoSink;
    use futures::FutureExt as _;
    use mongodb::{Client, bson::Document, options::ClientOptions};

    let (collection, operation) = (url.need("collection")?, url.need("op")?);
    let id = url.take("id")?;
    let rest = form_urlencoded::Serializer::new(String::new())
        .extend_pairs(url.rest())
        .finish();
    let uri = format!("{}/{}?{rest}", url.base(), url.path);
    let wrong = |problem: &str| Error::configuration(problem);
    // Only what is to be looked up takes time, which a `mongodb://` is not.
    let options = ClientOptions::parse(uri).into_future().now_or_never();
    let options = options.and_then(Result::ok);
    let options = options.ok_or_else(|| wrong("its URL is none that the MongoDB driver takes"))?;
    let client = Client::with_options(options)
        .map_err(|_| wrong("its URL is none that the MongoDB driver can use"))?;
    if url.path.is_empty() {
        return Err(wrong(
            "its URL names no database; write `mongodb://host/database?collection=..`",
        ));
    }
    let collection = client
        .database(&url.path)
        .collection::<Document>(&collection);
    let mut sink = match operation.as_str() {
        "insert" => MongoSink::insert(&collection),
        "upsert" => MongoSink::upsert(&collection),
        "merge" => MongoSink::merge(&collection),
        _ => {
            return Err(wrong(
                "the `op` of its URL is neither `insert`, `upsert` nor `merge`",
            ));
        }
    };
    if let Some(id) = id {
        sink = sink.id(id)?;
    }
    Ok(sink.into())
}
