//! The connection that all deliveries share: made at the first of them, and anew when it is lost.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use ::redis::{
    AsyncConnectionConfig, Cmd, ErrorKind, FromRedisValue, Pipeline, RedisError, Value,
    aio::MultiplexedConnection,
};
use changestream_core::HandlerError;
use futures::future::{BoxFuture, FutureExt as _, Shared};
use tokio::{
    task::JoinHandle,
    time::{Instant, timeout},
};

use super::{error, server::Server};

/// How long it may take to connect and log in.
const CONNECT_WITHIN: Duration = Duration::from_secs(5);

#[derive(Clone)]
pub(super) struct Connection {
    server: Arc<Server>,
    current: Arc<Mutex<Arc<Attempt>>>,
}

/// A connection from its first moment, on which those wait together that want it.
struct Attempt {
    connecting: Shared<BoxFuture<'static, Result<Arc<Link>, Arc<str>>>>,
    /// The connection before it.
    replaces: Option<Client>,
}

/// A connection that was made.
struct Link {
    connection: MultiplexedConnection,
    client: Option<Client>,
    /// Since when something was sent and nothing has come back.
    silent_since: Mutex<Option<Instant>>,
    _driver: Driver,
}

/// As whom the server knows a connection.
#[derive(Clone)]
struct Client {
    id: String,
    /// Ids begin anew when the server does; together with this, it is no other connection.
    addr: String,
}

/// Moves what is sent and what comes back, as long as somebody has the connection.
struct Driver(JoinHandle<()>);

impl Connection {
    pub(super) fn new(server: Server) -> Self {
        let server = Arc::new(server);
        let first = Attempt::new(&server, None);
        Self {
            current: Arc::new(Mutex::new(first)),
            server,
        }
    }

    pub(super) fn server(&self) -> &Server {
        &self.server
    }

    pub(super) fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.current, &other.current)
    }

    /// Sends the commands in one go: their replies, some of which may be errors, when all have come within `patience`.
    pub(super) async fn query(
        &self,
        commands: &mut Pipeline,
        patience: Duration,
    ) -> Result<Vec<Value>, HandlerError> {
        let mut attempt = Arc::clone(&lock(&self.current));
        if attempt.is_silent_for(patience) {
            attempt = self.replace(&attempt);
        }
        let link = match attempt.connecting.clone().await {
            Ok(link) => link,
            Err(problem) => {
                self.replace(&attempt);
                return Err(HandlerError::unavailable(String::from(&*problem)));
            }
        };
        lock(&link.silent_since).get_or_insert_with(Instant::now);
        let mut connection = link.connection.clone();
        let answer = commands
            .ignore_errors()
            .query_async::<Vec<Value>>(&mut connection);
        let host = &self.server.name;
        let lost = match timeout(patience, answer).await {
            Ok(Ok(replies)) => {
                *lock(&link.silent_since) = None;
                if error::is_read_only(&replies) {
                    // The name may lead to another server by now.
                    self.replace(&attempt);
                }
                return Ok(replies);
            }
            Ok(Err(error)) => format!("no answer from `{host}`: {error}"),
            Err(_elapsed) => format!("no answer from `{host}` within {patience:?}"),
        };
        self.replace(&attempt);
        Err(HandlerError::retry(lost))
    }

    /// The reply to one command.
    pub(super) async fn ask<T: FromRedisValue>(
        &self,
        command: Cmd,
        patience: Duration,
    ) -> Result<T, HandlerError> {
        let mut commands = Pipeline::new();
        let replies = self.query(commands.add_command(command), patience).await?;
        let host = &self.server.name;
        error::of(host, &commands, 0, &replies)?;
        let [reply] = ::redis::from_redis_value(Value::Array(replies)).map_err(|error| {
            HandlerError::retry(format!(
                "an answer of `{host}` is not as it should be: {error}"
            ))
        })?;
        Ok(reply)
    }

    /// Sees to it that this one is not used any more; the one to use instead.
    fn replace(&self, attempt: &Arc<Attempt>) -> Arc<Attempt> {
        let mut current = lock(&self.current);
        if Arc::ptr_eq(&current, attempt) {
            *current = Attempt::new(&self.server, attempt.client());
        }
        Arc::clone(&current)
    }
}

impl Attempt {
    fn new(server: &Arc<Server>, replaces: Option<Client>) -> Arc<Self> {
        let connecting = connect(Arc::clone(server), replaces.clone());
        Arc::new(Self {
            connecting: connecting.boxed().shared(),
            replaces,
        })
    }

    fn link(&self) -> Option<&Arc<Link>> {
        self.connecting.peek()?.as_ref().ok()
    }

    /// The last connection there was.
    fn client(&self) -> Option<Client> {
        match self.link() {
            Some(link) => link.client.clone(),
            None => self.replaces.clone(),
        }
    }

    /// Deliveries that are given up sooner than this do not see that no answer comes.
    fn is_silent_for(&self, patience: Duration) -> bool {
        let since = self.link().and_then(|link| *lock(&link.silent_since));
        since.is_some_and(|since| since.elapsed() > patience)
    }
}

async fn connect(server: Arc<Server>, replaces: Option<Client>) -> Result<Arc<Link>, Arc<str>> {
    let host = &server.name;
    let connecting = async {
        let stream = server.connect().await;
        let stream = stream.map_err(|error| format!("no connection to `{host}`: {error}"))?;
        let link = Link::new(&server, stream, replaces).await;
        link.map_err(|error| match error.kind() {
            ErrorKind::Io => format!("no connection to `{host}`: {error}"),
            // The library keeps the server's reason to itself.
            ErrorKind::AuthenticationFailed => format!(
                "`{host}` refused the login; check the user name and the password in the sink's URL"
            ),
            _ => format!("`{host}` refused the connection: {error}"),
        })
    };
    match timeout(CONNECT_WITHIN, connecting).await {
        Ok(link) => link.map(Arc::new).map_err(Arc::from),
        Err(_elapsed) => Err(format!("no connection to `{host}` within {CONNECT_WITHIN:?}").into()),
    }
}

impl Link {
    async fn new(
        server: &Server,
        stream: Box<dyn super::server::Stream>,
        replaces: Option<Client>,
    ) -> Result<Self, RedisError> {
        let config = AsyncConnectionConfig::new().set_response_timeout(None);
        let (mut connection, driver) =
            MultiplexedConnection::new_with_config(server.login(), stream, config).await?;
        let driver = Driver(tokio::spawn(driver));
        let client = Client::of(&mut connection).await?;
        if let Some(replaced) = replaces {
            replaced.end(&mut connection, &server.name).await?;
        }
        Ok(Self {
            connection,
            client,
            silent_since: Mutex::default(),
            _driver: driver,
        })
    }
}

impl Client {
    /// That of a connection, where the server tells.
    async fn of(connection: &mut MultiplexedConnection) -> Result<Option<Self>, RedisError> {
        let info = ::redis::cmd("CLIENT")
            .arg("INFO")
            .query_async(connection)
            .await;
        let info: String = match info {
            Err(error) if error.is_io_error() => return Err(error),
            info => info.unwrap_or_default(),
        };
        let field = |name| {
            info.split(' ')
                .find_map(|field| field.strip_prefix(name))
                .map(str::to_owned)
        };
        Ok(field("id=")
            .zip(field("addr="))
            .map(|(id, addr)| Self { id, addr }))
    }

    /// Ends a connection that is used no more: what is still on its way there would be done after what is sent again.
    async fn end(
        &self,
        connection: &mut MultiplexedConnection,
        host: &str,
    ) -> Result<(), RedisError> {
        let ended = ::redis::cmd("CLIENT")
            .arg("KILL")
            .arg(&["ID", &self.id, "ADDR", &self.addr])
            .exec_async(connection)
            .await;
        match ended {
            Err(error) if error.is_io_error() => Err(error),
            Err(error) => {
                tracing::warn!(host, %error, "the sink may not end its last connection, on which commands may be left");
                Ok(())
            }
            Ok(()) => Ok(()),
        }
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        self.0.abort();
    }
}

pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
