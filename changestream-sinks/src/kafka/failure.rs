//! What a failure means.

use changestream_core::HandlerError;
use rdkafka::error::RDKafkaErrorCode::{self, *};

use super::producer::Cause;

#[derive(Debug, thiserror::Error)]
#[error("{message}")]
struct SendError {
    message: String,
    source: Cause,
}

/// Whether it may be another record's fault: a broker takes or refuses a batch as a whole.
pub(super) fn is_of_a_batch(code: RDKafkaErrorCode) -> bool {
    matches!(
        code,
        MessageSizeTooLarge
            | MessageBatchTooLarge
            | InvalidMessageSize
            | InvalidRecord
            | InvalidTimestamp
            | UnsupportedForMessageFormat
            | PolicyViolation
    )
}

/// Whether it is the fault of records or of their topic: those of another may fare better.
pub(super) fn is_of_a_topic(code: RDKafkaErrorCode) -> bool {
    is_of_a_batch(code)
        || matches!(
            code,
            InvalidTopic
                | UnknownTopic
                | UnknownTopicOrPartition
                | UnknownTopicId
                | UnknownPartition
                | TopicAuthorizationFailed
        )
}

/// Why a record was not acknowledged, and what happens next.
pub(super) fn judge(brokers: &str, topic: &str, cause: Cause) -> HandlerError {
    let code = cause.code;
    let failed = |message: String| SendError {
        message,
        source: cause,
    };
    match code {
        MessageSizeTooLarge | MessageBatchTooLarge | InvalidMessageSize => {
            HandlerError::reject(failed(format!(
                "the message is too large for the topic `{topic}` of `{brokers}`; the bounds are `message.max.bytes` of \
                 the sink, 1,000,000 unless set, and `max.message.bytes` of the topic"
            )))
        }
        InvalidRecord | InvalidTimestamp | UnsupportedForMessageFormat | PolicyViolation => {
            HandlerError::reject(failed(format!(
                "`{brokers}` refused the message for the topic `{topic}`"
            )))
        }
        InvalidTopic => HandlerError::reject(failed(format!(
            "`{brokers}` refused the name of the topic `{topic}`"
        ))),
        UnknownTopic | UnknownTopicOrPartition | UnknownTopicId | UnknownPartition => {
            HandlerError::retry(failed(format!(
                "`{brokers}` has no topic `{topic}` and makes none by itself; create it"
            )))
        }
        TopicAuthorizationFailed | ClusterAuthorizationFailed => {
            HandlerError::retry(failed(format!(
                "the user of the sink may not write to the topic `{topic}` of `{brokers}`; grant it `Write`"
            )))
        }
        Fenced => HandlerError::unavailable(failed(format!(
            "another producer took over the `transactional.id` of the sink at `{brokers}`; each process, and each sink in \
             it, needs one of its own"
        ))),
        TransactionalIdAuthorizationFailed => HandlerError::retry(failed(format!(
            "the user of the sink may not use its `transactional.id` at `{brokers}`; grant it `Write` and `Describe`"
        ))),
        InvalidTransactionTimeout => HandlerError::retry(failed(format!(
            "`{brokers}` does not let a transaction take as long as `transaction.timeout.ms` of the sink; set it under the \
             brokers' `transaction.max.timeout.ms`"
        ))),
        Authentication | SaslAuthenticationFailed | UnsupportedSASLMechanism | IllegalSASLState => {
            HandlerError::unavailable(failed(format!("`{brokers}` refused the login")))
        }
        SSL => HandlerError::unavailable(failed(format!("no encrypted connection to `{brokers}`"))),
        BrokerTransportFailure | AllBrokersDown | Resolve => {
            HandlerError::unavailable(failed(format!("no connection to `{brokers}`")))
        }
        QueueFull => HandlerError::retry(failed(format!(
            "too much waits for `{brokers}` already; nothing was sent"
        ))),
        _ => HandlerError::retry(failed(format!(
            "no acknowledgement from `{brokers}` for the topic `{topic}`"
        ))),
    }
}
