//! What the receiver's answer leads to.

use std::time::{Duration, Instant, SystemTime};

use axum::{http::StatusCode, response::IntoResponse};
use changestream_core::{
    Disposition, FailureKind, HandlerError, HandlerSpec, SinkSpec,
    testing::{TestRuntime, change, delivery},
};
use changestream_sinks::HttpSink;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
};

use crate::{assert_error, chain, receiver::Receiver, send, text};

async fn answered(
    answer: impl IntoResponse + Clone + Send + Sync + 'static,
) -> Result<(), HandlerError> {
    let receiver = Receiver::start(move |_| answer.clone()).await;
    let sink = HttpSink::new(receiver.url("/events")).unwrap();
    let result = send(&sink, delivery(text("m"))).await;
    receiver.single();
    result.map_err(|error| {
        let hidden = error.to_string().replace(&receiver.address(), "host");
        match error.disposition() {
            Disposition::Reject => HandlerError::reject(hidden),
            Disposition::RetryAfter(pause) => HandlerError::retry_after(pause, hidden),
            _ => HandlerError::retry(hidden),
        }
    })
}

fn status(code: u16) -> StatusCode {
    StatusCode::from_u16(code).expect("a status")
}

#[tokio::test]
async fn any_2xx_is_delivery() {
    for code in [200, 201, 202, 204, 299] {
        answered(status(code)).await.unwrap();
    }
}

#[tokio::test]
async fn a_receiver_that_is_gone_gets_nothing_more() {
    let receiver = Receiver::start(|_| StatusCode::GONE).await;
    let sink = HttpSink::new(receiver.url("/events")).unwrap();
    let host = receiver.address();
    let message =
        format!("`{host}` answered 410 Gone; nothing is sent to it until this process starts anew");
    for _ in 0..3 {
        // Clones are one sink.
        let result = send(&sink.clone(), delivery(text("m"))).await;
        assert_error(result, Disposition::Reject, &message);
    }
    receiver.single();
}

#[tokio::test]
async fn what_may_pass_is_retried() {
    for (code, message) in [
        (408, "`host` answered 408 Request Timeout"),
        (425, "`host` answered 425 Too Early"),
        (429, "`host` answered 429 Too Many Requests"),
        (500, "`host` answered 500 Internal Server Error"),
        (502, "`host` answered 502 Bad Gateway"),
        (503, "`host` answered 503 Service Unavailable"),
        (599, "`host` answered 599 <unknown status code>"),
    ] {
        assert_error(answered(status(code)).await, Disposition::Retry, message);
    }
}

#[tokio::test]
async fn what_will_not_pass_is_rejected() {
    for (code, message) in [
        (400, "`host` answered 400 Bad Request"),
        (401, "`host` answered 401 Unauthorized"),
        (404, "`host` answered 404 Not Found"),
        (422, "`host` answered 422 Unprocessable Entity"),
    ] {
        assert_error(answered(status(code)).await, Disposition::Reject, message);
    }
}

#[tokio::test]
async fn a_receiver_can_ask_for_a_pause() {
    for code in [429, 503] {
        let error = answered((status(code), [("Retry-After", "7")]))
            .await
            .unwrap_err();
        let pause = Duration::from_secs(7);
        assert_eq!(error.disposition(), Disposition::RetryAfter(pause));
    }
    let date = httpdate::fmt_http_date(SystemTime::now() + Duration::from_secs(20));
    let error = answered((status(429), [("Retry-After", date)]))
        .await
        .unwrap_err();
    let Disposition::RetryAfter(pause) = error.disposition() else {
        panic!("no pause: {error:?}")
    };
    assert!((15..=20).contains(&pause.as_secs()), "{pause:?}");
    let error = answered((status(500), [("Retry-After", "7")]))
        .await
        .unwrap_err();
    assert_eq!(error.disposition(), Disposition::Retry);
}

#[tokio::test]
async fn a_redirect_is_not_followed() {
    let target = Receiver::start(|_| StatusCode::OK).await;
    for code in [301, 302, 303, 307, 308] {
        let location = target.url("/elsewhere");
        let result = answered((status(code), [("Location", location)])).await;
        let message = format!(
            "`host` answered {}; redirects are not followed: give the sink the final URL",
            status(code)
        );
        assert_error(result, Disposition::Reject, &message);
    }
    assert!(target.received().is_empty());
}

#[tokio::test]
async fn a_refused_connection_is_retried() {
    let free = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = free.local_addr().unwrap();
    drop(free);
    let sink = HttpSink::new(format!("http://{address}/secret-path?key=s3cret")).unwrap();
    let error = send(&sink, delivery(text("payload"))).await.unwrap_err();
    assert_eq!(error.disposition(), Disposition::Retry);
    assert_eq!(error.kind(), FailureKind::Unavailable);
    assert_eq!(error.to_string(), format!("no connection to `{address}`"));
    let chain = chain(&error);
    assert!(chain.contains("Connection refused"), "{chain}");
    for secret in ["secret-path", "s3cret", "payload"] {
        assert!(!chain.contains(secret), "{chain}");
    }
}

#[tokio::test]
async fn a_connection_that_is_cut_is_retried() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let server = tokio::spawn(async move { drop(listener.accept().await) });
    let sink = HttpSink::new(format!("http://{address}/")).unwrap();
    let result = send(&sink, delivery(text("m"))).await;
    assert_error(
        result,
        Disposition::Retry,
        &format!("no answer from `{address}`"),
    );
    server.await.unwrap();
}

#[tokio::test]
async fn delivery_does_not_wait_for_the_rest_of_an_answer() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let server = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut request = [0; 4096];
        assert_ne!(stream.read(&mut request).await.unwrap(), 0);
        let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nthe rest never comes";
        stream.write_all(answer).await.unwrap();
        while stream.read(&mut request).await.unwrap() > 0 {}
    });
    let sink = HttpSink::new(format!("http://{address}/")).unwrap();
    let started = Instant::now();
    send(&sink, delivery(text("m"))).await.unwrap();
    assert!(started.elapsed() < Duration::from_secs(20));
    server.await.unwrap();
}

#[tokio::test]
async fn a_large_answer_is_not_read() {
    answered(vec![b'x'; 10_000_000]).await.unwrap();
}

async fn stored() -> Result<String, HandlerError> {
    Ok("stored".to_owned())
}

fn runtime(sink: SinkSpec) -> TestRuntime {
    TestRuntime::builder()
        .handlers([HandlerSpec::new("stored", stored).to(["orders"])])
        .sink("orders", sink.backoff(Duration::from_millis(1)))
        .build()
        .unwrap()
}

#[tokio::test]
async fn attempts_share_their_id_until_one_succeeds() {
    let receiver = Receiver::start(|index| match index {
        0 => StatusCode::SERVICE_UNAVAILABLE,
        1 => StatusCode::INTERNAL_SERVER_ERROR,
        _ => StatusCode::NO_CONTENT,
    })
    .await;
    let mut runtime = runtime(HttpSink::new(receiver.url("/")).unwrap().into());
    let report = runtime.send(change::insert("orders")).await;
    assert_eq!(report.handled(), ["stored"]);
    let received = receiver.received();
    assert_eq!(received.len(), 3);
    for request in &received {
        assert_eq!(
            request.header("Idempotency-Key"),
            received[0].header("Idempotency-Key")
        );
    }
}

#[tokio::test]
async fn what_is_rejected_is_a_dead_letter_at_once() {
    let receiver = Receiver::start(|_| StatusCode::NOT_FOUND).await;
    let mut runtime = runtime(HttpSink::new(receiver.url("/")).unwrap().into());
    let report = runtime.send(change::insert("orders")).await;
    assert_eq!(report.dead_lettered(), ["stored"]);
    receiver.single();
    let letter = runtime.dead_letters().remove(0);
    assert_eq!(letter.sink(), Some("orders"));
    assert_eq!(
        letter.error(),
        [format!("`{}` answered 404 Not Found", receiver.address())]
    );
}

#[tokio::test]
async fn a_slow_receiver_is_given_up_and_retried() {
    let slow = Duration::from_secs(30);
    let receiver = Receiver::start_slow(slow, |_| StatusCode::OK).await;
    let sink = SinkSpec::new(HttpSink::new(receiver.url("/")).unwrap())
        .timeout(Duration::from_millis(50))
        .retries(2);
    let mut runtime = runtime(sink);
    let started = Instant::now();
    let report = runtime.send(change::insert("orders")).await;
    assert_eq!(report.dead_lettered(), ["stored"]);
    assert_eq!(receiver.received().len(), 3);
    assert_eq!(runtime.dead_letters()[0].kind(), "timeout");
    assert!(started.elapsed() < slow / 2);
}
