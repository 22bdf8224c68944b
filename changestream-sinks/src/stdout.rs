use std::{
    collections::BTreeMap,
    fmt,
    future::Future,
    io::{self, ErrorKind, Write},
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll},
};

use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use changestream_core::{Delivery, HandlerError, Message};
use serde::{Serialize, de::IgnoredAny};
use tokio::{sync::Semaphore, task::spawn_blocking};
use tower::Service;

/// Writes each message as one line of JSON to the standard output, for people and for the next program of a pipe.
///
/// ```json
/// {"id":"82..b1/order_stored/0","event_id":"82..b1","handler":"order_stored","key":"7","headers":{},
///  "content_type":"application/json","payload":{"total":9.5}}
/// ```
///
/// That is one line. `id` is [`Delivery::id`], the same on every attempt and after every restart, and `key` is null where
/// there is none. `payload` is the payload itself where it is JSON and its content type says so, and a string where it is
/// other text; what is not text is in `payload_base64` instead.
///
/// A message is delivered when its line is written: whether anybody reads it, nobody says. Lines are written one at a
/// time and never mix, with each other or with what `println!` writes.
///
/// # Example
///
/// ```
/// use changestream_sinks::StdoutSink;
///
/// let sink = StdoutSink::default();
/// let payloads = StdoutSink::default().payload_only();
/// # drop((sink, payloads));
/// ```
#[derive(Clone)]
pub struct StdoutSink {
    output: Arc<Mutex<Output>>,
    /// One line is written at a time, and the next one waits without a thread.
    writing: Arc<Semaphore>,
    payload_only: bool,
}

struct Output {
    writer: Box<dyn Write + Send>,
    /// The last line may have been written in part.
    is_torn: bool,
}

#[derive(Debug, thiserror::Error)]
#[error("a line cannot be written{}", match source.kind() {
    ErrorKind::BrokenPipe => ": nobody reads any more",
    _ => "",
})]
struct WriteError {
    source: io::Error,
}

impl StdoutSink {
    /// A sink that writes its lines elsewhere: to a file, or to memory for a test.
    ///
    /// Each line is one [`write_all`](Write::write_all) and a [`flush`](Write::flush) on a thread that may block.
    pub fn to(writer: impl Write + Send + 'static) -> Self {
        Self {
            output: Arc::new(Mutex::new(Output {
                writer: Box::new(writer),
                is_torn: false,
            })),
            writing: Arc::new(Semaphore::new(1)),
            payload_only: false,
        }
    }

    /// Writes the payloads alone, a line each. JSON has no line breaks then; another payload that has some is rejected.
    #[must_use]
    pub fn payload_only(mut self) -> Self {
        self.payload_only = true;
        self
    }

    fn line(&self, delivery: &Delivery) -> Result<Vec<u8>, HandlerError> {
        let mut line = match self.payload_only {
            true => payload(delivery.message())?,
            false => envelope(delivery).map_err(HandlerError::reject)?,
        };
        line.push(b'\n');
        Ok(line)
    }
}

/// To the standard output.
impl Default for StdoutSink {
    fn default() -> Self {
        Self::to(io::stdout())
    }
}

/// A payload as a line.
fn payload(message: &Message) -> Result<Vec<u8>, HandlerError> {
    let payload = message.payload();
    if let Some(json) = json(message) {
        return Ok(json.into_bytes());
    }
    match payload.iter().any(|byte| matches!(byte, b'\n' | b'\r')) {
        true => Err(HandlerError::reject(
            "the payload has line breaks and is no JSON: it cannot be a line; leave out `payload_only()`",
        )),
        false => Ok(payload.to_vec()),
    }
}

fn envelope(delivery: &Delivery) -> serde_json::Result<Vec<u8>> {
    #[derive(Serialize)]
    struct Envelope<'a> {
        id: String,
        event_id: String,
        handler: &'a str,
        key: Option<&'a str>,
        headers: &'a BTreeMap<String, String>,
        content_type: &'a str,
    }
    let message = delivery.message();
    let mut line = serde_json::to_vec(&Envelope {
        id: delivery.id(),
        event_id: delivery.event_id().to_string(),
        handler: delivery.handler(),
        key: message.get_key(),
        headers: message.headers(),
        content_type: message.content_type(),
    })?;
    // JSON goes in as it is, which no serializer does.
    line.pop();
    let (name, value) = match (json(message), std::str::from_utf8(message.payload())) {
        (Some(json), _) => ("payload", json),
        (None, Ok(text)) => ("payload", serde_json::to_string(text)?),
        (None, Err(_)) => (
            "payload_base64",
            serde_json::to_string(&BASE64.encode(message.payload()))?,
        ),
    };
    write!(line, ",\"{name}\":{value}}}").map_err(serde_json::Error::io)?;
    Ok(line)
}

/// The payload in one line, where it is the JSON that it says it is.
fn json(message: &Message) -> Option<String> {
    let essence = message.content_type().split(';').next()?.trim();
    let essence = essence.to_ascii_lowercase();
    if essence != "application/json" && !essence.ends_with("+json") {
        return None;
    }
    let text = std::str::from_utf8(message.payload()).ok()?;
    serde_json::from_str::<IgnoredAny>(text).ok()?;
    // In JSON, line breaks stand between tokens only.
    Some(text.replace(['\n', '\r'], " "))
}

impl Output {
    fn write(&mut self, mut line: Vec<u8>) -> io::Result<()> {
        if self.is_torn {
            line.insert(0, b'\n');
        }
        self.is_torn = true;
        self.writer.write_all(&line)?;
        self.writer.flush()?;
        self.is_torn = false;
        Ok(())
    }
}

impl Service<Delivery> for StdoutSink {
    type Response = ();
    type Error = HandlerError;
    type Future = Pin<Box<dyn Future<Output = Result<(), HandlerError>> + Send>>;

    fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), HandlerError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, delivery: Delivery) -> Self::Future {
        let sink = self.clone();
        Box::pin(async move {
            let line = sink.line(&delivery)?;
            let permit = Arc::clone(&sink.writing).acquire_owned().await;
            let written = spawn_blocking(move || {
                let _permit = permit;
                let mut output = sink.output.lock().unwrap_or_else(PoisonError::into_inner);
                output.write(line)
            });
            let written = written.await.map_err(HandlerError::retry)?;
            written.map_err(|source| HandlerError::retry(WriteError { source }))
        })
    }
}

impl fmt::Debug for StdoutSink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StdoutSink")
            .field("payload_only", &self.payload_only)
            .finish_non_exhaustive()
    }
}
