//! React to MongoDB changes from Rust: annotated async functions over one change stream.
//!
//! ```no_run
//! use changestream::prelude::*;
//! use serde::Deserialize;
//!
//! #[derive(Debug, Deserialize)]
//! struct Order {
//!     status: String,
//! }
//!
//! #[on_change(coll = "orders", field = "status")]
//! async fn status_changed(FullDocument(order): FullDocument<Order>) -> Result<(), HandlerError> {
//!     println!("now {}", order.status);
//!     Ok(())
//! }
//!
//! # async fn run() -> Result<(), Box<dyn std::error::Error>> {
//! let client = mongodb::Client::with_uri_str("mongodb://localhost:27017").await?;
//! Runtime::builder(client.database("shop"))
//!     .name("audit")
//!     .handlers(handlers![status_changed])
//!     .build()?
//!     .run_until(shutdown_signal())
//!     .await?;
//! # Ok(())
//! # }
//! ```
//!
//! # From annotation to event
//!
//! `#[on_change(..)]` leaves the function as it is and adds a type of the same name, whose `spec()` is the
//! handler as a [`HandlerSpec`]. A [`Runtime`] opens one change stream for all its handlers, with a filter
//! that lets through at least what any of them wants, and checks each handler's exact [`Filter`] itself.
//!
//! # Arguments
//!
//! Each argument is an extractor, a type that implements [`FromChange`]: [`FullDocument`], [`PreImage`],
//! [`Change`], [`UpdateDescription`], [`DocumentKey`], [`Operation`], [`Namespace`], [`EventId`],
//! [`ClusterTime`], [`Attempt`], [`ResumeToken`], [`State`], [`RawChange`], [`Transaction`], `Option` of these, and
//! your own.
//! The signatures decide which documents the server is asked for.
//!
//! The text of a document is not copied where the type borrows it: an argument with the lifetime `'_` borrows from the
//! event for as long as the handler runs ([`BorrowFromChange`]).
//!
//! ```
//! use changestream::prelude::*;
//! use serde::Deserialize;
//!
//! #[derive(Debug, Deserialize)]
//! struct Order<'a> {
//!     status: &'a str,
//! }
//!
//! #[on_change(coll = "orders")]
//! async fn noted(change: Change<Order<'_>>) -> Result<(), HandlerError> {
//!     let status = change.full_document().map(|order| order.status);
//!     println!("{} {status:?}", change.operation());
//!     Ok(())
//! }
//! # let _: Vec<HandlerSpec<()>> = handlers![noted];
//! ```
//!
//! # Projection
//!
//! With [`RuntimeBuilder::projection`] and [`Projection::Fields`], the server sends of these documents only the
//! top-level fields that the handlers of the runtime read: those of the structs that they take, and those of `key` and
//! `field`. Handlers see the same values as without it. [`Projection`] says what else sees less, and
//! [`FromChange::reads`] how an extractor of your own tells what it reads.
//!
//! # Batches
//!
//! With `batch(max = 500, within = "200ms")` a handler takes a `Vec` of one extractor, and beside it [`State`],
//! [`Attempt`] and what else implements [`FromBatch`]: see [`HandlerSpec::batch`].
//!
//! ```
//! use changestream::prelude::*;
//! use serde::Deserialize;
//!
//! #[derive(Debug, Deserialize)]
//! struct Product {
//!     sku: String,
//! }
//!
//! #[on_change(coll = "products", op = ["insert", "replace"], batch(max = 500, within = "200ms"))]
//! async fn index(products: Vec<FullDocument<Product>>) -> Result<(), HandlerError> {
//!     let refused = products.iter().enumerate().filter(|(_, FullDocument(product))| product.sku.is_empty());
//!     let failed: Vec<_> = refused.map(|(place, _)| (place, HandlerError::reject("no SKU"))).collect();
//!     match failed.is_empty() {
//!         true => Ok(()),
//!         false => Err(HandlerError::partial(failed)),
//!     }
//! }
//! # let _: Vec<HandlerSpec<()>> = handlers![index];
//! ```
//!
//! # Results
//!
//! What a handler returns goes, as [`Message`]s, to the sinks that `to` names: see [`IntoMessages`]. A
//! sink is any tower service of [`Delivery`]; the features `http` and `channel` have `HttpSink` and `ChannelSink`, and
//! `cloudevents` an envelope around any.

//! sink is any tower service of [`Delivery`]; the features `http`, `channel` and `mongodb` have `HttpSink`, `ChannelSink` and
//! `MongoSink`.
//! sink is any tower service of [`Delivery`]; the features `http`, `redis` and `channel` have `HttpSink`, `RedisSink` and
//! `ChannelSink`.
//!
//! # Failures
//!
//! [`HandlerError`] says what happens next. An event that fails for good becomes a [`DeadLetter`], durable
//! before the stream moves past it; a [`Rejection`] of an extractor goes there at once.
//!
//! A [`DeadLetterStore`] lists, shows and removes letters. A [`Replay`] asks the running runtime to put them
//! once more, oldest first, into the handler or sink that failed; a letter is removed after that succeeded,
//! and otherwise kept with the new error. [`Runtime::replay`] does it without running. The command
//! `changestream dead-letters` (crate `changestream-cli`) does all of this from outside.
//!
//! # Duplicates
//!
//! Delivery is at least once: after a crash, events come again, with the same [`EventId`]. A handler that takes a
//! [`Transaction`] has its effects in MongoDB exactly once. [`RuntimeBuilder::deduplicate`] suppresses most
//! duplicates for handlers that do not.
//!
//! # Layers
//!
//! From the outside in, an event passes tracing, metrics, deduplication, delivery, dead letters, retry, the
//! transaction, timeout and catch-panic, then the layers of [`RuntimeBuilder::layer`] and of [`HandlerSpec::layer`], which are any
//! tower layers, then the handler. A batch is one call: [`ChangeRequest::changes`] gives its events.
//!
//! # Health
//!
//! [`Runtime::health`] gives a handle for the probes of an orchestrator: [`Health::is_ready`], [`Health::is_live`], and
//! [`Health::ready`] to wait for. A lost server, network, majority or right interrupts a runtime, which goes on by
//! itself when it is back.
//!
//! # Metrics
//!
//! Through the `metrics` facade, labelled `runtime` and `handler` or `sink`:
//!
//! | name | kind | unit | meaning |
//! | --- | --- | --- | --- |
//! | `changestream_events_total` | counter | events or messages | received by a handler or sink |
//! | `changestream_errors_total` | counter | attempts | failed, by `kind`: `failed`, `unavailable`, `rejection`, `oversize`, `timeout`, `panic` |
//! | `changestream_retries_total` | counter | attempts | after the first |
//! | `changestream_dead_letters_total` | counter | letters | written |
//! | `changestream_duration_seconds` | histogram | seconds | from first attempt at an event, a batch or a message to result, retries and deliveries included |
//! | `changestream_in_flight` | gauge | events or messages | being worked on |
//! | `changestream_snapshot_documents_total` | counter | documents | of snapshots, done (label `runtime` only) |
//! | `changestream_lag_seconds` | gauge | seconds | age of the oldest event in flight, else of the last one handled; 0 once caught up (label `runtime` only) |
//! | `changestream_ready` | gauge | 0 or 1 | the stream is open, checkpoints and dead letters are written, and no sink is down (label `runtime` only) |
//! | `changestream_sink_down` | gauge | 0 or 1 | the sink answers nobody (labels `runtime` and `sink`; not there before it was down) |
//! | `changestream_interruptions_total` | counter | interruptions | that lasted for one error or many, by `part`: `stream`, `lease`, `checkpoints`, `dead_letters`, `sinks` |
//!
//! Spans are `change` (`handler`, `namespace`, `operation`, `event_id`, `attempt`) and within it `delivery`
//! (`sink`, `index`, `attempt`), and `batch` (`handler`, `events`, `attempt`). Counters count each event of a batch.
//!
//! # Features
//!
//! - `macros` (default): `#[on_change(..)]`.
//! - `channel`: `ChannelSink`, to another task of the process.
//! - `cloudevents`: `CloudEvents`, around any sink.
//! - `http`: `HttpSink`, and `WebhookKey` for its receivers.
//! - `kafka`: `KafkaSink`, to topics, with a librdkafka that is compiled along.
//! - `mongodb`: `MongoSink`, into a collection: views and logs.
//! - `nats`: `NatsSink`, to JetStream or core NATS.
//! - `redis`: `RedisSink`, to caches, streams and channels.
//! - `routes`: `routes`, which reads tables of services and routes from files.
//! - `stdout`: `StdoutSink`, lines of JSON.
//! - `testing`: handlers, layers and sinks without a server, in `testing`.

pub use changestream_core::*;
#[cfg(feature = "macros")]
pub use changestream_derive::on_change;
#[cfg(feature = "cloudevents")]
pub use changestream_sinks::CloudEvents;
#[cfg(feature = "kafka")]
pub use changestream_sinks::KafkaSink;
#[cfg(feature = "mongodb")]
pub use changestream_sinks::MongoSink;
#[cfg(feature = "nats")]
pub use changestream_sinks::NatsSink;
#[cfg(feature = "redis")]
pub use changestream_sinks::RedisSink;
#[cfg(feature = "stdout")]
pub use changestream_sinks::StdoutSink;
#[cfg(feature = "routes")]
pub use changestream_sinks::routes;
#[cfg(feature = "channel")]
pub use changestream_sinks::{ChannelDelivery, ChannelReceiver, ChannelSink};
#[cfg(feature = "http")]
pub use changestream_sinks::{HttpSink, WebhookError, WebhookKey};
pub use {bson, mongodb};

/// The handlers for [`RuntimeBuilder::handlers`]: a list of functions annotated with `#[on_change(..)]`.
///
/// # Example
///
/// ```
/// use changestream::prelude::*;
///
/// #[on_change(coll = "orders", op = "delete")]
/// async fn order_deleted(key: DocumentKey) -> Result<(), HandlerError> {
///     Ok(())
/// }
///
/// let handlers: Vec<HandlerSpec<()>> = handlers![order_deleted];
/// assert_eq!(handlers[0].name(), "order_deleted");
/// ```
#[macro_export]
macro_rules! handlers {
    ($($handler:ty),* $(,)?) => {
        ::std::vec![$(<$handler>::spec()),*]
    };
}

/// What most applications use.
pub mod prelude {
    #[cfg(feature = "http")]
    pub use crate::HttpSink;
    #[cfg(feature = "redis")]
    pub use crate::RedisSink;
    #[cfg(feature = "macros")]
    pub use crate::on_change;
    pub use crate::{
        Attempt, Change, ClusterTime, DocumentKey, EventId, FromChange, FullDocument, HandlerError,
        HandlerSpec, Message, Namespace, Operation, PreImage, RawChange, Rejection, ResumeToken,
        Runtime, SinkSpec, Snapshot, State, Transaction, UpdateDescription, handlers,
        shutdown_signal,
    };
}

#[cfg(all(doctest, feature = "http"))]
#[doc = include_str!("../README.md")]
struct Readme;

#[cfg(all(doctest, feature = "http"))]
#[doc = include_str!("../docs/sinks/http.md")]
struct HttpSinkPage;

#[cfg(all(doctest, feature = "channel"))]
#[doc = include_str!("../docs/sinks/channel.md")]
struct ChannelSinkPage;

#[cfg(all(doctest, feature = "http"))]
#[doc = include_str!("../docs/routing.md")]
struct RoutingPage;

#[cfg(all(doctest, feature = "cloudevents", feature = "http"))]
#[doc = include_str!("../docs/sinks/cloudevents.md")]
struct CloudEventsPage;

#[cfg(all(doctest, feature = "nats"))]
#[doc = include_str!("../docs/sinks/nats.md")]
struct NatsSinkPage;

#[cfg(all(doctest, feature = "stdout"))]
#[doc = include_str!("../docs/sinks/stdout.md")]
struct StdoutSinkPage;

#[cfg(all(doctest, feature = "mongodb"))]
#[doc = include_str!("../docs/sinks/mongodb.md")]
struct MongoSinkPage;

#[cfg(all(doctest, feature = "kafka"))]
#[doc = include_str!("../docs/sinks/kafka.md")]
struct KafkaSinkPage;

#[cfg(all(doctest, feature = "redis"))]
#[doc = include_str!("../docs/sinks/redis.md")]
struct RedisSinkPage;
