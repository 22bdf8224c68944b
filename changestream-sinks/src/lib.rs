//! The sinks of [`changestream`](https://docs.rs/changestream), one feature each: where handlers send their
//! messages. Applications depend on `changestream`, which re-exports them.

#[cfg(feature = "channel")]
mod channel;
#[cfg(feature = "http")]
mod http;
#[cfg(feature = "routes")]
pub mod routes;

#[cfg(feature = "channel")]
pub use channel::{ChannelDelivery, ChannelReceiver, ChannelSink};
#[cfg(feature = "http")]
pub use http::{HttpSink, WebhookError, WebhookKey};
