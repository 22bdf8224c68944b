//! What is refused when it is set.

use changestream_sinks::CloudEvents;

#[test]
fn a_source_is_a_uri_reference() {
    for source in [
        "/shop/orders",
        "shop",
        "//shop.example/a",
        "https://shop.example:443/a?b#c",
        "urn:uuid:6e8bc430-9c3a-11d9-9669-0800200c9a66",
        "mailto:orders@shop.example",
        "/a%20b",
        "https://[2001:db8::1]/",
        "#a",
    ] {
        assert!(CloudEvents::structured().source(source).is_ok(), "{source}");
    }
    for source in [
        "",
        " ",
        "a b",
        "/a\n",
        "/%",
        "/%2",
        "/%zz",
        "/\u{eb}",
        "1a:b",
        ":a",
        "http://[::1",
        "a#b#c",
        "/\"a\"",
        "<a>",
        "http://a:b/",
    ] {
        let error = CloudEvents::structured().source(source).expect_err(source);
        assert!(error.is_configuration());
        assert_eq!(
            error.to_string(),
            format!(
                "the source {source:?} of CloudEvents is no URI-reference; write it like `https://shop.example/orders` or \
                 `/shop/orders`, other characters percent-encoded"
            )
        );
    }
}

#[test]
fn a_type_is_a_template() {
    let error = CloudEvents::structured()
        .event_type("shop.{orders}")
        .expect_err("no value");
    assert!(error.is_configuration());
    assert!(
        error
            .to_string()
            .starts_with("the template `shop.{orders}`: `orders` is nothing of a delivery"),
        "{error}"
    );
}
