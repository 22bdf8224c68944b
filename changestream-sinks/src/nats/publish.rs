//! One message, and what the server says to it.

use std::sync::atomic::Ordering::Relaxed;

use async_nats::{
    Client, HeaderMap, PublishErrorKind, Request, RequestError, RequestErrorKind,
    jetstream::{ErrorCode, publish::PublishAck, response::Response},
};
use changestream_core::{Delivery, HandlerError};
use tokio::{select, time::timeout};

use super::{Mode, NatsSink, failure::Failure, header};

/// Sends a delivery, and waits until the server has it.
pub(super) async fn deliver(sink: &NatsSink, delivery: &Delivery) -> Result<(), HandlerError> {
    let subject = sink.subject.render(delivery)?;
    let headers = header::of(
        delivery,
        sink.source.as_ref(),
        sink.expected_stream.as_ref(),
    );
    let headers = headers.map_err(HandlerError::reject)?;
    let (client, mut since) = sink.connection.get(delivery.runtime()).await?;
    let attempt = Attempt { sink, client };
    let sending = async {
        match sink.mode {
            Mode::JetStream => attempt.store(subject, headers, delivery).await,
            Mode::Core => attempt.publish(subject, headers, delivery).await,
        }
    };
    select! {
        biased;
        sent = timeout(sink.ack_timeout, sending) => {
            sent.unwrap_or_else(|_elapsed| Err(attempt.no_answer(since.was_refused())))
        }
        () = since.lost() => Err(attempt.lost()),
    }
}

struct Attempt<'a> {
    sink: &'a NatsSink,
    client: &'a Client,
}

impl Attempt<'_> {
    /// To a stream, which acknowledges what it has stored.
    async fn store(
        &self,
        subject: String,
        headers: HeaderMap,
        delivery: &Delivery,
    ) -> Result<(), HandlerError> {
        let request = Request::new()
            .headers(headers)
            .payload(delivery.message().payload().clone())
            .timeout(None);
        let answer = self.client.send_request(subject, request).await;
        let answer = answer.map_err(|error| self.not_stored(error))?;
        match serde_json::from_slice(&answer.payload) {
            Ok(Response::Ok(PublishAck { .. })) => Ok(()),
            Ok(Response::Err { error }) => {
                let message = format!("the stream at `{}` did not take the message", self.hosts());
                Err(match error.error_code() {
                    ErrorCode::STREAM_MESSAGE_EXCEEDS_MAXIMUM
                    | ErrorCode::STREAM_HEADER_EXCEEDS_MAXIMUM => Failure::reject(message, error),
                    _ => Failure::retry(message, error),
                })
            }
            Err(_) => Err(HandlerError::retry(format!(
                "what answers at `{}` for the subject `{}` is no stream",
                self.hosts(),
                self.template()
            ))),
        }
    }

    /// To whoever subscribes at this moment.
    ///
    /// The server works off a connection in order and says at once that nobody answers at an address that is new: it
    /// has the message then, where both went through one connection.
    async fn publish(
        &self,
        subject: String,
        headers: HeaderMap,
        delivery: &Delivery,
    ) -> Result<(), HandlerError> {
        let connects = || self.client.statistics().connects.load(Relaxed);
        let connection = connects();
        let payload = delivery.message().payload().clone();
        let published = self.client.publish_with_headers(subject, headers, payload);
        published.await.map_err(|error| match error.kind() {
            PublishErrorKind::MaxPayloadExceeded => self.too_large(),
            PublishErrorKind::InvalidSubject => HandlerError::reject(error.to_string()),
            PublishErrorKind::Send => self.lost(),
        })?;
        let question = Request::new().timeout(None);
        let asked = self.client.send_request(self.client.new_inbox(), question);
        match asked.await {
            Err(error) if error.kind() != RequestErrorKind::NoResponders => {
                Err(self.not_stored(error))
            }
            _ if connects() != connection => Err(self.lost()),
            _ => Ok(()),
        }
    }

    fn not_stored(&self, error: RequestError) -> HandlerError {
        match error.kind() {
            RequestErrorKind::NoResponders => HandlerError::retry(format!(
                "no stream takes the subject `{}` at `{}`; create one",
                self.template(),
                self.hosts()
            )),
            RequestErrorKind::MaxPayloadExceeded => self.too_large(),
            RequestErrorKind::InvalidSubject => HandlerError::reject(error.to_string()),
            RequestErrorKind::TimedOut | RequestErrorKind::Other => self.lost(),
        }
    }

    fn too_large(&self) -> HandlerError {
        HandlerError::reject(format!(
            "the message, its headers included, is larger than the {} bytes that `{}` takes",
            self.client.max_payload(),
            self.hosts()
        ))
    }

    fn lost(&self) -> HandlerError {
        HandlerError::retry(format!(
            "the connection to `{}` was lost before the message was acknowledged",
            self.hosts()
        ))
    }

    fn no_answer(&self, was_refused: bool) -> HandlerError {
        let hosts = self.hosts();
        let within = self.sink.ack_timeout;
        let rights = match self.sink.mode {
            Mode::JetStream => "",
            Mode::Core => " and to `_INBOX.>`",
        };
        HandlerError::retry(match was_refused {
            true => format!(
                "`{hosts}` refuses the sink's user a right: let it publish to `{}`{rights}, and subscribe to `_INBOX.>`",
                self.template()
            ),
            false => format!("no acknowledgement from `{hosts}` within {within:?}"),
        })
    }

    fn hosts(&self) -> &str {
        &self.sink.connection.servers.hosts
    }

    fn template(&self) -> String {
        self.sink.subject.template().to_string()
    }
}
