//! Logins, rights and TLS.

use std::{sync::Arc, time::Duration};

use bson::{Document, doc};
use changestream_core::{
    HandlerError, HandlerSpec, MemoryDeadLetters, Message, SinkSpec, testing::TestRuntime,
};
use changestream_sinks::MongoSink;
use changestream_testkit::MongoServer;
use futures::stream;
use mongodb::{Client, Collection};
use rcgen::{CertifiedKey, generate_simple_self_signed};
use rustls::{ServerConfig, crypto::ring, pki_types::PrivateKeyDer};
use tokio::{net::TcpListener, time::timeout};
use tokio_rustls::TlsAcceptor;

use crate::{TestResult, all, assert_none, deliver, insert, json};

struct Guarded {
    server: MongoServer,
    admin: Client,
}

impl Guarded {
    async fn start() -> TestResult<Self> {
        let server = MongoServer::builder().authorized().start().await?;
        let admin = server.client().await?;
        let guarded = Self { server, admin };
        guarded.create_user("read").await?;
        Ok(guarded)
    }

    async fn run(&self, command: Document) -> TestResult {
        self.admin.database("admin").run_command(command).await?;
        Ok(())
    }

    async fn create_user(&self, role: &str) -> TestResult {
        let roles = [doc! { "role": role, "db": "shop" }];
        self.run(doc! { "createUser": "service", "pwd": "hunter2", "roles": &roles[..] })
            .await
    }

    async fn view(&self, user: &str) -> TestResult<Collection<Document>> {
        let uri = self.server.uri().replace("admin:admin@", user);
        let uri = format!("{uri}&heartbeatFrequencyMS=500");
        let client = Client::with_uri_str(uri).await?;
        Ok(client.database("shop").collection("view"))
    }
}

#[tokio::test]
async fn a_right_that_is_missing_is_named_and_may_be_granted() -> TestResult {
    let guarded = Guarded::start().await?;
    let view = guarded.view("service:hunter2@").await?;
    let message = || (insert(1), json(doc! { "n": 1 }));
    for sink in [
        MongoSink::insert(&view),
        MongoSink::upsert(&view),
        MongoSink::merge(&view),
    ] {
        let letters = deliver(sink, [message()]).await;
        assert_eq!(letters[0].attempts(), 4);
        assert_eq!(
            letters[0].error().join(": "),
            "the user has not the rights that the sink needs on `shop.view`; grant them: Unauthorized (13)"
        );
    }
    let write = [doc! { "role": "readWrite", "db": "shop" }];
    guarded
        .run(doc! { "grantRolesToUser": "service", "roles": &write[..] })
        .await?;
    assert_none(&deliver(MongoSink::upsert(&view), [message()]).await);
    Ok(())
}

#[tokio::test]
async fn a_log_needs_no_other_right_than_to_insert() -> TestResult {
    let guarded = Guarded::start().await?;
    let resource = doc! { "db": "shop", "collection": "view" };
    let privileges = [doc! { "resource": resource, "actions": ["insert"] }];
    let role = doc! { "createRole": "log", "privileges": &privileges[..], "roles": [] };
    guarded.run(role).await?;
    let roles = ["log"].as_slice();
    guarded
        .run(doc! { "updateUser": "service", "roles": roles })
        .await?;
    let sink = MongoSink::insert(&guarded.view("service:hunter2@").await?);
    let message = (insert(1), json(doc! { "n": 1 }));
    for _ in 0..2 {
        assert_none(&deliver(sink.clone(), [message.clone()]).await);
    }
    assert_eq!(all(&guarded.view("admin:admin@").await?).await?.len(), 1);
    Ok(())
}

#[tokio::test]
async fn a_user_who_is_dropped_and_made_anew_loses_nothing() -> TestResult {
    let guarded = Guarded::start().await?;
    guarded.run(doc! { "dropUser": "service" }).await?;
    guarded.create_user("readWrite").await?;
    let view = guarded.view("service:hunter2@").await?;
    let sink = MongoSink::upsert(&view);
    assert_none(&deliver(sink.clone(), [(insert(1), json(doc! {}))]).await);
    guarded.run(doc! { "dropUser": "service" }).await?;
    let send = async || Ok::<_, HandlerError>(doc! { "n": 1 });
    let letters = MemoryDeadLetters::default();
    let spec = SinkSpec::from(sink).backoff(Duration::from_millis(10));
    let runtime = TestRuntime::builder()
        .handlers([HandlerSpec::new("send", send).to(["sink"])])
        .sink("sink", spec)
        .dead_letter_store(letters.clone())
        .build()?;
    // The sink is down and waits, with connections that were of the user.
    let running = runtime.run(stream::iter([vec![insert(2)]]));
    let mut running = std::pin::pin!(running);
    let waited = timeout(Duration::from_secs(1), &mut running).await;
    assert!(waited.is_err(), "it waits");
    guarded.create_user("readWrite").await?;
    timeout(Duration::from_secs(60), running).await?;
    assert_none(&letters.letters());
    assert_eq!(all(&view).await?.len(), 2);
    Ok(())
}

#[tokio::test]
async fn a_wrong_password_is_told_and_not_shown() -> TestResult {
    let guarded = Guarded::start().await?;
    let view = guarded.view("service:wrong-one@").await?;
    let letters = deliver(MongoSink::upsert(&view), [(insert(1), json(doc! {}))]).await;
    let error = letters[0].error().join(": ");
    assert_eq!(letters[0].attempts(), 4, "{error}");
    assert_eq!(letters[0].kind(), "unavailable");
    assert_eq!(
        error,
        "the server refuses the login of the sink to `shop.view`; mend its user, password or mechanism"
    );
    Ok(())
}

#[tokio::test]
async fn a_certificate_that_nobody_vouches_for_is_refused() -> TestResult {
    let CertifiedKey { cert, signing_key } = generate_simple_self_signed(["localhost".to_owned()])?;
    let key = PrivateKeyDer::Pkcs8(signing_key.serialize_der().into());
    let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(vec![cert.der().clone()], key)?;
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let port = listener.local_addr()?.port();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let server = tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            acceptor.accept(stream).await.ok();
        }
    });
    let uri = format!("mongodb://localhost:{port}/?tls=true&serverSelectionTimeoutMS=500");
    let client = Client::with_uri_str(uri).await?;
    let view = client.database("shop").collection::<Document>("view");
    let message = (insert(1), Message::json(&doc! { "n": 1 })?);
    let letters = deliver(MongoSink::upsert(&view), [message]).await;
    server.abort();
    let error = letters[0].error().join(": ");
    assert_eq!(letters[0].attempts(), 4, "{error}");
    assert_eq!(letters[0].kind(), "unavailable");
    assert!(error.contains("invalid peer certificate"), "{error}");
    assert!(error.contains(&format!("localhost:{port}")), "{error}");
    Ok(())
}
