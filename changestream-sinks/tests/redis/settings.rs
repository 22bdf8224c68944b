//! What is refused when a sink is made, and what it shows of itself.

use std::time::Duration;

use changestream_core::Error;
use changestream_sinks::RedisSink;

#[track_caller]
fn refused(result: Result<RedisSink, Error>) -> String {
    let error = result.expect_err("refused");
    assert!(error.is_configuration());
    error.to_string()
}

fn sink() -> RedisSink {
    RedisSink::new("redis://cache.internal").unwrap()
}

#[test]
fn a_url_that_leads_to_no_server_is_refused_without_being_shown() {
    for (url, problem) in [
        (
            "",
            "does not start with `redis://` or `rediss://`; write it whole",
        ),
        (
            "cache.internal:6379",
            "does not start with `redis://` or `rediss://`; write it whole",
        ),
        (
            "http://:s3cret@cache",
            "does not start with `redis://` or `rediss://`; write it whole",
        ),
        (
            "unix:///s3cret",
            "does not start with `redis://` or `rediss://`; write it whole",
        ),
        ("redis://", "names no host"),
        ("redis:///0", "names no host"),
        (
            "redis://:s3cret@cache:port",
            "is not valid; write `redis://user:password@host:port/database`",
        ),
        (
            "redis://:s3cret@cache/zero",
            "ends in what is no number of a database; write `/0`",
        ),
        (
            "redis://:s3cret@cache/-1",
            "ends in what is no number of a database; write `/0`",
        ),
        (
            "redis://:s3cret@cache/0/1",
            "ends in what is no number of a database; write `/0`",
        ),
        (
            "rediss://:s3cret@cache/#insecure",
            "has a `?` or `#`; remove what they begin, or write them as `%3F` and `%23` in a password",
        ),
        (
            "redis://:s3#cret@cache",
            "has a `?` or `#`; remove what they begin, or write them as `%3F` and `%23` in a password",
        ),
        (
            "redis://:%ffs3cret@cache",
            "is not valid: Password is not valid UTF-8 string - InvalidClientConfig",
        ),
    ] {
        let message = format!("the URL of a Redis sink {problem}");
        assert_eq!(refused(RedisSink::new(url)), message, "{url}");
    }
}

#[test]
fn what_cannot_be_done_is_refused() {
    let no_keys: [&str; 0] = [];
    for (result, message) in [
        (
            sink().unlink(no_keys),
            "a Redis sink is to unlink no keys; name one, or remove `.unlink(..)`",
        ),
        (
            sink().unlink_matching("a:{key}"),
            "the pattern `a:{key}` matches one key; use `.unlink([..])`",
        ),
        (
            sink().max_len(0),
            "a stream of a Redis sink cannot keep 0 entries; say at least 1",
        ),
        (
            sink().ttl(Duration::from_micros(999)),
            "keys of a Redis sink cannot last for 999µs; say a millisecond to a thousand years",
        ),
        (
            sink().ttl(Duration::from_secs(1_000 * 365 * 24 * 3600 + 1)),
            "keys of a Redis sink cannot last for 31536000001s; say a millisecond to a thousand years",
        ),
    ] {
        assert_eq!(refused(result), message);
    }
    for result in [
        sink().unlink(["a", ""]),
        sink().unlink_matching("*{ke}"),
        sink().publish(""),
        sink().stream(""),
        sink().set("{documentKey._id}"),
        sink().hash("a}"),
    ] {
        assert!(refused(result).starts_with("the template `"));
    }
}

/// Outside of any runtime, too.
#[test]
fn debug_shows_no_secret() {
    let url = "redis://shop:s3cret@cache.internal:81/3";
    let sink = RedisSink::new(url).unwrap().set("p:{key}").unwrap();
    let shown = format!("{sink:?}");
    assert!(!shown.contains("s3cret"), "{shown}");
    assert!(
        shown.starts_with(
            r#"RedisSink { host: "cache.internal:81", is_encrypted: false, settings: "#
        ),
        "{shown}"
    );
    let sink = RedisSink::new("RedisS://[::1]").unwrap();
    assert!(
        format!("{sink:?}").starts_with(r#"RedisSink { host: "[::1]:6379", is_encrypted: true"#)
    );
}
