//! Who may connect.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD as BASE64};
use changestream_core::{Disposition, FailureKind, testing::delivery};
use changestream_sinks::NatsSink;
use changestream_testkit::NatsServer;
use nkeys::KeyPair;
use serde_json::{Value, json};

use crate::{assert_error, chain, send, service, text};

fn core(url: impl AsRef<str>) -> NatsSink {
    NatsSink::core(url, "shop.orders").unwrap()
}

async fn refused(sink: NatsSink, server: &NatsServer) {
    let message = format!(
        "`{}` refuses the login of the sink: nats: authorization violation",
        server.addr()
    );
    let sink = service(sink);
    for _ in 0..2 {
        let error = send(&sink, delivery(text("m"))).await.expect_err("refused");
        assert!(!format!("{error:?}").contains("s3cret"), "{error:?}");
        assert_eq!(error.kind(), FailureKind::Unavailable);
        assert_error(Err(error), Disposition::Retry, &message);
    }
}

#[tokio::test]
async fn a_token_lets_in() {
    let server = NatsServer::builder().token("t0ken").start().await.unwrap();
    let url = format!("nats://{}", server.addr());
    for sink in [core(server.uri()), core(&url).token("t0ken")] {
        send(&service(sink), delivery(text("m"))).await.unwrap();
    }
    for sink in [
        core(&url),
        core(&url).token("s3cret"),
        core(server.uri()).token("s3cret"),
        core(&url).user("t0ken", "s3cret"),
    ] {
        refused(sink, &server).await;
    }
}

#[tokio::test]
async fn a_password_lets_in() {
    let login = ["--user", "sh@p", "--pass", "s3cret:/é"];
    let server = NatsServer::builder();
    let server = login
        .into_iter()
        .fold(server, |server, arg| server.arg(arg));
    let server = server.start().await.unwrap();
    let host = server.addr();
    let url = format!("nats://{host}");
    for sink in [
        core(format!("nats://sh%40p:s3cret%3A%2F%C3%A9@{host}")),
        core(&url).user("sh@p", "s3cret:/é"),
    ] {
        send(&service(sink), delivery(text("m"))).await.unwrap();
    }
    for sink in [
        core(&url),
        core(&url).user("sh@p", "s3cret"),
        core(format!("nats://sh%40p:s3cret@{host}")),
    ] {
        refused(sink, &server).await;
    }
}

/// A JWT of NATS.
fn jwt(issuer: &KeyPair, subject: &KeyPair, kind: &str, mut claims: Value) -> String {
    claims["type"] = kind.into();
    claims["version"] = 2.into();
    let claims = json!({
        "jti": kind, "iat": 0, "iss": issuer.public_key(), "sub": subject.public_key(), "name": kind, "nats": claims,
    });
    let header = json!({ "typ": "JWT", "alg": "ed25519-nkey" });
    let [header, claims] = [header, claims].map(|part| BASE64.encode(part.to_string()));
    let signed = format!("{header}.{claims}");
    let signature = issuer.sign(signed.as_bytes()).unwrap();
    format!("{signed}.{}", BASE64.encode(signature))
}

#[tokio::test]
async fn a_credentials_file_lets_in() {
    let (operator, user) = (KeyPair::new_operator(), KeyPair::new_user());
    let [account, system] = [KeyPair::new_account(), KeyPair::new_account()];
    let limits = json!({ "subs": -1, "data": -1, "payload": -1, "conn": -1, "leaf": -1 });
    let of_operator = jwt(&operator, &operator, "operator", json!({}));
    let of_account = |account| jwt(&operator, account, "account", json!({ "limits": limits }));
    let accounts = [&account, &system].map(|account| {
        let name = account.public_key();
        format!("{name}: {}", of_account(account))
    });
    let of_user = jwt(&account, &user, "user", limits.clone());
    let config = format!(
        "operator: {of_operator}\nsystem_account: {}\nresolver: MEMORY\nresolver_preload: {{ {} }}\n",
        system.public_key(),
        accounts.join(", ")
    );
    let server = NatsServer::builder().config(config).start().await.unwrap();

    let dir = tempfile::tempdir().unwrap();
    let write = |name: &str, key: &KeyPair| {
        let file = dir.path().join(name);
        let seed = key.seed().unwrap();
        let text = format!(
            "-----BEGIN NATS USER JWT-----\n{of_user}\n------END NATS USER JWT------\n\n\
             -----BEGIN USER NKEY SEED-----\n{seed}\n------END USER NKEY SEED------\n"
        );
        std::fs::write(&file, text).unwrap();
        file
    };
    let url = server.uri();
    let sink = core(&url).credentials_file(write("shop.creds", &user));
    send(&service(sink), delivery(text("m"))).await.unwrap();
    refused(core(&url), &server).await;
    let of_another = core(&url).credentials_file(write("other.creds", &KeyPair::new_user()));
    refused(of_another, &server).await;
}

#[tokio::test]
async fn a_credentials_file_that_is_not_there_is_waited_for() {
    let server = NatsServer::start().await.unwrap();
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("shop.creds");
    let sink = service(core(server.uri()).credentials_file(&file));
    let message = format!(
        "the credentials file for `{}` is not there or not valid",
        server.addr()
    );
    let fails = async || {
        let error = send(&sink, delivery(text("m")))
            .await
            .expect_err("no login");
        assert_eq!(error.disposition(), Disposition::Retry);
        assert_eq!(error.to_string(), message);
        chain(&error)
    };
    let text = fails().await;
    assert!(text.contains("No such file"), "{text}");
    std::fs::write(&file, "s3cret").unwrap();
    let text = fails().await;
    assert!(
        text.ends_with("cannot parse user JWT from the credentials file"),
        "{text}"
    );
}
