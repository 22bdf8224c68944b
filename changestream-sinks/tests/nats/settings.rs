//! What is refused when a sink is made, and what it shows of itself.

use changestream_core::Error;
use changestream_sinks::NatsSink;

#[track_caller]
fn refused(result: Result<NatsSink, Error>) -> String {
    let error = result.expect_err("refused");
    assert!(error.is_configuration());
    let text = format!("{error} {error:?}");
    assert!(!text.contains("s3cret"), "{text}");
    error.to_string()
}

#[test]
fn a_url_that_is_none_of_a_server_is_refused() {
    let scheme = "does not start with `nats://` or `tls://`; write it whole";
    let goes_on = "goes on after host and port; the subject is an argument of its own";
    for (url, problem) in [
        ("", scheme),
        ("nats.internal:4222", scheme),
        ("http://user:s3cret@nats.internal", scheme),
        ("ws://nats.internal", scheme),
        ("nats://a:4222,", scheme),
        ("nats://a,b:4222", scheme),
        ("nats://", "names no host"),
        ("nats://user:s3cret@", "is not valid"),
        ("nats://nats.internal:99999", "is not valid"),
        ("nats://nats internal", "is not valid"),
        ("nats://user:s3cret@nats.internal/shop.orders", goes_on),
        ("nats://nats.internal?token=s3cret", goes_on),
        (
            "nats://:s3cret@nats.internal",
            "carries a password without a user name",
        ),
        (
            "nats://%ff@nats.internal",
            "carries a login that is no text",
        ),
        (
            "nats://a:s3cret@one,nats://b:s3cret@two",
            "carries several logins; all servers take the same: write it once, or give it with `.user(..)` or \
             `.token(..)`",
        ),
    ] {
        let message = format!("the URL of a NATS sink {problem}");
        assert_eq!(refused(NatsSink::core(url, "shop")), message, "{url}");
        assert_eq!(refused(NatsSink::jetstream(url, "shop")), message, "{url}");
    }
}

#[test]
fn several_servers_are_one_cluster() {
    for url in [
        "nats://nats.internal",
        "NATS://[::1]:4222/",
        "tls://user:s3cret@one:4222, tls://user:s3cret@two:4223",
        "nats://s3cret@one,nats://two",
    ] {
        assert!(NatsSink::core(url, "shop").is_ok(), "{url}");
    }
}

#[test]
fn a_setting_that_is_not_valid_is_refused() {
    let sink = NatsSink::jetstream("nats://nats.internal", "shop").unwrap();
    let not_valid = "is not a valid name of a stream of NATS: it is empty, or holds white space, `.`, `*`, `>`, `/` or `\\`";
    for name in ["", "a.b", "a b", "*", "a>", "a/b", "a\\b", "a\0"] {
        let message = format!("{name:?} {not_valid}");
        assert_eq!(refused(sink.clone().expect_stream(name)), message);
    }
    assert_eq!(
        refused(sink.source("shop\r\n")),
        "the source of a NATS sink has control characters; remove them"
    );
    let core = NatsSink::core("nats://nats.internal", "shop").unwrap();
    assert_eq!(
        refused(core.expect_stream("SHOP")),
        "a sink of core NATS has no stream; make it with `NatsSink::jetstream(..)`"
    );
    assert_eq!(
        refused(NatsSink::core(
            "nats://s3cret@nats.internal",
            "shop.{collection}.*"
        )),
        "the subject `shop.{collection}.*` of a NATS sink holds a wildcard, white space or a control character; a \
         message has one subject"
    );
}

#[test]
fn debug_shows_no_secret() {
    let sink = NatsSink::jetstream("nats://user:s3cret@one:4222,tls://two", "shop.{key}").unwrap();
    let shown = r#"NatsSink { hosts: "one:4222, two", mode: JetStream, subject: Template("shop.{key}"), source: None, ack_timeout: 5s, .. }"#;
    assert_eq!(format!("{sink:?}"), shown);
    let sink = sink.token("s3cret").user("user", "s3cret");
    assert_eq!(format!("{:?}", sink.credentials_file("/s3cret")), shown);
}
