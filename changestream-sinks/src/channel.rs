use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll},
};

use changestream_core::{Delivery, HandlerError};
use tokio::sync::{mpsc, oneshot};
use tower::Service;

/// Hands each message to another task of this process, and counts it as delivered when that has acknowledged it.
///
/// The channel has room for as many messages as it is made for, and a full one holds its senders back. As long as
/// nobody receives, because the [`ChannelReceiver`] was dropped, the sink is
/// [down](changestream_core::OnSinkDown).
///
/// # Example
///
/// ```
/// use changestream_sinks::ChannelSink;
///
/// let (sink, mut receiver) = ChannelSink::new(16);
/// let index = async move {
///     while let Some(received) = receiver.recv().await {
///         println!("{}: {} bytes", received.delivery().id(), received.delivery().message().payload().len());
///         received.acknowledge();
///     }
/// };
/// # drop((sink, index));
/// ```
#[derive(Clone, Debug)]
pub struct ChannelSink {
    sender: mpsc::Sender<ChannelDelivery>,
}

/// The receiving end of a [`ChannelSink`].
#[derive(Debug)]
pub struct ChannelReceiver {
    receiver: mpsc::Receiver<ChannelDelivery>,
}

/// A message that was received and is not delivered until it is [acknowledged](Self::acknowledge).
///
/// Dropped without an answer, it is sent again as the sink's retries say, like one that [failed](Self::fail).
#[derive(Debug)]
pub struct ChannelDelivery {
    delivery: Delivery,
    answer: oneshot::Sender<Result<(), HandlerError>>,
}

impl ChannelSink {
    /// A sink and its receiver, with room for `capacity` messages between them.
    ///
    /// # Panics
    ///
    /// When `capacity` is 0.
    pub fn new(capacity: usize) -> (Self, ChannelReceiver) {
        let (sender, receiver) = mpsc::channel(capacity);
        (Self { sender }, ChannelReceiver { receiver })
    }
}

impl ChannelReceiver {
    /// The next message; `None` when the sink and all its clones are gone, with the runtime that had them.
    pub async fn recv(&mut self) -> Option<ChannelDelivery> {
        self.receiver.recv().await
    }
}

impl ChannelDelivery {
    /// The message, and what it is about.
    pub fn delivery(&self) -> &Delivery {
        &self.delivery
    }

    /// Counts it as delivered.
    pub fn acknowledge(self) {
        // Where nobody waits for it any more, it comes again.
        self.answer.send(Ok(())).ok();
    }

    /// Counts this attempt as failed; `error` says what happens next, as a handler's does.
    pub fn fail(self, error: HandlerError) {
        self.answer.send(Err(error)).ok();
    }
}

impl Service<Delivery> for ChannelSink {
    type Response = ();
    type Error = HandlerError;
    type Future = Pin<Box<dyn Future<Output = Result<(), HandlerError>> + Send>>;

    fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), HandlerError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, delivery: Delivery) -> Self::Future {
        let sender = self.sender.clone();
        Box::pin(async move {
            let (answer, answered) = oneshot::channel();
            let received = ChannelDelivery { delivery, answer };
            if sender.send(received).await.is_err() {
                return Err(HandlerError::retry("nobody receives from the channel"));
            }
            answered
                .await
                .unwrap_or_else(|_dropped| Err(HandlerError::retry("dropped without an answer")))
        })
    }
}
