//! The servers that events are delivered to, each through its life.

mod kafka;
mod nats;
mod noida;
mod redis;
mod wire;

/// What holds for every server.
macro_rules! lifecycle_tests {
    ($server:ident, $wrong_argument:literal => $complaint:literal) => {
        $crate::lifecycle_tests!($server);

        #[tokio::test]
        async fn a_wrong_argument_is_shown_with_the_log() {
            let error = $server::builder().arg($wrong_argument).start().await;
            let error = error.unwrap_err();
            let died = matches!(error, changestream_testkit::Error::Died { .. });
            assert!(died, "{error}");
            let said = error.to_string();
            assert!(said.contains($complaint), "{said}");
        }
    };
    ($server:ident) => {
        #[tokio::test]
        async fn two_at_once_are_two() {
            let (one, other) = tokio::join!($server::start(), $server::start());
            let (one, other) = (one.unwrap(), other.unwrap());
            assert_ne!(one.addr(), other.addr());
            assert_ne!(one.port(), other.port());
            assert!(one.version() > changestream_testkit::Version::new(0, 0, 0));
            one.kill().await.unwrap();
            assert!(std::net::TcpStream::connect(one.addr()).is_err());
            std::net::TcpStream::connect(other.addr()).unwrap();
        }

        #[tokio::test]
        async fn nothing_listens_after_drop() {
            let server = $server::start().await.unwrap();
            let addr = server.addr();
            drop(server);
            assert!(std::net::TcpStream::connect(addr).is_err());
        }
    };
}
pub(crate) use lifecycle_tests;
