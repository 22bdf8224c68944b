//! A server with a stream, and what is in it.

use async_nats::{
    ConnectOptions, Message,
    jetstream::{self, Context, consumer::pull, stream},
};
use changestream_testkit::{NatsServer, NatsServerBuilder};
use futures::TryStreamExt;

pub(crate) struct Stream {
    pub(crate) server: NatsServer,
    pub(crate) context: Context,
}

impl Stream {
    pub(crate) const NAME: &str = "SHOP";

    /// A server with a stream on disk of all subjects under `shop.`.
    pub(crate) async fn start() -> Self {
        let stream = Self::without(NatsServer::builder()).await;
        stream
            .create(stream::Config {
                subjects: vec!["shop.>".into()],
                ..Self::config()
            })
            .await;
        stream
    }

    /// The same without the stream.
    pub(crate) async fn without(server: NatsServerBuilder) -> Self {
        Self::of_user(server, "").await
    }

    /// The same with a server that knows this user, whose name is the password.
    pub(crate) async fn of_user(server: NatsServerBuilder, user: &str) -> Self {
        let server = server.start().await.expect("a server");
        let mut options = ConnectOptions::new();
        if !user.is_empty() {
            options = options.user_and_password(user.into(), user.into());
        }
        let client = options.connect(server.uri()).await.expect("connected");
        Self {
            server,
            context: jetstream::new(client),
        }
    }

    pub(crate) fn config() -> stream::Config {
        stream::Config {
            name: Self::NAME.into(),
            ..Default::default()
        }
    }

    pub(crate) async fn create(&self, config: stream::Config) {
        self.context.create_stream(config).await.expect("a stream");
    }

    /// What the stream has stored, oldest first.
    pub(crate) async fn stored(&self) -> Vec<Message> {
        let mut stream = self
            .context
            .get_stream(Self::NAME)
            .await
            .expect("the stream");
        let count = stream.info().await.expect("its state").state.messages;
        if count == 0 {
            return Vec::new();
        }
        let config = pull::Config {
            ack_policy: jetstream::consumer::AckPolicy::None,
            ..Default::default()
        };
        let consumer = stream.create_consumer(config).await.expect("a consumer");
        let fetch = consumer.fetch().max_messages(count as usize);
        let messages = fetch.messages().await.expect("messages");
        let messages: Vec<_> = messages.try_collect().await.expect("all of them");
        assert_eq!(messages.len() as u64, count);
        messages
            .into_iter()
            .map(|message| message.message)
            .collect()
    }

    /// The only message so far.
    pub(crate) async fn single(&self) -> Message {
        let mut stored = self.stored().await;
        assert_eq!(stored.len(), 1);
        stored.remove(0)
    }
}

/// A header that is there once.
pub(crate) fn header<'a>(message: &'a Message, name: &str) -> &'a str {
    let headers = message.headers.as_ref().expect("headers");
    let mut values = headers.get_all(name);
    let value = values.next().expect(name).as_str();
    assert!(values.next().is_none(), "{name} is there twice");
    value
}
