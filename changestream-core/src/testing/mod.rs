//! Runs real handlers, layers and sinks with no server: for the tests of applications and of sinks.
//!
//! The feature `testing` enables it, together with tokio's `test-util`, so that in a
//! `#[tokio::test(start_paused = true)]` backoffs and timeouts pass at once.
//!
//! # Example
//!
//! ```
//! use changestream_core::{
//!     FullDocument, HandlerError, HandlerSpec,
//!     testing::{RecordingSink, TestRuntime, change},
//! };
//! use serde::{Deserialize, Serialize};
//!
//! #[derive(Serialize, Deserialize)]
//! struct Order {
//!     status: String,
//! }
//!
//! async fn shipped(FullDocument(order): FullDocument<Order>) -> Result<String, HandlerError> {
//!     Ok(order.status)
//! }
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), changestream_core::Error> {
//! let sink = RecordingSink::default();
//! let mut runtime = TestRuntime::builder()
//!     .handlers([HandlerSpec::new("shipped", shipped)
//!         .collections(["orders"])
//!         .fields(["status"])
//!         .to(["fulfillment"])])
//!     .sink("fulfillment", sink.clone())
//!     .build()?;
//!
//! let order = Order { status: "shipped".into() };
//! let update = change::update("orders").id(1).set("status", "shipped").full_document(&order);
//! let report = runtime.send(update).await;
//!
//! assert_eq!(report.handled(), ["shipped"]);
//! assert_eq!(&sink.deliveries()[0].message().payload()[..], br#""shipped""#);
//! # Ok(())
//! # }
//! ```

pub mod change;
pub mod conformance;
mod recording_sink;
mod runtime;

pub use recording_sink::{RecordingSink, delivery, delivery_of, service};
pub use runtime::{NoServer, Report, TestRuntime};
