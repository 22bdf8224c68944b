//! What the server refuses.

use std::time::Duration;

use changestream_core::Disposition;
use changestream_sinks::RedisSink;
use changestream_testkit::RedisServer;
use futures::future::join_all;
use tokio::time::sleep;

use crate::{DEADLINE, Redis, assert_error, client, of, send, service};

#[tokio::test]
async fn a_key_of_another_type_is_a_rejection_of_the_one_message() {
    let redis = Redis::start().await;
    let _: () = redis.ask("MSET h:1 x h:4 x").await;
    let host = redis.server.addr().to_string();
    let message = format!(
        "`{host}` refused HSET: WRONGTYPE Operation against a key holding the wrong kind of value"
    );
    let sink = redis.sink().set("s:{document_key._id}").unwrap();
    let sink = sink.hash("h:{document_key._id}").unwrap();
    for sink in [sink.clone(), sink.clone().atomic(), sink.unlink_payload()] {
        let _: () = redis.ask("DEL h:0 h:2 h:3 h:5").await;
        let payload = r#"{"keys": []}"#;
        let sink = service(sink);
        // At once, and so together.
        let results = join_all((0..6).map(|id| send(&sink, of(id, payload)))).await;
        for (id, result) in (0..).zip(results) {
            match [1, 4].contains(&id) {
                true => assert_error(result, Disposition::Reject, &message),
                false => result.unwrap(),
            }
            // Redis goes on after an error.
            assert_eq!(redis.ask::<String>(&format!("GET s:{id}")).await, payload);
        }
        assert_eq!(redis.ask::<usize>("EXISTS h:0 h:2 h:3 h:5").await, 4);
    }
}

#[tokio::test]
async fn what_the_server_does_not_know_is_a_rejection_that_repeats_none_of_it() {
    let server = RedisServer::builder()
        .arg("--rename-command")
        .arg("UNLINK")
        .arg("");
    let redis = Redis::of(server.start().await.unwrap()).await;
    let sink = service(redis.sink().unlink(["s3cret:{document_key._id}"]).unwrap());
    let message = format!(
        "`{}` refused UNLINK: ERR unknown command 'UNLINK'",
        redis.server.addr()
    );
    assert_error(send(&sink, of(1, "m")).await, Disposition::Reject, &message);
}

#[tokio::test]
async fn a_server_without_room_is_tried_again() {
    let redis = Redis::start().await;
    let sink = redis.sink().set("s").unwrap().unlink(["u"]).unwrap();
    let host = redis.server.addr();
    let _: () = redis.ask("CONFIG SET maxmemory 1").await;
    for (sink, refused) in [(sink.clone(), "SET"), (sink.atomic(), "SET")] {
        let _: () = redis.ask("CONFIG SET maxmemory 1").await;
        let sink = service(sink);
        let message = format!(
            "`{host}` refused {refused}: OOM command not allowed when used memory > 'maxmemory'."
        );
        assert_error(send(&sink, of(1, "m")).await, Disposition::Retry, &message);
        let _: () = redis.ask("CONFIG SET maxmemory 0").await;
        send(&sink, of(1, "m")).await.unwrap();
    }
}

#[tokio::test]
async fn a_replica_is_tried_again_on_another_connection() {
    let redis = Redis::start().await;
    let sink = service(redis.sink().set("s").unwrap());
    send(&sink, of(1, "m")).await.unwrap();
    // Of nobody.
    let _: () = redis.ask("REPLICAOF 127.0.0.1 1").await;
    let connections = async || {
        redis
            .ask::<String>("INFO stats")
            .await
            .lines()
            .find_map(|line| {
                line.strip_prefix("total_connections_received:")?
                    .parse::<u32>()
                    .ok()
            })
    };
    let before = connections().await.unwrap();
    let host = redis.server.addr();
    let message =
        format!("`{host}` refused SET: READONLY You can't write against a read only replica.");
    for _ in 0..2 {
        assert_error(send(&sink, of(1, "m")).await, Disposition::Retry, &message);
    }
    assert_eq!(connections().await.unwrap(), before + 1);
    let _: () = redis.ask("REPLICAOF NO ONE").await;
    send(&sink, of(1, "m")).await.unwrap();
}

#[tokio::test]
async fn a_busy_server_is_tried_again() {
    let server = RedisServer::builder().arg("--lua-time-limit").arg("1");
    let redis = Redis::of(server.start().await.unwrap()).await;
    let sink = service(redis.sink().set("s").unwrap());
    let mut looping = client(&redis.server.uri()).await;
    let script = tokio::spawn(async move {
        let mut eval = redis::cmd("EVAL");
        eval.arg("while true do end").arg(0);
        eval.query_async::<()>(&mut looping).await
    });
    let refusal = async {
        loop {
            match send(&sink, of(1, "m")).await {
                Ok(()) => sleep(Duration::from_millis(5)).await,
                Err(error) => break error,
            }
        }
    };
    let error = tokio::time::timeout(DEADLINE, refusal).await.unwrap();
    let _: () = redis.ask("SCRIPT KILL").await;
    assert!(script.await.unwrap().is_err());
    let message = format!(
        "`{}` refused SET: BUSY Redis is busy running a script. You can only call SCRIPT KILL or SHUTDOWN NOSAVE.",
        redis.server.addr()
    );
    assert_error(Err(error), Disposition::Retry, &message);
    send(&sink, of(1, "m")).await.unwrap();
}

#[tokio::test]
async fn a_login_that_fails_is_tried_again_until_it_is_mended() {
    let server = RedisServer::builder().password("r1ght");
    let redis = Redis::of(server.start().await.unwrap()).await;
    let host = redis.server.addr();
    let sink = |login: &str| {
        let sink = RedisSink::new(format!("redis://{login}{host}/0")).unwrap();
        service(sink.set("s").unwrap())
    };
    let right = sink(":r1ght@");
    send(&right, of(1, "m")).await.unwrap();

    let without = send(&sink(""), of(1, "m")).await;
    let message = format!("`{host}` refused SET: NOAUTH Authentication required.");
    assert_error(without, Disposition::Retry, &message);

    let wrong = sink(":s3cret@");
    let message = format!(
        "`{host}` refused the login; check the user name and the password in the sink's URL"
    );
    for _ in 0..2 {
        assert_error(send(&wrong, of(1, "m")).await, Disposition::Retry, &message);
    }
    let _: () = redis.ask("CONFIG SET requirepass s3cret").await;
    send(&wrong, of(1, "m")).await.unwrap();
}

#[tokio::test]
async fn a_missing_right_is_tried_again_until_it_is_given() {
    let redis = Redis::start().await;
    let host = redis.server.addr();
    let _: () = redis
        .ask("ACL SETUSER shop on >s3cret ~* &* +client|info +multi +exec +unlink")
        .await;
    let sink = RedisSink::new(format!("redis://shop:s3cret@{host}")).unwrap();
    let sink = sink.set("s").unwrap().unlink(["u"]).unwrap();
    let message = format!(
        "`{host}` refused SET: NOPERM this user has no permissions to run the 'set' command"
    );
    let sinks = [sink.clone(), sink.atomic()].map(service);
    for sink in &sinks {
        assert_error(send(sink, of(1, "m")).await, Disposition::Retry, &message);
    }
    let _: () = redis.ask("ACL SETUSER shop +set").await;
    for sink in &sinks {
        send(sink, of(1, "m")).await.unwrap();
    }
    let _: () = redis.ask("ACL SETUSER shop -multi").await;
    let result = send(&sinks[1], of(1, "m")).await;
    let message = format!(
        "`{host}` refused MULTI: NOPERM this user has no permissions to run the 'multi' command"
    );
    assert_error(result, Disposition::Retry, &message);
    let _: () = redis.ask("ACL SETUSER shop +multi").await;
    send(&sinks[1], of(1, "m")).await.unwrap();
}

#[tokio::test]
async fn a_database_that_is_not_there_is_tried_again() {
    let redis = Redis::start().await;
    let host = redis.server.addr();
    let sink = RedisSink::new(format!("redis://{host}/99")).unwrap();
    let error = send(&service(sink.set("s").unwrap()), of(1, "m"))
        .await
        .unwrap_err();
    assert_eq!(error.disposition(), Disposition::Retry);
    let expected = format!("`{host}` refused the connection: ");
    assert!(error.to_string().starts_with(&expected), "{error}");

    let sink = RedisSink::new(format!("redis://{host}/3")).unwrap();
    send(&service(sink.set("s").unwrap()), of(1, "m"))
        .await
        .unwrap();
    assert_eq!(redis.ask::<usize>("DBSIZE").await, 0);
    assert!(
        redis
            .ask::<String>("INFO keyspace")
            .await
            .contains("db3:keys=1")
    );
}

#[tokio::test]
async fn a_sink_that_is_told_nothing_does_not_drop_messages() {
    let redis = Redis::start().await;
    let message = format!(
        "the Redis sink to `{}` is not told what to do; add `.unlink(..)` or the like",
        redis.server.addr()
    );
    let result = send(&service(redis.sink()), of(1, "m")).await;
    assert_error(result, Disposition::Retry, &message);
}
