use crate::shop::{Shop, TestResult, binary, run};

const PASSWORD: &str = "s3kr1t";

#[tokio::test]
async fn the_password_of_a_connection_string_is_never_printed() -> TestResult {
    let uris = [
        (
            "mongodb://me:s3kr1t@127.0.0.1:1/shop?serverSelectionTimeoutMS=200",
            1,
        ),
        ("mongodb://me:s3kr1t/x@127.0.0.1:1/shop", 2),
        ("mongodb://me:s3kr1t@127.0.0.1:port/shop", 2),
        ("mongodb://me:s3kr1t@127.0.0.1:1/shop?tls=s3kr1t", 2),
        ("s3kr1t", 2),
    ];
    for (uri, code) in uris {
        let list = ["dead-letters", "list"];
        let mut by_environment = binary(&list);
        by_environment.env("MONGODB_URI", uri);
        let by_option = binary(&[&list[..], &["--uri", uri]].concat());
        for command in [by_environment, by_option] {
            let ran = run(command).await;
            assert_eq!(ran.code, Some(code), "{uri}: {ran:?}");
            assert!(!ran.says(PASSWORD), "{ran:?}");
            assert!(ran.stderr.starts_with("error: "), "{ran:?}");
        }
    }
    let mut help = binary(&["dead-letters", "list", "--help"]);
    help.env("MONGODB_URI", uris[0].0);
    let help = run(help).await;
    assert!(help.says("MONGODB_URI") && !help.says(PASSWORD), "{help:?}");
    Ok(())
}

#[tokio::test]
async fn a_server_that_refuses_the_user_is_said_without_the_password() -> TestResult {
    let shop = Shop::open().await;
    let mut command = shop.command(&["checkpoints", "list"]);
    let uri = command
        .get_envs()
        .find_map(|(name, value)| value.filter(|_| name == "MONGODB_URI"))
        .and_then(|uri| uri.to_str())
        .ok_or("a connection string")?;
    let uri = uri.replace("mongodb://", &format!("mongodb://me:{PASSWORD}@"));
    command.env("MONGODB_URI", uri);
    let ran = run(command).await;
    assert_eq!(ran.code, Some(1), "{ran:?}");
    assert!(
        ran.stderr.to_lowercase().contains("authentication failed"),
        "{ran:?}"
    );
    assert!(!ran.says(PASSWORD), "{ran:?}");
    Ok(())
}

#[tokio::test]
async fn what_is_missing_is_named() -> TestResult {
    let uri = "mongodb://127.0.0.1:1/?serverSelectionTimeoutMS=200";
    let cases: [(&[&str], &str); 5] = [
        (&["dead-letters", "list"], "set MONGODB_URI"),
        (
            &["dead-letters", "list", "--uri", uri],
            "name it with --database",
        ),
        (&["dead-letters", "replay", "--uri", uri], "Name them by id"),
        (
            &[
                "dead-letters",
                "discard",
                "--runtime",
                "x",
                "--yes",
                "--uri",
                uri,
            ],
            "give --all",
        ),
        (
            &["dead-letters", "list", "--kind", "odd"],
            "possible values: failed, unavailable, rejection, oversize",
        ),
    ];
    for (args, says) in cases {
        let ran = run(binary(args)).await;
        assert_eq!(ran.code, Some(2), "{args:?}: {ran:?}");
        assert!(ran.stderr.contains(says), "{args:?}: {ran:?}");
        assert!(ran.stdout.is_empty(), "{args:?}: {ran:?}");
    }
    let args = ["dead-letters", "list", "--uri", uri, "--database", "shop"];
    let ran = run(binary(&args)).await;
    assert_eq!(ran.code, Some(1), "{ran:?}");
    assert!(
        ran.stderr
            .contains("cannot list letters of `shop.changestream.dead_letters`: "),
        "{ran:?}"
    );
    Ok(())
}
