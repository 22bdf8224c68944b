//! Messages that cannot be events.

use changestream_core::{Message, testing::RecordingSink};
use changestream_sinks::CloudEvents;

use crate::{send, update};

fn modes() -> [CloudEvents; 4] {
    [
        CloudEvents::structured(),
        CloudEvents::http_binary(),
        CloudEvents::kafka_binary(),
        CloudEvents::nats_binary(),
    ]
}

/// The errors of the dead letter, of the first attempt and only one; nothing has come to the sink.
async fn rejected(events: CloudEvents, message: Message) -> Vec<String> {
    let sink = RecordingSink::default();
    let result = send(events.around(sink.clone()), update(), message).await;
    assert!(sink.deliveries().is_empty());
    result.expect_err("rejected")
}

#[tokio::test]
async fn what_says_that_it_is_json_and_is_not() {
    for payload in [
        "",
        "s3cret",
        r#"{"a":"s3cret"}x"#,
        r#"{"a": s3cret}"#,
        "\"s3cret",
        "NaN",
    ] {
        for content_type in ["application/json", "application/a+json; charset=utf-8"] {
            let errors = rejected(
                CloudEvents::structured(),
                Message::new(payload, content_type),
            )
            .await;
            assert_eq!(
                errors[0],
                "no CloudEvent is made of the message: its payload is not the JSON that its content type says"
            );
            assert!(errors[1].contains("at line 1 column"), "{errors:?}");
            assert!(!errors.concat().contains("s3cret"), "{errors:?}");
        }
    }
    let not_utf8 = Message::new(vec![b'"', 255, b'"'], "application/json");
    rejected(CloudEvents::structured(), not_utf8).await;
}

#[tokio::test]
async fn a_content_type_that_is_no_media_type() {
    for content_type in ["", "json", "text/", "a b/c"] {
        for events in modes() {
            assert_eq!(
                rejected(events, Message::new("m", content_type)).await,
                [
                    "no CloudEvent is made of the message: its content type is no media type like `application/json`"
                ]
            );
        }
    }
}

#[tokio::test]
async fn control_characters() {
    let events =
        |template| move |events: CloudEvents| events.event_type(template).expect("a template");
    let of = |name: &str| {
        [format!(
            "no CloudEvent is made of the message: the attribute `{name}` cannot have control characters"
        )]
    };
    let text = || Message::new("m", "text/plain");
    for mode in modes() {
        assert_eq!(
            rejected(mode.clone(), text().key("a\r\nb")).await,
            of("subject")
        );
        let ty = events("a\n{operation}")(mode.clone());
        assert_eq!(rejected(ty, text()).await, of("type"));
        let content_type = Message::new("m", "text/plain; a=\"\u{7}\"");
        assert_eq!(rejected(mode, content_type).await, of("datacontenttype"));
    }
}

#[tokio::test]
async fn headers_that_are_an_events() {
    for header in ["ce-id", "CE-Type", "ce_time", "Ce_x", "ce-"] {
        for events in modes() {
            let message = Message::new("m", "text/plain").header(header, "s3cret");
            assert_eq!(
                rejected(events, message).await,
                [format!(
                    "no CloudEvent is made of the message: the header {header:?} begins as those of the event do; name it \
                     otherwise"
                )]
            );
        }
    }
}

#[tokio::test]
async fn a_type_that_has_no_value() {
    let events = CloudEvents::structured()
        .event_type("{full_document.status}")
        .expect("a template");
    assert_eq!(
        rejected(events, Message::new("m", "text/plain")).await,
        ["the template `{full_document.status}`: the event has no `full_document.status`"]
    );
}
