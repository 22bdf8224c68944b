//! Tables of routes that are read from files.

#[path = "http/receiver.rs"]
#[allow(dead_code)]
mod receiver;

use std::error::Error as _;

use bson::doc;
use changestream_core::{
    Change, Delivery, Error, HandlerError, HandlerSpec, Message, Routes,
    testing::{TestRuntime, change},
};
use changestream_sinks::routes;
use receiver::Receiver;

fn handler() -> HandlerSpec<()> {
    let handler = |change: Change<bson::Document>| async move {
        let order = change.full_document().expect("an order");
        Ok::<_, HandlerError>(order.get_i32("_id")?)
    };
    HandlerSpec::new("order_changed", handler).collections(["orders"])
}

fn order(id: i32, status: &str) -> change::ChangeBuilder {
    let order = doc! { "_id": id, "status": status, "total": 7.0 };
    change::insert("orders").id(id).full_document(&order)
}

/// What came to the paths of the receiver, in the order in which it came.
fn came(receiver: &Receiver) -> Vec<(String, String)> {
    let received = receiver.received().into_iter();
    received
        .map(|request| {
            (
                request.uri,
                String::from_utf8_lossy(&request.body).into_owned(),
            )
        })
        .collect()
}

/// One table in every form.
fn tables(receiver: &Receiver) -> [Result<Routes, Error>; 3] {
    let url = receiver.url("");
    // Set by who runs tests.
    let secret = "${CARGO_PKG_NAME}";
    let toml = format!(
        r#"
        [services]
        all = "{url}/all"
        [services.alerts]
        url = "{url}/${{CARGO_PKG_NAME}}"
        headers = {{ Authorization = "Bearer {secret}" }}
        sign-with = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
        source = "shop"
        timeout = "3s"
        retries = 1
        backoff = "10ms"
        concurrency = 3
        on-down = "dead-letter"

        [[routes]]
        to = "all"
        [[routes]]
        to = ["alerts"]
        coll = "orders"
        op = ["insert", "drop_database"]
        handler = "order_changed"
        field = "status"
        equals = {{ "full_document.status" = "cancelled", "full_document.total" = 7 }}
        "#
    );
    let json = format!(
        r#"{{
            "services": {{
                "all": "{url}/all",
                "alerts": {{ "url": "{url}/{secret}", "headers": {{ "Authorization": "Bearer {secret}" }}, "source": "shop" }}
            }},
            "routes": [
                {{ "to": "all" }},
                {{ "to": ["alerts"], "coll": ["orders"], "equals": {{ "full_document.status": "cancelled" }} }}
            ]
        }}"#
    );
    let yaml = format!(
        r#"
        services:
          all: {url}/all
          alerts:
            url: {url}/{secret}
            source: shop
            headers: {{ Authorization: "Bearer {secret}" }}
        routes:
          - to: all
          - to: alerts
            coll: [orders]
            equals: {{ full_document.status: cancelled }}
        "#
    );
    [
        routes::from_toml(&toml),
        routes::from_json(&json),
        routes::from_yaml(&yaml),
    ]
}

#[tokio::test]
async fn messages_go_where_the_table_says_in_every_form() {
    let receiver = Receiver::start(|_| "").await;
    for (done, routes) in tables(&receiver).into_iter().enumerate() {
        let runtime = TestRuntime::builder()
            .handler(handler())
            .routes(routes.expect("a table"));
        let mut runtime = runtime.build().expect("a runtime");
        let report = runtime
            .send_all([order(1, "paid"), order(2, "cancelled")])
            .await;
        assert_eq!(report.handled().len(), 2);
        let mut came = came(&receiver).split_off(3 * done);
        came.sort_unstable();
        let expected = [("/all", "1"), ("/all", "2"), ("/changestream-sinks", "2")];
        assert_eq!(
            came,
            expected.map(|(path, body)| (path.to_owned(), body.to_owned()))
        );
    }
    let requests = receiver.received();
    let alerts: Vec<_> = requests
        .iter()
        .filter(|request| request.uri != "/all")
        .collect();
    for alert in &alerts {
        assert_eq!(alert.header("Authorization"), "Bearer changestream-sinks");
        assert_eq!(alert.header("X-Event-Source"), "shop");
    }
    assert!(alerts[0].header("webhook-signature").starts_with("v1,"));
}

#[tokio::test]
async fn services_are_sent_cloud_events_and_payloads_of_their_own() {
    let receiver = Receiver::start(|_| "").await;
    let url = receiver.url("");
    let table = format!(
        r#"
        [services]
        whole = {{ url = "{url}/whole", cloudevents = "structured" }}
        [services.parts]
        url = "{url}/parts"
        cloudevents = {{ mode = "binary", source = "/${{CARGO_PKG_NAME}}", type = "shop.{{collection}}" }}

        [[routes]]
        to = ["whole", "parts"]
        "#
    );
    let half = |delivery: &Delivery| {
        let id: f64 = delivery.message().parse_json()?;
        Ok(Some(Message::json(&(id / 2.0))?))
    };
    let routes = routes::from_toml(&table).unwrap();
    let routes = routes.map("whole", half).unwrap();
    let mut runtime = TestRuntime::builder()
        .handlers([handler()])
        .routes(routes)
        .build()
        .unwrap();
    runtime.send(order(7, "paid")).await;
    let mut received = receiver.received();
    received.sort_by(|one, other| one.uri.cmp(&other.uri));
    let [parts, whole] = &received[..] else {
        panic!("{} requests", received.len())
    };
    assert_eq!(&*parts.body, b"7");
    assert_eq!(parts.headers["ce-type"], "shop.orders");
    assert_eq!(parts.headers["ce-source"], "/changestream-sinks");
    assert_eq!(
        whole.headers["content-type"],
        "application/cloudevents+json"
    );
    let event: serde_json::Value = serde_json::from_slice(&whole.body).unwrap();
    assert_eq!(event["data"], 3.5);

    let unknown = routes::from_toml(&table).and_then(|routes| routes.map("hole", half));
    let error = chain(unknown);
    assert!(
        error.contains("no service `hole`") && error.contains("it has `parts`, `whole`"),
        "{error}"
    );
}

#[test]
fn a_file_is_read_by_its_name() {
    let folder = tempfile::tempdir().expect("a folder");
    let write = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).expect("a file");
        path
    };
    let json = write("a.json", r#"{"services": {"a": "http://localhost/"}}"#);
    routes::from_file(json).expect("a table");
    routes::from_file(write("a.yml", "services: {a: http://localhost/}")).expect("a table");
    let wrong = chain(routes::from_file(write("b.toml", "services")));
    assert!(
        wrong.contains("b.toml` is wrong: the table of routes cannot be read: "),
        "{wrong}"
    );
    let unknown = chain(routes::from_file("routes.ini"));
    assert!(
        unknown.ends_with("`routes.ini` is neither `.toml`, `.json`, `.yaml` nor `.yml`"),
        "{unknown}"
    );
    let missing = chain(routes::from_file(folder.path().join("c.toml")));
    assert!(missing.contains("c.toml` cannot be read: "), "{missing}");
}

/// All that an error says.
fn chain(routes: Result<Routes, Error>) -> String {
    let error = routes.expect_err("a wrong table");
    assert!(error.is_configuration());
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text += &format!(": {error}");
        cause = error.source();
    }
    text
}

#[test]
fn what_is_wrong_is_named_with_its_place() {
    let service = |settings: &str| chain(routes::from_toml(&format!("[services.a]\n{settings}")));
    let route = |keys: &str| chain(routes::from_toml(&format!("[[routes]]\n{keys}")));
    for (error, parts) in [
        (
            chain(routes::from_toml("servces = 1")),
            vec!["cannot be read", "`servces`"],
        ),
        (chain(routes::from_toml("= 1")), vec!["cannot be read"]),
        (
            chain(routes::from_toml("services = { a = 5 }")),
            vec!["a URL, or a table with a `url`", "`services.a`"],
        ),
        (
            service("url = \"http://x\"\nretrys = 1"),
            vec!["`retrys`", "`retries`"],
        ),
        (service("retries = 1"), vec!["services.a.url"]),
        (
            service("url = \"http://x\"\nretries = \"many\""),
            vec!["`services.a.retries`"],
        ),
        (
            service("url = \"http://x\"\ntimeout = \"soon\""),
            vec!["service `a`", "`timeout = \"soon\"` is no duration"],
        ),
        (
            service("url = \"http://x\"\non-down = \"wait\""),
            vec!["service `a`", "`on-down = \"wait\"` is neither"],
        ),
        (
            service("url = \"x\""),
            vec!["service `a`", "its URL has no scheme"],
        ),
        (
            service("url = \"ftp://x\""),
            vec![
                "service `a`",
                "begins with `ftp://`, which names no sink; there are `http`",
            ],
        ),
        (
            service("url = \"http://a:s3cret@x\""),
            vec!["service `a`", "carries a user name or password"],
        ),
        (
            service("url = \"http://x\"\nsign-with = \"s3cret\""),
            vec!["service `a`", "a key of webhooks is not"],
        ),
        (
            service("url = \"http://x\"\nheaders = { A = \"${NOT_SET_ANYWHERE}\" }"),
            vec!["`NOT_SET_ANYWHERE` is not set"],
        ),
        (
            service("url = \"redis://x\"\nsource = \"a\""),
            vec!["are of HTTP sinks, and its URL begins with `redis://`"],
        ),
        (
            service("url = \"http://x\"\ncloudevents = \"Binary\""),
            vec![
                "service `a`",
                "`cloudevents = \"Binary\"` is neither `\"structured\"` nor `\"binary\"`",
            ],
        ),
        (
            service("url = \"redis://x/0?op=unlink&key=a\"\ncloudevents = \"binary\""),
            vec!["is for HTTP, Kafka and NATS, and its URL begins with `redis://`"],
        ),
        (
            service("url = \"http://x\"\ncloudevents = { mode = \"binary\", source = \"a b\" }"),
            vec!["service `a`", "is no URI-reference"],
        ),
        (
            service("url = \"http://x\"\ncloudevents = { mod = \"binary\" }"),
            vec![
                "or a table of `mode`, `source` and `type`",
                "`services.a.cloudevents`",
            ],
        ),
        (route("coll = \"a\""), vec!["to"]),
        (route("to = 5"), vec!["a text, or a list of texts"]),
        (
            route("to = \"a\"\ncollection = \"b\""),
            vec!["`collection`", "`coll`"],
        ),
        (
            route("to = \"a\"\nop = \"dropDatabase\""),
            vec![
                "route to a: `dropDatabase` is no operation",
                "drop_database",
            ],
        ),
        (
            route("to = \"a\"\nequals = { x = [1] }"),
            vec!["a text, a number or a truth value"],
        ),
    ] {
        for part in parts {
            assert!(error.contains(part), "{part}: {error}");
        }
        assert!(!error.contains("s3cret"), "{error}");
    }
}
