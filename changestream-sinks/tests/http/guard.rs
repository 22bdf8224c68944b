//! Where a sink does not connect to that is for public addresses only.

use axum::http::StatusCode;
use changestream_core::{Disposition, testing::delivery};
use changestream_sinks::HttpSink;

use crate::{assert_error, receiver::Receiver, send, text};

#[test]
fn a_url_that_names_another_address_is_refused() {
    for url in [
        "http://127.0.0.1:8080/",
        "http://10.0.0.1/",
        "http://169.254.169.254/latest/meta-data/",
        "http://2130706433/",
        "https://[::1]/",
        "https://[::ffff:192.168.0.1]/",
    ] {
        let sink = HttpSink::new(url).unwrap();
        let error = sink.public_only().expect_err(url);
        assert!(error.is_configuration());
        assert_eq!(
            error.to_string(),
            "the URL of an HTTP sink that is for public addresses only names another one"
        );
    }
}

#[tokio::test]
async fn a_name_that_leads_to_another_address_is_not_connected_to() {
    let receiver = Receiver::start(|_| StatusCode::OK).await;
    let url = receiver.url("/").replace("127.0.0.1", "localhost");
    let open = HttpSink::new(&url).unwrap();
    send(&open, delivery(text("m"))).await.unwrap();
    assert_eq!(receiver.received().len(), 1, "the name leads there");

    let guarded = open.public_only().unwrap();
    let host = receiver.address().replace("127.0.0.1", "localhost");
    let message = format!("`{host}` leads to no public address; nothing was sent");
    let result = send(&guarded, delivery(text("m"))).await;
    assert_error(result, Disposition::Reject, &message);
    assert_eq!(receiver.received().len(), 1);
}
