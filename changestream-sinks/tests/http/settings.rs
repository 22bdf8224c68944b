//! What is refused when a sink is made, and what it shows of itself.

use changestream_core::Error;
use changestream_sinks::{HttpSink, WebhookKey};

#[track_caller]
fn refused(result: Result<HttpSink, Error>) -> String {
    let error = result.expect_err("refused");
    assert!(error.is_configuration());
    error.to_string()
}

#[test]
fn a_url_without_its_scheme_is_refused() {
    let message =
        "the URL of an HTTP sink does not start with `http://` or `https://`; write it whole";
    for url in [
        "",
        "shop.internal/events",
        "localhost:8080/events",
        "/events",
        "ftp://shop.internal/",
        "mongodb://user:s3cret@shop.internal/",
        "file:///etc/passwd",
    ] {
        assert_eq!(refused(HttpSink::new(url)), message, "{url}");
    }
}

#[test]
fn a_url_that_is_not_valid_is_refused() {
    for (url, problem) in [
        ("http://", "empty host"),
        ("https://?q=1", "empty host"),
        ("http://shop.internal:99999/", "invalid port number"),
        ("http://shop.internal:port/", "invalid port number"),
        ("http://[::1/", "invalid IPv6 address"),
        ("http://shop internal/", "invalid international domain name"),
    ] {
        let message = format!("the URL of an HTTP sink is not valid: {problem}");
        assert_eq!(refused(HttpSink::new(url)), message, "{url}");
    }
}

#[test]
fn credentials_in_a_url_are_refused_and_not_shown() {
    let message = "the URL of an HTTP sink carries a user name or password; send them with \
                   `.header(\"Authorization\", ..)`";
    for url in [
        "http://user:s3cret@shop.internal/",
        "https://token@shop.internal/",
        "http://:s3cret@shop.internal/",
    ] {
        assert_eq!(refused(HttpSink::new(url)), message, "{url}");
    }
}

#[test]
fn a_header_that_is_not_valid_is_refused() {
    let sink = HttpSink::new("http://shop.internal/").unwrap();
    for (name, value, message) in [
        ("", "1", r#""" is not a valid name of an HTTP header"#),
        (
            "X-A:",
            "1",
            r#""X-A:" is not a valid name of an HTTP header"#,
        ),
        (
            "Authorization",
            "Bearer s3cret\n",
            "the value of the HTTP header `authorization` has control characters",
        ),
        (
            "Content-Length",
            "1",
            "the HTTP sink sets the header `Content-Length` itself; remove it",
        ),
    ] {
        assert_eq!(refused(sink.clone().header(name, value)), message);
    }
    assert_eq!(
        refused(sink.source("shop\r\n")),
        "the source of an HTTP sink has control characters; remove them"
    );
}

#[test]
fn debug_shows_no_secret() {
    let sink = HttpSink::new("http://shop.internal:81/events?key=s3cret")
        .and_then(|sink| sink.header("Authorization", "Bearer s3cret"))
        .unwrap()
        .sign_with(WebhookKey::new("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").unwrap());
    assert_eq!(
        format!("{sink:?}"),
        r#"HttpSink { host: "shop.internal:81", source: None, headers: ["authorization"], keys: 1, .. }"#
    );
}
