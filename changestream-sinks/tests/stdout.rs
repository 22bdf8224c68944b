//! The sink of lines.

use std::{
    io::{self, Write},
    sync::{Arc, Condvar, Mutex},
    time::Duration,
};

use bytes::Bytes;
use changestream_core::{
    Delivery, Disposition, HandlerError, Message, SinkSpec,
    testing::{
        change,
        conformance::{Receiver, check},
        delivery, delivery_of,
    },
};
use changestream_sinks::StdoutSink;
use futures::future::join_all;
use serde_json::{Value, json};
use tokio::time::timeout;
use tower::ServiceExt;

/// What a sink has written, where it can.
#[derive(Clone, Default)]
struct Memory(Arc<Mutex<Inner>>);

#[derive(Default)]
struct Inner {
    written: Vec<u8>,
    is_closed: bool,
    /// How much is taken of the next line before it fails.
    tears_after: Option<usize>,
}

impl Memory {
    fn lines(&self) -> Vec<String> {
        let text = self.0.lock().unwrap().written.clone();
        let text = String::from_utf8(text).expect("text");
        assert!(text.is_empty() || text.ends_with('\n'), "{text}");
        text.lines().map(str::to_owned).collect()
    }
}

impl Write for Memory {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut inner = self.0.lock().unwrap();
        if inner.is_closed {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        if let Some(length) = inner.tears_after.take() {
            inner.is_closed = true;
            inner.written.extend(&bytes[..length]);
            return Ok(length);
        }
        // In small pieces, which would mix with those of others.
        let length = bytes.len().min(7);
        inner.written.extend(&bytes[..length]);
        Ok(length)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

async fn send(sink: &StdoutSink, delivery: Delivery) -> Result<(), HandlerError> {
    sink.clone().oneshot(delivery).await
}

fn text(text: &'static str) -> Message {
    Message::new(text, "text/plain")
}

fn parsed(line: &str) -> Value {
    serde_json::from_str(line).expect(line)
}

#[tokio::test]
async fn a_message_is_one_line() {
    let memory = Memory::default();
    let message = Message::json(&json!({ "sku": "A-1", "price": 9.5 })).unwrap();
    let delivery = delivery(message.key("A\n1").header("X-Customer", "Zoë \"1\""));
    let sink = StdoutSink::to(memory.clone());
    send(&sink, delivery.clone()).await.unwrap();
    let [line] = &memory.lines()[..] else {
        panic!("one line");
    };
    let event_id = delivery.event_id();
    assert_eq!(
        *line,
        format!(
            r#"{{"id":"{event_id}/handler/0","event_id":"{event_id}","handler":"handler","key":"A\n1","headers":{{"X-Customer":"Zoë \"1\""}},"content_type":"application/json","payload":{{"price":9.5,"sku":"A-1"}}}}"#
        )
    );
}

#[tokio::test]
async fn a_payload_is_what_its_content_type_says_if_it_is() {
    let memory = Memory::default();
    let sink = StdoutSink::to(memory.clone());
    let pretty = "{\r\n  \"z\": 1.50,\n  \"a\": \"b\\n\"\n}\n";
    for (payload, content_type, name, expected) in [
        (
            pretty.as_bytes(),
            "Application/JSON; charset=utf-8",
            "payload",
            json!({ "z": 1.5, "a": "b\n" }),
        ),
        (
            b"[1]",
            "application/cloudevents+json",
            "payload",
            json!([1]),
        ),
        (b"{\"a\":", "application/json", "payload", json!("{\"a\":")),
        (
            b"{\"a\":\"\xff\"}",
            "application/json",
            "payload_base64",
            json!("eyJhIjoi/yJ9"),
        ),
        (b"{}", "text/plain", "payload", json!("{}")),
        (b"a\nb", "text/plain", "payload", json!("a\nb")),
        (b"\xfb\xff", "text/plain", "payload_base64", json!("+/8=")),
        (b"", "application/json", "payload", json!("")),
    ] {
        let payload = Bytes::copy_from_slice(payload);
        send(&sink, delivery(Message::new(payload, content_type)))
            .await
            .unwrap();
        let lines = memory.lines();
        let line = parsed(lines.last().expect("a line"));
        assert_eq!(line[name], expected, "{line}");
        let names = ["payload", "payload_base64"];
        let there = names.iter().filter(|name| line.get(**name).is_some());
        assert_eq!(there.count(), 1, "{line}");
    }
    // A number stays as it was written.
    assert!(memory.lines()[0].contains(r#""z": 1.50,"#));
}

#[tokio::test]
async fn payloads_alone_are_lines_or_rejected() {
    let memory = Memory::default();
    let sink = StdoutSink::to(memory.clone()).payload_only();
    let json = |text: &'static str| Message::new(text, "application/json");
    for message in [json("{\n\"a\": 1\r\n}"), text("a b")] {
        send(&sink, delivery(message)).await.unwrap();
    }
    for message in [text("a\nb"), text("a\r"), json("{\"a\":\n")] {
        let error = send(&sink, delivery(message)).await.expect_err("refused");
        assert_eq!(error.disposition(), Disposition::Reject);
        assert_eq!(
            error.to_string(),
            "the payload has line breaks and is no JSON: it cannot be a line; leave out `payload_only()`"
        );
    }
    assert_eq!(memory.lines(), ["{ \"a\": 1  }", "a b"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn lines_do_not_mix() {
    const LINES: i64 = 500;
    let memory = Memory::default();
    let sink = StdoutSink::to(memory.clone());
    let sends = (0..LINES).map(|id| {
        let delivery = delivery_of(change::insert("orders").id(id), text("a message"));
        tokio::spawn(sink.clone().oneshot(delivery))
    });
    for sent in join_all(sends).await {
        sent.expect("no panic").unwrap();
    }
    let lines = memory.lines();
    assert_eq!(lines.len() as i64, LINES);
    for line in lines {
        assert_eq!(parsed(&line)["payload"], "a message");
    }
}

#[tokio::test]
async fn a_line_that_was_torn_spoils_no_other_one() {
    let memory = Memory::default();
    let sink = StdoutSink::to(memory.clone()).payload_only();
    memory.0.lock().unwrap().tears_after = Some(3);
    let delivery = delivery(text("first"));
    let error = send(&sink, delivery.clone()).await.expect_err("torn");
    assert_eq!(error.disposition(), Disposition::Retry);
    let message = "a line cannot be written: nobody reads any more";
    assert_eq!(error.to_string(), message);
    memory.0.lock().unwrap().is_closed = false;
    send(&sink, delivery.clone()).await.unwrap();
    send(&sink, delivery).await.unwrap();
    assert_eq!(memory.lines(), ["fir", "first", "first"]);
}

/// A writer that blocks until it is let go.
#[derive(Clone, Default)]
struct Stalled(Arc<(Mutex<bool>, Condvar)>);

impl Stalled {
    fn release(&self) {
        *self.0.0.lock().unwrap() = true;
        self.0.1.notify_all();
    }
}

impl Write for Stalled {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let is_free = self.0.0.lock().unwrap();
        drop(self.0.1.wait_while(is_free, |is_free| !*is_free).unwrap());
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// With one thread, the test itself would stand still.
#[tokio::test]
async fn who_does_not_read_holds_up_nothing_else() {
    let writer = Stalled::default();
    let sink = StdoutSink::to(writer.clone());
    let sends: Vec<_> = (0..100)
        .map(|_| tokio::spawn(sink.clone().oneshot(delivery(text("m")))))
        .collect();
    let all = join_all(sends);
    tokio::pin!(all);
    let waited = timeout(Duration::from_millis(200), &mut all).await;
    assert!(waited.is_err(), "none of them is written");
    writer.release();
    for sent in all.await {
        sent.expect("no panic").unwrap();
    }
}

impl Receiver for Memory {
    fn sink(&self) -> SinkSpec {
        StdoutSink::to(self.clone()).payload_only().into()
    }

    async fn received(&self) -> Vec<Bytes> {
        let lines = self.lines().into_iter();
        let payloads = lines.filter(|line| !line.is_empty()).map(Bytes::from);
        payloads.collect()
    }

    async fn stop(&self) {
        self.0.lock().unwrap().is_closed = true;
    }

    async fn start(&self) {
        self.0.lock().unwrap().is_closed = false;
    }
}

#[tokio::test]
async fn it_does_what_every_sink_must() {
    check(&Memory::default()).await;
}
